"""Requests that two pods serve: who is asked for what, and what becomes of them when a pod fails. The rig checks at its
end that nothing is held for a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from router.dataplane.fair_share import TenantWeight
from router.settings import Disaggregation, PolicySpec, Pool, Retries, TenantSettings
from schedulers.types import PodId
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import Client, PodEnd, ok, post
from tests.fakes.memory_gateway import Rig

PROMPT = "word " * 2000
CHAT = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 50, "min_tokens": 3}
PARAMS = {"do_remote_prefill": True, "remote_block_ids": [[1, 2]], "remote_engine_id": "e", "remote_port": 5600}
DECODE, PREFILL = "10.0.0.", "10.0.1."


def rig(*, prefill: int = 2, decode: int = 2, weights: Mapping[str, TenantWeight] | None = None, **fields: Any) -> Rig:
    """Pool `d`, whose prompts pool `p` computes."""
    split = Disaggregation(prefill="p", **fields)
    pools = [
        Pool(name="d", models=["m"], policy=PolicySpec(name="prefix_aware"), disaggregation=split),
        Pool(name="p", models=["m"], policy=PolicySpec(name="prefix_aware")),
    ]
    return Rig(pools=pools, pods={"d": decode, "p": prefill}, retries=Retries(budget_min=1000), weights=weights)


def asks(rig: Rig, **fields: object) -> Client:
    return rig.asks(json.dumps({**CHAT, **fields}).encode())


def body(end: PodEnd) -> dict[str, Any]:
    """What the pod was asked."""
    return dict(json.loads(end.request.body))


def under_way(rig: Rig) -> list[str]:
    """Addresses of the pods with an unanswered request, in the order in which they were asked."""
    return [e.address for e in rig.net.made if not e.transport.ending and len(e.requests) > e.answered]


def computed(params: object = PARAMS) -> bytes:
    usage = {"prompt_tokens": 2000, "prompt_tokens_details": {"cached_tokens": 0}}
    return ok(json.dumps({"id": "1", "kv_transfer_params": params, "usage": usage}).encode())


def test_the_prefill_pods_answer_goes_into_the_decode_pods_request() -> None:
    with rig() as it:
        client = asks(it, stream=True, stream_options={"include_usage": True})
        first = it.asked()
        assert first.address.startswith(PREFILL)
        asked = body(first)
        assert (asked["stream"], asked["max_tokens"], asked["kv_transfer_params"]["do_remote_decode"]) == (
            False,
            1,
            True,
        )
        assert "stream_options" not in asked
        assert "min_tokens" not in asked
        assert asked["messages"] == CHAT["messages"]
        first.sends(computed())
        second = it.asked()
        assert second.address.startswith(DECODE)
        assert body(second) == {
            **CHAT,
            "stream": True,
            "stream_options": {"include_usage": True},
            "kv_transfer_params": PARAMS,
        }
        second.sends(ok())
        headers = client.answer().headers
        assert (headers["x-turnout-pod"], headers["x-turnout-prefill-pod"]) == (second.address, first.address)
        assert (client.answer().status, headers["x-turnout-attempts"]) == (200, "1")
        assert it.metrics.split_requests == {("d", "pair"): 1}


def test_while_the_prompt_is_computed_only_the_prefill_pod_has_prefill_work() -> None:
    with rig(prefill=1, decode=1) as it:
        client = asks(it)
        prefill = it.asked()
        decode = it.view.status(PodId("10.0.0.1:8000")).load
        assert it.load(prefill).pending_prefill_tokens > 1000
        assert (decode.inflight, decode.pending_prefill_tokens) == (1, 0)
        assert decode.inflight_tokens > 2000
        prefill.sends(computed())
        assert it.load(prefill).inflight == 0
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_without_parameters_in_the_answer_the_decode_pod_gets_the_clients_own_body() -> None:
    with rig(connector="shared_storage") as it:
        client = asks(it)
        assert "kv_transfer_params" not in body(it.asked())
        it.asked().sends(computed(None))
        assert body(it.asked()) == CHAT
        it.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "hi"}]},
        {"n": 2},
        {"prompt_logprobs": 1},
    ],
)
def test_short_prompts_and_those_that_cannot_be_split_go_to_a_decode_pod_alone(fields: dict[str, object]) -> None:
    with rig() as it:
        client = asks(it, **fields)
        assert it.asked().address.startswith(DECODE)
        it.asked().sends(ok())
        assert "x-turnout-prefill-pod" not in client.answer().headers
        assert it.metrics.split_requests == {("d", "alone"): 1}


def test_a_client_cannot_name_the_blocks_of_others() -> None:
    with rig(prefill=0) as it:
        client = asks(it, kv_transfer_params={"do_remote_prefill": True, "remote_block_ids": [[7]]}, bootstrap_room=3)
        assert body(it.asked()) == CHAT
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_the_second_turn_stays_with_the_decode_pod_that_has_the_first() -> None:
    with rig() as it:
        asks(it)
        it.asked().sends(computed())
        home = it.asked().address
        it.asked().sends(ok())
        turn = [*CHAT["messages"], {"role": "assistant", "content": "yes"}]  # type: ignore[misc]
        client = asks(it, messages=turn)
        assert it.asked().address == home
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_a_prefill_pod_that_dies_is_replaced_by_another() -> None:
    with rig() as it:
        client = asks(it)
        dead = it.asked().dies()
        again = it.asked()
        assert again.address.startswith(PREFILL)
        assert again.address != dead.address
        again.sends(computed())
        it.asked().sends(ok())
        assert (client.answer().status, client.answer().headers["x-turnout-attempts"]) == (200, "2")
        assert it.metrics.split_requests == {("d", "pair"): 1}, "each request counts once"


def test_without_another_prefill_pod_the_decode_pod_computes_the_prompt() -> None:
    with rig(prefill=1) as it:
        client = asks(it)
        it.asked().dies()
        assert it.asked().address.startswith(DECODE)
        assert body(it.asked()) == CHAT
        assert it.load(it.asked()).pending_prefill_tokens > 1000
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_a_tenant_is_charged_once_where_the_decode_pod_computes_the_prompt_too() -> None:
    """A second charge was never given back, and the time of the prefill pod counted as the gateway's own."""
    with rig(weights={"a": (1.0, 0)}) as it:
        it.rebuild(it.gateway.deps._replace(access=access_of(TenantSettings(name="a"))))
        client = it.asks(json.dumps(CHAT).encode(), bearer("a"))
        it.asked().sends(ok(status="400 Bad Request"))
        assert it.shares is not None
        assert it.shares.counter("d", "a").open == 1
        it.asked().sends(ok())
        assert client.answer().status == 200
        assert it.shares.counter("d", "a").open == 0
        assert it.metrics.pool("d").overhead.count == 1
        assert it.metrics.split_requests == {("d", "pair"): 1}, "by what got it first"


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Internal Server Error"])
def test_what_a_prefill_pod_refuses_the_decode_pod_judges(status: str) -> None:
    with rig() as it:
        client = asks(it)
        it.asked().sends(ok(b'{"error":{}}', status=status))
        assert body(it.asked()) == CHAT
        it.asked().sends(ok(status="400 Bad Request"))
        assert client.answer().status == 400


def test_a_busy_prefill_pod_is_passed_over() -> None:
    with rig() as it:
        client = asks(it)
        busy = it.asked().sends(ok(status="503 Service Unavailable"))
        assert it.asked().address.startswith(PREFILL)
        assert it.asked().address != busy.address
        it.asked().sends(computed())
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_a_prefill_that_takes_too_long_is_given_up() -> None:
    with rig(prefill_timeout_s=5.0) as it:
        client = asks(it)
        slow = it.asked()
        it.passes(6.0)
        assert slow.transport.ending
        assert it.asked().address.startswith(DECODE)
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_a_decode_pod_that_dies_after_the_transfer_is_replaced_with_its_pair() -> None:
    with rig() as it:
        client = asks(it)
        it.asked().sends(computed())
        dead = it.asked().dies()
        assert it.asked().address.startswith(PREFILL)
        it.asked().sends(computed({**PARAMS, "remote_block_ids": [[3]]}))
        assert it.asked().address not in (dead.address,)
        assert body(it.asked())["kv_transfer_params"]["remote_block_ids"] == [[3]]
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_a_transfer_that_fails_is_tried_with_another_prefill_pod() -> None:
    with rig() as it:
        client = asks(it)
        first = it.asked().sends(computed())
        it.asked().sends(ok(b'{"error":{"message":"KV load failed"}}', status="500 Internal Server Error"))
        assert it.asked().address.startswith(PREFILL)
        assert it.asked().address != first.address
        it.asked().sends(computed())
        it.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize("connector", ["nixl", "sglang"])
def test_a_client_that_leaves_stops_both_pods(connector: str) -> None:
    with rig(connector=connector) as it:
        client = asks(it)
        ends = [end for end in it.net.made if not end.transport.ending]
        assert len(ends) == (2 if connector == "sglang" else 1)
        client.leaves()
        assert all(end.transport.ending for end in ends)
        assert it.inflight == 0


def test_a_pod_whose_probes_fail_gives_its_prefills_back() -> None:
    with rig() as it:
        client = asks(it)
        silent = it.asked()
        it.wire.do(lambda: it.gateway.pods_gone({PodId(silent.address)}))
        assert silent.transport.ending
        assert it.asked().address.startswith(PREFILL)
        assert it.asked().address != silent.address
        it.asked().sends(computed())
        it.asked().sends(ok())
        assert client.answer().status == 200


@pytest.mark.parametrize("connector", ["nixl", "sglang"])
@pytest.mark.parametrize("side", ["prefill", "decode"])
def test_a_stale_connection_to_either_pod_costs_nothing(connector: str, side: str) -> None:
    with rig(prefill=1, decode=1, connector=connector) as it:
        asks(it)
        first = it.asked().sends(computed())
        second = it.asked().sends(ok())
        client = asks(it, messages=[{"role": "user", "content": "other " * 2000}])
        if side == "prefill":
            first.closes()
        prefill = next(e for e in it.net.made if e.address == first.address and len(e.requests) > e.answered)
        if side == "decode" and connector == "sglang":
            second.closes()
            prefill = next(e for e in reversed(it.net.made) if e.address == first.address)
        prefill.sends(computed())
        if side == "decode" and connector == "nixl":
            second.closes()
        assert it.asked().address == second.address
        assert connector == "sglang" or body(it.asked())["kv_transfer_params"] == PARAMS
        it.asked().sends(ok())
        assert client.answer().status == 200


def test_with_sglang_both_pods_are_asked_at_once_and_meet_in_one_room() -> None:
    with rig(connector="sglang", bootstrap_port=8998) as it:
        client = asks(it)
        prefill, decode = (end for end in it.net.made if len(end.requests) > end.answered)
        assert prefill.address.startswith(PREFILL)
        assert decode.address.startswith(DECODE)
        assert body(prefill) == body(decode)
        assert (body(prefill)["bootstrap_host"], body(prefill)["bootstrap_port"]) == (prefill.address[:-5], 8998)
        assert 0 <= body(prefill)["bootstrap_room"] < 2**63
        prefill.sends(ok())
        decode.sends(ok(b'{"id":"2"}'))
        assert json.loads(client.answer().body) == {"id": "2"}


def test_with_sglang_an_answer_that_comes_before_the_prefill_pods_is_enough() -> None:
    with rig(connector="sglang") as it:
        client = asks(it)
        prefill, decode = (end for end in it.net.made if len(end.requests) > end.answered)
        decode.sends(ok())
        assert client.answer().status == 200
        assert prefill.transport.ending


def test_with_sglang_a_prefill_pod_that_dies_takes_its_decode_request_along() -> None:
    with rig(connector="sglang") as it:
        client = asks(it)
        prefill, decode = (end for end in it.net.made if len(end.requests) > end.answered)
        prefill.dies()
        assert decode.transport.ending
        again, other = (end for end in it.net.made if not end.transport.ending and len(end.requests) > end.answered)
        assert again.address.startswith(PREFILL)
        assert again.address != prefill.address
        again.sends(ok())
        other.sends(ok())
        assert client.answer().status == 200


def test_with_sglang_nothing_goes_without_a_prefill_pod() -> None:
    with rig(connector="sglang", prefill=1) as it:
        client = asks(it)
        prefill, _ = (end for end in it.net.made if len(end.requests) > end.answered)
        prefill.dies()
        assert client.answer().status == 502
        assert it.nobody_asked()


def test_requests_of_other_paths_go_to_decode_pods_as_they_are() -> None:
    with rig() as it:
        text = b'{"model":"m","input":"' + PROMPT.encode() + b'"}'
        client = it.client().sends(post(text).replace(b"/v1/chat/completions", b"/v1/embeddings"))
        assert it.asked().address.startswith(DECODE)
        assert it.asked().request.body == text
        it.asked().sends(ok())
        assert client.answer().status == 200
