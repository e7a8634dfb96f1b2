"""An upstream on a network of pods without a gateway, for tests of the upstream's connections to pods."""

from __future__ import annotations

from types import TracebackType

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.upstream import Upstream
from router.dataplane.http.upstream_connection import UpstreamConnection
from router.errors import PodFailure
from router.settings import Timeouts
from tests.fakes.memory_client_and_pods import Net, PodEnd
from tests.fakes.memory_transport import Wire

POD = "10.0.0.1:8000"
ASK = b"POST /v1 HTTP/1.1\r\nhost: p\r\ncontent-length: 0\r\n\r\n"


class Attempt:
    """A receiver that records what the upstream reports."""

    def __init__(self) -> None:
        self.connection: UpstreamConnection | None = None
        self.heads: list[tuple[int, int, int]] = []
        self.body = b""
        self.ended = 0
        self.failures: list[PodFailure] = []
        self.unwrap = False

    def connected(self, connection: UpstreamConnection, /) -> None:
        self.connection = connection

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        self.heads.append((head.status, framing, length))
        return self.unwrap

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        self.body += piece

    def end(self) -> None:
        self.ended += 1

    def failed(self, failure: PodFailure, /) -> None:
        self.failures.append(failure)


class Ground:
    """An upstream and its network of pods."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.net = Net(self.wire)
        self.deadlines = Deadlines(self.wire.clock, 0.1)
        self.upstream = Upstream(self.deadlines, self.net.dial)

    def send(
        self, address: str = POD, *, fresh: bool = False, head_only: bool = False, timeouts: Timeouts | None = None
    ) -> Attempt:
        """Send a request; the attempt records its result."""
        attempt, limits = Attempt(), timeouts or Timeouts()
        send = self.upstream.send
        self.wire.do(lambda: send(address, [ASK], attempt, limits, head_only=head_only, fresh=fresh))
        return attempt

    def passes(self, seconds: float) -> Ground:
        """Advance the time, then check the deadlines."""
        self.wire.clock.now += seconds
        self.wire.do(self.deadlines.look)
        return self

    @property
    def pod(self) -> PodEnd:
        """The pod's end of the last connection made."""
        return self.net.made[-1]

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.wire.close()
        assert kind is not None or not self.wire.crashes
