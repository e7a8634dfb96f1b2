"""How the pods of one pool are reached: connections with or without TLS, what precedes every path, and the headers that
each request gets. Knows the pool's settings, no request and no answer.

`PLAIN` is the access of a pool without settings of its own.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from statesync.discovery import address as addresses
from statesync.discovery.address import PodAddress
from statesync.engines.file_stamp import FollowedText
from statesync.engines.presets import AUTO, EnginePreset, preset_of
from statesync.engines.tls import HTTP, PodTls
from statesync.errors import DiscoveryError
from statesync.settings import UpstreamTls

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

HEADER_VALUE: Final = re.compile(r"[\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?")
"""The value of a header: one line, with no blank around it."""

_CREDENTIALS: Final = ("authorization", "x-api-key", "api-key")
"""Headers with a client's key."""


Check = Callable[["PoolAccess", str, str], Awaitable[tuple[int, str]]]
"""Probes a pod of this access and address, by its health path: an HTTP status, and why there is none. Raises OSError
and ValueError."""


class PoolAccess:
    """One pool's way to its pods."""

    def __init__(
        self,
        engine: str = AUTO,
        *,
        tls: PodTls | None = None,
        key: Callable[[], str] | None = None,
        send_key: bool = False,
        send_credentials: bool = True,
        send_priority: bool = False,
        headers: Mapping[str, str] = _NO_HEADERS,
        strip: Sequence[str] = (),
        health: str = "",
        metrics: str = "",
        protocol: str = HTTP,
        check: Check | None = None,
    ) -> None:
        """`key` gives the API key of the pods; with `send_key` clients' requests get it too, in place of the client's
        own, which also goes without `send_credentials`. `headers` are added to every request and replace the client's,
        `strip` is taken off. With `send_priority` bodies get a priority.
        `health` and `metrics` stand in for the paths of the engine's preset. `protocol` is the ALPN name of what pods
        speak, `check` how they are probed, if not by a GET."""
        self._protocol = protocol
        self.check = check
        preset = preset_of(engine)
        self.engine = engine
        self.preset: EnginePreset = preset._replace(
            health=(health,) if health else preset.health, metrics=(metrics,) if metrics else preset.metrics
        )
        self._tls = tls
        self._key = key
        self._send_key = send_key and key is not None
        self._headers = {name.lower(): value for name, value in headers.items()}
        replaced = [*strip, *self._headers, *(_CREDENTIALS if self._send_key or not send_credentials else ())]
        self.strip = frozenset(name.lower().encode() for name in replaced)
        """Headers of clients that do not reach the pods, in lower case."""
        self.host = self._headers.pop("host", "")
        """The value of `Host`; empty: the pod's address."""
        self.priority = preset.priority if send_priority else 0
        """The sign of the priority that bodies get, as `EnginePreset.priority`; 0: they get none."""

    @property
    def changes_requests(self) -> bool:
        """Whether clients' requests are changed on their way to the pods."""
        return bool(self.strip or self.priority)

    @property
    def adds(self) -> bool:
        """Whether a client's request gets any header lines."""
        return bool(self._headers) or self._send_key

    def added(self) -> str:
        """Header lines for a client's request."""
        return self._lines(self._send_key)

    def own(self) -> str:
        """Header lines for the gateway's own requests: probes, models, metrics."""
        return self._lines(self._key is not None)

    def host_of(self, address: str) -> str:
        """The value of `Host` for a pod. Raises DiscoveryError for text that is no address."""
        return self.host or addresses.of(address).authority

    def page(self, address: str, path: str) -> tuple[str, str]:
        """The address and the target of a request for a path of this pod, which may be on another port of it: on that
        the base path is not used. Raises ValueError for text that is no address."""
        at = _parts(address)
        if not path.startswith(":"):
            return address, at.base + path
        port, slash, rest = path[1:].partition("/")
        return at._replace(port=int(port), base="").text, slash + rest

    async def connect(self, make: Callable[[], asyncio.Protocol], address: str) -> None:
        """Open a connection to the pod at this address for the protocol that `make` makes.

        Raises OSError, of which `ssl.SSLError` is one, and ValueError for an address that cannot be one.
        """
        loop = asyncio.get_running_loop()
        at = _parts(address)
        if at.socket:
            await loop.create_unix_connection(make, at.socket)
        elif at.tls:
            tls = self._client_tls()
            name = tls.server_name(at.host)
            await loop.create_connection(make, at.host, at.port, ssl=tls.context(), server_hostname=name)
        else:
            await loop.create_connection(make, at.host, at.port)

    def _client_tls(self) -> PodTls:
        if self._tls is None:
            # Reading the system's authorities takes 10 ms: only where it is needed.
            self._tls = PodTls(UpstreamTls(), self._protocol)
        return self._tls

    def _lines(self, with_key: bool) -> str:
        if not self._headers and not with_key:
            return ""
        lines = dict(self._headers)
        if with_key and self._key is not None:
            lines.setdefault("authorization", f"Bearer {self._key()}")
        return "".join(f"{name}: {value}\r\n" for name, value in lines.items())


def _parts(address: str) -> PodAddress:
    try:
        return addresses.of(address)
    except DiscoveryError as error:
        raise ValueError(str(error)) from None


PLAIN: Final = PoolAccess()


class Accesses:
    """The access of each pool."""

    def __init__(self, by_pool: Mapping[str, PoolAccess] = MappingProxyType({})) -> None:
        self.by_pool = by_pool

    def of(self, pool: str) -> PoolAccess:
        """That of a pool; a pool without one is plain."""
        return self.by_pool.get(pool, PLAIN)

    async def dial(self, make: Callable[[], asyncio.Protocol], address: str, pool: str) -> None:
        """Open a connection for a client's request: see `PoolAccess.connect`."""
        await self.of(pool).connect(make, address)


NO_ACCESSES: Final = Accesses()
"""All pools are plain."""


def followed_key(path: str) -> Callable[[], str]:
    """The key in a file, read again when the file changes. Raises OSError and ValueError."""
    return FollowedText(path, HEADER_VALUE).text


def fixed_key(key: str) -> Callable[[], str]:
    """A key that stays."""
    return lambda: key
