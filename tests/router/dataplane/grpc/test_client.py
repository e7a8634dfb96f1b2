"""Connections of clients: the first bytes, idle ones, and the end in good order."""

from __future__ import annotations

import pytest
from h2 import events
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from router.dataplane.grpc.client import CANCELS, LAST_WORDS_S
from router.dataplane.grpc.frames import LAST_ID, goaway, window_update
from router.dataplane.grpc.http2 import LINGER_S, PREFACE
from router.lifecycle import Phase
from router.settings import Limits, Timeouts
from tests.fakes.grpc_rig import GrpcPeerClient, GrpcRig, echo
from tests.fakes.memory_client_and_pods import CHAT, get, ok, post
from tests.fakes.memory_gateway import one_pool


def passes(rig: GrpcRig, seconds: float) -> None:
    rig.passes(seconds)
    rig.wire.do()


def test_http_1_1_is_served_on_the_same_port_whatever_pieces_it_comes_in() -> None:
    with GrpcRig(one_pool(), echo(), pods=1) as rig:
        for pieces in ([get("/livez")], [b"G", get("/livez")[1:]], [b"PO", post(CHAT)[2:]]):
            client = rig.sniffed().sends(*pieces)
            if pieces[0].startswith(b"PO"):
                rig.asked().sends(ok())
            assert client.answers("GET")[0].status == 200
        assert rig.sniffed().sends(b"PRI * HTTP/1.1\r\n\r\n").answer("GET").status in (400, 505)


def test_a_connection_that_says_half_of_the_first_words_is_closed_in_time() -> None:
    with GrpcRig() as rig:
        client = rig.sniffed().sends(PREFACE[:10])
        passes(rig, Timeouts().client_header_s + 1)
        assert client.fate == "closed"
        assert rig.listener.edges == set()


def test_a_connection_that_breaks_the_protocol_is_closed() -> None:
    with GrpcRig() as rig:
        client = rig.sniffed().sends(PREFACE + b"\x00\x00\x01\x04\x00\x00\x00\x00\x00x")
        assert client.fate == "closed"
        assert (rig.port.connections, rig.listener.edges) == (set(), set())


def test_a_connection_that_breaks_the_protocol_and_reads_nothing_is_cut_off_in_time() -> None:
    with GrpcRig() as rig:
        client = rig.sniffed()
        client.transport.stall()
        client.sends(PREFACE + b"\x00\x00\x01\x04\x00\x00\x00\x00\x00x")
        passes(rig, Timeouts().client_keepalive_s + 1)
        assert (client.fate, rig.port.connections, rig.listener.edges) == ("aborted", set(), set())


def goodbyes(client: GrpcPeerClient) -> list[events.Event]:
    return client.all(events.ConnectionTerminated)


def test_a_drain_ends_a_connection_after_its_calls_and_refuses_later_ones() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"x", end=False)
        pod = rig.pod()
        (asked,) = pod.asked()
        client.reads()
        rig.wire.do(lambda: rig.lifecycle.enter(Phase.DRAINING))
        rig.listener.stop()
        assert rig.port.open == 2, "the call, and the client that is still to know"
        raw = bytes(client.end.transport.sent)
        assert raw.count(goaway(LAST_ID)) == 1
        rig.wire.do(lambda: next(iter(rig.port.connections)).pinged())
        assert bytes(client.end.transport.sent).endswith(goaway(stream))
        late = client.call(b"late")
        assert b"".join([b"\x00\x00\x04\x03\x00", late.to_bytes(4), b"\x00\x00\x00\x07"]) in bytes(
            client.end.transport.sent
        ), "refused, so that the client repeats it elsewhere"
        client.h2.end_stream(stream)
        client.sends()
        assert client.end.fate == ""
        pod.answers(asked, b"done")
        assert client.end.fate == "", "the client closes, or time does"
        passes(rig, LINGER_S + 0.1)
        assert client.end.fate == "closed"
        assert (rig.port.open, rig.port.connections) == (0, set())


def test_a_client_that_does_not_answer_is_not_waited_for() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        client.call(b"x")
        pod = rig.pod()
        pod.answers(pod.asked()[0])
        rig.wire.do(lambda: rig.lifecycle.enter(Phase.DRAINING))
        assert (client.end.fate, rig.port.open) == ("", 1)
        passes(rig, LAST_WORDS_S + 0.1)
        passes(rig, LINGER_S)
        assert (client.end.fate, rig.port.open) == ("closed", 0)


def test_what_is_left_at_the_end_of_a_drain_is_cut_off() -> None:
    with GrpcRig() as rig:
        client = rig.caller()
        stream = client.call(b"x")
        rig.wire.do(rig.port.cut_off)
        assert client.status(stream).startswith("14 ")


def test_an_idle_connection_is_closed_and_one_with_a_call_is_not() -> None:
    with GrpcRig() as rig:
        idle, busy = rig.caller(), rig.caller()
        busy.call(b"x")
        passes(rig, Timeouts().client_keepalive_s + 1)
        passes(rig, LAST_WORDS_S + 0.1)
        assert idle.end.fate == "", "the client is to close: it may be saying something"
        passes(rig, LINGER_S)
        assert (idle.end.fate, busy.end.fate) == ("closed", "")


def test_a_client_that_has_its_calls_cancelled_without_end_is_cut_off() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        for _ in range(CANCELS + 2):
            if client.end.fate:
                break
            client.end.sends(window_update(client.call(b"x"), 0))
        assert client.end.fate == "aborted"
        assert rig.inflight == 0


def test_a_client_that_cancels_without_end_is_cut_off() -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        for _ in range(CANCELS + 2):
            if client.end.fate:
                break
            stream = client.call(b"x")
            client.h2.reset_stream(stream, ErrorCodes.CANCEL)
            client.sends()
        assert client.end.fate == "aborted"
        assert rig.inflight == 0


@pytest.mark.parametrize("most", [1])
def test_its_connections_count_as_any(most: int) -> None:
    with GrpcRig(limits=Limits(max_connections=most)) as rig:
        rig.caller()
        assert rig.sniffed().answers("GET")[0].status == 503


@pytest.mark.parametrize("takes", [True, False])
def test_a_connection_ends_after_its_last_call_though_the_client_is_silent(takes: bool) -> None:
    with GrpcRig(pods=1) as rig:
        client = rig.caller()
        if not takes:
            client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
            client.sends()
        client.call(b"x")
        pod = rig.pod()
        pod.answers(pod.asked()[0], b"y")
        for _ in range(3):
            passes(rig, Timeouts().client_keepalive_s + 5)
        assert client.end.fate


def test_an_answer_that_is_not_read_ends_as_over_http_1() -> None:
    with GrpcRig(pods=1, timeouts=Timeouts(client_write_s=7.0, client_keepalive_s=0.0)) as rig:
        client = rig.caller()
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 10})
        client.sends()
        read, unread = client.call(b"x"), client.call(b"x")
        pod = rig.pod()
        for asked in pod.asked():
            pod.answers(asked, b"y" * 25, end=False)
        client.reads(acknowledge=False)
        for _ in range(2):
            passes(rig, 5.0)
            client.h2.increment_flow_control_window(5, read)
            client.sends()
        client.reads(acknowledge=False)
        assert [event.stream_id for event in client.seen if isinstance(event, events.StreamReset)] == [unread]
        assert {event.stream_id for event in pod.all(events.StreamReset)} == {pod.asked()[1]}
        assert len(rig.port.calls) == 1
        passes(rig, 8.0)
        assert (len(rig.port.calls), rig.inflight) == (0, 0)
        assert client.end.fate == ""


def test_a_connection_over_the_limit_is_refused_whatever_it_speaks() -> None:
    with GrpcRig(limits=Limits(max_connections=1)) as rig:
        rig.caller()
        refused = rig.sniffed().sends(PREFACE)
        assert refused.raw.startswith(b"HTTP/1.1 503 ")
        assert refused.fate == "closed"
        assert rig.wire.crashes == []
        passes(rig, 5.1)
        assert refused.transport.lost
