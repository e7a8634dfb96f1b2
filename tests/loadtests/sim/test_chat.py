import msgspec
import pytest

from loadtests.sim import chat
from loadtests.sim.chat import TrafficError, Usage
from loadtests.sim.http_client import Answer

EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" one"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" two"}}]}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


def answer(*pieces: bytes, status: int = 200, failure: str = "") -> Answer:
    """The pieces arrive a second apart, the first one a second after the request was sent at 1.0."""
    made = Answer(1.0)
    made.status, made.failure, made.complete = status, failure, not failure
    made.pieces, made.times = [*pieces], [2.0 + at for at in range(len(pieces))]
    return made


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_read_however_they_are_cut(size: int) -> None:
    got = chat.reply(answer(*(EVENTS[at : at + size] for at in range(0, len(EVENTS), size))))
    assert (got.text, got.usage) == ([" one", " two"], Usage(completion_tokens=2))


def test_the_first_token_is_the_first_text_and_gaps_lie_between_tokens() -> None:
    got = chat.reply(answer(*(event + b"\n\n" for event in EVENTS.split(b"\n\n")[:-1])))
    assert (got.ttft_s, got.gaps_s) == (2.0, [1.0])


def test_an_event_arrives_with_the_piece_that_completes_it() -> None:
    got = chat.reply(answer(EVENTS[:100], EVENTS[100:]))
    assert got.token_times == [3.0, 3.0]


@pytest.mark.parametrize(
    ("got", "kind"),
    [
        (answer(b'data: {"error":{"message":"pod is gone"}}\n\n'), "stream_error"),
        (answer(b'data: {"error":{"message":"pod is gone"}}\n\n', failure="connection_lost"), "stream_error"),
        (answer(EVENTS[:60], failure="connection_lost"), "connection_lost"),
        (answer(EVENTS.removesuffix(b"data: [DONE]\n\n")), "truncated"),
        (answer(b"data: not json\n\n"), "bad_http"),
        (answer(b'{"error":', status=503), "http_503"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_an_incomplete_stream_is_an_error_of_its_kind(got: Answer, kind: str) -> None:
    with pytest.raises(TrafficError) as caught:
        chat.reply(got)
    assert caught.value.kind == kind


def test_the_body_of_an_error_status_is_the_detail() -> None:
    with pytest.raises(TrafficError, match=r'^http_503 \{"error":$'):
        chat.reply(answer(b'{"error":', status=503))


def test_a_whole_answer_is_read_like_an_event() -> None:
    got = chat.read(
        b'{"choices":[{"message":{"content":"yes"}}],"usage":{"prompt_tokens_details":{"cached_tokens":3}}}'
    )
    assert got.text == "yes"
    assert got.usage is not None
    assert got.usage.cached_tokens == 3


def test_a_request_is_for_a_stream_with_usage_unless_a_whole_answer_is_wanted() -> None:
    streamed, whole = (msgspec.json.decode(chat.body("m", [], 5, stream=stream)) for stream in (True, False))
    assert streamed == {**whole, "stream": True, "stream_options": {"include_usage": True}}
    assert msgspec.json.decode(chat.body("m", [], 5, stream=False, ignore_eos=True)) == {**whole, "ignore_eos": True}
