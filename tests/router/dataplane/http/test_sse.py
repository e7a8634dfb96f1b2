"""Which events are the last of a stream, and what is kept of a piece to find them."""

from __future__ import annotations

import pytest

from router.dataplane.http.sse import has_last_event, kept_of
from tests.fakes.each_case import each_case

LAST = [
    b"data: [DONE]\n\n",
    b"data:[DONE]\r\n\r\n",
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'data: {"type": "message_stop"}\n\n',
    b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
    b'data: {"type":"response.completed","response":{}}\n\n',
    b"event: response.failed\ndata: {}\n\n",
    b"event: response.incomplete\ndata: {}\n\n",
]

OTHERS = [
    b"",
    b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"\\ndata: [DONE]"}}]}\n\n',
    b'event: content_block_stop\ndata: {"type":"content_block_stop"}\n\n',
    b'event: response.completed_item\ndata: {"type":"response.output_text.done"}\n\n',
    b'data: {"delta":"event: message_stop\\n"}\n\n',
    b": event: message_stop\n\n",
    b"data: [DONE",
]


@each_case("event", LAST)
@each_case("framed", [False, True])
def test_the_event_after_which_clients_close_is_found(event: bytes, framed: bool) -> None:
    """Case G 34."""
    wire = b"%x\r\n%b\r\n" % (len(event), event) if framed else event
    assert has_last_event(wire)
    assert has_last_event(b"data: {}\n\n" + wire)


@each_case("event", OTHERS)
def test_text_that_looks_like_it_is_not_taken_for_it(event: bytes) -> None:
    assert not has_last_event(event)


@pytest.mark.parametrize("before", [b"", b"data: {}\n\n" * 100])
def test_the_type_of_a_large_event_is_kept(before: bytes) -> None:
    """Case G 34."""
    event = b'event: response.completed\ndata: {"type":"response.completed","text":"' + b"x" * 5000 + b'"}\n\n'
    kept = kept_of(before + event, 640)
    assert has_last_event(kept)
    assert len(kept) < 1000
    assert kept.endswith(event[-640:])


def test_what_is_kept_of_a_large_piece_has_no_event_that_the_piece_has_not() -> None:
    piece = b'data: {"text":"' + b"x" * 5000 + b"data: [DONE]" + b"y" * 628
    assert not has_last_event(kept_of(piece, 640))
    assert kept_of(piece[:640], 640) == piece[:640]
