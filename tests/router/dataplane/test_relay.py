"""What a client receives of an answer, whatever the pod sends and wherever it dies."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, chunk, ok, post
from tests.fakes.memory_gateway import Rig

TEXTS = st.text("ab\u00e9 :", min_size=1, max_size=30)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """The events of a stream, and its body on the wire: chunks that need not begin or end with an event."""
    eol = draw(st.sampled_from([b"\n", b"\r\n"]))
    events = [b"data: " + text.encode() + eol + eol for text in draw(st.lists(TEXTS, min_size=1, max_size=6))]
    payload = b"".join(events)
    if draw(st.booleans()):
        return events, b"".join(map(chunk, events)) + LAST_CHUNK
    places = sorted(draw(st.sets(st.integers(1, len(payload) - 1), max_size=6)))
    at = [0, *places, len(payload)]
    return events, b"".join(chunk(payload[a:b]) for a, b in pairwise(at)) + LAST_CHUNK


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(at) if a < b]


PLACES = st.lists(st.integers(0, 5000), max_size=8)


@settings(max_examples=60)
@given(streams(), PLACES, st.integers(0, 5000), st.sampled_from(["1.1", "1.0"]))
def test_a_pod_that_dies_anywhere_leaves_whole_events_and_then_an_error(
    stream: tuple[list[bytes], bytes], places: list[int], end: int, version: str
) -> None:
    events, wire = stream
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(version=version))
        rig.asked().sends(SSE_HEAD, *cut(wire[: end % len(wire)], places)).dies()
        answer = client.answer()
        if answer.status == 502:
            assert answer.complete, "nothing of the answer had been sent"
            return
        assert not client.raw.endswith(b"\r\n0\r\n\r\n"), "it never looks complete"
        assert not (version == "1.1" and answer.complete)
        *whole, error = answer.body.replace(b"\r\n", b"\n").removesuffix(b"\n\n").split(b"\n\n")
        assert [each + b"\n\n" for each in whole] == [each.replace(b"\r\n", b"\n") for each in events[: len(whole)]]
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "pod_closed_connection"


@settings(max_examples=60)
@given(streams(), PLACES, st.sampled_from(["1.1", "1.0"]))
def test_a_stream_arrives_as_it_was_sent_whatever_its_pieces(
    stream: tuple[list[bytes], bytes], places: list[int], version: str
) -> None:
    events, wire = stream
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(version=version))
        rig.asked().sends(*cut(SSE_HEAD + wire, places))
        answer = client.answer()
        assert answer.complete
        assert answer.body == b"".join(events)
        assert len(rig.upstream.idle) == 1


@settings(max_examples=60)
@given(streams(), PLACES)
def test_the_chunks_of_a_stream_are_passed_on_untouched(stream: tuple[list[bytes], bytes], places: list[int]) -> None:
    _, wire = stream
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD, *cut(wire, places))
        assert client.raw.partition(b"\r\n\r\n")[2] == wire


@settings(max_examples=60)
@given(st.binary(max_size=200), PLACES, st.integers(0, 5000))
def test_an_answer_with_a_length_arrives_whole_or_is_seen_to_be_cut(body: bytes, places: list[int], end: int) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        wire = ok(body)
        sent = wire[: end % (len(wire) + 1)]
        pod = rig.asked()
        pod.sends(*cut(sent, places)).dies()
        answer = client.answer()
        if sent == wire:
            assert (answer.status, answer.body, answer.complete) == (200, body, True)
        else:
            assert answer.status == 502 or not answer.complete


@settings(max_examples=100)
@given(st.binary(max_size=300), PLACES)
def test_any_bytes_from_a_pod_end_in_an_answer_or_a_cut(junk: bytes, places: list[int]) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        pod = rig.asked()
        pod.sends(*cut(junk, places)).dies()
        assert client.answer().status in (200, 502) or client.fate


@settings(max_examples=100)
@given(st.binary(max_size=300), PLACES)
def test_a_stream_of_any_bytes_ends_in_an_answer_or_a_cut(junk: bytes, places: list[int]) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD, *cut(junk, places)).dies()
        assert client.fate or client.answer().complete


def test_an_event_of_several_chunks_is_passed_on_once_it_is_whole() -> None:
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + chunk(b"data: on"))
        assert client.raw == b""
        pod.sends(chunk(b"e\n"))
        assert client.raw == b""
        pod.sends(chunk(b"\n"))
        assert client.raw.endswith(chunk(b"data: on") + chunk(b"e\n") + chunk(b"\n"))
        pod.sends(LAST_CHUNK)


def test_an_events_end_that_comes_in_two_reads_delays_nothing() -> None:
    with Rig() as rig:
        client = rig.asks()
        whole = chunk(b"data: one\n\n")
        pod = rig.asked().sends(SSE_HEAD + whole[:-3], whole[-3:])
        assert client.raw.endswith(whole)
        pod.sends(LAST_CHUNK)


def test_a_stream_that_ends_without_a_blank_line_is_passed_on() -> None:
    with Rig() as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD + chunk(b"data: one\n\n"), chunk(b"data: [DONE]") + LAST_CHUNK)
        assert client.answer().body == b"data: one\n\ndata: [DONE]"
        assert client.answer().complete


def test_an_http_1_0_client_gets_each_event_at_once() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(version="1.0"))
        pod = rig.asked().sends(SSE_HEAD + chunk(b"data: one\n\n") + chunk(b"data: two\n\ndata: thr"))
        assert client.raw.endswith(b"data: two\n\n")
        pod.sends(chunk(b"ee\n\n") + LAST_CHUNK)
        assert client.answer().body.endswith(b"data: three\n\n")
