"""Which pod has the state behind an id: learned from the pods' answers, shared with the other replicas.

What this replica has seen is in memory. An id that it has not seen may have been given out through another replica, or
before a restart: the store is asked for that, and such a request waits for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from router.dataplane.exchange import Exchange
from router.dataplane.http.chunked import BadChunk, ChunkScanner
from router.dataplane.http.response_parser import CHUNKED, ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.request.state_refs import IdReader, may_be_id
from router.errors import PodFailure
from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.owners import OwnerTable, key_of
from statesync.store.protocol import StateStore

LOOK_UP_S: Final = 1.0
"""Seconds that a request waits for the store; then the pods are asked."""


class StateOwners:
    """The owners that this replica knows, and those that the store knows."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._table = OwnerTable()

    @property
    def shared(self) -> bool:
        """Whether `find` may know more than `known`."""
        return self._store.shared

    def learn(self, id: str, pod: PodId, tenant: str = "") -> None:
        """Note that the state behind the id is on the pod, and whose it is. A word, which a path may have, is no id."""
        if not may_be_id(id):
            return
        key = key_of(id, tenant)
        if self._table.learn(key, pod) and self._store.shared:
            self._store.own(key, pod)

    def known(self, ids: Sequence[str]) -> PodId | None:
        """The owner of the first of these ids that this replica knows."""
        for id in ids:
            pod = self._table.owner(key_of(id))
            if pod is not None:
                return pod
        return None

    async def find(self, ids: Sequence[str]) -> PodId | None:
        """As `known`, by the store; None also where it does not answer."""
        try:
            async with asyncio.timeout(LOOK_UP_S):
                for id in ids:
                    key = key_of(id)
                    pod = await self._store.owner(key)
                    if pod is not None:
                        self._table.learn(key, pod)
                        return pod
        except (TimeoutError, StoreUnavailable):
            pass
        return None

    def made_by(self, tenant: str, ids: Sequence[str]) -> Sequence[PodId | None]:
        """The owner of each id; None for what the tenant did not make, and for what this replica does not know."""
        return [self._table.owner(key_of(id, tenant)) for id in ids]

    async def find_made_by(self, tenant: str, ids: Sequence[str]) -> Sequence[PodId | None]:
        """As `made_by`, by the store too. Raises TimeoutError or StoreUnavailable."""
        owners = list(self.made_by(tenant, ids))
        async with asyncio.timeout(LOOK_UP_S):
            for at, id in enumerate(ids):
                if owners[at] is None:
                    key = key_of(id, tenant)
                    owner = owners[at] = await self._store.owner(key)
                    if owner is None:
                        break  # one is enough for a refusal
                    self._table.learn(key, owner)
        return owners

    def receiver(self, exchange: Exchange, pod: PodId, receiver: Receiver) -> Receiver:
        """Stands before the receiver of an answer, and learns the ids that the pod gives out in it."""
        return LearningReceiver(self, exchange, pod, receiver)


class LearningReceiver:
    """Reads an answer on its way. An id is learned before the bytes that hold it are passed on, so that no client can
    use it before."""

    def __init__(self, owners: StateOwners, exchange: Exchange, pod: PodId, receiver: Receiver) -> None:
        self._owners = owners
        self._exchange = exchange
        self._pod = pod
        self._tenant = "" if exchange.tenant is None else exchange.tenant.name
        self._receiver = receiver
        self._reader: IdReader | None = None
        """None where the answer gives no ids out, or all that is read of it was read."""
        self._scanner: ChunkScanner | None = None
        """For an answer whose chunk framing is passed on."""

    def connected(self, connection: UpstreamConnection, /) -> None:
        """Pass it on."""
        self._receiver.connected(connection)

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """Pass the head on, and read the body of a success."""
        unwrap = self._receiver.head(head, framing, length)
        if 200 <= head.status < 300 and not head.encoded:
            self._reader = IdReader()
            if framing == CHUNKED and not unwrap:
                self._scanner = ChunkScanner()
            self._found_here()
        return unwrap

    def _found_here(self) -> None:
        """Several pods were asked for the state that the request names, and this one has it."""
        if len(self._exchange.routed.pins or ()) > 1:
            for id in self._exchange.refs or ():
                self._owners.learn(id, self._pod, self._tenant)

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Learn the ids in a piece, then pass it on."""
        reader = self._reader
        if reader is not None:
            for id in reader.feed(piece if self._scanner is None else _content(self._scanner, piece)):
                self._owners.learn(id, self._pod, self._tenant)
            if not reader.left:
                self._reader = None
        self._receiver.data(piece, safe, now)

    def end(self) -> None:
        """Pass it on."""
        self._receiver.end()

    def failed(self, failure: PodFailure, /) -> None:
        """Pass it on."""
        self._receiver.failed(failure)


def _content(scanner: ChunkScanner, piece: bytes) -> bytes:
    """The piece without its chunk framing, which the connection has checked."""
    try:
        scanner.feed(piece, content := list[bytes]())
    except BadChunk:
        return b""
    return b"".join(content)
