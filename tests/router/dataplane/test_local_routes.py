"""What the inference port answers itself: probes, the list of models, and what is not there."""

from __future__ import annotations

import json

import pytest

from router.lifecycle import Phase
from router.settings import PathSettings, Pool
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, get, ok, post
from tests.fakes.memory_gateway import Rig

LLAMA = "meta-llama/Llama-3.1-8B"
POOL = Pool(name="main", models=[LLAMA], aliases={"small": LLAMA})


@each_case("path", ["/livez", "/readyz", "/health", "/health?x=1"])
@each_case("method", ["GET", "HEAD"])
def test_a_ready_replica_answers_200(path: str, method: str) -> None:
    with Rig() as rig:
        answer = rig.client().sends(get(path, method=method)).answer(method)
        assert (answer.status, answer.complete) == (200, True)
        assert answer.headers["x-turnout-replica"] == "rig"
        assert (answer.body == b"") is (method == "HEAD")
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("phase", [Phase.SETTLING, Phase.DRAINING])
def test_a_draining_replica_is_alive_and_not_ready(phase: Phase) -> None:
    with Rig() as rig:
        rig.lifecycle.enter(phase)
        for path, status in (("/livez", 200), ("/readyz", 503), ("/health", 503)):
            answer = rig.client().sends(get(path)).answer("GET")
            assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert json.loads(answer.body) == {"status": phase.value}


def test_the_models_are_listed_with_their_aliases() -> None:
    with Rig(POOL) as rig:
        said = json.loads(rig.client().sends(get("/v1/models")).answer("GET").body)
        assert said["object"] == "list"
        assert [(card["id"], card["object"], card["pool"]) for card in said["data"]] == [
            (LLAMA, "model", "main"),
            ("small", "model", "main"),
        ]


def test_case_a_5_and_g_32_a_model_has_every_field_that_its_pods_give_it() -> None:
    card: dict[str, object] = {"id": "m", "root": "/m", "parent": None, "max_model_len": 100, "owned_by": "vllm"}
    with Rig(Pool(name="main", aliases={"small": "m"})) as rig:
        rig.lists(1, card, {"id": "lora", "root": "/lora", "parent": "m"})
        rig.lists(2, card | {"max_model_len": 50, "odd": {"x": [1]}})
        said = json.loads(rig.client().sends(get("/v1/models")).answer("GET").body)["data"]
        cards = {each["id"]: each for each in said}
        assert cards["m"].items() >= (card | {"max_model_len": 50, "odd": {"x": [1]}, "pool": "main"}).items()
        assert cards["small"] == cards["m"] | {"id": "small"}
        assert cards["lora"].items() >= {"root": "/lora", "parent": "m", "pool": "main", "owned_by": "turnout"}.items()
        one = json.loads(rig.client().sends(get("/v1/models/lora")).answer("GET").body)
        assert one == cards["lora"]


def test_case_g_32_a_model_that_no_pod_lists_has_a_root() -> None:
    with Rig(POOL) as rig:
        assert json.loads(rig.client().sends(get("/v1/models/small")).answer("GET").body)["root"] == LLAMA


def test_a_model_is_listed_with_its_cluster_and_fall_backs() -> None:
    near = Pool(name="near", models=["m"], cluster="east", fallback=["far"])
    with Rig(pools=[near, Pool(name="far", models=["n"])]) as rig:
        said = json.loads(rig.client().sends(get("/v1/models")).answer("GET").body)
        near_card, far_card = said["data"]
        assert (near_card["cluster"], near_card["fallback"]) == ("east", ["far"])
        assert not {"cluster", "fallback"} & far_card.keys()


@pytest.mark.parametrize("name", [LLAMA, "meta-llama%2FLlama-3.1-8B", "small"])
def test_one_model_is_found_however_its_name_is_written(name: str) -> None:
    with Rig(POOL) as rig:
        answer = rig.client().sends(get(f"/v1/models/{name}")).answer("GET")
        assert answer.status == 200
        assert json.loads(answer.body)["object"] == "model"


@pytest.mark.parametrize("name", ["none", "%ff", "%"])
def test_a_model_that_is_not_there_is_not_found(name: str) -> None:
    with Rig(POOL) as rig:
        answer = rig.client().sends(get(f"/v1/models/{name}")).answer("GET")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "model_not_found")


@each_case("path", ["/", "/v1", "/v2/models", "/metrics", "/admin/pods", "/v1/chat/completion", "*"])
def test_nothing_is_served_under_other_paths(path: str) -> None:
    with Rig() as rig:
        client = rig.client().sends(get(path, method="OPTIONS" if path == "*" else "GET"))
        assert (client.answer("GET").status, client.fate) == (404, "")
        assert json.loads(client.answer("GET").body)["error"]["code"] == "unknown_path"


@pytest.mark.parametrize("path", ["/", "/metrics", "/v2/x"])
def test_only_v1_is_posted_to(path: str) -> None:
    with Rig() as rig:
        assert rig.client().sends(post(path=path)).answer().status == 404
        assert rig.net.made == []


@each_case(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("HEAD", "/v1/completions", "POST"),
        ("PUT", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/m", "GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_answered_with_the_allowed_ones(method: str, path: str, allow: str) -> None:
    with Rig() as rig:
        answer = rig.client().sends(get(path, method=method)).answer(method)
        assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/audio/speech", "/v1/something/new"])
def test_a_pod_answers_any_post_below_v1(path: str) -> None:
    with Rig() as rig:
        rig.client().sends(post(path=path))
        assert rig.asked().request.target == path


def test_a_local_answer_reserves_nothing() -> None:
    with Rig() as rig:
        rig.client().sends(get("/v1/models"))
        rig.assert_clean()


@pytest.mark.parametrize("path", ["/v1/chat/completions/", "/v1/completions//", "/tokenize/", "/v1/embeddings/?a=/b/"])
def test_a_slash_at_the_end_of_a_known_path_is_left_out(path: str) -> None:
    """Case D 13: an engine would answer with a redirect, which names the pod."""
    with Rig() as rig:
        client = rig.client().sends(post(path=path))
        bare, _, query = path.partition("?")
        assert rig.asked().request.target == bare.rstrip("/") + ("?" + query if query else "")
        rig.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/models/m/", "/livez/", "/health/"])
def test_local_paths_are_served_with_a_slash_at_their_end(path: str) -> None:
    """Case D 13."""
    with Rig() as rig:
        assert rig.client().sends(get(path)).answer("GET").status == 200


def test_the_error_of_a_base_url_without_v1_names_the_right_path() -> None:
    with Rig() as rig:
        for path in ("/chat/completions", "/embeddings"):
            error = json.loads(rig.client().sends(post(CHAT, path=path)).answer().body)["error"]
            assert (error["code"], f"it is /v1{path}." in error["message"]) == ("unknown_path", True)


def test_an_unknown_path_keeps_its_slash() -> None:
    """An engine may serve it with the slash only, and redirect to it: that would be a loop."""
    with Rig() as rig:
        rig.client().sends(post(path="/v1/own/"))
        assert rig.asked().request.target == "/v1/own/"


@each_case("method", ["POST", "GET"])
@each_case("path", ["/v1/load_lora_adapter", "/sleep", "/v1/%6coad_lora_adapter"])
def test_engines_are_not_managed_through_the_inference_port(method: str, path: str) -> None:
    """Case D 19."""
    with Rig() as rig:
        answer = rig.client().sends(get(path, method=method)).answer(method)
        assert answer.status == 404
        assert "paths.forward" in json.loads(answer.body)["error"]["message"]
        assert rig.net.made == []


def test_native_paths_of_engines_are_opened_by_a_setting() -> None:
    """Case D 20."""
    with Rig(paths=PathSettings(forward=("/v1/*", "/generate", "/api/*", "/v1/load_lora_adapter"))) as rig:
        for path in ("/generate", "/api/chat", "/v1/load_lora_adapter"):
            rig.client().sends(post(path=path))
            assert rig.asked().request.target == path
            rig.asked().sends(ok())
        assert rig.client().sends(post(path="/api/pull")).answer().status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/get_model_info"), ("HEAD", "/get_model_info"), ("DELETE", "/x?model=small"), ("POST", "/flush_cache")],
)
def test_an_opened_path_needs_no_body_and_no_model(method: str, path: str) -> None:
    """Case D 20."""
    opened = PathSettings(forward=("/get_model_info", "/x", "/flush_cache"))
    with Rig(POOL, paths=opened) as rig:
        client = rig.client().sends(get(path, "content-length: 0", method=method))
        asked = rig.asked().request
        assert (asked.method, asked.body) == (method, b"")
        assert asked.target == path.replace("small", "meta-llama%2FLlama-3.1-8B")
        rig.asked().sends(ok(b"" if method == "HEAD" else b"{}"))
        assert client.answer(method).status == 200


def test_only_the_known_paths_are_posted_to_where_the_setting_is_empty() -> None:
    """Case D 19."""
    with Rig(paths=PathSettings(forward=())) as rig:
        assert rig.client().sends(post(path="/v1/something/new")).answer().status == 404
        rig.client().sends(post(path="/v1/messages"))
        assert rig.asked().request.target == "/v1/messages"
