"""KV events over real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.discovery.ranks import ranks_of
from statesync.kv_events import reader
from statesync.kv_events.matching import Answered
from statesync.kv_events.precise_index import PreciseIndex, Publisher
from statesync.kv_events.reader import KvEventReader, KvEventsConfig, endpoint_of
from statesync.tasks import spawn
from tests.fakes.kv_publisher import BLOCK, FakeKvPublisher
from tests.fakes.kv_sockets import KvSockets
from tests.statesync.kv_events.prompts import prompt
from tests.statesync.kv_events.test_held import stored

IDLE_S = 0.2
POD = Pod(PodId("a"), "127.0.0.1:8000")
TOKENS = list(range(10 * BLOCK))


class Scene:
    """An engine with sockets, and a reader that follows it."""

    def __init__(self, sockets: KvSockets, *, replay: bool = True) -> None:
        self.sockets = sockets
        self.index = PreciseIndex(1 << 20, 1000)
        config = KvEventsConfig(sockets.endpoint, sockets.replay if replay else "", "kv", 1)
        self.reader = KvEventReader(self.index, {"pool": config})
        self.reader.change_pods("pool", PodChange((POD,)))
        self.reader.change_pods("another", PodChange((Pod(PodId("b"), "127.0.0.1:8001"),)))

    @property
    def publisher(self) -> Publisher:
        return self.index.publishing[POD.id].publishers[0]

    async def until(self, reached: Callable[[], bool]) -> None:
        """Let the engine serve replays until something is so."""
        while not reached():
            self.sockets.serve()
            await asyncio.sleep(0.001)


def test_what_was_published_before_and_after_the_subscription_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "IDLE_S", IDLE_S)

    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        publisher.prompt(TOKENS)
        scene = Scene(sockets)
        task = spawn(scene.reader.run(), "reader")
        await scene.until(lambda: scene.publisher.feed.in_step and sockets.subscribed())
        assert list(scene.index.publishing) == [POD.id], "the other pool does not publish"
        assert len(scene.publisher.held) == 10
        sockets.send(publisher.prompt(list(range(100, 100 + 4 * BLOCK))))
        await scene.until(lambda: len(scene.publisher.held) == 14)
        publisher.prompt(list(range(200, 200 + BLOCK)))  # its batch is lost
        sockets.send(publisher.prompt(list(range(300, 300 + BLOCK))))
        await scene.until(lambda: len(scene.publisher.held) == 16)
        assert scene.publisher.held.hashes() == publisher.cache.keys()
        assert scene.reader.subscriptions()[0].batches_total == 2
        publisher.prompt(list(range(400, 400 + BLOCK)))  # the last one is lost, and asked for after a pause
        await scene.until(lambda: len(scene.publisher.held) == 17)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not scene.index.publishing

    run(play)


def test_a_process_that_was_held_up_reads_what_waits_and_asks_for_nothing() -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        scene = Scene(sockets)
        subscription = scene.reader.subscriptions()[0]
        scene.publisher.feed.replay_done()
        await scene.until(sockets.subscribed)
        sockets.send(publisher.prompt(TOKENS))
        await asyncio.to_thread(subscription._live.poll, 30_000)
        assert subscription.turn(1e9) == 1
        assert scene.publisher.feed.wants is None
        scene.reader.change_pods("pool", PodChange((), (POD.id,)))

    run(play)


def test_no_socket_has_heartbeats_which_end_the_process_where_a_queue_is_full() -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        scene = Scene(sockets)
        live = scene.reader.subscriptions()[0]._live
        assert (live.getsockopt(zmq.HEARTBEAT_IVL), live.getsockopt(zmq.TCP_KEEPALIVE)) == (0, 1)
        scene.reader.change_pods("pool", PodChange((), (POD.id,)))

    run(play)


def test_without_a_replay_it_goes_on_with_what_comes() -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        publisher.prompt(TOKENS)
        scene = Scene(sockets, replay=False)
        task = spawn(scene.reader.run(), "reader")
        await scene.until(sockets.subscribed)
        sockets.send(publisher.prompt(list(range(100, 100 + 4 * BLOCK))))
        await scene.until(lambda: len(scene.publisher.held) == 4)
        assert not scene.publisher.held.complete
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(play)


def test_what_is_no_event_is_not_used_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        scene = Scene(sockets)
        task = spawn(scene.reader.run(), "reader")
        await scene.until(lambda: scene.publisher.feed.in_step and sockets.subscribed())
        sockets.send_raw(b"hello")
        sockets.send_raw(b"hello")
        await scene.until(lambda: scene.reader.subscriptions()[0].batches_total == 2)
        assert not scene.publisher.held.complete
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(play)
    assert [record.message for record in caplog.records if "no KV events of vLLM" in record.message]


@pytest.mark.parametrize("event", [stored([-1] * BLOCK, [1]), stored([], []) | {"block_size": 0}])
def test_what_one_pod_publishes_does_not_end_the_reading(event: dict[str, Any]) -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        publisher.prompt(TOKENS)
        scene = Scene(sockets)
        task = spawn(scene.reader.run(), "reader")
        await scene.until(lambda: scene.publisher.feed.in_step and sockets.subscribed())
        feed, matcher = scene.publisher.feed, scene.index.publishing[POD.id].matcher
        sockets.send(publisher.publish([event]))
        await scene.until(lambda: feed.next == 2 or task.done())
        matcher.answered(Answered(prompt(b"x" * 900), 0.0, 0.0, 40, 0, 0))
        known = scene.index.publishing
        await scene.until(lambda: POD.id not in known or matcher.missed_total + matcher.matched_total > 0)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(play)


def test_what_is_no_event_is_asked_for_no_more() -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        scene = Scene(sockets)
        task = spawn(scene.reader.run(), "reader")
        await scene.until(lambda: scene.publisher.feed.in_step and sockets.subscribed())
        sockets.send_raw(b"hello")
        for number in range(3):
            sockets.send(publisher.prompt(list(range(100 * number, 100 * number + BLOCK))))
        await scene.until(lambda: scene.reader.subscriptions()[0].batches_total == 4)
        scene.reader.subscriptions()[0].turn(1e9)
        assert scene.reader.subscriptions()[0]._replay is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(play)


def test_a_pod_that_leaves_is_followed_no_more_and_one_without_a_host_never_is() -> None:
    async def play(publisher: FakeKvPublisher, sockets: KvSockets) -> None:
        scene = Scene(sockets)
        scene.reader.change_pods("pool", PodChange((Pod(PodId("s"), "unix:/run/s.sock"),), (POD.id,)))
        assert not scene.index.publishing

    run(play)


def test_ranks_publish_on_ports_one_after_the_other() -> None:
    assert endpoint_of("tcp://{host}:5557", "10.0.0.1", 0) == "tcp://10.0.0.1:5557"
    assert endpoint_of("tcp://{host}:5557", "fd00::1", 3) == "tcp://[fd00::1]:5560"
    assert endpoint_of("", "10.0.0.1", 1) == ""


def run(play: Callable[[FakeKvPublisher, KvSockets], object]) -> None:
    async def bounded() -> None:
        publisher = FakeKvPublisher(random.Random(1))
        with KvSockets(publisher) as sockets:
            await asyncio.wait_for(play(publisher, sockets), 60.0)  # type: ignore[arg-type]

    asyncio.run(bounded())


def test_a_rank_that_is_a_target_follows_the_events_of_its_own_port() -> None:
    index = PreciseIndex(1 << 20, 1000)
    config = KvEventsConfig("tcp://{host}:9100", "tcp://{host}:9200", "", 1)
    follows = KvEventReader(index, {"pool": config})
    first, second = ranks = ranks_of(POD, 2)
    follows.change_pods("pool", PodChange(tuple(ranks)))
    read = [(each._endpoint, each._replay_endpoint) for each in follows.subscriptions()]
    assert read == [
        ("tcp://127.0.0.1:9100", "tcp://127.0.0.1:9200"),
        ("tcp://127.0.0.1:9101", "tcp://127.0.0.1:9201"),
    ]
    assert {id: len(pod.publishers) for id, pod in index.publishing.items()} == {first.id: 1, second.id: 1}
    follows.change_pods("pool", PodChange((), (first.id, second.id)))
