"""Requests about state on pods reach the pod that has it."""

from __future__ import annotations

import json

import pytest

from router.settings import Pool
from schedulers.types import PodId
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, Client, PodEnd, chunk, get, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

NOT_FOUND = b'{"error":{"message":"not found","code":404}}'


def creates(rig: Rig, id: str, path: str = "/v1/responses", body: object = None, **more: object) -> PodEnd:
    """A client creates something; the pod that makes it answers with its id. Returns that pod's end."""
    raw = json.dumps({"model": "m", "input": "hi"} if body is None else body).encode()
    client = rig.client().sends(post(raw, path=path))
    pod = rig.asked().sends(ok(json.dumps({"id": id, **more}).encode()))
    assert client.answer().status == 200
    return pod


def follows(rig: Rig, previous: str, **fields: object) -> Client:
    body = {"model": "m", "input": "on", "previous_response_id": previous, **fields}
    return rig.client().sends(post(json.dumps(body).encode(), path="/v1/responses"))


def test_a_pod_is_not_asked_to_compress_an_answer_that_gives_ids_out() -> None:
    with Rig() as rig:
        for path, passed in (("/v1/responses", False), ("/v1/chat/completions", True)):
            rig.client().sends(post(CHAT, "Accept-Encoding: gzip", "x-own: 1", path=path))
            pod = rig.asked()
            headers = pod.request.headers
            assert ("accept-encoding" in headers, headers["x-own"]) == (passed, "1")
            pod.sends(ok())


def test_case_c9_twenty_of_twenty_follow_ups_reach_the_pod_that_has_the_response() -> None:
    with Rig(pods=4) as rig:
        home = creates(rig, "resp_0").address
        for turn in range(20):
            client = follows(rig, f"resp_{turn}")
            pod = rig.asked()
            assert pod.address == home
            pod.sends(ok(json.dumps({"id": f"resp_{turn + 1}"}).encode()))
            answer = client.answer()
            assert (answer.status, answer.headers["x-turnout-policy"]) == (200, "pinned")


@each_case(
    "request_",
    [
        get("/v1/responses/resp_1"),
        get("/v1/responses/resp_1?stream=true&starting_after=3"),
        get("/v1/responses/resp_1/input_items"),
        get("/v1/responses/resp_1", method="DELETE"),
        get("/v1/responses/resp_1", method="HEAD"),
        post(b"", path="/v1/responses/resp_1/cancel"),
        post(b"{}", path="/v1/responses/resp_1/cancel"),
        post(b'{"x":1}', path="/v1/anything/resp_1/else"),
        get("/v1/anything/at/all/resp_1", method="PATCH"),
    ],
)
def test_case_c9_any_method_on_any_path_reaches_the_owner_of_the_id(request_: bytes) -> None:
    with Rig(pods=5) as rig:
        home = creates(rig, "resp_1").address
        for _ in range(3):
            client = rig.client().sends(request_)
            pod = rig.asked()
            assert pod.address == home
            assert pod.request.target == request_.split(b" ")[1].decode()
            pod.sends(ok(b""))
            assert client.answer(request_.split(b" ")[0].decode()).status == 200


def test_case_c9_a_stream_s_response_is_known_from_its_first_event() -> None:
    with Rig(pods=4) as rig:
        client = rig.client().sends(post(b'{"model":"m","input":"hi","stream":true}', path="/v1/responses"))
        pod = rig.asked()
        created = json.dumps({"response": {"id": "resp_1", "output": []}, "type": "response.created"}).encode()
        whole = chunk(b"event: response.created\ndata: " + created + b"\n\n")
        pod.sends(SSE_HEAD + whole[:40], whole[40:])
        assert b"resp_1" in client.raw
        again = rig.client().sends(post(b"", path="/v1/responses/resp_1/cancel"))
        assert rig.asked().address == pod.address
        rig.asked().sends(ok())
        assert again.answer().status == 200
        pod.sends(LAST_CHUNK)


KINDS: dict[str, tuple[str, object, str, dict[str, object], bytes]] = {
    "files": ("/v1/files", {"model": "m", "purpose": "batch"}, "file-1", {}, get("/v1/files/file-1/content")),
    "batches": ("/v1/batches", {"model": "m"}, "batch_1", {}, post(b"", path="/v1/batches/batch_1/cancel")),
    "a batch's result": (
        "/v1/batches",
        {"model": "m"},
        "b",
        {"output_file_id": "file-9"},
        get("/v1/files/file-9/content"),
    ),
    "a batch of a file": (
        "/v1/files",
        {"model": "m"},
        "file-2",
        {},
        post(b'{"input_file_id":"file-2","endpoint":"/v1/responses"}', path="/v1/batches"),
    ),
    "conversations": ("/v1/conversations", {"model": "m"}, "conv_1", {}, get("/v1/conversations/conv_1/items")),
    "a response in a conversation": (
        "/v1/conversations",
        {"model": "m"},
        "conv_2",
        {},
        post(b'{"model":"m","conversation":{"id":"conv_2"},"input":"x"}', path="/v1/responses"),
    ),
    "videos": ("/v1/videos", {"model": "m", "prompt": "x"}, "video_1", {}, get("/v1/videos/video_1/content")),
    "audio jobs": ("/v1/audio/speech", {"model": "m"}, "job-1", {}, get("/v1/audio/jobs/job-1")),
    "a file in a chat": (
        "/v1/files",
        {"model": "m"},
        "file-3",
        {},
        post(b'{"model":"m","input":[{"content":[{"type":"input_file","file_id":"file-3"}]}]}', path="/v1/responses"),
    ),
}


@each_case("kind", KINDS)
def test_case_c9_the_like_of_responses_reach_their_owner_too(kind: str) -> None:
    path, body, id, more, later = KINDS[kind]
    with Rig(pods=5) as rig:
        home = creates(rig, id, path, body, **more).address
        for _ in range(3):
            client = rig.client().sends(later)
            assert rig.asked().address == home
            rig.asked().sends(ok())
            assert client.answer(later.split(b" ")[0].decode()).status == 200


def test_an_owner_that_is_gone_is_a_clear_404() -> None:
    with Rig() as rig:
        home = creates(rig, "resp_1").address
        other = next(status.pod for status in rig.view.statuses() if status.pod.id != home)
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [other]))
        for client in (rig.client().sends(get("/v1/responses/resp_1")), follows(rig, "resp_1")):
            answer = client.answer()
            assert answer.status == 404
            assert b'"owner_gone"' in answer.body
            assert home.encode() in answer.body
        assert rig.nobody_asked()


def test_an_owner_out_of_the_rotation_is_asked_all_the_same_and_no_other_pod() -> None:
    with Rig() as rig:
        home = creates(rig, "resp_1").address
        rig.wire.do(lambda: rig.view.block(PodId(home), "draining"))
        client = rig.client().sends(get("/v1/responses/resp_1"))
        assert rig.asked().address == home
        rig.asked().sends(ok(b"full", status="503 Service Unavailable"))
        assert (client.answer().status, client.answer().body) == (503, b"full")
        rig.net.trouble[home] = ConnectionRefusedError(111, "Connection refused")
        rig.wire.do(lambda: rig.upstream.drop_idle(home))
        refused = follows(rig, "resp_1")
        assert (refused.answer().status, rig.nobody_asked()) == (503, True)


def test_a_follow_up_waits_for_its_full_pod_and_a_look_at_it_does_not() -> None:
    with Rig(one_pool(max_inflight_per_pod=1)) as rig:
        home = creates(rig, "resp_1").address
        busy = follows(rig, "resp_1")
        waiting = follows(rig, "resp_1")
        assert rig.admission.queued == 1
        look = rig.client().sends(get("/v1/responses/resp_1"))
        first, second = [end for end in rig.net.made if end.address == home and len(end.requests) > end.answered]
        second.sends(ok(b"look"))
        assert look.answer("GET").body == b"look"
        first.sends(ok(b"busy"))
        assert busy.answer().body == b"busy"
        rig.asked().sends(ok(b"waited"))
        assert waiting.answer().body == b"waited"
        assert rig.admission.lines("main") == []


def test_an_unknown_id_is_asked_for_at_each_pod_and_then_known() -> None:
    with Rig(pods=3) as rig:
        client = rig.client().sends(get("/v1/responses/resp_99"))
        asked = []
        for _ in range(2):
            asked.append(rig.asked().address)
            rig.asked().sends(ok(NOT_FOUND, status="404 Not Found"))
        home = rig.asked().sends(ok(b'{"id":"resp_99"}')).address
        assert home not in asked
        assert client.answer("GET").status == 200
        follows(rig, "resp_99")
        assert rig.asked().address == home
        rig.asked().sends(ok())


@pytest.mark.parametrize("known", [0, 1])
def test_an_id_that_no_pod_knows_gets_the_last_pod_s_404(known: int) -> None:
    with Rig(pods=3) as rig:
        client = follows(rig, "resp_never")
        for number in range(3):
            rig.asked().sends(ok(b"no %d" % number, status="404 Not Found"))
        assert (client.answer().status, client.answer().body) == (404, b"no 2")
        assert rig.nobody_asked()
        assert not rig.health.blockers(PodId("10.0.0.1:8000"))


def test_the_owner_s_own_404_is_passed_on() -> None:
    with Rig(pods=3) as rig:
        creates(rig, "resp_1")
        client = rig.client().sends(get("/v1/responses/resp_1"))
        rig.asked().sends(ok(NOT_FOUND, status="404 Not Found"))
        assert (client.answer("GET").status, rig.nobody_asked()) == (404, True)


def test_the_owner_s_pool_counts_whatever_pool_the_model_leads_to() -> None:
    with Rig(pools=[Pool(name="a", models=["m"]), Pool(name="b", models=["m"])]) as rig:
        client = rig.client().sends(post(b'{"model":"m"}', "x-turnout-pool: a", path="/v1/responses"))
        home = rig.asked().sends(ok(b'{"id":"resp_1"}')).address
        assert client.answer().headers["x-turnout-pool"] == "a"
        again = rig.client().sends(get("/v1/responses/resp_1"))
        assert rig.asked().address == home
        rig.asked().sends(ok())
        assert again.answer("GET").headers["x-turnout-pool"] == "a"


def test_what_is_not_stored_is_not_remembered() -> None:
    with Rig() as rig:
        rig.client().sends(post(b'{"model":"m","input":"x","store":false}', path="/v1/responses"))
        rig.asked().sends(ok(b'{"id":"resp_1"}'))
        assert rig.gateway.deps.owners.known(["resp_1"]) is None


def test_a_failed_answer_and_a_chat_give_out_no_ids() -> None:
    with Rig() as rig:
        rig.asks()
        rig.asked().sends(ok(b'{"id":"chatcmpl-1"}'))
        rig.client().sends(post(b'{"model":"m"}', path="/v1/responses"))
        rig.asked().sends(ok(b'{"id":"resp_1"}', status="400 Bad Request"))
        assert rig.gateway.deps.owners.known(["chatcmpl-1", "resp_1"]) is None


@pytest.mark.parametrize("target", ["/v1/nothing/x", "/v1/files", "/v1/responses", "/v2/responses/resp_1"])
def test_a_path_that_names_no_state_is_answered_as_before(target: str) -> None:
    with Rig() as rig:
        assert rig.client().sends(get(target)).answer("GET").status in (404, 405)
        assert rig.nobody_asked()


def test_a_post_with_a_model_goes_where_the_policy_says_whatever_its_path_looks_like() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(b'{"model":"m","messages":[]}', path="/v1/chat/completions/render"))
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-policy"] == "round_robin"


def test_requests_of_a_gone_pod_that_need_its_state_stay_with_it() -> None:
    with Rig() as rig:
        for status in rig.view.statuses():
            rig.health.probe(status.pod.id, True, 1.0)
        home = PodId(creates(rig, "resp_1").address)
        client = follows(rig, "resp_1")
        pod = rig.asked()
        for _ in range(2):
            rig.wire.do(lambda: rig.health.probe(home, False, rig.wire.clock()))
        assert (pod.fate, rig.asked().address) == ("", home)
        pod.sends(ok(b"late"))
        assert client.answer().body == b"late"


def test_an_id_of_another_replica_is_looked_up_and_a_client_may_leave_meanwhile() -> None:
    with Rig(pods=4, state="shared-owners") as one, Rig(pods=4, state="shared-owners") as two:
        home = creates(one, "resp_1").address
        client = two.client().sends(get("/v1/responses/resp_1"))
        assert two.asked().address == home
        two.asked().sends(ok(b"found"))
        assert client.answer("GET").body == b"found"
        gone = two.client().sends(get("/v1/responses/resp_2"))
        gone.leaves()
        none = two.client().sends(get("/v1/nothing/resp_2"))
        assert none.answer("GET").status == 404
