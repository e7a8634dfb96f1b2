"""Reads the KV events of pods over ZeroMQ: a subscription for each publisher, and a replay where batches are missing.

Sockets are polled in turns: a turn takes what has come, which costs less than a wake-up for each batch. What batches
mean is `feed.py`'s and `held.py`'s. Every replica reads every pod itself: a publisher sends to all subscribers at once,
and through a shared log a fleet's events would be more than all its other messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import zmq

from schedulers.types import Pod, PodId
from statesync.discovery.address import of
from statesync.discovery.changes import PodChange
from statesync.discovery.ranks import rank_of
from statesync.kv_events.events import decode
from statesync.kv_events.precise_index import NO_TIERS, PreciseIndex, PrecisePod, Publisher
from statesync.kv_events.tiers import SharedStore, TierSettings

_log = logging.getLogger("turnout.kv_events")

TURN_S: Final = 0.02
"""Seconds between two turns: how late an event may be."""

BATCHES: Final = 64
"""Batches of a publisher that are taken at once, before other work of the event loop."""

REPLAY_S: Final = 3.0
"""A replay that says nothing for this long is given up."""

IDLE_S: Final = 2.0
"""Seconds without a batch after which a publisher is asked whether anything was missed."""

_UNREAD: Final = 100_000
"""Batches that wait in the process before some are dropped, which a replay then brings."""

_END: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class KvEventsConfig:
    """Where the pods of a pool publish."""

    endpoint: str
    """Address of the publisher; `{host}` stands for the pod's. Data-parallel rank n is n ports further."""
    replay: str
    """Address of the replay, likewise; empty without one."""
    topic: str
    ranks: int
    tiers: TierSettings = NO_TIERS
    """What its blocks outside GPU memory are worth."""


class KvEventCounts(NamedTuple):
    """What became of a pod's events, over its ranks."""

    batches: int
    gaps: int
    losses: int
    restarts: int
    in_step: int
    blocks: int
    matched: int
    unmatched: int
    predictions: int
    exact: int


class Subscription:
    """The sockets of one publisher."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], publisher: Publisher, endpoint: str, replay: str, topic: str
    ) -> None:
        self.publisher = publisher
        self.batches_total = 0
        """Counter: live batches received."""
        self._context = context
        self._endpoint, self._replay_endpoint = endpoint, replay
        self._live = self._socket(zmq.SUB, endpoint)
        self._live.setsockopt(zmq.SUBSCRIBE, topic.encode())
        self._replay: zmq.Socket[bytes] | None = None
        self._replay_until = 0.0
        self._broken = False
        self._last_at = 0.0

    def turn(self, now: float) -> int:
        """Take what has come; returns how many batches."""
        feed = self.publisher.feed
        self.publisher.held.now = now
        taken = self._take_live(now)  # first: a process that was held up has much to read, and has missed nothing
        if self._broken:
            pass
        elif self._replay is not None:
            self._take_replay(self._replay, now)
        elif feed.wants is not None and now >= self._replay_until:
            self._ask(feed.wants, now)
        elif self._replay_endpoint and now >= self._last_at + IDLE_S:
            self._last_at = now
            feed.check()
        return taken

    def close(self) -> None:
        """Close the sockets."""
        self._live.close(0)
        if self._replay is not None:
            self._replay.close(0)

    def _take_live(self, now: float) -> int:
        feed, taken = self.publisher.feed, 0
        while taken < BATCHES and (frames := _received(self._live)) is not None:
            taken += 1
            if self._broken:
                continue
            if len(frames) >= 2 and (batch := decode(frames[-1])) is not None:
                feed.live(int.from_bytes(frames[-2], "big"), batch)
            else:
                self._broken = True
                _log.warning("%s: these are no KV events of vLLM or SGLang; they are not used", self._endpoint)
                if self._replay is not None:
                    self._end_replay(self._replay, now)
                feed.resync()
        if taken:
            self._last_at = now
        self.batches_total += taken
        return taken

    def _ask(self, first: int, now: float) -> None:
        if not self._replay_endpoint:
            self.publisher.feed.replay_failed()
            return
        self._replay = self._socket(zmq.DEALER, self._replay_endpoint)
        self._replay.send_multipart((b"", first.to_bytes(8, "big")), zmq.NOBLOCK)
        self._replay_until = now + REPLAY_S

    def _take_replay(self, socket: zmq.Socket[bytes], now: float) -> None:
        feed = self.publisher.feed
        for _ in range(BATCHES):
            frames = _received(socket)
            if frames is None:
                break
            self._replay_until = now + REPLAY_S
            seq = int.from_bytes(frames[-2], "big") if len(frames) > 2 else _END
            if seq == _END:
                self._end_replay(socket, now)
                return feed.replay_done()
            if (batch := decode(frames[-1])) is not None:
                feed.replayed(seq, batch)
        if now >= self._replay_until:
            _log.warning("%s: no replay of KV events", self._replay_endpoint)
            self._end_replay(socket, now)
            feed.replay_failed()

    def _end_replay(self, socket: zmq.Socket[bytes], now: float) -> None:
        socket.close(0)
        self._replay, self._replay_until = None, now + TURN_S

    def _socket(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, 1),
            (zmq.RCVHWM, _UNREAD),
            (zmq.RECONNECT_IVL_MAX, 2000),
            # TCP finds dead peers: with heartbeats, a full queue makes libzmq 4.3.5 abort the process (its #3937).
            (zmq.TCP_KEEPALIVE, 1),
            (zmq.TCP_KEEPALIVE_IDLE, 5),
            (zmq.TCP_KEEPALIVE_INTVL, 2),
            (zmq.TCP_KEEPALIVE_CNT, 3),
        ):
            socket.setsockopt(option, value)
        socket.connect(endpoint)
        return socket


class KvEventReader:
    """Follows the pods of the pools that publish events."""

    def __init__(
        self,
        index: PreciseIndex,
        pools: Mapping[str, KvEventsConfig],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.index = index
        self._pools = pools
        self._stores = {pool: SharedStore(index.holders) for pool in pools}
        self._clock = clock
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._pods: dict[PodId, tuple[str, PrecisePod, list[Subscription]]] = {}

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it."""
        config = self._pools.get(pool)
        if config is None:
            return
        for gone in change.gone:
            self._leave(gone)
        for pod in change.come:
            if pod.id in self._pods and self._pods[pod.id][0] == pod.address:
                continue
            self._leave(pod.id)
            self._join(pod, config, self._stores[pool])

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                await asyncio.sleep(TURN_S)
                for pod_id, (_, pod, subscriptions) in list(self._pods.items()):
                    now = self._clock()
                    try:
                        busy = max([each.turn(now) for each in subscriptions]) == BATCHES
                        pod.matcher.settle(now)
                    except Exception:  # noqa: BLE001  what one pod sends ends nothing of the others
                        _log.exception("%s: its KV events cannot be read; they are not used", pod_id)
                        self._leave(pod_id)
                        continue
                    if busy:
                        await asyncio.sleep(0)
        finally:
            for pod_id in list(self._pods):
                self._leave(pod_id)

    def subscriptions(self) -> list[Subscription]:
        """All of them."""
        return [each for _, _, subscriptions in self._pods.values() for each in subscriptions]

    def counts(self) -> dict[PodId, KvEventCounts]:
        """By pod."""
        return {id: _counts(pod, subscriptions) for id, (_, pod, subscriptions) in self._pods.items()}

    def _join(self, pod: Pod, config: KvEventsConfig, store: SharedStore) -> None:
        host = of(pod.address).host
        if not host:
            _log.warning("%s: a pod without a host publishes no KV events", pod.id)
            return
        own = rank_of(pod)
        followed = self.index.follow(pod.id, config.ranks if own is None else 1, config.tiers, store)
        subscriptions = [
            Subscription(
                self._context,
                publisher,
                endpoint_of(config.endpoint, host, rank),
                endpoint_of(config.replay, host, rank),
                config.topic,
            )
            for rank, publisher in enumerate(followed.publishers, own or 0)
        ]
        self._pods[pod.id] = (pod.address, followed, subscriptions)

    def _leave(self, pod: PodId) -> None:
        _, _, subscriptions = self._pods.pop(pod, ("", None, []))
        for each in subscriptions:
            each.close()
        self.index.unfollow(pod)


def endpoint_of(template: str, host: str, rank: int) -> str:
    """Where a rank of a pod publishes: each rank one port further, as vLLM and SGLang do it."""
    if not template:
        return ""
    front, _, port = template.replace("{host}", f"[{host}]" if ":" in host else host).rpartition(":")
    return f"{front}:{int(port) + rank}"


def _counts(pod: PrecisePod, subscriptions: Sequence[Subscription]) -> KvEventCounts:
    feeds = [publisher.feed for publisher in pod.publishers]
    return KvEventCounts(
        batches=sum(each.batches_total for each in subscriptions),
        gaps=sum(feed.gaps_total for feed in feeds),
        losses=sum(feed.lost_total for feed in feeds),
        restarts=sum(feed.restarts_total for feed in feeds),
        in_step=int(all(feed.in_step for feed in feeds)),
        blocks=sum(len(publisher.held) for publisher in pod.publishers),
        matched=pod.matcher.matched_total,
        unmatched=pod.matcher.missed_total,
        predictions=pod.predictions,
        exact=pod.exact,
    )


def _received(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    """The next message; None if there is none."""
    try:
        return socket.recv_multipart(zmq.NOBLOCK)
    except zmq.Again:
        return None
