"""Connections to pods: shared, full, leaving, lost."""

from __future__ import annotations

from h2 import events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from router.dataplane.grpc.frames import LAST_ID, goaway
from tests.fakes.grpc_rig import GrpcRig


def test_calls_that_come_while_a_connection_is_made_share_it() -> None:
    with GrpcRig(pods=1) as rig:
        rig.net.slow.add("10.0.0.1:8000")
        client = rig.caller()
        for _ in range(3):
            client.call(b"x")
        rig.wire.do(rig.net.accept)
        assert (len(rig.net.made), len(rig.pod().asked())) == (1, 3)


def test_a_pod_that_takes_few_streams_gets_more_connections() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        client.call(b"x")
        pod = rig.pod()
        pod.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 2})
        pod.sends()
        client.call(b"x")
        client.call(b"x")
        assert [len(rig.pod(number).asked()) for number in (0, 1)] == [2, 1]


def test_after_a_goodbye_calls_go_on_and_new_ones_get_another_connection() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x")
        pod = rig.pod(0)
        (asked,) = pod.asked()
        whole = goaway(LAST_ID)
        for piece in (whole[:3], whole[3:12], whole[12:]):  # as the network cuts it
            rig.wire.do(lambda piece=piece: pod.end.transport.deliver(piece))  # type: ignore[misc]
        other = client.call(b"x")
        assert len(rig.pod(1).asked()) == 1
        pod.answers(asked, b"last")
        assert (client.body(stream), client.status(stream)) == (b"last", "0")
        assert pod.end.fate == "closed", "its last call is over"
        rig.pod(1).answers(rig.pod(1).asked()[0])
        assert client.status(other) == "0"


def test_an_idle_connection_is_closed_by_a_goodbye_and_made_anew() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        client.call(b"x")
        pod = rig.pod(0)
        pod.answers(pod.asked()[0])
        rig.wire.do(lambda: pod.end.transport.deliver(goaway(LAST_ID)))
        assert pod.end.fate == "closed"
        client.call(b"x")
        assert len(rig.pod(1).asked()) == 1


def test_a_pod_that_speaks_no_http_2_breaks_its_calls() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x")
        rig.wire.do(lambda: rig.net.made[0].transport.deliver(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4))
        assert client.status(stream).startswith("14 ")
        assert rig.net.made[0].fate == "closed"


def test_all_are_closed_at_the_end() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        for _ in range(2):
            client.call(b"x")
        rig.wire.do(rig.port.pods.close)
        assert [end.fate for end in rig.net.made] == ["closed", "closed"]
        assert client.all(events.ResponseReceived)


def test_refused_streams_say_nothing_of_a_pods_health() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        for _ in range(8):
            client.call(b"x")
        pod = rig.pod(0)
        for asked in pod.asked()[1:]:
            pod.h2.reset_stream(asked, ErrorCodes.REFUSED_STREAM)
        pod.sends()
        assert not any(status.blockers for status in rig.view.statuses("echo"))


def test_a_call_on_a_pod_whose_host_is_gone_ends() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        stream = client.call(b"x")
        for _ in range(6):  # no byte comes from the pod
            rig.passes(60)
            rig.wire.do()
        assert client.status(stream).startswith("14 ")


def test_a_connection_without_calls_is_closed_after_a_while() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        client.call(b"x")
        pod = rig.pod()
        pod.answers(pod.asked()[0])
        rig.wire.do(lambda: rig.pod_registry.on_pods("echo", []))
        rig.passes(301)
        rig.wire.do()
        assert pod.end.fate == "closed"
