"""Requests about state whose pod is not known, or is another pool's: which pods are asked, and as whose."""

from __future__ import annotations

import json

import pytest

from router.dataplane.wire_headers import WireHeaders
from router.settings import Pool
from schedulers.types import PodId
from statesync.engines.access import PoolAccess, fixed_key
from tests.fakes.memory_client_and_pods import get, ok, post
from tests.fakes.memory_gateway import Rig, one_pool
from tests.router.dataplane.test_stateful import NOT_FOUND, creates, follows


@pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/chat/completions/render"])
def test_an_id_that_is_a_word_of_a_path_draws_no_requests_to_its_pod(path: str) -> None:
    with Rig(pods=4) as rig:
        creates(rig, path.rpartition("/")[2])
        pods = set()
        for _ in range(4):
            client = rig.client().sends(post(b'{"model":"m","input":"x"}', path=path))
            pods.add(rig.asked().sends(ok(b"{}")).address)
            assert client.answer().headers["x-turnout-policy"] == "round_robin"
        assert len(pods) == 4


def test_a_follow_up_of_a_response_of_a_fall_back_has_that_pool_s_name_of_the_model() -> None:
    home = Pool(name="a", models=["model-a"], aliases={"chat": "model-a"}, fallback=["b"])
    other = Pool(name="b", models=["model-b"], aliases={"chat": "model-b"})
    with Rig(pools=[home, other], pods=1) as rig:
        rig.wire.do(lambda: rig.view.block(PodId("10.0.0.1:8000"), "probe"))
        pod = creates(rig, "resp_1", body={"model": "chat", "input": "hi"}).address
        rig.wire.do(lambda: rig.view.unblock(PodId("10.0.0.1:8000"), "probe"))
        client = follows(rig, "resp_1", model="chat")
        assert (rig.asked().address, json.loads(rig.asked().request.body)["model"]) == (pod, "model-b")
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_only_pods_that_may_serve_the_model_are_asked_for_an_unknown_id() -> None:
    with Rig(one_pool(), pods=3) as rig:
        for number, model in enumerate(("x", "x", "m"), 1):
            rig.lists(number, model)
        client = follows(rig, "resp_1")
        assert rig.asked().address == "10.0.0.3:8000"
        rig.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize(
    "request_", [get("/v1/files/file-1"), post(b'{"model":"m","file_id":"f1"}', path="/v1/batches")]
)
def test_before_discovery_has_answered_there_is_no_pod_to_ask(request_: bytes) -> None:
    with Rig(pods=0) as rig:
        rig.gateway.deps.view._pool_states.clear()
        assert rig.client().sends(request_).answer(request_.split(b" ")[0].decode()).status == 503


def test_requests_whose_owner_was_looked_up_may_be_retried_as_others_may() -> None:
    with Rig(pods=2, state="looked-up-budget") as rig, Rig(pods=2, state="looked-up-budget") as other:
        creates(other, "resp_1")
        before = rig.gateway._attempts.budget.requests
        for request_ in (get("/v1/responses/resp_1"), post(b'{"model":"m"}', path="/v1/anything/else-2")):
            client = rig.client().sends(request_)
            rig.asked().sends(ok())
            assert client.answer(request_.split(b" ")[0].decode()).status == 200
        assert rig.gateway._attempts.budget.requests == before + 2


def test_a_look_up_that_fails_by_a_defect_is_answered() -> None:
    async def broken(key: bytes, /) -> PodId | None:
        raise TypeError("a defect")

    with Rig(state="defects", expect_errors=True) as rig:
        rig.store.owner = broken  # type: ignore[method-assign]
        assert rig.client().sends(get("/v1/responses/resp_1")).answer("GET").status == 500


def test_pods_of_several_pools_are_each_asked_as_their_own_pool_s() -> None:
    keys = {name: PoolAccess(key=fixed_key(f"key-of-{name}"), send_key=True) for name in "ab"}
    with Rig(pools=[Pool(name="a", models=["m"]), Pool(name="b", models=["x"])], pods=1) as rig:
        deps = rig.gateway.deps
        rig.rebuild(deps._replace(identity=WireHeaders("rig", 0xABC, rig.routes.clusters, accesses=keys)))
        client = rig.client().sends(get("/v1/files/file-1"))
        for pool, answer in (("a", ok(NOT_FOUND, status="404 Not Found")), ("b", ok(b"there"))):
            assert rig.asked().request.headers["authorization"] == f"Bearer key-of-{pool}"
            rig.asked().sends(answer)
        assert (client.answer("GET").body, client.answer("GET").headers["x-turnout-pool"]) == (b"there", "b")


def test_a_full_pod_is_asked_for_an_unknown_id_all_the_same() -> None:
    with Rig(one_pool(max_inflight_per_pod=1), pods=2) as rig:
        rig.asks()
        busy = rig.asked()
        client = follows(rig, "resp_1")
        asked = []
        for answer in (ok(NOT_FOUND, status="404 Not Found"), ok(b"there")):
            end = next(end for end in rig.net.made if end is not busy and len(end.requests) > end.answered)
            asked.append(end.sends(answer).address)
        assert sorted(asked) == ["10.0.0.1:8000", "10.0.0.2:8000"]
        assert client.answer().body == b"there"
        busy.sends(ok())
