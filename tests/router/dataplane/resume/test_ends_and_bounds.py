"""Streams that outlive their replica: how they end, what is bounded, and what is left of them."""

from __future__ import annotations

import binascii
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from router.dataplane.resume.event_log import _common, parse_id
from router.dataplane.resume.follower import StreamFollower
from router.dataplane.resume.keeper import TTL_S, StreamKeeper
from router.dataplane.resume.kept_stream import KeptStream
from router.settings import Failover, PolicySpec, Pool
from statesync.streams import StreamLines
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, event
from tests.fakes.memory_gateway import Rig, one_pool
from tests.fakes.memory_streams import MemoryStreams, run_now
from tests.fakes.resuming_gateway import LEASE_S, ResumingRig, delta, ends, last_id, said

Pair = tuple[ResumingRig, ResumingRig]


@pytest.fixture
def pair() -> Iterator[Pair]:
    streams = MemoryStreams()
    with ResumingRig(streams, "a") as one, ResumingRig(streams, "b") as two:
        yield one, two
        for _ in range(3):
            one.turn(TTL_S / 2)
            two.turn(TTL_S / 2)


@pytest.mark.parametrize("dies", [False, True])
def test_a_stream_that_was_taken_over_ends_with_the_error_of_its_pod(pair: Pair, dies: bool) -> None:
    one, two = pair
    client, _ = one.begins(" a")
    one.turn()
    one.streams.alive.discard(one.owner)
    back = two.resumes(last_id(client))
    two.turn()
    pod = two.rig.asked().sends(SSE_HEAD, event(delta()), event(delta(" b")))
    if dies:
        pod.closes()
    else:
        pod.sends(event('{"error":{"message":"out of memory"}}'), event("[DONE]") + LAST_CHUNK)
    two.turn(0.1)
    assert b'data: {"error"' in back.raw  # was nothing: a client that resumed then had a complete answer


def test_a_stream_that_was_taken_over_is_not_begun_anew_in_a_fall_back() -> None:
    failover = Failover(resume=True, mid_stream=True)
    streams = MemoryStreams()

    def replica(owner: str) -> ResumingRig:
        made = ResumingRig.__new__(ResumingRig)
        made.streams, made.owner = streams, owner * 16
        spare = Pool(name="spare", models=["m"], policy=PolicySpec(name="round_robin"), failover=failover)
        made.rig = Rig(pools=[one_pool(failover=failover, fallback=["spare"]), spare], pods=1, batched=False)
        pools = {"main": failover, "spare": failover}
        made.keeper = StreamKeeper(streams, made.owner, LEASE_S, pools, made.rig.deadlines)
        headers = made.rig.gateway.deps.identity.error_headers
        made.follower = StreamFollower(made.keeper, headers, made.rig.metrics.count_move)
        made.rig.rebuild(made.rig.gateway.deps._replace(streams=made.follower.serve))
        return made

    with replica("a") as one, replica("b") as two:
        client, _ = one.begins(" a", " b")
        one.turn()
        streams.alive.discard(one.owner)
        back = two.resumes(last_id(client))
        two.turn()
        two.rig.asked().dies()
        if not two.rig.nobody_asked():
            ends(two.rig.asked().sends(SSE_HEAD, event(delta())), " a", " b", " c")  # it was asked without them
        two.turn(0.1)
        assert said(client, back) == " a b"  # was " a b a b c"
        assert b'data: {"error"' in back.raw
        one.turn(TTL_S)
        two.turn(TTL_S)


def test_an_ended_stream_is_freed_without_the_collector() -> None:
    before = sum(type(each) is KeptStream for each in gc.get_objects())
    with ResumingRig(MemoryStreams(), "a") as one:
        client, pod = one.begins(" a")
        ends(pod, " b")
        one.turn(0.1)
        client.leaves()
        assert not one.keeper.streams
        assert before == sum(type(each) is KeptStream for each in gc.get_objects())


def test_an_id_has_no_more_lines_than_the_gateway_gives_out() -> None:
    lines = b'\x03data: {"choices":[{"text":"' + b"x" * 16_000 + b'\x02"}]}\x02\x02\n' + b"\n" * 8000
    assert parse_id(b"A" * 16 + b".8000." + binascii.b2a_base64(lines, newline=False)) is None  # 128 MB of events


class Counted(bytes):
    """Bytes that count their slices."""

    slices = 0

    def __getitem__(self, key: Any) -> Any:
        Counted.slices += 1
        return bytes(self)[key]


def test_what_large_events_have_in_common_is_found_in_a_few_steps() -> None:
    one, other = (Counted(b"same" + letter * 100_000) for letter in (b"a", b"b"))
    assert (_common(one, other), Counted.slices < 50) == (b"same", True)


def test_a_client_that_is_back_after_the_grace_does_not_wait_for_the_log_to_expire(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    client.leaves()
    for _ in range(12):
        one.turn(1.0)
    assert pod.fate == "aborted"
    back = two.resumes(last_id(client))
    for _ in range(3):
        two.turn()
        one.turn(1.0)
    two.turn()
    ends(two.rig.asked().sends(SSE_HEAD), " b")
    assert said(client, back) == " a b"


def test_a_slow_client_that_is_back_does_not_get_more_than_it_reads(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    id = last_id(client)
    pod.sends(*[event(delta(" b")) for _ in range(600)])
    one.turn(0.1)
    one.streams.alive.discard(one.owner)
    back = two.resumes(id)
    back.stops_reading()
    two.turn()
    two.rig.asked().sends(SSE_HEAD, *[event(delta(" c" * 5000)) for _ in range(100)])
    (exchange,) = two.rig.gateway.deps.admission.active
    assert isinstance(exchange.edge, KeptStream)
    transport = exchange.edge.transport
    assert transport is not None
    assert transport.get_write_buffer_size() < 300_000  # was 1.1 MB
    back.leaves()


def test_the_keeper_wakes_for_a_stream_that_it_takes_over(pair: Pair) -> None:
    one, two = pair
    client, _ = one.begins(" a")
    one.turn()
    back = two.resumes(last_id(client))
    two.turn()
    one.streams.alive.discard(one.owner)
    two.keeper._wake.clear()  # as its task does before it sleeps, since this replica keeps no stream
    two.rig.wire.do(lambda: run_now(two.follower.look()))
    assert two.keeper._wake.is_set()  # was not: no beat and no line saved before 1 KB of lines
    ends(two.rig.asked().sends(SSE_HEAD), " b")
    assert said(client, back) == " a b"


def test_bytes_of_a_stream_that_was_let_go_of_while_they_were_saved_are_not_counted_forever() -> None:
    with ResumingRig(MemoryStreams(), "a") as one:
        client, pod = one.begins(" a")
        pod.sends(event("[DONE]"))
        (stream,) = one.keeper.streams.values()
        save = one.streams.save

        async def slow(owner: str, entries: list[StreamLines]) -> object:
            one.keeper.abandon(stream.exchange)  # the client has [DONE] and closes
            return await save(owner, entries)

        one.streams.save = slow  # type: ignore[method-assign, assignment]
        one.turn(0.1)
        one.streams.save = save  # type: ignore[method-assign]
        client.leaves()
        pod.sends(LAST_CHUNK)
        one.turn(TTL_S + 1)
        assert one.keeper.kept_bytes == 0  # was 288; from 64 MB on no stream was kept any more


def test_a_stream_that_is_taken_over_from_the_same_replica_does_not_go_on_twice() -> None:
    """Its sign of life lapsed while the store was away, and its own follower is the first that sees so."""
    with ResumingRig(MemoryStreams(), "a", mid_stream=True) as one:
        client, pod = one.begins(" a")
        one.turn()
        one.streams.alive.clear()
        back = one.resumes(last_id(client))
        one.rig.wire.do(lambda: run_now(one.follower.look()))
        assert (client.fate, pod.fate) == ("aborted", "aborted")
        other = one.rig.asked().sends(SSE_HEAD, event(delta(" b")))
        ends(other)
        assert back.answer().complete
        assert said(client, back) == " a b"
        one.turn()
        assert one.keeper.streams == {}


def test_a_stream_without_a_client_ends_once_it_cannot_be_kept() -> None:
    with ResumingRig(MemoryStreams(), "a") as one:
        client, pod = one.begins(" a")
        one.turn()
        client.leaves()
        assert pod.fate == "", "the client may come back"
        pod.sends(event("\x01"))
        one.turn()
        assert (pod.fate, one.keeper.streams) == ("aborted", {})
