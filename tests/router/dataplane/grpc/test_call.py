"""A call from its first byte to its end: what passes, what is repeated, and the ways in which it ends."""

from __future__ import annotations

import asyncio

import pytest
from h2 import events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder

from router.dataplane.grpc.call import REPLAY_BYTES
from router.dataplane.grpc.frames import header_frames
from router.settings import Limits
from tests.fakes.grpc_rig import GrpcPeerClient, GrpcPeerPod, GrpcRig, echo


def test_headers_messages_and_trailers_pass_both_ways() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"one", b"two", x_mine="1", x_turnout_policy="p2c", x_forwarded_for="1.2.3.4")
        pod = rig.pod()
        (asked,) = pod.asked()
        head = pod.request(asked)
        assert (head[b":path"], head[b":authority"], head[b"te"]) == (
            b"/test.Echo/Unary",
            b"10.0.0.1:8000",
            b"trailers",
        )
        assert head[b"x-mine"] == b"1"
        assert {b"x-turnout-policy", b"x-forwarded-for", b"grpc-timeout"}.isdisjoint(head)
        assert pod.body(asked) == b"onetwo"
        pod.answers(asked, b"three", b"four")
        answer = client.head(stream)
        assert (answer[b"x-turnout-pod"], answer[b"x-turnout-attempts"]) == (b"10.0.0.1:8000", b"1")
        assert (client.body(stream), client.status(stream)) == (b"threefour", "0")
        assert rig.metrics.requests[("echo", "round_robin", "10.0.0.1:8000", 200)] == 1
        assert (rig.inflight, rig.port.calls) == (0, set())


def test_calls_of_one_connection_are_spread_over_the_pods_and_share_their_connections() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        for _ in range(6):
            client.call(b"x")
        assert rig.net.dialled == ["10.0.0.1:8000", "10.0.0.2:8000"]
        assert [len(rig.pod(number).asked()) for number in (0, 1)] == [3, 3]


def test_a_slow_reader_stops_its_pod_and_no_more_than_a_window_is_held() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        client.h2.increment_flow_control_window(1 << 20)
        stream, quick = client.call(b"x"), client.call(b"x")
        pod = rig.pod()
        slow, other = pod.asked()
        pod.h2.send_headers(slow, [(b":status", b"200")])
        sent = 0
        for _ in range(40):
            client.reads(acknowledge=False)
            room = min(pod.h2.local_flow_control_window(slow), 16384)
            if room:
                pod.h2.send_data(slow, b"x" * room)
                sent += room
            pod.sends()
            pod.reads()
        assert 65535 <= sent <= 2 * 65535
        pod.answers(other, b"quick")
        assert client.body(quick) == b"quick"
        client.h2.reset_stream(stream)
        client.sends()
        assert [event.stream_id for event in pod.all(events.StreamReset)] == [slow]


@pytest.mark.parametrize("trouble", [OSError("no route"), ValueError("no address")])
def test_a_pod_that_cannot_be_reached_is_passed_over(trouble: Exception) -> None:
    with GrpcRig() as rig:
        rig.net.trouble["10.0.0.1:8000"] = trouble
        client = rig.caller()
        stream = client.call(b"one")
        pod = rig.pod()
        (asked,) = pod.asked()
        assert pod.body(asked) == b"one"
        pod.answers(asked)
        assert client.head(stream)[b"x-turnout-attempts"] == b"2"
        assert rig.inflight == 0


def test_a_call_that_no_pod_takes_ends_with_unavailable() -> None:
    with GrpcRig() as rig:
        for number in (1, 2):
            rig.net.trouble[f"10.0.0.{number}:8000"] = OSError("no route")
        client = rig.caller()
        assert client.status(client.call(b"one")).startswith("14 ")
        assert rig.inflight == 0


@pytest.mark.parametrize("how", ["refused", "goodbye"])
def test_what_a_pod_says_that_it_did_not_begin_is_repeated(how: str) -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"one")
        first = rig.pod()
        (asked,) = first.asked()
        if how == "refused":
            first.h2.reset_stream(asked, ErrorCodes.REFUSED_STREAM)
        else:
            first.h2.close_connection(last_stream_id=0)
        first.sends()
        second = rig.pod()
        assert second is not first
        (again,) = second.asked()
        assert second.body(again) == b"one"
        second.answers(again, b"two")
        assert (client.body(stream), client.status(stream)) == (b"two", "0")


def test_what_a_pod_may_have_done_is_not_repeated() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"one")
        rig.pod().asked()
        rig.net.made[-1].transport.hang_up(ConnectionResetError())
        rig.wire.do()
        assert client.status(stream).startswith("14 ")
        assert len(rig.net.made) == 1


def test_a_long_call_is_not_kept_for_another_pod() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"x", end=False)
        pod = rig.pod()
        (asked,) = pod.asked()
        for _ in range(2 * REPLAY_BYTES // 16384):
            client.reads()
            pod.reads()
            client.h2.send_data(stream, b"x" * 16384)
            client.sends()
        assert len(pod.body(asked)) == 1 + 2 * REPLAY_BYTES
        pod.h2.reset_stream(asked, ErrorCodes.REFUSED_STREAM)
        pod.sends()
        assert client.status(stream).startswith("14 ")


def test_a_pod_s_answer_before_the_end_of_the_request_ends_both() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"x", end=False)
        pod = rig.pod()
        (asked,) = pod.asked()
        pod.h2.send_headers(asked, [(b":status", b"200"), (b"grpc-status", b"3")], end_stream=True)
        pod.sends()
        assert client.status(stream) == "3"
        assert [event.stream_id for event in pod.all(events.StreamReset)] == [asked]
        assert rig.inflight == 0


def timed(rig: GrpcRig, pod: GrpcPeerPod, seconds: float) -> None:
    rig.passes(seconds)
    rig.wire.loop.run_until_complete(_turn())
    pod.reads()


async def _turn() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


def test_a_deadline_is_the_least_of_all_and_ends_the_call_at_both_sides() -> None:
    service = {"deadlines_s": {"/test.Echo/*": 5.0, "/test.Echo/Unary": 2.0}}
    with GrpcRig(echo(service=service), pods=1) as rig:
        client = rig.caller()
        streams = [client.call(b"x", grpc_timeout="1S"), client.call(b"x", grpc_timeout="9S")]
        streams += [client.call(b"x", path=b"/test.Echo/Other"), client.call(b"x", path=b"/other.Service/X")]
        pod = rig.pod()
        asked = pod.asked()
        left = [pod.request(each).get(b"grpc-timeout") for each in asked]
        assert left == [b"1000m", b"2000m", b"5000m", None]
        timed(rig, pod, 1.5)
        assert client.status(streams[0]).startswith("4 ")
        timed(rig, pod, 4.0)
        assert [client.status(stream)[0] for stream in streams[:3]] == ["4", "4", "4"]
        assert [event.stream_id for event in pod.all(events.StreamReset)] == asked[:3]
        pod.answers(asked[3])
        assert client.status(streams[3]) == "0"


def test_a_deadline_in_the_middle_of_an_answer_ends_it_with_trailers() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x", grpc_timeout="1S")
        pod = rig.pod()
        (asked,) = pod.asked()
        pod.answers(asked, b"part", end=False)
        timed(rig, pod, 1.5)
        assert (client.body(stream), client.status(stream)[0]) == (b"part", "4")


def test_a_cancel_and_a_client_that_leaves_reach_the_pod() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x")
        client.call(b"x")
        pod = rig.pod()
        first, second = pod.asked()
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.sends()
        assert [event.stream_id for event in pod.all(events.StreamReset)] == [first]
        rig.clients[-1].leaves()
        assert [event.stream_id for event in pod.all(events.StreamReset)] == [first, second]
        assert (rig.inflight, rig.port.calls, rig.listener.edges) == (0, set(), set())
        assert rig.metrics.requests[("echo", "round_robin", "10.0.0.1:8000", 499)] == 2


def test_a_full_pool_and_an_empty_one_say_so() -> None:
    with GrpcRig(echo(max_inflight_per_pod=1), pods=1) as rig:
        client = rig.caller()
        client.call(b"x", end=False)
        assert client.status(client.call(b"x")).startswith("8 ")
    with GrpcRig(pods=0) as rig:
        client = rig.caller()
        assert client.status(client.call(b"x")).startswith("14 ")


def test_calls_that_end_with_bytes_on_their_way_leave_the_windows_to_others() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        for _ in range(40):  # 2.6 MB, where a connection has one
            stream = client.call(b"x", end=False)
            pod = rig.pod()
            asked = pod.asked()[-1]
            for _ in range(4):
                client.reads()
                room = min(client.h2.local_flow_control_window(stream), 16384)
                client.h2.send_data(stream, b"x" * room)
                client.sends()  # the pod takes none of it
            client.h2.reset_stream(stream, ErrorCodes.CANCEL)
            client.sends()
            assert [event.stream_id for event in pod.all(events.StreamReset)][-1] == asked
        client.reads()
        assert client.h2.outbound_flow_control_window > 500_000
        connection = next(iter(rig.port.connections))
        assert connection.writable
        assert rig.inflight == 0


def test_what_is_held_for_calls_counts_for_the_budget() -> None:
    with GrpcRig(pods=1, limits=Limits(buffer_budget_bytes=100_000)) as rig:
        rig.net.slow.add("10.0.0.1:8000")
        client = rig.caller()
        for _ in range(4):
            client.reads()
            stream = client.call(b"x" * 16384, end=False)
            client.h2.send_data(stream, b"x" * 16384)
            client.sends()
            if client.end.fate:
                break
        assert client.end.fate == "aborted"


def unread(rig: GrpcRig) -> GrpcPeerClient:
    """A client that takes nothing of its answers."""
    client = rig.caller()
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.sends()
    return client


@pytest.mark.parametrize("ends", [False, True])
def test_clients_that_do_not_read_leave_a_pods_connection_to_others(ends: bool) -> None:
    with GrpcRig(pods=1) as rig:
        slow = unread(rig)
        for _ in range(40):
            slow.call(b"x")
            pod = rig.pod()
            pod.answers(pod.asked()[-1], *[b"x" * 15000] * 4, end=ends)
            pod.reads()
        stream = rig.caller()
        quick = stream.call(b"x")
        pod.answers(pod.asked()[-1], b"quick")
        assert stream.body(quick) == b"quick"


def test_trailers_reach_a_client_that_has_not_sent_all() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        client.sends()
        stream = client.call(b"x", end=False)
        pod = rig.pod()
        pod.answers(pod.asked()[0], b"y" * 5000, end=False)
        rig.net.made[-1].transport.hang_up(ConnectionResetError())
        rig.wire.do()
        for _ in range(9):
            client.reads()
        assert client.status(stream).startswith("14 ")


def test_bytes_that_come_one_by_one_are_not_kept_one_by_one() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(end=False)
        for _ in range(3000):
            client.h2.send_data(stream, b"x")
        client.sends()
        (call,) = rig.port.calls
        assert len(call.pieces) <= 1100
        assert rig.pod().body(1) == b"x" * 3000


def test_a_pod_that_ends_a_call_before_its_answer_broke_it_off() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x")
        pod = rig.pod()
        (asked,) = pod.asked()
        ends = header_frames(asked, Encoder().encode([(b":status", b"100")]), 16384, end=True)
        rig.wire.do(lambda: pod.end.transport.deliver(ends))
        assert client.status(stream).startswith("14 ")
        assert rig.inflight == 0
