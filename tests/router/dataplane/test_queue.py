"""Requests of a saturated pool: in which order they are served, and how their wait can end."""

from __future__ import annotations

import pytest

from router.lifecycle import Phase
from router.settings import Limits, Pool
from router.upstream_settings import Failover
from schedulers.types import Pod, PodId
from tests.fakes.memory_client_and_pods import CHAT, SSE_HEAD, PodEnd, event, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

POD = PodId("10.0.0.1:8000")


def full(limits: Limits | None = None, pods: int = 1) -> Rig:
    """A gateway whose pods take one request at a time and are busy with it."""
    rig = Rig(one_pool(max_inflight_per_pod=1), pods=pods, limits=limits)
    for _ in range(pods):
        rig.asks()
    return rig


def test_a_request_waits_until_a_pod_has_room() -> None:
    with full() as rig:
        client = rig.asks()
        assert rig.admission.queued == 1
        assert len(rig.net.made) == 1
        rig.asked().sends(ok())
        assert rig.admission.queued == 0
        rig.asked().sends(ok(b"served"))
        assert client.answer().body == b"served"
        rig.assert_clean()


def test_higher_priority_goes_first_then_the_first_to_come() -> None:
    with full() as rig:
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)):
            rig.asks(CHAT, f"x-turnout-priority: {priority}", f"x-name: {name}")
        rig.asked().sends(ok())
        served = []
        for _ in range(5):
            served.append(rig.asked().request.headers["x-name"])
            rig.asked().sends(ok())
        assert served == ["b", "d", "a", "c", "e"]


@pytest.mark.parametrize("value", ["high", "1.5", "", "9" * 5000])
def test_a_malformed_priority_is_refused(value: str) -> None:
    with Rig() as rig:
        assert rig.asks(CHAT, f"x-turnout-priority: {value}").answer().status == 400


def test_a_full_queue_refuses_the_next_request() -> None:
    with full(Limits(max_queue=2)) as rig:
        waiting = [rig.asks(), rig.asks()]
        late = rig.asks()
        assert (late.answer().status, late.answer().headers["retry-after"]) == (429, "1")
        assert b'"pool_saturated"' in late.answer().body
        for _ in range(3):
            rig.asked().sends(ok())
        assert [client.answer().status for client in waiting] == [200, 200]


def test_a_queued_request_is_refused_after_the_queue_timeout() -> None:
    with full(Limits(queue_timeout_s=30)) as rig:
        client = rig.asks()
        rig.passes(29)
        assert client.raw == b""
        rig.passes(1.1)
        assert client.answer().status == 429
        assert b'"pool_saturated"' in client.answer().body
        assert rig.admission.queued == 0


def test_a_wait_ends_at_the_requests_own_deadline() -> None:
    with full() as rig:
        client = rig.asks(CHAT, "x-turnout-deadline-ms: 3000")
        rig.passes(3.1)
        assert client.answer().status == 504
        assert b'"deadline_exceeded"' in client.answer().body


def test_the_queue_timeout_ends_once_a_pod_has_the_request() -> None:
    with full(Limits(queue_timeout_s=30)) as rig:
        client = rig.asks()
        rig.passes(20)
        rig.asked().sends(ok())
        rig.passes(100)
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_the_deadline_still_holds_once_a_pod_has_the_request() -> None:
    with full() as rig:
        client = rig.asks(CHAT, "x-turnout-deadline-ms: 25000")
        rig.passes(20)
        rig.asked().sends(ok())
        rig.asked().sends(SSE_HEAD + event("one"))
        rig.passes(6)
        assert b'"request_timed_out"' in client.answer().body


def test_a_client_that_leaves_gives_up_its_place_in_the_queue() -> None:
    with full() as rig:
        first, second = rig.asks(), rig.asks()
        first.leaves()
        assert rig.admission.queued == 1
        rig.asked().sends(ok())
        rig.asked().sends(ok(b"second"))
        assert second.answer().body == b"second"
        assert rig.nobody_asked()


def test_clients_that_come_and_leave_do_not_fill_the_queue() -> None:
    with full() as rig:
        for _ in range(300):
            rig.asks(CHAT).leaves()
            rig.clients.pop()
        assert rig.admission.held < 150


def test_a_failed_attempt_frees_room_for_the_queue() -> None:
    with full(pods=2) as rig:
        waiting = rig.asks()
        rig.asked().dies()
        assert rig.admission.queued == 1, "the one that failed waits in place of the one that waited"
        for _ in range(3):
            rig.asked().sends(ok())
        assert {client.answer().status for client in (*rig.clients, waiting)} == {200}


def one_fails(limits: Limits | None = None) -> tuple[Rig, PodEnd, PodEnd]:
    """Two pods, each at its limit of one request; returns the two as well, the last of which is going to fail."""
    rig = full(limits, pods=2)
    busy, failing = rig.net.made
    return rig, busy, failing


BUSY = ok(b"busy", status="429 Too Many Requests")


def test_a_request_that_a_pod_failed_waits_like_a_new_one_while_the_others_are_full() -> None:
    rig, busy, failing = one_fails()
    with rig:
        failing.sends(BUSY)
        assert (rig.admission.queued, rig.load(failing).inflight, rig.clients[1].raw) == (1, 0, b"")
        busy.sends(ok(b"first"))
        moved = rig.asked()
        assert moved.address == busy.address
        moved.sends(ok(b"second"))
        first, second = (client.answer() for client in rig.clients)
        assert (first.body, second.body, second.headers["x-turnout-attempts"]) == (b"first", b"second", "2")
        rig.assert_clean()


def test_a_pod_that_failed_a_request_is_tried_again_soon_if_the_others_stay_full() -> None:
    rig, busy, failing = one_fails()
    with rig:
        failing.dies()
        assert len(rig.net.made) == 2
        rig.passes(1.1)
        again = rig.net.made[2]
        assert again.address == failing.address
        again.sends(ok(b"restarted"))
        assert rig.clients[1].answer().body == b"restarted"
        busy.sends(ok())
        rig.assert_clean()


def test_a_request_that_a_pod_fails_each_time_gets_its_last_answer() -> None:
    rig, busy, failing = one_fails()
    with rig:
        for _ in range(3):
            failing.sends(BUSY)
            rig.passes(1.1)
        assert (rig.clients[1].answer().status, rig.clients[1].answer().body) == (429, b"busy")
        busy.sends(ok())
        rig.assert_clean()


def test_a_request_that_a_pod_failed_waits_no_longer_than_any_other() -> None:
    rig, busy, failing = one_fails(Limits(queue_timeout_s=0.5))
    with rig:
        failing.dies()
        rig.passes(0.6)
        assert rig.clients[1].answer().status == 429
        assert b'"pool_saturated"' in rig.clients[1].answer().body
        busy.sends(ok())
        rig.assert_clean()


def test_a_request_that_a_pod_failed_is_refused_where_too_many_wait() -> None:
    rig, _, failing = one_fails(Limits(max_queue=0))
    with rig:
        failing.sends(BUSY)
        assert (rig.clients[1].answer().status, rig.clients[1].answer().body) == (429, b"busy")


def test_a_stream_that_may_move_waits_too() -> None:
    with Rig(one_pool(max_inflight_per_pod=1, failover=Failover(mid_stream=True))) as rig:
        for _ in range(2):
            rig.asks(b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "hi"}]}')
        busy, failing = rig.net.made
        failing.sends(BUSY)
        assert (rig.admission.queued, rig.clients[1].raw) == (1, b"")
        busy.sends(ok())
        assert rig.asked().address == busy.address
        rig.asked().sends(ok(b"moved"))
        assert rig.clients[1].answer().body == b"moved"
        rig.assert_clean()


def test_a_request_that_the_only_pod_failed_does_not_wait() -> None:
    with full() as rig:
        rig.asked().sends(BUSY)
        assert rig.clients[0].answer().body == b"busy"


def test_the_queue_is_served_when_a_pod_joins() -> None:
    with full() as rig:
        rig.asks()
        pods = [status.pod for status in rig.view.statuses()]
        more = pods[0]._replace(id=PodId("10.0.0.9:8000"), address="10.0.0.9:8000")
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [*pods, more]))
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())


def test_a_queued_request_waits_while_the_pod_is_blocked() -> None:
    with full() as rig:
        client = rig.asks()
        rig.wire.do(lambda: rig.view.block(POD, "draining"))
        rig.asked().sends(ok())
        rig.wire.do(lambda: rig.view.unblock(POD, "draining"))
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_drain_out_of_time_empties_the_queue() -> None:
    with full() as rig:
        client = rig.asks()
        rig.lifecycle.enter(Phase.DRAINING)
        rig.wire.do(rig.gateway.cut_off)
        assert client.answer().status == 503
        assert rig.admission.queued == 0


def test_a_request_for_a_pool_without_pods_is_refused_at_once() -> None:
    with Rig(pods=0) as rig:
        answer = rig.asks().answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert b'"no_pod_available"' in answer.body


def test_a_replica_at_its_inflight_limit_sheds() -> None:
    with Rig(limits=Limits(max_inflight=1)) as rig:
        rig.asks()
        late = rig.asks()
        assert (late.answer().status, late.fate) == (503, "")
        rig.asked().sends(ok())
        late.sends(post())
        rig.asked().sends(ok())
        assert [answer.status for answer in late.answers()] == [503, 200]


def test_a_model_whose_pods_are_full_does_not_hold_up_the_others() -> None:
    with Rig(Pool(name="main", max_inflight_per_pod=1)) as rig:
        rig.lists(1, "lora")
        rig.lists(2, "base")
        asked = {model: b'{"model":"%b","messages":[]}' % model for model in (b"lora", b"base")}
        first = {model: rig.asks(body) for model, body in asked.items()}
        ends = {end.address: end for end in rig.net.made if end.requests}
        waiting = [rig.asks(asked[model]) for model in (b"lora", b"lora", b"base")]
        assert rig.admission.queued == 3
        ends["10.0.0.2:8000"].sends(ok())
        rig.wire.do()
        assert first[b"base"].answer().status == 200
        assert rig.admission.queued == 2, "the last one has the pod of its model"
        ends["10.0.0.2:8000"].sends(ok())
        assert [len(client.answers()) for client in waiting] == [0, 0, 1]
        for _ in range(3):
            ends["10.0.0.1:8000"].sends(ok())
            rig.wire.do()
        assert [client.answer().status for client in waiting] == [200] * 3


def test_a_request_before_a_refusal_waits_for_its_client_to_read_and_then_at_most_as_long_as_any() -> None:
    limits = Limits(write_buffer_bytes=1024, queue_timeout_s=5)
    with Rig(one_pool(max_inflight_per_pod=1), pods=1, limits=limits) as rig:
        client = rig.asks()
        client.stops_reading()
        rig.asked().sends(ok(b"x" * 5000))
        other = rig.asks()
        client.sends(post() + b"\x00no request")
        assert rig.admission.queued == 0
        client.reads_on()
        assert rig.admission.queued == 1
        rig.passes(6)
        assert [answer.status for answer in client.answers()] == [200, 429, 400]
        rig.asked().sends(ok())
        assert other.answer().status == 200


def slow_queue(rig: Rig, waiting: int, every_s: float = 2.0) -> None:
    """The only pod ends a request every two seconds for a minute; then this number of requests wait."""
    for _ in range(30):
        while rig.admission.queued < 3:
            rig.asks()
        rig.passes(every_s)
        rig.asked().sends(ok())
    for _ in range(waiting - rig.admission.queued):
        rig.asks()


def test_a_request_that_would_wait_too_long_is_refused_at_once_and_told_when_there_is_room() -> None:
    with full(Limits(queue_timeout_s=30)) as rig:
        slow_queue(rig, 60)
        assert 15 <= rig.admission.queued <= 30, (
            "15 are served in 30 s at 2 s each; more wait as the speed is uncertain"
        )
        late = rig.clients[-1].answer()
        assert late.status == 429
        assert (
            b'"pool_saturated"' in late.body and b"requests that go first are not served within the 30 s" in late.body
        )
        assert abs(int(late.headers["retry-after"]) - (2 * rig.admission.queued - 30)) <= 5


def test_a_request_whose_deadline_cannot_be_met_is_refused_at_once() -> None:
    with full() as rig:
        slow_queue(rig, 9)
        assert rig.asks(CHAT, "x-turnout-deadline-ms: 5000").answer().status == 429
        assert rig.admission.queued == 9
        urgent = rig.asks(CHAT, "x-turnout-deadline-ms: 5000", "x-turnout-priority: 1")
        assert (urgent.raw, rig.admission.queued) == (b"", 10)


def test_requests_that_wait_are_refused_once_a_slower_pool_cannot_serve_them_in_time() -> None:
    with full(Limits(queue_timeout_s=60)) as rig:
        slow_queue(rig, 20)
        waiting = rig.clients[-20:]
        for _ in range(4):
            rig.passes(2)
            rig.asked().sends(ok())
        assert rig.admission.queued == 16, "as fast as before: all of them can be served"
        rig.passes(35)
        left = [client for client in waiting[4:] if not client.raw]
        assert 0 < len(left) < 16 and left == waiting[4 : 4 + len(left)], "those that came last go, before their time"
        refused = waiting[-1].answer()
        assert refused.status == 429 and b'"pool_saturated"' in refused.body
        for _ in range(1 + len(left)):
            rig.asked().sends(ok())
        assert {client.answer().status for client in left} == {200}


def test_a_client_is_told_how_long_a_full_queue_takes() -> None:
    with full(Limits(max_queue=6)) as rig:
        slow_queue(rig, 6)
        late = rig.asks().answer()
        assert (late.status, late.headers["retry-after"]) == (429, "12")


FROM_ZERO = one_pool(scale_from_zero_s=60.0)


def appears(rig: Rig, **fields: object) -> None:
    """The pool's first pod."""
    pod = Pod(POD, str(POD), **fields)  # type: ignore[arg-type]
    rig.wire.do(lambda: rig.pod_registry.on_pods("main", [pod]))


def test_requests_wait_for_the_first_pod_of_a_pool() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        clients = [rig.asks() for _ in range(200)]
        rig.passes(59)
        assert rig.admission.queued == 200
        appears(rig)
        assert rig.admission.queued == 0
        for _ in clients:
            rig.asked().sends(ok())
        assert {client.answer().status for client in clients} == {200}
        rig.assert_clean()


def test_the_wait_for_a_first_pod_says_nothing_of_its_speed() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        clients = [rig.asks() for _ in range(200)]
        for _ in range(50):
            rig.passes(1)
        appears(rig, max_inflight=50)
        rig.passes(1)
        assert rig.admission.queued == 150
        for _ in clients:
            rig.asked().sends(ok())
        assert {client.answer().status for client in clients} == {200}


def test_a_first_pod_with_a_limit_takes_the_requests_that_waited_one_by_one() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        clients = [rig.asks() for _ in range(3)]
        appears(rig, max_inflight=1)
        for left in (2, 1, 0):
            assert rig.admission.queued == left
            rig.asked().sends(ok())
        assert {client.answer().status for client in clients} == {200}


def test_a_request_is_refused_when_no_pod_came_in_time() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        client = rig.asks()
        rig.passes(60.2)
        assert client.answer().status == 503
        assert b'"no_pod_available"' in client.answer().body
        rig.assert_clean()


def test_a_client_that_leaves_while_no_pod_is_there_leaves_nothing_behind() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        rig.asks().leaves()
        rig.assert_clean()


def test_requests_for_a_first_pod_are_bounded_like_any_queue() -> None:
    with Rig(FROM_ZERO, pods=0, limits=Limits(max_queue=2)) as rig:
        clients = [rig.asks() for _ in range(3)]
        assert clients[2].answer().status == 429
        assert rig.admission.queued == 2


def test_a_pod_that_comes_blocked_is_waited_for_until_it_is_well() -> None:
    with Rig(FROM_ZERO, pods=0) as rig:
        client = rig.asks()
        appears(rig, unready="not_ready")
        assert (rig.admission.queued, client.raw) == (1, b"")
        other = rig.asks()
        appears(rig)
        for _ in range(2):
            rig.asked().sends(ok())
        assert [client.answer().status, other.answer().status] == [200, 200]


def test_a_pool_whose_pods_do_not_come_falls_back_first() -> None:
    pools = [
        Pool(name="a", models=["m"], fallback=["b"], scale_from_zero_s=60.0),
        Pool(name="b", pods=["http://10.0.1.1:8000"]),
    ]
    with Rig(pools=pools, pods={"b": 1}) as rig:
        client = rig.asks()
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_without_the_setting_a_pool_without_pods_refuses_at_once() -> None:
    with Rig(pods=0) as rig:
        assert rig.asks().answer().status == 503
