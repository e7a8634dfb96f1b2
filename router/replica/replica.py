"""A replica's life: starts its components in order, drains them, and lets go of everything. What they are made of is
`build.py`'s, signals and the process are `process.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from router.address import ListenAddress, cannot_listen, parse_listen
from router.control.api import create_control
from router.control.server import ControlServer
from router.followed_files import FollowedFiles, follow
from router.lifecycle import Phase, PhaseChange, drain_sequence
from router.replica.config_mapping import pod_template
from router.replica.descriptors import raise_limit
from router.replica.parts import Components
from router.replica.readings import control_plane
from statesync.discovery.ranks import by_rank
from statesync.discovery.source import open_source
from statesync.engines.http_get import read_page
from statesync.tasks import spawn

_log = logging.getLogger("turnout.replica")

PREFIX_SWEEP_S: Final = 0.1
PREFIX_SWEEP_BLOCKS: Final = 500
"""Blocks of forgotten pods cleaned at a time: 0.2 ms of the event loop."""

UNKNOWN_PODS_S: Final = 60.0
"""Seconds, and at most twice as many, in which discovery must report a pod that other replicas use; then what is known
of its prefixes is forgotten."""

HAND_OVER_LINGER_S = 6.0
"""Seconds that idle connections stay open after a hand-over: longer than the 5 s for which httpx, and so OpenAI's SDK,
uses an idle one again, so that no request meets a closing connection."""


class Sockets(NamedTuple):
    """Bound sockets that a supervisor lends to a replica."""

    inference: socket.socket
    control: socket.socket


class Front(Protocol):
    """What takes requests in place of the inference port: the picker's gRPC server."""

    async def start(self, listen: ListenAddress, /) -> int:
        """Listen; returns the port. Raises OSError."""
        ...

    def stop_accepting(self) -> None:
        """Take no new requests; those that are open go on."""

    async def stop(self) -> None:
        """End everything."""


class Replica:
    """One gateway. `stop` asks it to leave service, and may be called before and while it starts."""

    def __init__(
        self,
        components: Components,
        *,
        sockets: Sockets | None = None,
        on_drain: Callable[[], None] | None = None,
        front: Front | None = None,
    ) -> None:
        """Opens nothing. On lent `sockets`, on which others may accept already, it accepts only once it is ready.

        `on_drain` is called when an operator asks for a drain, in place of `stop`. `front` listens in place of the
        inference port.
        """
        self.parts = components
        self.stop_asked = asyncio.Event()
        """Set by `stop` and `hand_over`."""
        self.hurry = asyncio.Event()
        """Set when the drain is to end at once."""
        self.port = 0
        """Of the inference port, once it is open."""
        self._sockets = sockets
        self._front = front
        settings = components.core.settings
        plane = control_plane(components, drain=on_drain or self.stop)
        self._control = ControlServer(
            create_control(plane),
            parse_listen(settings.control.listen),
            sockets and sockets.control,
            components.ports.control,
        )
        self._background: list[asyncio.Task[None]] = []
        components.core.lifecycle.listen(self._log_phase)

    @property
    def control_address(self) -> ListenAddress:
        """Where the control port listens; the real port once it is open."""
        return self._control.address

    async def start(self) -> None:
        """Listen, warm up, become ready; on lent sockets in the order warm up, listen.

        Raises OSError when a port is taken, StateError when a live replica has this one's name.
        """
        parts = self.parts
        listener, limits = parts.dataplane.listener, parts.core.settings.limits
        descriptors = raise_limit(limits.max_connections)
        listener.most, listener.backlog = min(limits.max_connections, descriptors.clients), descriptors.backlog
        parts.network.deadlines.start()
        parts.dataplane.observers.start()
        if parts.control.audit is not None:
            parts.control.audit.start()
        if self._sockets is None:
            await self._open_ports()
        parts.core.lifecycle.enter(Phase.WARMING)
        self._open_pools()
        self._background += [
            spawn(parts.pods.prober.run(), "prober"),
            spawn(parts.pods.scraper.run(), "scraper"),
            spawn(parts.pods.models.run(), "models"),
            spawn(self._sweep_prefixes(), "prefix-sweep"),
            spawn(parts.policy.trial_monitor.run(), "trials"),
            spawn(parts.policy.plugins.run(), "plugins"),
        ]
        if parts.pods.kv_events is not None:
            self._background.append(spawn(parts.pods.kv_events.run(), "kv-events"))
        files: list[FollowedFiles[Any]] = [*parts.control.tokens.files, *[port.files for port in parts.ports.tls]]
        if (access := parts.dataplane.access) is not None:
            files += access.files
        if files:
            self._background.append(spawn(follow(files), "files"))
        await parts.warmup.run(parts.core.settings.warmup_timeout_s)
        if (sharing := parts.dataplane.limit_sharing) is not None:
            await sharing.begin()
            self._background.append(spawn(sharing.run(), "limits"))
        if (streams := parts.dataplane.streams) is not None:
            self._background += [spawn(streams.run(), "followed-streams"), spawn(streams.keeper.run(), "kept-streams")]
        if not self.stop_asked.is_set():
            parts.core.lifecycle.enter(Phase.READY)
            if self._sockets is not None:
                await self._open_ports()

    def stop(self, *, hurry: bool = False) -> None:
        """Begin to drain; with `hurry` cut off what is in flight."""
        if hurry:
            self.hurry.set()
        self.stop_asked.set()

    def hand_over(self) -> None:
        """A successor accepts on the same sockets: stop accepting now, finish what is in flight, end."""
        if not self.stop_asked.is_set():
            self.parts.core.lifecycle.handed_over = True
            self.stop_asked.set()

    async def drain(self) -> None:
        """From serving to closed: settle, stop accepting, finish what is in flight, let go of everything."""
        parts = self.parts
        report = await drain_sequence(
            parts.core.lifecycle,
            parts.core.settings.drain,
            stop_accepting=self._stop_accepting,
            inflight=self._inflight,
            cut_off=self._cut_off,
            hurry=self.hurry,
            clock=parts.core.clock,
        )
        _log.info("drained in %.1f s, %d requests cut", report.took_s, report.cut)
        await self.close()

    def _inflight(self) -> int:
        grpc = self.parts.dataplane.grpc
        return len(self.parts.network.admission.active) + (grpc.open if grpc is not None else 0)

    def _cut_off(self) -> None:
        self.parts.dataplane.gateway.cut_off()
        if self.parts.dataplane.grpc is not None:
            self.parts.dataplane.grpc.cut_off()

    async def close(self) -> None:
        """Let go of everything, at once."""
        parts = self.parts
        parts.dataplane.listener.stop()
        if self._front is not None:
            await self._front.stop()
        await parts.warmup.stop()
        parts.policy.controller.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if parts.dataplane.streams is not None:
            await parts.dataplane.streams.keeper.stop(parts.core.settings.sync.timeout_s)
        await self._flush_clients()
        parts.network.upstream.close()
        if parts.dataplane.grpc is not None:
            parts.dataplane.grpc.pods.close()
        await parts.dataplane.observers.stop()
        # The control port goes last: until then it shows how far the drain is.
        before = parts.core.clock()
        await parts.state.store.aclose()
        took_s = parts.core.clock() - before
        _log.info("replica %s: state flushed and lease given back in %.3f s", parts.core.name, took_s)
        await self._control.stop()
        if parts.control.audit is not None:
            await asyncio.to_thread(parts.control.audit.stop)
        parts.network.deadlines.stop()

    def _log_phase(self, step: PhaseChange) -> None:
        _log.info("replica %s: %s -> %s", self.parts.core.name, step.before, step.after)

    async def _open_ports(self) -> None:
        listener, listen = self.parts.dataplane.listener, parse_listen(self.parts.core.settings.listen)
        try:
            if self._front is not None:
                self.port = await self._front.start(listen)
            else:
                self.port = await listener.start(listen.host, listen.port, self._sockets and self._sockets.inference)
        except OSError as error:
            raise cannot_listen(listen, error, "listen") from None
        await self._control.start()
        name, control = self.parts.core.name, self._control.address
        _log.info("replica %s: inference on %s:%d, control on %s", name, listen.host, self.port, control)

    def _open_pools(self) -> None:
        parts = self.parts
        for pool in parts.core.settings.pools:
            parts.state.view.set_pods(pool.name, ())
            source = open_source(
                pool.pods,
                pool.discovery.source,
                interval_s=pool.discovery.interval_s,
                nameservers=pool.discovery.nameservers,
                template=pod_template(pool),
                read_page=read_page,
            )
            found = by_rank(partial(parts.pods.registry.on_pods, pool.name), pool.ranks)
            self._background.append(spawn(source.run(found), f"discovery-{pool.name}"))

    async def _sweep_prefixes(self) -> None:
        clock, prefix, updates = self.parts.core.clock, self.parts.state.prefix, self.parts.pods.updates
        forget_at = clock() + UNKNOWN_PODS_S
        while True:
            prefix.sweep(PREFIX_SWEEP_BLOCKS)
            if clock() >= forget_at:
                forget_at = clock() + UNKNOWN_PODS_S
                updates.forget_unknown()
            await asyncio.sleep(PREFIX_SWEEP_S)

    async def _stop_accepting(self) -> None:
        listener, settings = self.parts.dataplane.listener, self.parts.core.settings
        if self._front is not None:
            self._front.stop_accepting()
        if self.parts.core.lifecycle.handed_over:
            listener.stop_accepting()
            self._control.stop_accepting()
            await asyncio.sleep(0.05)  # a connection accepted just now becomes an edge
            await self._linger_while(lambda: listener.edges, HAND_OVER_LINGER_S)
            # A client that has just connected may be slow to send; closing now would lose its request.
            listener.stop(spare_new=True)
            await self._linger_while(listener.new, settings.timeouts.client_header_s)
        idle = sum(edge.idle for edge in listener.edges)
        listener.stop()
        _log.info("replica %s: listens no more, %d idle connections closed", self.parts.core.name, idle)

    async def _linger_while(self, left: Callable[[], Collection[object]], most_s: float) -> None:
        clock = self.parts.core.clock
        end = clock() + most_s
        while left() and clock() < end and not self.hurry.is_set():  # noqa: ASYNC110  no event
            await asyncio.sleep(0.01)

    async def _flush_clients(self) -> None:
        """Answers already written get a moment to reach their clients."""
        clock, listener = self.parts.core.clock, self.parts.dataplane.listener
        end = clock() + 1.0
        while listener.edges and clock() < end:  # noqa: ASYNC110  a set has no event; this is the way out
            await asyncio.sleep(0.01)
        listener.abort()
