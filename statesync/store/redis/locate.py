"""Finds the server that holds a namespace's keys: the one in the URL, the master that Sentinel names, or the cluster
node that owns the slot. It is called before every connection, as the answer changes with a failover.

It knows no key and keeps no connection. Its queries go over a `RespConnection`.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from statesync.errors import StoreUnavailable
from statesync.settings import Sync
from statesync.store.redis.connection import ReplyError, RespConnection, ServerAddress
from statesync.store.redis.url import RedisUrl, parse

SLOTS: Final = 16384
_TIMEOUT_S: Final = Sync().timeout_s
_NAME: Final = "turnout-locate"
"""Name of these short connections in CLIENT LIST."""

Question: TypeAlias = Callable[[RespConnection], Awaitable[ServerAddress]]
"""A query to a node. Raises StoreUnavailable if it does not know the server, ReplyError if it refuses to answer."""


class ServerLocator(Protocol):
    """Finds the server."""

    async def locate(self) -> ServerAddress:
        """The address to connect to now. Raises StoreUnavailable."""
        ...


def locator(url: str, namespace: str, timeout_s: float = _TIMEOUT_S) -> ServerLocator:
    """The locator of the keys `{namespace}...`. Sends nothing yet. Raises BadStoreUrl.

    Each node has `timeout_s` to answer; the one that answered last is queried first.
    """
    parsed = parse(url)
    return _FINDERS[parsed.form.kind](parsed, namespace, timeout_s)


def slot_of(key: bytes) -> int:
    """The cluster slot of a key: CRC16 of its hash tag, or of the whole key if it has none (cluster spec)."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    tag = key[start + 1 : end] if 0 <= start < end - 1 else key
    return crc_hqx(tag, 0) % SLOTS


class FixedServer:
    """The server in the URL."""

    def __init__(self, address: ServerAddress) -> None:
        self._address = address

    async def locate(self) -> ServerAddress:
        """Always the same address."""
        return self._address


class AskedNodes:
    """Queries the nodes of a URL in turn, until one knows the server."""

    def __init__(self, url: RedisUrl, login: tuple[str, str], question: Question, timeout_s: float) -> None:
        username, password = login
        self._nodes = [ServerAddress(host, port, username, password, tls=url.tls) for host, port in url.nodes]
        """The one that answered last comes first."""
        self._question = question
        self._timeout_s = timeout_s

    async def locate(self) -> ServerAddress:
        """The first answer of a node. Raises StoreUnavailable with the errors of all nodes."""
        failures = []
        for node in tuple(self._nodes):
            try:
                found = await self._answer(node)
            except ReplyError as error:
                failures.append(f"{node} answers {error}")
            except StoreUnavailable as error:
                failures.append(str(error))
            else:
                self._nodes.sort(key=lambda other: other is not node)
                return found
        raise StoreUnavailable("; ".join(failures))

    async def _answer(self, node: ServerAddress) -> ServerAddress:
        connection = await RespConnection.open(node, timeout_s=self._timeout_s, name=_NAME)
        try:
            return await self._question(connection)
        finally:
            connection.close()


def _fixed(url: RedisUrl, namespace: str, timeout_s: float) -> ServerLocator:
    host, port = url.nodes[0] if url.nodes else ("", 0)
    return FixedServer(ServerAddress(host, port, url.username, url.password, url.db, url.tls, url.path))


def _by_sentinel(url: RedisUrl, namespace: str, timeout_s: float) -> ServerLocator:
    async def master(sentinel: RespConnection) -> ServerAddress:
        found = await sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
        if found is None:
            raise StoreUnavailable(f"sentinel {sentinel.address} knows no master named {url.service}")
        host, port = found
        address = ServerAddress(host.decode(), int(port), url.username, url.password, url.db, url.tls)
        # A Sentinel that was disconnected names the old master, which may be a replica by now: check its role.
        probe = await RespConnection.open(address, timeout_s=timeout_s, name=_NAME)
        probe.close()
        if probe.role != "master":
            raise StoreUnavailable(f"sentinel {sentinel.address} names {address}, which is a {probe.role}")
        return address

    return AskedNodes(url, (url.sentinel_username, url.sentinel_password), master, timeout_s)


def _by_cluster(url: RedisUrl, namespace: str, timeout_s: float) -> ServerLocator:
    slot = slot_of(f"{{{namespace}}}".encode())

    async def owner(node: RespConnection) -> ServerAddress:
        found = owner_of(slot, await node.call("CLUSTER", "SLOTS"), node.address.host)
        if found is None:
            raise StoreUnavailable(f"{node.address} knows no node that serves slot {slot}")
        return node.address._replace(host=found[0], port=found[1])

    return AskedNodes(url, (url.username, url.password), owner, timeout_s)


def owner_of(slot: int, ranges: list[Any], asked: str) -> tuple[str, int] | None:
    """The master of a slot, from a reply to CLUSTER SLOTS; None if no node serves it.

    A node that does not know its own name leaves the host empty, which means the host that was `asked`; `?` is an
    unknown name.
    """
    for first, last, master, *_ in ranges:
        if first <= slot <= last:
            host = (master[0] or b"").decode() or asked
            return None if host == "?" else (host, int(master[1]))
    return None


_FINDERS: Final[Mapping[str, Callable[[RedisUrl, str, float], ServerLocator]]] = MappingProxyType(
    {"server": _fixed, "socket": _fixed, "sentinel": _by_sentinel, "cluster": _by_cluster}
)
"""The locator of each kind of URL form."""
