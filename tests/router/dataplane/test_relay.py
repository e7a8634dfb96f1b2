"""What a client receives of an answer, whatever the pod sends and wherever it dies."""

from __future__ import annotations

import json
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.each_case import each_case
from tests.fakes.examples import examples
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


@examples(60)
@given(streams(), PLACES, st.integers(0, 5000), st.sampled_from(["1.1", "1.0"]))
def test_a_pod_that_dies_anywhere_leaves_an_error_behind_the_last_line_or_cuts_the_answer(
    stream: tuple[list[bytes], bytes], places: list[int], end: int, version: str
) -> None:
    events, wire = stream
    payload = b"".join(events)
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(version=version))
        rig.asked().sends(SSE_HEAD, *cut(wire[: end % len(wire)], places)).dies()
        answer = client.answer()
        if answer.status == 502:
            assert answer.complete, "nothing of the answer had been sent"
            return
        assert not client.raw.endswith(b"\r\n0\r\n\r\n"), "it never looks complete"
        assert not (version == "1.1" and answer.complete)
        sent, error, message = answer.body.partition(b'data: {"error":')
        if not error:
            assert payload.startswith(answer.body)
            assert client.fate == "aborted"
            assert not answer.body.endswith((b"\n", b"\r")), "an error can follow a line"
            return
        assert payload.startswith(sent) or (sent.endswith(b"\n\n") and payload.startswith(sent[:-2]))
        assert sent.endswith((b"\n\n", b"\r\n\r\n"))
        assert json.loads(b'{"error":' + message)["error"]["code"] == "pod_closed_connection"


@examples(60)
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


@examples(60)
@given(streams(), PLACES)
def test_the_chunks_of_a_stream_are_passed_on_untouched(stream: tuple[list[bytes], bytes], places: list[int]) -> None:
    _, wire = stream
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD, *cut(wire, places))
        assert client.raw.partition(b"\r\n\r\n")[2] == wire


@examples(60)
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


@examples(100)
@given(st.binary(max_size=300), PLACES)
def test_any_bytes_from_a_pod_end_in_an_answer_or_a_cut(junk: bytes, places: list[int]) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        pod = rig.asked()
        pod.sends(*cut(junk, places)).dies()
        assert client.answer().status in (200, 502) or client.fate


@examples(100)
@given(st.binary(max_size=300), PLACES)
def test_a_stream_of_any_bytes_ends_in_an_answer_or_a_cut(junk: bytes, places: list[int]) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD, *cut(junk, places)).dies()
        assert client.fate or client.answer().complete


EVENTS = {
    "compressed": [zlib.compress(b"data: a\n\n"), b"\x00\xff", b"\r\n", b"\n\n\x01"],
    "chunks that begin with the end of an event": [b"data: a", b"\n\ndata: b", b"\n\ndata: c", b"\n\n"],
    "single line ends": [b"data: a\n", b"data: b\n", b"data: c\n"],
    "CRLF": [b"data: a\r\n\r\n", b"data: b\r\n", b"\r\n"],
    "CR": [b"data: a\r\r", b"data: b\r", b"\r"],
    "comments": [b": ping\n", b": ping\n\n", b":\n", b": a\r\n"],
    "fields": [b"event: x\n", b"id: 1\n", b"data: a\n", b"retry: 5\n\n"],
    "bytes": [b"d", b"a", b"t", b"a", b":", b"1", b"\n", b"\n"],
}

FRAMINGS = {
    "chunked": b"transfer-encoding: chunked",
    "length": b"content-length: 100000",
    "until close": b"connection: close",
}


@each_case("version", ["1.1", "1.0"])
@each_case("framing", FRAMINGS)
@each_case("named", EVENTS)
def test_every_byte_of_a_stream_leaves_when_it_comes(named: str, framing: str, version: str) -> None:
    """Case D 15."""
    coding = b"content-encoding: deflate\r\n" if named == "compressed" else b""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + coding + FRAMINGS[framing] + b"\r\n\r\n"
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(version=version))
        pod = rig.asked().sends(head)
        sent = b""
        for piece in EVENTS[named]:
            pod.sends(chunk(piece) if framing == "chunked" else piece)
            sent += piece
            assert client.answer().body == sent
        pod.dies()
        assert not (version == "1.1" and client.answer().complete)


def test_the_rest_of_a_torn_chunk_delays_no_whole_one() -> None:
    """Case D 15."""
    with Rig() as rig:
        client = rig.asks()
        pod = rig.asked().sends(SSE_HEAD + chunk(b"data: one\n") + chunk(b"data: two\n\n")[:-4])
        assert client.raw.endswith(chunk(b"data: one\n"))
        pod.sends(chunk(b"data: two\n\n")[-4:])
        assert client.raw.endswith(chunk(b"data: one\n") + chunk(b"data: two\n\n"))
        pod.sends(LAST_CHUNK)


def test_an_http_1_0_client_is_sent_no_chunk_in_part() -> None:
    with Rig(pods=1) as rig:
        client = rig.client().sends(post(version="1.0"))
        rig.asked().sends(SSE_HEAD + chunk(b"data: one\n\n") + chunk(b"data: two\n\n")[:-6]).dies()
        assert b'data: one\n\ndata: {"error":' in client.raw


def test_nothing_is_added_to_a_compressed_stream_that_dies() -> None:
    """Case D 15."""
    with Rig(pods=1) as rig:
        client = rig.asks()
        head = SSE_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        rig.asked().sends(head + chunk(b"\x1f\x8b\n\n")).dies()
        assert client.raw.endswith(chunk(b"\x1f\x8b\n\n"))
        assert client.fate == "aborted"


@pytest.mark.parametrize(
    ("sent", "between"),
    [(b"data: a\n\n", b""), (b"data: a\n", b"\n\n"), (b"data: a\r\n\r\n", b""), (b"data: a\r", b"\n\n")],
)
def test_an_error_event_ends_the_event_before_it(sent: bytes, between: bytes) -> None:
    with Rig(pods=1) as rig:
        client = rig.asks()
        rig.asked().sends(SSE_HEAD + chunk(sent)).dies()
        assert client.answer().body.startswith(sent + between + b'data: {"error":')


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
        assert client.raw.endswith(b"data: two\n\ndata: thr")
        pod.sends(chunk(b"ee\n\n") + LAST_CHUNK)
        assert client.answer().body.endswith(b"data: three\n\n")
