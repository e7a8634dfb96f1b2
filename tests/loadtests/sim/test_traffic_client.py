import pytest

from loadtests.sim.traffic_client import Reply, TrafficError

EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" one"}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":" two"}}]}\n\n'
    b'data: {"choices":[],"usage":{"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)


def reply() -> Reply:
    started = Reply()
    started.status = 200
    return started


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_are_understood_however_they_are_cut(size: int) -> None:
    got = reply()
    for at in range(0, len(EVENTS), size):
        got.feed(EVENTS[at : at + size], float(at))
    assert (got.text, got.usage, got.done) == ([" one", " two"], {"completion_tokens": 2}, True)


def test_the_first_token_is_the_first_text_and_gaps_lie_between_tokens() -> None:
    got = reply()
    got.sent_at = 1.0
    for at, event in enumerate(EVENTS.split(b"\n\n")[:-1]):
        got.feed(event + b"\n\n", 2.0 + at)
    assert (got.ttft_s, got.gaps_s) == (2.0, [1.0])


def test_an_error_event_fails_the_request() -> None:
    with pytest.raises(TrafficError) as caught:
        reply().feed(b'data: {"error":{"message":"pod is gone"}}\n\n', 0.0)
    assert caught.value.kind == "stream_error"


def test_the_body_of_an_error_status_is_kept_not_parsed() -> None:
    got = Reply()
    got.status = 503
    got.feed(b'{"error":', 0.0)
    assert got.error_body == b'{"error":'
