"""An exchange without a gateway: for tests of the stages that only look at one."""

from __future__ import annotations

from router.dataplane.exchange import Exchange
from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.edge import Edge
from router.dataplane.http.listener import Listener
from router.dataplane.http.request_parser import RequestHead
from router.settings import Limits, Timeouts
from tests.fakes.virtual_time import Clock


class Nobody:
    """Where exchanges go in these tests: nowhere."""

    def handle(self, exchange: Exchange, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was handled")

    def abandon(self, exchange: Exchange, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was abandoned")

    def overdue(self, exchange: Exchange, now: float, /) -> None:
        """Not in these tests."""
        raise AssertionError("an exchange was overdue")


def edge() -> Edge:
    """A client connection that is not connected."""
    clock = Clock()
    listener = Listener(Nobody(), Deadlines(clock, 0.1), Limits(), Timeouts(), lambda error: ())
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
