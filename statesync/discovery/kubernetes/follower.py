"""Follows one collection of one API server: sends the requests that `watch.py` decides, and passes it the answers.

Objects are decoded a few at a time, so that a list of thousands delays no stream. The `ResourceKind` interprets them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from statesync.discovery.kubernetes.client import ApiFailed, ApiServer, ApiStatus
from statesync.discovery.kubernetes.json_frames import LineSplitter, decode_event, decode_list, decode_marked
from statesync.discovery.kubernetes.target import ALL
from statesync.discovery.kubernetes.watch import (
    GONE,
    Follow,
    Item,
    ListRequest,
    ListWatch,
    ReceivedPage,
    WatchFailure,
    WatchStep,
)
from statesync.errors import DiscoveryError

T = TypeVar("T")

_log = logging.getLogger("turnout.discovery")

PAGE: Final = 50
"""Objects in a page of a list: about half a megabyte of pods, a millisecond of the event loop."""
AT_ONCE: Final = 20
"""Objects decoded in one turn of the event loop."""

_decode_status = msgspec.json.Decoder(ApiStatus).decode


class ResourceKind(NamedTuple, Generic[T]):
    """The collection to follow."""

    path: str
    """Path in a namespace, whose name replaces the braces."""
    path_everywhere: str
    selector: str
    read: Callable[[msgspec.Raw], Item[T]]
    """May raise msgspec.DecodeError."""


class Follower(Generic[T]):
    """Keeps `known` in step with a namespace (`*`: all; empty: the server's own). Calls `on_change` on changes."""

    def __init__(
        self,
        place: str,
        kind: ResourceKind[T],
        server: ApiServer,
        known: ListWatch[T],
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._place = place
        self._kind = kind
        self._server = server
        self.known = known
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self.tried = False
        """Whether a list has been completed, or has failed."""

    async def run(self) -> None:
        """Follow until cancelled; then the connection is closed."""
        step = WatchStep(ListRequest())
        try:
            while True:
                if step.delay_s:
                    await self._sleep(step.delay_s)
                if step.renew:
                    await self._server.renew()
                step = await self._next(step.ask)
                if not self.tried and (step.delay_s or self.known.synced):
                    self.tried = True
                    self._on_change()
        finally:
            await self._server.aclose()

    async def _next(self, ask: ListRequest | Follow) -> WatchStep:
        """Send a request; returns the next step. No error ends it: without discovery dead pods would stay for ever."""
        try:
            step = await (self._list(ask) if isinstance(ask, ListRequest) else self._follow(ask))
            failure = WatchFailure("")
        except ApiFailed as error:
            failure = error.failure
        except (DiscoveryError, msgspec.DecodeError) as error:
            failure = WatchFailure(f"no sensible answer: {error}")
        except Exception as error:  # noqa: BLE001  unforeseen errors
            failure = WatchFailure(f"{type(error).__name__}: {error}")
        if failure.why:
            step = self.known.failed(failure, self._clock())
        if step.note:
            level = logging.ERROR if 400 <= failure.status < GONE else logging.WARNING
            _log.log(level, "discovery of %s: %s", self._kind.path.format(self._place or "(own)"), step.note)
        return step

    async def _list(self, ask: ListRequest) -> WatchStep:
        params = {"labelSelector": self._kind.selector, "limit": str(PAGE)}
        if ask.token:
            params["continue"] = ask.token
        answer = decode_list(await self._server.list(await self._path(), params))
        items = await self._items(answer.items or ())
        page = ReceivedPage(items, answer.metadata.resource_version, answer.metadata.continue_)
        step = self.known.listed(page, self._clock())
        if not page.token:
            self._on_change()
        return step

    async def _items(self, raws: Iterable[msgspec.Raw]) -> list[Item[T]]:
        items: list[Item[T]] = []
        for at, raw in enumerate(raws, 1):
            if (item := self._read(raw)) is not None:
                items.append(item)
            if not at % AT_ONCE:
                await asyncio.sleep(0)
        return items

    async def _follow(self, ask: Follow) -> WatchStep:
        params = {"labelSelector": self._kind.selector, "resourceVersion": ask.version}
        lines = LineSplitter()
        async with aclosing(self._server.watch(await self._path(), params, ask.timeout_s)) as chunks:
            async for data in chunks:
                changed, at = False, 0
                for at, line in enumerate(lines.feed(data), 1):
                    changed |= self._take(line)
                    if not at % AT_ONCE:
                        await asyncio.sleep(0)
                if changed:
                    self._on_change()
        return self.known.ended(self._clock())

    def _take(self, line: bytes) -> bool:
        """Take an event; returns whether it changed anything. Raises ApiFailed if it is an error of the watch."""
        event = decode_event(line)
        if event.type == "BOOKMARK":
            self.known.bookmark(decode_marked(event.object).metadata.resource_version)
            return False
        if event.type == "ERROR":
            raise ApiFailed(_decode_status(event.object).failure())
        item = self._read(event.object)
        return item is not None and self.known.changed(item, event.type == "DELETED")

    def _read(self, raw: msgspec.Raw) -> Item[T] | None:
        try:
            return self._kind.read(raw)
        except msgspec.DecodeError as error:
            _log.warning("discovery: passed over an object that is not what it should be: %s", error)
            return None

    async def _path(self) -> str:
        await self._server.open()
        if self._place == ALL:
            return self._kind.path_everywhere
        return self._kind.path.format(self._place or self._server.namespace)
