"""What is written is what hyperframe reads."""

from __future__ import annotations

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from router.dataplane.grpc import frames
from router.dataplane.grpc.frames import ConnectionBroken, ErrorCode


def parsed(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found


def test_each_frame_is_read_as_it_was_meant() -> None:
    data, settings, window, reset, goodbye = parsed(
        frames.frame(frames.DATA, frames.END_STREAM, 7, b"abc")
        + frames.settings({frames.ENABLE_PUSH: 0, frames.INITIAL_WINDOW_SIZE: 1 << 20})
        + frames.window_update(9, 1234)
        + frames.rst_stream(9, ErrorCode.CANCEL)
        + frames.goaway(frames.LAST_ID)
    )
    assert isinstance(data, DataFrame)
    assert (data.stream_id, data.data, set(data.flags)) == (7, b"abc", {"END_STREAM"})
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {SettingsFrame.ENABLE_PUSH: 0, SettingsFrame.INITIAL_WINDOW_SIZE: 1 << 20}
    assert isinstance(window, WindowUpdateFrame)
    assert (window.stream_id, window.window_increment) == (9, 1234)
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (9, 8)
    assert isinstance(goodbye, GoAwayFrame)
    assert (goodbye.last_stream_id, goodbye.error_code) == ((1 << 31) - 1, 0)


@pytest.mark.parametrize("size", [0, 10, 11, 20, 25])
def test_a_long_block_of_headers_goes_on_in_continuations(size: int) -> None:
    block = bytes(range(size))
    head, *rest = parsed(frames.header_frames(3, block, 10, end=True))
    assert isinstance(head, HeadersFrame)
    assert all(isinstance(each, ContinuationFrame) for each in rest)
    assert b"".join(each.data for each in (head, *rest)) == block  # type: ignore[attr-defined]
    assert "END_STREAM" in head.flags
    assert ["END_HEADERS" in each.flags for each in (head, *rest)] == [False] * len(rest) + [True]


def test_padding_and_priority_are_left_out() -> None:
    padded = DataFrame(1, b"abc", pad_length=7, flags=["PADDED"]).serialize()
    assert frames.unpadded(padded[4], padded[9:]) == b"abc"
    both = HeadersFrame(1, b"abc", pad_length=2, flags=["PADDED", "PRIORITY"]).serialize()
    assert frames.unpadded(both[4], both[9:]) == b"abc"
    assert frames.unpadded(0, b"abc") == b"abc"


@pytest.mark.parametrize("payload", [b"", b"\x02a", b"\xff"])
def test_more_padding_than_frame_is_an_error(payload: bytes) -> None:
    with pytest.raises(ConnectionBroken):
        frames.unpadded(frames.PADDED, payload)
