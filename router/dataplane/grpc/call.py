"""One gRPC call: from the client's stream to a pod's and back. Passes headers, messages and trailers on unread, picks a
pod, repeats what no pod has begun, and ends the call at its deadline, when the client cancels and when the pod is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from router.dataplane.exchange import Placement
from router.dataplane.grpc.frames import ErrorCode
from router.dataplane.grpc.http2 import Http2Connection
from router.dataplane.grpc.status import Headers, Status, code_in, timeout_of, trailers
from schedulers.types import Rejection, RequestInfo
from statesync.engines.health import Outcome
from statesync.errors import NoRoutablePod, PoolSaturated
from statesync.tasks import spawn

if TYPE_CHECKING:
    from router.dataplane.grpc.pods import PodConnection
    from router.dataplane.grpc.port import GrpcPool, GrpcPort

REPLAY_BYTES: Final = 65536
"""Of a call's messages, kept for another pod until the first one answers; a longer call is not repeated."""

PIECE_BYTES: Final = 64
"""What a piece of a call takes beside its bytes, of which it may have one."""

_CODES: Final = frozenset(ErrorCode)


class GrpcCall:
    """A call, and the `StreamEvents` of the client's stream."""

    def __init__(
        self, port: GrpcPort, client: Http2Connection, stream: int, pool: GrpcPool, headers: Headers, info: RequestInfo
    ) -> None:
        """`headers` are the client's, `info` is what a policy may know of the call."""
        self.port = port
        self.client = client
        self.stream = stream
        self.pool = pool
        self.sent = headers
        self.info = info
        self.attempts = 0
        self.attempt: PodCall | None = None
        self.placement: Placement | None = None
        """That of the last attempt."""
        self.pieces: list[tuple[bytes, int]] = []
        """What came from the client and may have to be sent again, or was not sent yet."""
        self.repeatable = True
        self.complete = False
        """Whether the client has sent all."""
        self.answered = False
        """Whether the client has headers."""
        self.done = False
        self.held = 0
        """Bytes of `pieces`."""
        self._kept = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Find a pod, and begin the clock."""
        if self.info.deadline is not None:
            left_s = self.info.deadline - self.port.clock()
            self._timer = asyncio.get_running_loop().call_later(max(0.0, left_s), self._expire)
        self.place()

    def place(self) -> None:
        """Send the call to the pod that the policy picks, or end it."""
        try:
            placed = self.port.choose(self.pool.name, self.info)
        except PoolSaturated:
            self.fail(Status.RESOURCE_EXHAUSTED, f"Every pod of pool {self.pool.name!r} is full; try again.")
            return
        except NoRoutablePod as error:
            self.fail(Status.UNAVAILABLE, f"No pod can take this call now: {error}.")
            return
        if isinstance(placed, Rejection):
            self.fail(Status.UNAVAILABLE, f"No pod of pool {self.pool.name!r} can take this call: {placed.reason}.")
            return
        self.attempts += 1
        self.placement = placed
        self.attempt = PodCall(self, placed)
        self.attempt.begin()

    # The client's stream

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        """Trailers of a request, which gRPC does not have."""
        if ended:
            self.ended()

    def data(self, piece: bytes, counted: int, /) -> None:
        """A part of the client's messages."""
        self._kept += len(piece) + PIECE_BYTES
        self.held += len(piece)
        self.pieces.append((piece, counted))
        if self.attempt is not None:
            self.attempt.feed()
        if self._kept > REPLAY_BYTES:
            self.repeatable = False

    def ended(self) -> None:
        """The client has sent all."""
        self.complete = True
        if self.attempt is not None:
            self.attempt.feed()

    def reset(self, code: int, /) -> None:
        """The client cancelled the call, or is gone."""
        self._over(Status.CANCELLED)

    # The end

    def finish(self, headers: Headers, code: int | None) -> None:
        """The pod ended the call, with trailers or without."""
        self.client.finish(self.stream, headers)
        self._over(Status.UNKNOWN if code is None else code)

    def fail(self, status: Status, message: str) -> None:
        """The gateway ends the call."""
        if self.done:
            return
        end = trailers(status, message)
        if self.answered:
            self.client.finish(self.stream, end)
        else:
            head = [(b":status", b"200"), (b"content-type", b"application/grpc"), *end, *self.port.named(self)]
            self.client.send_headers(self.stream, head, end=True, on_sent=_nothing)
        if not self.complete and not self.client.sends_on(self.stream):
            self.client.reset(self.stream, ErrorCode.NO_ERROR)
        self._over(status)

    def _expire(self) -> None:
        self.fail(Status.DEADLINE_EXCEEDED, "The call did not end within the time that it has.")
        self.client.flush()

    def _over(self, code: int) -> None:
        if self.done:
            return
        self.done = True
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for _, counted in self.pieces:
            self.client.acknowledge(self.stream, counted)
        self.pieces, self.held = [], 0
        self.client.streams.pop(self.stream, None)
        self.port.over(self, code)


class PodCall:
    """One attempt at a pod, and the `StreamEvents` of the pod's stream."""

    def __init__(self, call: GrpcCall, placement: Placement) -> None:
        self.call = call
        self.placement = placement
        self._pod: PodConnection | None = None
        self._stream = 0
        self._fed = 0
        """How many pieces the pod's connection was given."""
        self._ended = False
        self._over = False

    def begin(self) -> None:
        """Send over an open connection, or over a new one."""
        pool, address = self.call.pool.name, self.placement.pod.address
        found = self.call.port.pods.ready(pool, address)
        if found is not None:
            self._send(found)
        else:
            spawn(self._connect(pool, address), "connection of a gRPC call")

    async def _connect(self, pool: str, address: str) -> None:
        try:
            found = await self.call.port.pods.connected(pool, address, self.call.pool.connect_s)
        except OSError as error:
            message = f"Pod {self.placement.pod.id} cannot be reached: {error or 'no answer'}."
            self._failed(message, begun=False, outcome=Outcome.FAILURE)
        else:
            if not self._over:
                self._send(found)
        self.call.client.flush()

    def _send(self, pod: PodConnection) -> None:
        call = self.call
        left_s = None if call.info.deadline is None else call.info.deadline - call.port.clock()
        head = call.pool.request(call.sent, self.placement.pod.address, call.info.id)
        if left_s is not None:
            head.append((b"grpc-timeout", timeout_of(left_s)))
        if pod.transport is None:
            self._failed(f"Pod {self.placement.pod.id} closed its connection.", begun=False)
            return
        self._stream = pod.open(self, head, self._passed)
        self._pod = pod
        self.feed()

    def feed(self) -> None:
        """Give the pod what has come from the client."""
        call, pod = self.call, self._pod
        if pod is None or self._over:
            return
        while self._fed < len(call.pieces):
            piece, counted = call.pieces[self._fed]
            if call.repeatable:
                call.pieces[self._fed] = piece, 0
                self._fed += 1
            else:
                self._fed += 1
                self._forget()
            pod.send(self._stream, piece, counted)
        if call.complete and not self._ended:
            self._ended = True
            pod.finish(self._stream, [])
        pod.flush()

    def _forget(self) -> None:
        """Keep nothing of what the pod's connection was given: the call is not repeated."""
        call, fed = self.call, self._fed
        call.held -= sum(len(piece) for piece, _ in call.pieces[:fed])
        del call.pieces[:fed]
        self._fed = 0

    def cancel(self) -> None:
        """The call is over: the pod need not go on."""
        self._over = True
        if self._pod is not None:
            self.call.client.settle(self.call.stream)
            self._pod.reset(self._stream, ErrorCode.CANCEL)
            self._pod.flush()

    def _passed(self, counted: int) -> None:
        self.call.client.acknowledge(self.call.stream, counted)
        self.call.client.flush()

    # The pod's stream

    def headers(self, headers: Headers, /, *, ended: bool) -> None:
        """The head of the answer, or its trailers, or both in one."""
        call = self.call
        if self._over:
            return
        if call.answered:
            if ended:
                self._finish(headers)
            return
        call.answered, call.repeatable = True, False
        self._forget()
        head = [*_passed_on(headers), *call.port.named(call)]
        call.client.send_headers(call.stream, head, end=ended, on_sent=self._taken)
        call.port.well(self.placement)
        if ended:
            self._finish(headers)
        call.client.flush()

    def data(self, piece: bytes, counted: int, /) -> None:
        """A part of the answer."""
        self.call.client.send(self.call.stream, piece, counted)
        self.call.client.flush()

    def ended(self) -> None:
        """The answer ended without trailers."""
        self._finish([])

    def reset(self, code: int, /) -> None:
        """The pod refused the call or broke it off, or is gone."""
        begun = code != ErrorCode.REFUSED_STREAM
        name = ErrorCode(code).name if code in _CODES else str(code)
        self._pod = None
        self._failed(f"Pod {self.placement.pod.id} broke the call off ({name}).", begun=begun)
        self.call.client.flush()

    def _taken(self, counted: int) -> None:
        if self._pod is not None:
            self._pod.acknowledge(self._stream, counted)
            self._pod.flush()

    def _finish(self, headers: Headers) -> None:
        """The pod's side is over; what it sent may still be on its way to the client."""
        if self._over:
            return
        call, pod = self.call, self._pod
        if pod is not None:
            pod.streams.pop(self._stream, None)
            call.client.settle(call.stream)
            if not self._ended:
                pod.reset(self._stream, ErrorCode.NO_ERROR)  # it does not want the rest
            pod.flush()
        self._over = True
        call.finish(_passed_on(headers), code_in(headers))
        call.client.flush()

    def _failed(self, message: str, *, begun: bool, outcome: Outcome | None = None) -> None:
        """The attempt ended early. `begun`: the pod may have done something of the call. `outcome`: what it says of the
        pod; a refused stream says that it leaves or has enough."""
        if self._over:
            return
        self._over = True
        call = self.call
        call.attempt = None
        call.port.failed(self.placement, outcome)
        if begun or not call.repeatable or call.attempts > call.port.retries:
            call.fail(Status.UNAVAILABLE, message)
            return
        call.port.released(self.placement)
        call.placement = None
        call.info = call.info._replace(tried=call.info.tried | {self.placement.pod.id})
        call.place()


def _passed_on(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    """A pod's headers as the client gets them."""
    return [(name, value) for name, value in headers if not name.startswith(b"x-turnout-") and name != b"x-request-id"]


def _nothing(counted: int) -> None:
    """Nothing was queued behind these headers."""
