"""An exchange without a gateway, for tests of stages that only read an exchange."""

from __future__ import annotations

from router.dataplane.exchange import Exchange, RoutedRequest
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge
from router.dataplane.http.listener import Listener
from router.dataplane.http.request_head import RequestHead
from router.dataplane.request.openai import Call
from router.settings import Limits, Timeouts
from router.telemetry.metrics import PoolMetrics
from tests.fakes.virtual_time import Clock


class NoGateway:
    """A request handler that is never called."""

    def begin(self, edge: Edge[Exchange], head: RequestHead, body: bytes, arrived: float, /) -> Exchange:
        """Not in these tests."""
        raise AssertionError("a request was read")

    def handle(self, exchange: Exchange, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was handled")

    def abandon(self, exchange: Exchange, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was abandoned")

    def overdue(self, exchange: Exchange, now: float, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was overdue")


def edge() -> Edge[Exchange]:
    """A client connection that is not connected."""
    clock = Clock()
    listener = Listener(NoGateway(), Deadlines(clock, 0.1), Limits(), Timeouts(), lambda error: ())
    return listener.connect()


def exchange(
    method: bytes = b"POST",
    target: bytes = b"/v1/completions",
    kept: tuple[bytes, ...] = (),
    header_map: dict[bytes, bytes] | None = None,
    body: bytes = b"",
) -> Exchange:
    """A request that was read."""
    head = RequestHead(method, target, http11=True, keep_alive=True, kept=list(kept), header_map=header_map or {})
    return Exchange(edge(), head, body, 1000.0)


def routed(
    pool: str = "main", *, call: Call | None = None, body: bytes = b"", metrics: PoolMetrics | None = None
) -> RoutedRequest:
    """The routed request that a pool receives."""
    return RoutedRequest(
        pool, call or Call("m", (), 1, 0, False, ""), body, Timeouts(), metrics or PoolMetrics(), deadline=0.0
    )
