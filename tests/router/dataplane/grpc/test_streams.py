"""What is sent on streams: in which frames, and what of it waits for whom."""

from __future__ import annotations

from collections.abc import Callable

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import ErrorCode
from router.dataplane.grpc.streams import OpenStreams
from tests.fakes.memory_transport import Transport, Wire


class Sender(OpenStreams):
    """Counts what begins to wait."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(client=True, window=100_000, stream_window=1000)
        self.transport = Transport(wire.loop, self)  # type: ignore[arg-type]
        self.waiting = 0

    def waits(self) -> None:
        self.waiting += 1

    def kinds(self) -> list[tuple[int, int, int]]:
        """Type, flags and length of the frames that were made."""
        made, self._made[:] = list(self._made), []
        return [(each[3], each[4], int.from_bytes(each[:3])) for each in made]


def sent(sender: Sender, stream: int, *pieces: bytes, trailers: bool) -> list[int]:
    counts: list[int] = []
    sender.send_headers(stream, [(b":status", b"200")], end=False, on_sent=counts.append)
    for piece in pieces:
        sender.send(stream, piece, len(piece))
    sender.finish(stream, [(b"grpc-status", b"0")] if trailers else [])
    return counts


def run(play: Callable[[Sender], None]) -> None:
    wire = Wire()
    try:
        wire.do(lambda: play(Sender(wire)))
        assert wire.crashes == []
    finally:
        wire.close()


def test_a_body_is_cut_into_frames_and_its_end_follows() -> None:
    def play(sender: Sender) -> None:
        stream = sender.begin_stream()
        assert sent(sender, stream, b"x" * 20_000, b"", trailers=True) == [20_000, 0]
        assert [(kind, length) for kind, _, length in sender.kinds()[1:-1]] == [
            (frames.DATA, 16_384),
            (frames.DATA, 3616),
            (frames.DATA, 0),
        ]
        assert not sender.sends_on(stream)

    run(play)


def test_nothing_is_sent_through_a_window_that_is_less_than_nothing() -> None:
    def play(sender: Sender) -> None:
        stream = sender.begin_stream()
        sender._states[stream].send_window = -5
        assert sent(sender, stream, b"", b"abc", trailers=True) == [0]
        sender._states[stream].send_window = 2
        sender._pump(stream)
        sender._states[stream].send_window = 2
        sender._pump(stream)
        assert [length for kind, _, length in sender.kinds() if kind == frames.DATA] == [0, 2, 1]

    run(play)


def test_without_trailers_the_end_is_a_flag() -> None:
    def play(sender: Sender) -> None:
        first, second = sender.begin_stream(), sender.begin_stream()
        assert (first, second) == (1, 3)
        sender.send_headers(first, [(b":path", b"/")], end=False, on_sent=lambda _: None)
        sender.finish(first, [])
        assert sender.kinds()[1:] == [(frames.DATA, frames.END_STREAM, 0)]
        sender.send_headers(second, [(b":path", b"/")], end=True, on_sent=lambda _: None)
        assert sender.kinds()[0][1] == frames.END_STREAM | frames.END_HEADERS

    run(play)


def test_what_no_window_lets_through_waits_and_is_counted_as_passed_on_when_its_stream_ends() -> None:
    def play(sender: Sender) -> None:
        first, second = sender.begin_stream(), sender.begin_stream()
        counts = sent(sender, first, b"x" * 65_000, b"y" * 1000, b"z", trailers=True)
        assert (counts, sender.waiting) == ([65_000], 1)
        others = sent(sender, second, b"a", trailers=True)
        assert (others, sender.waiting) == ([], 2), "the connection's window is full"
        sender.settle(first)
        assert counts == [65_000, 1001]
        sender.kinds()
        sender.reset(first, ErrorCode.CANCEL)
        sender.reset(first, ErrorCode.CANCEL)
        assert sender.kinds() == [(frames.RST_STREAM, 0, 4)]
        assert sender.sends_on(second)
        sender.send_headers(first, [(b":status", b"200")], end=True, on_sent=lambda _: None)
        assert sender.kinds() == []

    run(play)


def test_half_a_window_is_given_back_at_a_time() -> None:
    def play(sender: Sender) -> None:
        stream = sender.begin_stream()
        sender.acknowledge(stream, 400)
        assert sender.kinds() == []
        sender.acknowledge(stream, 100)
        assert sender.kinds() == [(frames.WINDOW_UPDATE, 0, 4)]
        sender.acknowledge(5, 49_500)
        assert sender.kinds() == [(frames.WINDOW_UPDATE, 0, 4)]

    run(play)


def test_bytes_that_wait_one_by_one_are_joined() -> None:
    def play(sender: Sender) -> None:
        stream = sender.begin_stream()
        sender._states[stream].send_window = 2
        counts = sent(sender, stream, b"abc", *[b"%d" % (number % 10) for number in range(3000)], trailers=True)
        waiting = sender._outgoing[stream].pieces
        assert len(waiting) < 10
        assert b"".join(piece for piece, _ in waiting) == b"abc" + b"0123456789" * 300
        sender._states[stream].send_window = 10_000
        sender._pump(stream)
        assert sum(counts) == 3003
        assert sum(length for kind, _, length in sender.kinds() if kind == frames.DATA) == 3003

    run(play)
