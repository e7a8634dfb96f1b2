from __future__ import annotations

import pytest

from tests.fakes.each_case import each_case
from tests.fakes.streamed_answer import streamed

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
PIECE = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null,"token_ids":null}]}\n\n'
LAST = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":"length","stop_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":4}}\n\n'
DONE = b"data: [DONE]\n\n"

WHOLE = ROLE + PIECE % b"pa" + PIECE % b" pri" + PIECE % b' \\"int' + LAST % b" include" + USAGE + DONE


@pytest.mark.parametrize(
    "cut",
    [
        ROLE + PIECE % b'pa pri \\"int' + LAST % b" include" + USAGE + DONE,
        ROLE + PIECE % b'pa pri \\"int include' + LAST % b"" + USAGE + DONE,
        ROLE + LAST % b'pa pri \\"int include' + USAGE + DONE,
    ],
)
def test_the_same_answer_cut_differently_agrees(cut: bytes) -> None:
    assert streamed(cut).text == 'pa pri "int include'
    assert streamed(cut).agrees(streamed(WHOLE))
    assert streamed(WHOLE).agrees(streamed(cut))


@each_case(
    "other",
    [
        WHOLE.replace(b" pri", b" prj"),
        WHOLE.replace(PIECE % b" pri", b""),
        WHOLE.replace(USAGE, b""),
        WHOLE.replace(DONE, b""),
        WHOLE.replace(DONE, DONE + DONE),
        WHOLE.replace(b'"completion_tokens":4', b'"completion_tokens":5'),
        WHOLE.replace(b'"length"', b'"stop"'),
        WHOLE.replace(b'null,"token_ids"', b'null, "token_ids"'),
        WHOLE.replace(PIECE % b" pri", PIECE.replace(b"null,", b"null ,") % b" pri"),
        ROLE + WHOLE,
    ],
)
def test_different_answers_do_not_agree(other: bytes) -> None:
    assert not streamed(other).agrees(streamed(WHOLE))


def test_an_anthropic_stream_cut_differently_agrees() -> None:
    start = b'event: content_block_start\ndata: {"content_block":{"type":"text","text":""},"index":0}\n\n'
    delta = b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"%b"},"index":0}\n\n'
    stop = b'event: message_delta\ndata: {"delta":{"stop_reason":"max_tokens"},"usage":{"output_tokens":2}}\n\n'
    assert streamed(start + delta % b"a" + delta % b" b" + stop).agrees(streamed(start + delta % b"a b" + stop))
    assert not streamed(start + delta % b"a b" + stop).agrees(streamed(start + delta % b"a b" + stop + stop))


def test_a_piece_without_text_may_stand_alone_or_not() -> None:
    assert streamed(WHOLE.replace(PIECE % b" pri", PIECE % b"" + PIECE % b" pri")).agrees(streamed(WHOLE))


def test_an_incomplete_event_is_an_error() -> None:
    with pytest.raises(AssertionError):
        streamed(WHOLE[:-1])
