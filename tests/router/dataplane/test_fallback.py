"""Requests that their own pool cannot serve: which pool gets them, in which form, and the error when none does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from router.dataplane.exchange import NO_POD, SATURATED
from router.settings import Limits, PathSettings, PolicySpec, Pool, Retries, Targets, Timeouts
from schedulers import registry
from schedulers.protocols import Scheduler
from schedulers.types import Decision, LoadSnapshot, Rejection, RequestInfo
from tests.fakes.memory_client_and_pods import SSE_HEAD, Client, PodEnd, event, get, ok, post
from tests.fakes.memory_gateway import Rig

BODY = b'{"model":"m","messages":[]}'
PODS = {"a": "10.0.0.", "b": "10.0.1.", "c": "10.0.2."}


def pool(name: str, *fallback: str, **fields: Any) -> Pool:
    spec = PolicySpec(name=fields.pop("policy", "round_robin"))
    return Pool(name=name, models=fields.pop("models", ["m"]), policy=spec, fallback=list(fallback), **fields)


def three(*, pods: int = 2, a: dict[str, Any] | None = None, b: dict[str, Any] | None = None, **rig: Any) -> Rig:
    """Pool `a`, which falls back to `b`, then to `c`."""
    pools = [pool("a", "b", "c", cluster="east", **(a or {})), pool("b", cluster="west", **(b or {})), pool("c")]
    return Rig(pools=pools, pods=pods, retries=rig.pop("retries", Retries(budget_min=1000)), **rig)


def down(rig: Rig, *pools: str) -> None:
    """Make every pod of these pools unusable."""
    for name in pools:
        for status in rig.view.statuses(name):
            rig.view.block(status.pod.id, "test")


def up(rig: Rig, name: str) -> None:
    for status in rig.view.statuses(name):
        rig.wire.do(lambda status=status: rig.view.unblock(status.pod.id, "test"))  # type: ignore[misc]


def where(end: PodEnd) -> str:
    """The pool of a pod."""
    return next(name for name, prefix in PODS.items() if end.address.startswith(prefix))


def said(client: Client) -> str:
    message: str = json.loads(client.answer().body)["error"]["message"]
    return message


def test_a_request_stays_in_a_pool_that_serves_it() -> None:
    with three() as rig:
        client = rig.asks(BODY)
        assert where(rig.asked()) == "a"
        rig.asked().sends(ok())
        headers = client.answer().headers
        assert (headers["x-turnout-pool"], headers["x-turnout-cluster"]) == ("a", "east")
        assert "x-turnout-fallback" not in headers
        assert rig.metrics.fallbacks == {}


def test_a_fall_back_that_cannot_serve_leaves_the_request_as_its_own_pool_has_it() -> None:
    busy = {"max_inflight_per_pod": 1, "fallback_after_s": 5.0}
    with three(pods=1, a=busy) as rig:
        down(rig, "b", "c")
        first, waiting = rig.asks(BODY), rig.asks(BODY)
        (exchange,) = [each for each in rig.admission.active if each.queued]
        before = exchange.routed
        rig.passes(6.0)
        assert exchange.routed is before
        assert exchange.fallback_state is not None
        assert exchange.fallback_state.tried == {"a": SATURATED, "b": NO_POD, "c": NO_POD}
        rig.asked().sends(ok())
        rig.asked().sends(ok())
        assert (first.answer().status, waiting.answer().headers["x-turnout-pool"]) == (200, "a")


def test_without_a_pod_a_request_goes_to_the_first_fall_back_and_the_answer_names_both() -> None:
    with three() as rig:
        down(rig, "a")
        client = rig.asks(BODY)
        assert where(rig.asked()) == "b"
        rig.asked().sends(ok())
        headers = client.answer().headers
        assert (headers["x-turnout-pool"], headers["x-turnout-cluster"]) == ("b", "west")
        assert (headers["x-turnout-fallback"], headers["x-turnout-attempts"]) == ("from=a", "1")
        assert rig.metrics.fallbacks == {("a", "b", "no_pod"): 1}
        assert [key[0] for key in rig.metrics.requests] == ["b"]


def test_the_next_request_goes_to_its_own_pool_when_it_has_a_pod_again() -> None:
    with three() as rig:
        down(rig, "a")
        rig.asks(BODY)
        rig.asked().sends(ok())
        up(rig, "a")
        client = rig.asks(BODY)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "a"


def test_a_fall_back_without_a_pod_is_skipped() -> None:
    with three() as rig:
        down(rig, "a", "b")
        client = rig.asks(BODY)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "c"


def test_the_error_names_every_pool_that_was_tried() -> None:
    with three() as rig:
        down(rig, "a", "b", "c")
        client = rig.asks(BODY)
        assert client.answer().status == 503
        assert "pool 'a' has 2 pods, none of them routable" in said(client)
        assert "Pools tried: 'a' has no pod for it, 'b' has no pod for it, 'c' has no pod for it." in said(client)
        assert [(key[0], key[3]) for key in rig.metrics.requests] == [("a", 503)]


def test_the_error_for_a_client_that_refuses_fall_back_names_its_pool() -> None:
    with three() as rig:
        down(rig, "a")
        client = rig.asks(BODY, "x-turnout-fallback: false")
        assert client.answer().status == 503
        assert "belongs to pool 'a' and refuses fall-back" in said(client)
        assert rig.net.made == []


def test_a_fall_back_is_not_followed_by_its_own() -> None:
    with Rig(pools=[pool("a", "b"), pool("b", "c", "a"), pool("c")], pods=1) as rig:
        down(rig, "a", "b")
        client = rig.asks(BODY)
        assert client.answer().status == 503
        assert "'c'" not in said(client)


def test_pools_may_fall_back_to_each_other() -> None:
    with Rig(pools=[pool("a", "b"), pool("b", "a", models=["n"], aliases={"m": "n"})], pods=1) as rig:
        down(rig, "b")
        client = rig.asks(b'{"model":"n","messages":[]}')
        assert client.answer().status == 503  # `a` does not serve it
        down(rig, "a")
        up(rig, "b")
        client = rig.asks(BODY)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-fallback"] == "from=a"


# What a fall-back changes in the request


def test_the_model_has_the_name_that_the_fall_back_knows() -> None:
    near = pool("a", "b", "c", models=["llama-70b"], aliases={"gpt-4": "llama-70b"})
    with Rig(
        pools=[near, pool("b", models=["llama"], aliases={"gpt-4": "llama"}), pool("c", models=["llama-70b"])], pods=1
    ) as rig:
        down(rig, "a")
        rig.asks(b'{"model":"gpt-4","messages":[]}')
        assert rig.asked().request.body == b'{"model":"llama","messages":[]}'
        rig.asked().sends(ok())
        down(rig, "b")
        rig.asks(b'{"model":"gpt-4","messages":[]}')
        assert (where(rig.asked()), rig.asked().request.body) == ("c", b'{"model":"llama-70b","messages":[]}')
        rig.asked().sends(ok())


def test_a_fall_back_that_does_not_serve_the_model_is_not_used() -> None:
    with three(b={"models": ["other"]}) as rig:
        down(rig, "a")
        client = rig.asks(BODY)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "c"


def test_the_fall_backs_timeouts_hold_from_the_requests_arrival() -> None:
    quick = Timeouts(first_byte_s=50, total_s=20)
    with three(b={"timeouts": quick}, timeouts=Timeouts(first_byte_s=5)) as rig:
        client = rig.asks(BODY)
        rig.passes(4)
        rig.asked().dies()
        rig.asked().dies()
        assert where(rig.asked()) == "b"
        rig.passes(15)
        assert client.raw == b""
        rig.passes(1.2)  # 20 s after it arrived, not after it came to `b`
        assert client.answer().status == 504


def test_the_requests_own_deadline_holds_in_the_fall_back() -> None:
    with three(b={"timeouts": Timeouts(total_s=100)}) as rig:
        down(rig, "a")
        client = rig.asks(BODY, "x-turnout-deadline-ms: 3000")
        rig.passes(3.2)
        assert client.answer().status == 504


def test_a_policy_named_for_the_own_pool_does_not_bind_the_fall_back() -> None:
    with three(a={"allowed_policies": ["random"]}, b={"policy": "p2c"}) as rig:
        down(rig, "a")
        client = rig.asks(BODY, "x-turnout-policy: random")
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-policy"] == "p2c"


def test_a_stream_falls_back_too() -> None:
    with three() as rig:
        down(rig, "a")
        client = rig.asks(b'{"model":"m","stream":true,"messages":[]}')
        rig.asked().sends(SSE_HEAD + event("one"))
        assert b"x-turnout-fallback: from=a" in client.raw
        rig.asked_before().sends(b"0\r\n\r\n")


# Failures


def test_a_fall_back_serves_a_request_that_every_pod_of_its_pool_failed() -> None:
    with three() as rig:
        client = rig.asks(BODY)
        for _ in range(2):
            assert where(rig.asked()) == "a"
            rig.asked().dies()
        assert where(rig.asked()) == "b"
        rig.asked().sends(ok())
        assert (client.answer().status, client.answer().headers["x-turnout-attempts"]) == (200, "3")
        assert rig.metrics.fallbacks == {("a", "b", "failed"): 1}
        assert sum(rig.metrics.retries.values()) == 2


def test_a_large_pool_gets_only_the_configured_attempts() -> None:
    with three(pods=9) as rig:
        client = rig.asks(BODY)
        homes = []
        for _ in range(9):
            homes.append(where(rig.asked()))
            rig.asked().dies()
        assert homes == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
        assert client.answer().status == 502
        assert "Pools tried: 'a' failed it, 'b' failed it, 'c' failed it." in said(client)


def test_without_retries_the_fall_back_gets_one_attempt() -> None:
    with three(retries=Retries(attempts=0, budget_min=1000)) as rig:
        client = rig.asks(BODY)
        rig.asked().dies()
        assert where(rig.asked()) == "b"
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_fall_backs_after_failures_spend_the_retry_budget() -> None:
    with three(retries=Retries(budget_ratio=0.0, budget_min=0)) as rig:
        client = rig.asks(BODY)
        rig.asked().dies()
        assert client.answer().status == 502
        assert rig.metrics.rejections == {("a", "retry_budget"): 1}


def test_a_request_refused_as_overloaded_goes_to_a_fall_back() -> None:
    with three(pods=1) as rig:
        client = rig.asks(BODY)
        rig.asked().sends(ok(b"busy").replace(b"200 OK", b"429 Too Many Requests"))
        assert where(rig.asked()) == "b"
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_an_answer_that_has_begun_does_not_fall_back() -> None:
    with three() as rig:
        rig.asks(b'{"model":"m","stream":true,"messages":[]}')
        rig.asked().sends(SSE_HEAD + event("one"))
        rig.asked_before().dies()
        assert rig.nobody_asked()
        assert rig.metrics.fallbacks == {}


def test_a_failed_attempt_in_a_fall_back_gives_its_charge_back() -> None:
    with three(pods=1) as rig:
        down(rig, "c")
        client = rig.asks(BODY)
        rig.asked().dies()
        rig.asked().dies()
        assert client.answer().status == 502
        assert client.answer().headers["x-turnout-pool"] == "b"
        assert rig.inflight == 0


# Full pools


class Picky:
    """Rejects requests of priority 5."""

    name = "picky"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        if request.priority == 5:
            return Rejection("not_that_one")
        return Decision(snapshot.candidates[0].pod.id, self.name)


def custom(name: str, params: Mapping[str, object]) -> Scheduler:
    return Picky() if name == "picky" else registry.create(name, params)


FULL: dict[str, Any] = {"max_inflight_per_pod": 1}


def test_a_full_pool_overflows_at_once() -> None:
    with three(pods=1, a=FULL) as rig:
        rig.asks(BODY)
        second = rig.asks(BODY)
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())
        assert second.answer().headers["x-turnout-pool"] == "b"
        assert rig.metrics.fallbacks == {("a", "b", "saturated"): 1}


def test_where_all_pools_are_full_the_first_with_room_serves_the_request() -> None:
    with Rig(pools=[pool("a", "b", **FULL), pool("b", **FULL)], pods=1) as rig:
        held = [rig.asks(BODY), rig.asks(BODY)]
        waiting = rig.asks(BODY)
        assert rig.admission.queued == 1
        there = next(end for end in rig.net.made if where(end) == "b")
        there.sends(ok())
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())
        assert waiting.answer().headers["x-turnout-fallback"] == "from=a"
        assert [client.answer().status for client in held] == [200, 200]


def test_a_request_waits_for_its_own_pool_before_it_falls_back() -> None:
    with three(pods=1, a=FULL | {"fallback_after_s": 2.0}) as rig:
        rig.asks(BODY)
        patient, lucky = rig.asks(BODY), rig.asks(BODY)
        assert rig.admission.queued == 2
        rig.passes(1.5)
        rig.asked().sends(ok())
        assert rig.admission.queued == 1
        rig.passes(0.6)
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())
        assert "x-turnout-fallback" not in patient.answer().headers
        assert lucky.answer().headers["x-turnout-fallback"] == "from=a"


def test_after_the_wait_for_its_own_pool_a_request_waits_for_all_pools() -> None:
    with Rig(pools=[pool("a", "b", fallback_after_s=2.0, **FULL), pool("b", **FULL, models=["m", "n"])], pods=1) as rig:
        rig.asks(BODY)
        rig.asks(b'{"model":"n","messages":[]}')
        client = rig.asks(BODY)
        rig.passes(2.1)
        assert rig.admission.queued == 1
        next(end for end in rig.net.made if where(end) == "b").sends(ok())
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "b"


def test_the_error_after_a_wait_names_every_pool() -> None:
    with Rig(pools=[pool("a", "b", **FULL), pool("b", **FULL)], pods=1, limits=Limits(queue_timeout_s=5)) as rig:
        for _ in range(2):
            rig.asks(BODY)
        client = rig.asks(BODY)
        rig.passes(5.1)
        assert client.answer().status == 429
        assert "No pod of pool 'a' had room in time. Pools tried: 'a' is full, 'b' is full." in said(client)
        for _ in range(2):
            rig.asked().sends(ok())


def test_a_request_that_finds_the_queue_full_falls_back() -> None:
    with three(pods=1, a=FULL | {"fallback_after_s": 60.0}, limits=Limits(max_queue=1)) as rig:
        rig.asks(BODY)
        rig.asks(BODY)
        late = rig.asks(BODY)
        end = next(end for end in rig.net.made if where(end) == "b")
        end.sends(ok())
        assert late.answer().headers["x-turnout-fallback"] == "from=a"
        for _ in range(2):
            rig.asked().sends(ok())


def test_a_request_that_refuses_fall_back_waits_for_its_own_pool() -> None:
    with three(pods=1, a=FULL) as rig:
        rig.asks(BODY)
        client = rig.asks(BODY, "x-turnout-fallback: no")
        assert rig.admission.queued == 1
        for _ in range(2):
            rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "a"


def test_a_request_that_may_not_use_the_room_does_not_block_the_queue() -> None:
    pools = [pool("a", "b", **FULL), pool("b", models=["m", "n"], policy="picky", **FULL)]
    with Rig(pools=pools, pods=1, create=custom) as rig:
        rig.asks(BODY)
        rig.asks(b'{"model":"n","messages":[]}')
        unwanted = rig.asks(BODY, "x-turnout-priority: 5")
        own = rig.asks(b'{"model":"n","messages":[]}')
        assert rig.admission.queued == 2
        next(end for end in rig.net.made if where(end) == "b").sends(ok())
        assert rig.admission.queued == 1
        for _ in range(3):
            rig.asked().sends(ok())
        assert own.answer().headers["x-turnout-pool"] == "b"
        assert unwanted.answer().headers["x-turnout-pool"] == "a"


# Targets


def test_another_pool_of_the_cluster_that_was_asked_for_comes_before_the_fall_backs() -> None:
    pools = [pool("a", "c", cluster="east"), pool("b", cluster="east"), pool("c", cluster="west")]
    with Rig(pools=pools, pods=1, targets=Targets(allow=["east"])) as rig:
        down(rig, "a")
        client = rig.asks(BODY, "x-turnout-cluster: east")
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "b"
        down(rig, "b")
        client = rig.asks(BODY, "x-turnout-cluster: east")
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "c"


def test_an_explicit_pool_falls_back_to_its_own_fall_backs() -> None:
    pools = [pool("a"), pool("b", "c", models=["m"]), pool("c")]
    with Rig(pools=pools, pods=1, targets=Targets(allow=["b"])) as rig:
        down(rig, "b")
        client = rig.asks(BODY, "x-turnout-pool: b")
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "c"


@pytest.mark.parametrize("header", ["x-turnout-pool: b", "x-turnout-cluster: west"])
def test_a_target_that_is_not_allowed_reaches_no_pod(header: str) -> None:
    with three() as rig:
        client = rig.asks(BODY, header)
        assert (client.answer().status, json.loads(client.answer().body)["error"]["code"]) == (
            403,
            "target_not_allowed",
        )
        assert rig.net.made == []
        assert rig.metrics.rejections == {("-", "target_not_allowed"): 1}


def test_a_pool_whose_pods_are_all_ejected_is_skipped_until_they_recover() -> None:
    with three(pods=4) as rig:
        for _ in range(12):
            rig.asks(BODY)
            while where(end := rig.asked()) == "a":
                end.dies()
            end.sends(ok())
        assert not any(status.routable for status in rig.view.statuses("a"))
        rig.passes(6)
        rig.wire.do(lambda: rig.health.due(rig.wire.clock()))
        client = rig.asks(BODY)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "a"


def test_a_fall_back_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    with three() as rig:
        down(rig, "a")
        for _ in range(3):
            rig.asks(BODY)
            rig.asked().sends(ok())
        assert [record.getMessage() for record in caplog.records if record.name == "turnout.fallback"] == [
            "pool a has no pod for it: requests go to its fall-back b"
        ]


def test_the_model_of_a_form_is_replaced_for_the_fall_back() -> None:
    def form(model: str) -> bytes:
        return f'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n{model}\r\n--B--\r\n'.encode()

    pools = [pool("a", "b"), pool("b", models=["n"], aliases={"m": "n"})]
    with Rig(pools=pools, pods=1) as rig:
        down(rig, "a")
        request = post(form("m"), path="/v1/audio/transcriptions")
        rig.client().sends(request.replace(b"application/json", b"multipart/form-data; boundary=B"))
        assert rig.asked().request.body == form("n")
        rig.asked().sends(ok())


def test_a_query_names_the_model_as_its_own_pool_does_after_a_full_fall_back() -> None:
    full: dict[str, Any] = {"max_inflight_per_pod": 1}
    pools = [pool("a", "b", **full), pool("b", models=["big"], aliases={"m": "big"}, **full)]
    with Rig(pools=pools, pods=1, paths=PathSettings(forward=("/v1/*", "/ask"))) as rig:
        rig.asks(BODY)
        first = rig.asked()
        rig.asks(b'{"model":"big","messages":[]}')
        rig.client().sends(get("/ask?model=m"))
        assert rig.admission.queued == 1
        first.sends(ok())
        assert [where(end) for end in rig.net.made] == ["a", "b"]
        assert first.request.target == "/ask?model=m"
