"""Which pool and pod a request goes to: models, aliases, explicit targets, policies, sessions, prefixes."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
import pytest

from router.settings import PolicySpec, Pool, Targets
from schedulers import registry
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, PodId, Rejection, RequestInfo
from statesync.store.protocol import PolicyRecord
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, Client, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

BIG = Pool(name="big", models=["llama-70b"], cluster="east", aliases={"gpt-4": "llama-70b"})
SMALL = Pool(name="small", models=["llama-8b"], cluster="west", aliases={"gpt-3": "llama-8b"})
SMALL_TOO = Pool(name="small-2", models=["llama-8b"], cluster="east")
POOLS = [BIG, SMALL, SMALL_TOO]
ANYWHERE = Targets(allow=["*"])


def chat(model: str) -> bytes:
    return msgspec.json.encode({"messages": [{"role": "user", "content": "é"}], "model": model, "seed": 1e-7})


def error(client: Client) -> tuple[int, str, str]:
    said = json.loads(client.answer().body)["error"]
    return client.answer().status, said["code"], said["message"]


WITHOUT_MODEL = [b'{"messages":[]}', b'{"model":null,"prompt":"x"}', b'{"model":"","messages":[]}']


@pytest.mark.parametrize("body", WITHOUT_MODEL)
def test_case_a_4_the_only_pool_or_the_default_pool_gets_a_request_without_a_model(body: bytes) -> None:
    with Rig(pods=1) as rig:
        rig.asks(body)
        assert rig.asked().request.body == body
    with Rig(pools=POOLS, pods=1, default_pool="small") as rig:
        rig.client().sends(post(body, path="/tokenize"))
        assert (rig.asked().address, rig.asked().request.body) == ("10.0.1.1:8000", body)


def test_case_a_4_without_a_model_a_header_may_name_the_pool_and_else_the_request_is_refused() -> None:
    with Rig(pools=POOLS, pods=1, targets=ANYWHERE) as rig:
        rig.asks(WITHOUT_MODEL[0], "x-turnout-pool: small")
        assert rig.asked().address == "10.0.1.1:8000"
        assert error(rig.asks(WITHOUT_MODEL[0]))[:2] == (400, "missing_model")
    with Rig(one_pool(), pods=1) as rig:
        rig.asks(WITHOUT_MODEL[0], "x-turnout-pool: main")
        assert rig.asked().address == "10.0.0.1:8000"
        assert error(rig.asks(WITHOUT_MODEL[0], "x-turnout-pool: other"))[:2] == (404, "pool_not_found")


def test_case_a_1_each_model_goes_to_the_pods_that_list_it_and_without_one_to_any() -> None:
    with Rig(Pool(name="main", policy=PolicySpec(name="round_robin"))) as rig:
        rig.lists(1, "model-a", "both")
        rig.lists(2, "model-b", "both")
        seen: dict[str, set[str]] = {}
        for model in ("model-a", "model-b", "both", "") * 4:
            client = rig.asks(chat(model))
            rig.asked().sends(ok())
            seen.setdefault(model, set()).add(client.answer().headers["x-turnout-pod"])
        one, two = "10.0.0.1:8000", "10.0.0.2:8000"
        assert seen == {"model-a": {one}, "model-b": {two}, "both": {one, two}, "": {one, two}}


@each_case(
    ("model", "headers", "pod"),
    [
        ("llama-70b", [], "10.0.0.1:8000"),
        ("llama-8b", [], "10.0.1.1:8000"),
        ("llama-8b", ["x-turnout-pool: small-2"], "10.0.2.1:8000"),
        ("llama-8b", ["x-turnout-cluster: east"], "10.0.2.1:8000"),
        ("llama-8b", ["x-turnout-cluster: west"], "10.0.1.1:8000"),
        ("llama-8b", ["x-turnout-cluster: east", "x-turnout-pool: small-2"], "10.0.2.1:8000"),
    ],
)
def test_a_model_or_an_explicit_target_decides_the_pool(model: str, headers: list[str], pod: str) -> None:
    with Rig(pools=POOLS, pods=1, targets=ANYWHERE) as rig:
        client = rig.asks(chat(model), *headers)
        assert rig.asked().address == pod
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pod"] == pod


@each_case(
    ("model", "headers", "status", "code"),
    [
        ("gpt-5", [], 404, "model_not_found"),
        ("llama-70b", ["x-turnout-pool: small"], 404, "model_not_found"),
        ("llama-8b", ["x-turnout-pool: nowhere"], 404, "pool_not_found"),
        ("llama-8b", ["x-turnout-cluster: nowhere"], 404, "pool_not_found"),
        ("llama-8b", ["x-turnout-cluster: west", "x-turnout-pool: big"], 404, "pool_not_found"),
        ("llama-8b", ["x-turnout-pool: \xff"], 400, "invalid_request"),
    ],
)
def test_a_target_that_does_not_exist_is_an_error(model: str, headers: list[str], status: int, code: str) -> None:
    with Rig(pools=POOLS, pods=1, targets=ANYWHERE) as rig:
        client = rig.asks(chat(model), *headers)
        assert error(client)[:2] == (status, code)
        assert client.fate == ""
        assert rig.net.made == []


def test_an_alias_is_rewritten_and_nothing_else_of_the_body() -> None:
    with Rig(pools=POOLS, pods=1) as rig:
        rig.asks(chat("gpt-4"))
        request = rig.asked().request
        assert request.body == chat("llama-70b")
        assert request.headers["content-length"] == str(len(request.body))
        rig.asked().sends(ok())


def test_an_alias_is_rewritten_in_a_form() -> None:
    def form(model: str) -> bytes:
        audio = b'--B\r\nContent-Disposition: form-data; name="file"; filename="model.wav"\r\n\r\nRIFF\x00\xff\r\n'
        field = f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--B--\r\n'
        return audio + field.encode()

    with Rig(pools=POOLS, pods=1) as rig:
        request = post(form("gpt-3"), path="/v1/audio/transcriptions")
        rig.client().sends(request.replace(b"application/json", b"multipart/form-data; boundary=B"))
        assert rig.asked().request.body == form("llama-8b")
        rig.asked().sends(ok())


def test_a_compressed_body_is_refused() -> None:
    with Rig() as rig:
        assert error(rig.asks(CHAT, "content-encoding: gzip"))[:2] == (415, "unsupported_encoding")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
def test_a_body_whose_coding_is_none_is_served(coding: str) -> None:
    with Rig() as rig:
        rig.asks(CHAT, f"content-encoding: {coding}")
        rig.asked()


@pytest.mark.parametrize("allowed", [["random"], ["*"]])
def test_a_request_may_choose_a_policy_the_pool_allows(allowed: list[str]) -> None:
    with Rig(one_pool(allowed_policies=allowed)) as rig:
        client = rig.asks(CHAT, "x-turnout-policy: random")
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-policy"] == "random"


@pytest.mark.parametrize(
    ("allowed", "name"), [([], "random"), (["p2c"], "random"), (["*"], "os.system"), (["os.system"], "os.system")]
)
def test_a_request_may_choose_no_other_policy(allowed: list[str], name: str) -> None:
    with Rig(one_pool(allowed_policies=allowed)) as rig:
        assert error(rig.asks(CHAT, f"x-turnout-policy: {name}"))[:2] == (403, "policy_not_allowed")
        rig.assert_clean()


@pytest.mark.parametrize("header", ["", "x-session-id: from-the-header"])
def test_a_session_stays_on_its_pod(header: str) -> None:
    with Rig(one_pool("session_affinity"), pods=8) as rig:
        body = b'{"model":"m","messages":[],"prompt_cache_key":"from-the-body"}'
        chosen = set()
        for _ in range(5):
            rig.asks(body, *([header] if header else []))
            chosen.add(rig.asked().address)
            rig.asked().sends(ok())
        assert len(chosen) == 1


def test_case_g33_every_request_of_a_claude_code_session_goes_to_one_pod() -> None:
    with Rig(one_pool("session_affinity"), pods=8) as rig:
        home: dict[str, set[str]] = {}
        for turn in range(3):
            for session in ("a", "b", "c", "d"):
                user = msgspec.json.encode({"device_id": "d", "session_id": session}).decode()
                body = {"model": "m", "messages": [turn], "metadata": {"user_id": user}}
                rig.asks(msgspec.json.encode(body))
                home.setdefault(session, set()).add(rig.asked().address)
                rig.asked().sends(ok())
        assert [len(pods) for pods in home.values()] == [1] * 4
        assert len(set.union(*home.values())) > 1


def test_a_policy_that_a_request_names_knows_the_session_too() -> None:
    with Rig(one_pool("least_load", allowed_policies=["session_affinity"]), pods=8) as rig:
        chosen = set()
        for _ in range(5):
            rig.asks(CHAT, "x-turnout-policy: session_affinity", "x-claude-code-session-id: s")
            chosen.add(rig.asked().address)
            rig.asked().sends(ok())
        assert len(chosen) == 1


def test_a_prompt_goes_where_its_prefix_is() -> None:
    with Rig(one_pool("prefix_aware"), pods=4) as rig:
        turns = [{"role": "user", "content": "word " * 2000}]
        chosen = []
        for _ in range(4):
            rig.asks(msgspec.json.encode({"model": "m", "messages": turns}))
            chosen.append(rig.asked().address)
            rig.asked().sends(ok())
            turns.append({"role": "user", "content": "more"})
        assert len(set(chosen)) == 1
        assert rig.metrics.pool("main").prefix_hits_tokens > 0


class Raises:
    """A policy with a defect."""

    name = "raises"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        raise ZeroDivisionError("a defect")


class Strays:
    """A policy that picks what it was not offered."""

    name = "strays"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        return Decision(PodId("10.9.9.9:1"), self.name)


class Declines:
    """A policy that wants no pod."""

    name = "declines"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        return Rejection("not_today", retry_after_s=2.5)


def custom(name: str, params: Mapping[str, object]) -> Scheduler:
    made: dict[str, Scheduler] = {"raises": Raises(), "strays": Strays(), "declines": Declines()}
    return made[name]


@pytest.mark.parametrize(("name", "reason"), [("raises", "raised"), ("strays", "not_in_snapshot")])
def test_the_safe_policy_decides_where_a_policy_misbehaves(name: str, reason: str) -> None:
    with Rig(one_pool(name), create=custom) as rig:
        client = rig.asks()
        rig.asked().sends(ok())
        assert (client.answer().status, client.answer().headers["x-turnout-policy"]) == (200, "least_load")
        assert rig.metrics.policy_failures == {("main", name, reason): 1}


def test_a_policy_that_misbehaves_too_often_is_taken_out_until_one_is_set() -> None:
    with Rig(one_pool("raises"), create=custom, expect_errors=True) as rig:
        for _ in range(7):
            client = rig.asks()
            rig.asked().sends(ok())
            assert (client.answer().status, client.answer().headers["x-turnout-policy"]) == (200, "least_load")
        assert rig.metrics.policy_failures == {("main", "raises", "raised"): 5}
        (message,) = rig.errors.messages
        assert "policy raises is taken out" in message and "ZeroDivisionError" in message
        assert "5 failures within 10 s" in rig.policies.live("main").taken_out
        rig.policies.policy_changed("main", PolicyRecord("raises", {}, 1))
        client = rig.asks()
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert rig.policies.live("main").taken_out == ""
        assert rig.metrics.policy_failures == {("main", "raises", "raised"): 6}


def test_a_policys_rejection_is_answered() -> None:
    with Rig(one_pool("declines"), create=custom) as rig:
        client = rig.asks()
        assert error(client) == (503, "no_pod_available", "No pod of pool 'main' can take this request now: not_today.")
        assert client.answer().headers["retry-after"] == "3"


def test_a_swapped_policy_decides_the_next_request() -> None:
    with Rig() as rig:
        first = rig.asks()
        spec = PolicySpec(name="least_load")
        task = rig.policies.set("main", spec.name, spec.params)
        rig.wire.loop.run_until_complete(task)
        second = rig.asks()
        for _ in range(2):
            rig.asked().sends(ok())
        assert first.answer().headers["x-turnout-policy"] == "round_robin"
        assert second.answer().headers["x-turnout-policy"] == "least_load"


def test_every_registered_policy_serves() -> None:
    for name in registry.names():
        with Rig(one_pool(name), pods=3) as rig:
            clients = [rig.asks() for _ in range(6)]
            for _ in clients:
                rig.asked().sends(ok())
            assert {client.answer().headers["x-turnout-policy"] for client in clients} == {name}
