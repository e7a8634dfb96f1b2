"""Stage 5a: connections to pods, with a stack of idle ones for each pod. Sends a request over an idle or a new one.

Knows addresses and sockets, nothing of policies or retries. `upstream_connection.py` reads the answers.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.http.write_batcher import WriteBatcher
from router.errors import ConnectFailed, ConnectTimeout, PodFailure, ResetBeforeAnswer, StaleConnection, TlsFailed
from router.settings import Timeouts
from statesync.engines.access import NO_ACCESSES
from statesync.engines.failure_log import FailureLog
from statesync.engines.tls import reason_of
from statesync.tasks import spawn

_log = logging.getLogger("turnout.upstream")


class Discard:
    """Receives an answer that is no longer needed, so that its connection can be used again."""

    def connected(self, connection: UpstreamConnection, /) -> None:
        """Nothing to do."""

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """Nothing to do."""
        return False

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Nothing to do."""

    def end(self) -> None:
        """Nothing to do."""

    def failed(self, failure: PodFailure, /) -> None:
        """Nothing to do."""


DISCARD = Discard()

Dial = Callable[[Callable[[], asyncio.Protocol], str, str], Awaitable[object]]
"""Opens a connection to the pod with an address and of a pool, for the protocol that its first argument makes. Raises
OSError, and ValueError for an address that cannot be one."""


class Upstream:
    """The idle connections of all pods; opens new ones."""

    def __init__(
        self, deadlines: Deadlines, dial: Dial = NO_ACCESSES.dial, write_batcher: WriteBatcher | None = None
    ) -> None:
        self.deadlines = deadlines
        self.write_batcher = write_batcher or WriteBatcher()
        self._dial = dial
        self.idle: dict[str, list[UpstreamConnection]] = {}
        """Pod address -> its idle connections, the last used last."""
        self.open = 0
        """Open connections, busy ones included."""
        self._tls_failures = FailureLog()

    def send(
        self,
        address: str,
        payload: Sequence[bytes],
        receiver: Receiver,
        timeouts: Timeouts,
        *,
        head_only: bool,
        fresh: bool = False,
        pool: str = "",
    ) -> None:
        """Send the parts of `payload` to the pod at `address`; `receiver` gets the answer or the failure.

        `head_only`: the request is a HEAD, whose answer has no body. `fresh`: use a new connection, not an idle one.
        `pool` is the pod's, whose settings say how to connect.
        """
        stack = self.idle.get(address)
        if stack and not fresh:
            now = self.deadlines.clock()
            while stack:
                connection = stack.pop()
                if connection.expires_at > now and not connection.closing:
                    connection.send(payload, receiver, timeouts, head_only)
                    return
                connection.abort()
        spawn(self._connect(address, pool, payload, receiver, timeouts, head_only), name="connect")

    async def _connect(
        self, address: str, pool: str, payload: Sequence[bytes], receiver: Receiver, timeouts: Timeouts, head_only: bool
    ) -> None:
        connection = UpstreamConnection(self, address)
        protocol = cast(asyncio.Protocol, connection)
        try:
            async with asyncio.timeout(timeouts.connect_s):
                await self._dial(lambda: protocol, address, pool)
        except TimeoutError:
            receiver.failed(ConnectTimeout(f"Pod {address} did not accept a connection in {timeouts.connect_s:g} s."))
        except ssl.SSLError as error:
            receiver.failed(self._tls_failed(address, error))
        except (OSError, ValueError) as error:  # a ValueError for a name that cannot be one, such as `a..b`
            reason = getattr(error, "strerror", None) or error
            receiver.failed(ConnectFailed(f"Pod {address} cannot be reached: {reason}.", retry_after_s=1.0))
        else:
            if connection.closing:
                receiver.failed(ResetBeforeAnswer(f"Pod {address} closed the connection as it was made."))
            else:
                connection.send(payload, receiver, timeouts, head_only)

    def lost_before_head(self, address: str, exc: Exception | None, /, *, again: bool) -> PodFailure:
        """See `ConnectionOwner`."""
        if again:
            return StaleConnection(f"Pod {address} closed a kept-alive connection.")
        if isinstance(exc, ssl.SSLError):  # in TLS 1.3 a pod refuses the gateway's certificate after the handshake
            return self._tls_failed(address, exc)
        advice = " Does it ask for a certificate (upstream.tls.cert_file)?" if address.startswith("https:") else ""
        return ResetBeforeAnswer(f"Pod {address} closed the connection before it answered.{advice}")

    def _tls_failed(self, address: str, error: ssl.SSLError) -> TlsFailed:
        """The failure of a handshake, in it or after it. The reason is logged, but not for every request."""
        reason = reason_of(error)
        if self._tls_failures.failed(address, reason, self.deadlines.clock()):
            _log.warning("pod %s: no TLS connection: %s", address, reason)
        return TlsFailed(f"Pod {address} cannot be reached over TLS: {reason}.", retry_after_s=1.0)

    def park(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection for the next request to the same pod."""
        self.idle.setdefault(connection.address, []).append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """Remove an idle connection that closed. The oldest ones close first, so the search is short."""
        stack = self.idle.get(connection.address)
        if stack and connection in stack:
            stack.remove(connection)
        if not stack:
            self.idle.pop(connection.address, None)

    def drop_idle(self, address: str) -> None:
        """Close the idle connections to a pod that restarted or is gone."""
        self._tls_failures.forget((address,))
        for connection in self.idle.pop(address, []):
            connection.abort()

    def close(self) -> None:
        """Close all idle connections."""
        for address in list(self.idle):
            self.drop_idle(address)
