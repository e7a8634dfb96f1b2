"""Stage 5a: connections to pods, with a stack of idle ones for each pod. Sends a request over an idle or a new one.

Knows addresses and sockets, nothing of policies or retries. `upstream_connection.py` reads the answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.http.write_batcher import WriteBatcher
from router.errors import ConnectFailed, ConnectTimeout, PodFailure, ResetBeforeAnswer
from router.settings import Timeouts
from statesync.tasks import spawn


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

Dial = Callable[[Callable[[], asyncio.Protocol], str, int], Awaitable[object]]
"""Opens a connection to (host, port) for the protocol that its first argument makes. Raises OSError."""


async def dial(make: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
    """Open a TCP connection on the running loop."""
    await asyncio.get_running_loop().create_connection(make, host, port)


class Upstream:
    """The idle connections of all pods; opens new ones."""

    def __init__(self, deadlines: Deadlines, dial: Dial = dial, write_batcher: WriteBatcher | None = None) -> None:
        self.deadlines = deadlines
        self.write_batcher = write_batcher or WriteBatcher()
        self._dial = dial
        self.idle: dict[str, list[UpstreamConnection]] = {}
        """Pod address -> its idle connections, the last used last."""
        self.open = 0
        """Open connections, busy ones included."""

    def send(
        self,
        address: str,
        payload: Sequence[bytes],
        receiver: Receiver,
        timeouts: Timeouts,
        *,
        head_only: bool,
        fresh: bool = False,
    ) -> None:
        """Send the parts of `payload` to the pod at `address`; `receiver` gets the answer or the failure.

        `head_only`: the request is a HEAD, whose answer has no body. `fresh`: use a new connection, not an idle one.
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
        spawn(self._connect(address, payload, receiver, timeouts, head_only), name="connect")

    async def _connect(
        self, address: str, payload: Sequence[bytes], receiver: Receiver, timeouts: Timeouts, head_only: bool
    ) -> None:
        host, _, port = address.rpartition(":")
        connection = UpstreamConnection(self, address)
        protocol = cast(asyncio.Protocol, connection)
        try:
            async with asyncio.timeout(timeouts.connect_s):
                await self._dial(lambda: protocol, host.strip("[]"), int(port))
        except TimeoutError:
            receiver.failed(ConnectTimeout(f"Pod {address} did not accept a connection in {timeouts.connect_s:g} s."))
        except (OSError, ValueError) as error:  # a ValueError for a name that cannot be one, such as `a..b`
            reason = getattr(error, "strerror", None) or error
            receiver.failed(ConnectFailed(f"Pod {address} cannot be reached: {reason}.", retry_after_s=1.0))
        else:
            if connection.closing:
                receiver.failed(ResetBeforeAnswer(f"Pod {address} closed the connection as it was made."))
            else:
                connection.send(payload, receiver, timeouts, head_only)

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
        for connection in self.idle.pop(address, []):
            connection.abort()

    def close(self) -> None:
        """Close all idle connections."""
        for address in list(self.idle):
            self.drop_idle(address)
