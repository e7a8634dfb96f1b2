"""The relay of a stream that may be moved: whole events only, whatever the pieces, and bytes as the pod sent them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.settings import Failover, Limits
from tests.fakes.examples import examples
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, chunk, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

ASKED = b'{"model":"m","messages":[],"stream":true}'
EVENTS = [b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % at for at in range(5)]
ENDING = b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
MOVING = one_pool(failover=Failover(mid_stream=True))


@examples(40)
@given(st.sets(st.integers(1, 400), max_size=8), st.sampled_from(["1.1", "1.0"]))
def test_the_client_gets_the_events_of_an_undisturbed_stream_whatever_the_pieces(
    places: set[int], version: str
) -> None:
    payload = b"".join(EVENTS) + ENDING + DONE
    cuts = [0, *sorted(at for at in places if at < len(payload)), len(payload)]
    with Rig(MOVING) as rig:
        client = rig.client().sends(post(ASKED, version=version))
        pieces = [chunk(payload[a:b]) for a, b in pairwise(cuts)]
        rig.asked().sends(SSE_HEAD, *pieces, LAST_CHUNK)
        answer = client.answer()
        assert (answer.status, answer.body) == (200, payload)
        assert answer.complete
        assert rig.metrics.moves == {}


@examples(40)
@given(st.integers(1, 400))
def test_a_stream_that_is_cut_anywhere_goes_on_from_its_last_whole_event(end: int) -> None:
    wire = b"".join(map(chunk, EVENTS))
    with Rig(MOVING) as rig:
        client = rig.asks(ASKED)
        rig.asked().sends(SSE_HEAD, wire[: end % len(wire)]).dies()
        whole = rig.asked().request.body
        rig.asked().sends(SSE_HEAD, b"".join(map(chunk, [ENDING, DONE])) + LAST_CHUNK)
        assert client.answer().complete
        for at in range(5):
            assert (b'"content":"%d"' % at in client.answer().body) == (str(at) in _said(whole))


def _said(body: bytes) -> str:
    return body.partition(b'"content":"')[2].partition(b'"')[0].decode()


def test_a_complete_text_whose_pod_dies_is_ended_without_another_pod() -> None:
    with Rig(MOVING) as rig:
        client = rig.asks(ASKED)
        rig.asked().sends(SSE_HEAD, chunk(EVENTS[0]), chunk(ENDING)).dies()
        answer = client.answer()
        assert answer.complete
        assert answer.body == EVENTS[0] + ENDING + DONE
        assert len(rig.net.made) == 1
        assert rig.metrics.moves == {}


@pytest.mark.parametrize("odd", [EVENTS[0].replace(b"\n", b"\r\n"), b"data: " + b"x" * 70_000])
def test_a_stream_that_cannot_be_read_is_passed_on_as_it_is(odd: bytes) -> None:
    with Rig(MOVING) as rig:
        client = rig.asks(ASKED)
        rig.asked().sends(SSE_HEAD, chunk(odd), chunk(odd) + LAST_CHUNK)
        assert client.answer().body == odd + odd


def test_an_answer_that_is_no_stream_is_passed_on_as_it_is() -> None:
    with Rig(MOVING) as rig:
        client = rig.asks(ASKED)
        rig.asked().sends(ok(b'{"object":"error"}', status="400 Bad Request"))
        assert (client.answer().status, client.answer().body) == (400, b'{"object":"error"}')


def test_the_rest_of_an_event_without_its_end_is_passed_on() -> None:
    with Rig(MOVING) as rig:
        client = rig.asks(ASKED)
        rig.asked().sends(SSE_HEAD, chunk(ENDING), chunk(b"data: [DONE]\n") + LAST_CHUNK)
        assert client.answer().body == ENDING + b"data: [DONE]\n"


def test_the_next_pod_waits_for_a_slow_client() -> None:
    with Rig(MOVING, limits=Limits(write_buffer_bytes=200)) as rig:
        client = rig.asks(ASKED)
        client.stops_reading()
        rig.asked().sends(SSE_HEAD, *map(chunk, EVENTS)).dies()
        second = rig.asked()
        assert not second.transport.is_reading()
        client.reads_on()
        assert second.transport.is_reading()
        second.sends(SSE_HEAD, chunk(ENDING) + chunk(DONE) + LAST_CHUNK)
        assert client.answer().complete
