import pytest

from loadtests.sim.http_client import Answer
from loadtests.sim.right_answer import Verdict, expected, judge
from loadtests.sim.simpod.text import answer_text
from tests.fakes.each_case import each_case

WANTED = answer_text(1, 3)
WORDS = [WANTED[at : at + 4].decode() for at in range(0, 12, 4)]
USAGE = b'{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8}}'


def stream(*words: str, done: bytes = b"data: [DONE]\n\n") -> bytes:
    events = [b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n']
    events += [b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % word.encode() for word in words]
    return b"".join([*events, b'data: {"choices":[],"usage":%b}\n\n' % USAGE, done])


def whole(text: str) -> bytes:
    return b'{"choices":[{"message":{"content":"%b"}}],"usage":%b}' % (text.encode(), USAGE)


def judged(status: int, body: bytes, *, complete: bool = True, stream: bool) -> Verdict:
    answer = Answer(0.0)
    answer.status, answer.complete, answer.pieces, answer.times = status, complete, [body], [0.0]
    return judge(answer, stream=stream, wanted=WANTED)


def test_a_whole_stream_and_a_whole_answer_are_good_and_report_cached_tokens() -> None:
    for body, streamed in ((stream(*WORDS), True), (whole("".join(WORDS)), False)):
        verdict = judged(200, body, stream=streamed)
        assert verdict.fault == ""
        assert verdict.text.encode() == WANTED
        assert (verdict.usage.prompt_tokens, verdict.usage.cached_tokens) == (9, 8)


@each_case(
    ("status", "body", "complete", "fault"),
    [
        (0, b"", False, "no_answer"),
        (502, b"bad gateway", True, "http_502"),
        (200, stream(*WORDS), False, "truncated"),
        (200, stream(*WORDS[:2]), True, "truncated"),
        (200, stream(*WORDS, done=b""), True, "truncated"),
        (200, stream(*WORDS, done=b'data: {"error":{"message":"gone"}}\n\n'), True, "error_event"),
        (200, stream(*WORDS, " the"), True, "wrong_text"),
        (200, stream(*reversed(WORDS)), True, "wrong_text"),
        (200, b"data: not json\n\ndata: [DONE]\n\n", True, "unreadable"),
    ],
)
def test_an_invalid_stream_has_a_fault(status: int, body: bytes, complete: bool, fault: str) -> None:
    assert judged(status, body, complete=complete, stream=True).fault == fault


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (whole("".join(WORDS[:2])), "truncated"),
        (whole(" who" * 3), "wrong_text"),
        (b"{}", "truncated"),
        (b"<html>", "unreadable"),
    ],
)
def test_an_invalid_answer_has_a_fault(body: bytes, fault: str) -> None:
    assert judged(200, body, stream=False).fault == fault


def test_the_expected_answer_follows_from_the_messages() -> None:
    first = expected([{"role": "user", "content": "one"}], 5)
    assert len(first) == 20
    assert first != expected([{"role": "user", "content": "two"}], 5)
    assert expected([{"role": "user", "content": "one"}], 7).startswith(first)
