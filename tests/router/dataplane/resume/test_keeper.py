"""What is saved of the streams, when it is let go of, and what happens while the store is away."""

from __future__ import annotations

import pytest

from router.dataplane.resume import keeper
from router.dataplane.resume.keeper import OVER_S, TTL_S
from tests.fakes.memory_client_and_pods import event
from tests.fakes.memory_streams import MemoryStreams, run_now
from tests.fakes.resuming_gateway import ResumingRig, delta, ends, last_id, said


@pytest.fixture
def one() -> ResumingRig:
    return ResumingRig(MemoryStreams(), "a")


def test_what_was_saved_is_kept_here_no_longer(one: ResumingRig) -> None:
    with one:
        _, pod = one.begins(*[f" {number}" for number in range(50)])
        (stream,) = one.keeper.streams.values()
        assert len(stream.unsaved) > 100
        one.turn()
        assert stream.unsaved == b""
        assert one.keeper.kept_bytes == len(one.streams.logs[stream.key])
        ends(pod)
        one.turn()
        assert one.keeper.streams == {}
        one.turn(TTL_S + 1)
        assert one.keeper.kept_bytes == 0


def test_ids_are_short_once_the_lines_are_saved(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a", " b")
        one.turn()
        pod.sends(event(delta(" c")))
        one.turn()
        pod.sends(event(delta(" d")))
        assert len(last_id(client)) < 40
        ends(pod)
        one.turn()


def test_a_template_and_many_bytes_of_lines_are_saved_before_the_lines_of_the_others(one: ResumingRig) -> None:
    with one:
        _, first = one.begins(" a")
        one.turn()
        first.sends(event(delta(" b")))
        _, second = one.begins(" c")
        one.rig.wire.do(lambda: run_now(one.keeper.flush_urgent()))
        assert [stream.behind for stream in one.keeper.streams.values()] == [3, 0]
        first.sends(event("x" * 1100))
        one.rig.wire.do(lambda: run_now(one.keeper.flush_urgent()))
        assert [stream.behind for stream in one.keeper.streams.values()] == [0, 0]
        ends(first)
        ends(second)
        one.turn()


def test_ids_have_all_that_is_not_saved_of_streams_with_long_lines(one: ResumingRig) -> None:
    """Each line has 300 bytes, as with log-probabilities; ids carry at most 2,048."""
    wire = one.rig.wire

    def passes(seconds: float) -> None:
        for _ in range(round(seconds / 0.01)):
            wire.clock.now += 0.01
            wire.do(lambda: None)

    with one:
        keeps = wire.loop.create_task(one.keeper.run())
        client, pod = one.begins(" a")
        passes(0.3)
        for _ in range(50):
            pod.sends(event(delta("x" * 300)))
            assert last_id(client).count(b".") == 2
            passes(0.02)
        saves = one.streams.saves
        for _ in range(50):
            pod.sends(event(delta("x")))
            passes(0.02)
        assert one.streams.saves - saves <= 4, "short lines wait for half a second"
        ends(pod)
        passes(1.0)
        keeps.cancel()
        wire.do(lambda: None)


def test_the_end_of_a_stream_is_saved_with_the_lines_of_the_others(one: ResumingRig) -> None:
    """Saved by itself it was a write for each stream; a client that has its last id is served without it."""
    with one:
        client, pod = one.begins(" a")
        one.turn()
        saved = dict(one.streams.logs)
        ends(pod)
        one.rig.wire.do(lambda: run_now(one.keeper.flush_urgent()))
        assert one.streams.logs == saved
        back = one.resumes(last_id(client))
        one.turn()
        one.turn()
        assert back.answer().complete
        assert one.keeper.streams == {}


def test_the_first_stream_wakes_the_keeper(one: ResumingRig) -> None:
    with one:
        _, pod = one.begins(" a")
        assert one.keeper._wake.is_set(), "its task sleeps while there is no stream"
        ends(pod)
        one.turn()


def test_streams_go_on_while_the_store_is_away_and_are_saved_when_it_is_back(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        one.streams.away = True
        pod.sends(event(delta(" b")))
        one.turn(1.0)
        assert said(client) == " a b"
        assert one.streams.logs == {}
        one.streams.away = False
        one.turn(1.0)
        client.leaves()
        back = one.resumes(last_id(client))
        one.turn(0.1)
        ends(pod, " c")
        one.turn(0.1)
        assert said(client, back) == " a b c"
        assert back.answer().complete


def test_what_was_not_saved_for_too_long_is_kept_no_longer(one: ResumingRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "UNSAVED_BYTES", 500)
    with one:
        client, pod = one.begins(*[f" {number}" for number in range(100)])
        one.streams.away = True
        one.turn(1.0)
        one.turn(1.0)
        (stream,) = one.keeper.streams.values()
        assert stream.lost and len(stream.unsaved) < 100
        pod.sends(event(delta(" x")))
        assert b"\nid: " not in client.raw[client.raw.rfind(b' 99"') :]
        one.streams.away = False
        one.turn(1.0)
        assert one.keeper.streams == {}
        ends(pod)
        assert client.answer().complete


def test_a_stream_that_ended_while_the_store_was_away_is_let_go_of(one: ResumingRig) -> None:
    with one:
        _, pod = one.begins(" a")
        one.streams.away = True
        ends(pod)
        one.turn(1.0)
        assert len(one.keeper.streams) == 1
        one.turn(OVER_S + 1)
        assert one.keeper.streams == {}


def test_a_log_that_the_store_has_lost_is_written_no_further(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        one.turn()
        one.streams.logs.clear()
        ends(pod, " b")
        one.turn()
        assert one.streams.logs == {}
        assert one.keeper.streams == {}
        assert said(client) == " a b"


def test_a_stream_that_another_replica_has_taken_ends_here(one: ResumingRig) -> None:
    """This process stood still, its lease ended, and another one went on."""
    with one:
        client, pod = one.begins(" a")
        one.turn()
        ((name, log),) = one.streams.logs.items()
        one.streams.logs[name] = b"b" * 16 + log[16:]
        pod.sends(event(delta(" b")))
        one.turn()
        assert (pod.fate, client.fate) == ("aborted", "aborted")
        assert one.streams.logs[name] == b"b" * 16 + log[16:]


def test_no_more_is_kept_than_this_replica_may(one: ResumingRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "KEPT_BYTES", 200)
    with one:
        _, pod = one.begins(" a", " b", " c")
        one.turn()
        assert one.keeper.kept_bytes > 200
        second, other = one.begins(" a")
        assert b"\nid: " not in second.raw
        ends(other)
        ends(pod)
        one.turn()


def test_a_log_in_use_does_not_expire(one: ResumingRig) -> None:
    with one:
        _, pod = one.begins(" a")
        one.turn()
        (stream,) = one.keeper.streams.values()
        saved_at = stream.saved_at
        one.turn(TTL_S / 2)
        assert stream.saved_at > saved_at
        ends(pod)
        one.turn()


def test_a_request_whose_time_is_over_ends_without_its_client(one: ResumingRig) -> None:
    with one:
        client = one.asks("x-turnout-deadline-ms: 5000")
        pod = one.rig.asked().sends(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            event(delta()),
        )
        one.turn()
        client.leaves()
        one.rig.passes(6.0)
        assert pod.fate == "aborted"
        one.turn()
