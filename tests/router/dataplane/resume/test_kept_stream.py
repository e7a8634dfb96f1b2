"""What a client gets of a kept stream, and what becomes of it when a connection breaks."""

from __future__ import annotations

import pytest

from router.dataplane.resume.event_log import LogReader
from router.dataplane.resume.keeper import FLUSH_S
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, chunk, event, ok
from tests.fakes.memory_streams import MemoryStreams
from tests.fakes.memory_transport import Transport
from tests.fakes.resuming_gateway import STREAMED, ResumingRig, delta, ends, last_id, said


@pytest.fixture
def one() -> ResumingRig:
    return ResumingRig(MemoryStreams(), "a")


def test_every_event_of_a_kept_stream_has_an_id_and_is_otherwise_as_the_pod_sent_it(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" one", " two", " three", " four")
        ends(pod, " five")
        answer = client.answer()
        assert answer.complete
        lines = answer.body.split(b"\n")
        assert [line.split(b".")[1] for line in lines if line.startswith(b"id: ")] == [b"%d" % at for at in range(1, 9)]
        without = b"\n".join(line for line in lines if not line.startswith(b"id: "))
        texts = (" one", " two", " three", " four", " five")
        events = [delta(), *map(delta, texts), delta("", "stop"), "[DONE]"]
        assert without == "".join(f"data: {data}\n\n" for data in events).encode()
        one.turn()


def test_the_head_and_the_last_chunk_take_no_writes_of_their_own(
    one: ResumingRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    write = Transport.write

    def noted(self: Transport, data: bytes) -> None:
        writes.append(bytes(data))
        write(self, data)

    monkeypatch.setattr(Transport, "write", noted)
    with one:
        client, pod = one.begins(" one")
        pod.sends(event(delta("", "stop")), event("[DONE]") + LAST_CHUNK)
        written = [each for each in writes if each in client.raw]
        assert b"".join(written) == client.raw
        assert [each.count(b"data: ") for each in written] == [1, 1, 1, 1]
        one.turn()


def test_an_answer_that_is_no_stream_has_no_ids_and_no_log(one: ResumingRig) -> None:
    with one:
        client = one.asks(body=CHAT)
        one.rig.asked().sends(ok(b'{"id":"1"}'))
        assert client.answer().body == b'{"id":"1"}'
        refused = one.asks()
        one.rig.asked().sends(ok(b'{"error":{}}', status="400 Bad Request"))
        assert refused.answer().status == 400
        again = refused.sends(b"GET /livez HTTP/1.1\r\nhost: g\r\n\r\n")
        assert len(again.answers()) == 2
        one.turn()
        assert one.streams.logs == {}
        assert one.keeper.streams == {}


def test_several_events_in_a_piece_and_an_event_in_several_get_an_id_each(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a", " b", " c")
        pod.sends(event(delta(" d")) + event(delta(" e")), chunk(f"data: {delta(' f')}".encode()), chunk(b"\n\n"))
        pod.sends(chunk(f"data: {delta(' g')}\n\ndata: {delta(' h')}\n\n".encode()))
        ends(pod)
        assert said(client) == " a b c d e f g h"
        assert client.raw.count(b"\nid: ") == 11
        one.turn()
        (log,) = one.streams.logs.values()
        reader = LogReader()
        assert len(reader.feed(log[33:])) == 11
        assert reader.ended


def test_the_connection_is_used_again_after_a_kept_stream(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        ends(pod)
        client.sends(b"GET /livez HTTP/1.1\r\nhost: g\r\n\r\n")
        first, second = client.answers()
        assert first.complete and second.body == b'{"status":"alive"}'
        one.turn()


def test_a_stream_goes_on_for_a_while_after_its_client_left_and_then_ends_at_its_pod(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        one.turn()
        client.leaves()
        pod.sends(event(delta(" b")))
        one.turn(FLUSH_S)
        assert pod.fate == ""
        one.turn(9.0)
        assert pod.fate == ""
        one.turn(2.0)
        assert pod.fate == "aborted"
        assert one.keeper.streams == {}


def test_a_client_that_leaves_with_the_last_event_leaves_nothing_behind(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        pod.sends(event(delta("", "stop")), event("[DONE]"))
        client.leaves()
        assert one.rig.inflight == 0
        pod.sends(LAST_CHUNK)
        one.turn()


def test_a_client_that_leaves_before_the_head_ends_its_request(one: ResumingRig) -> None:
    with one:
        client = one.asks()
        pod = one.rig.asked()
        client.leaves()
        assert pod.fate == "aborted"
        one.turn()
        assert one.streams.logs == {}


def test_a_pod_that_dies_ends_the_stream_with_an_error_event_in_the_log_too(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        pod.dies()
        one.turn()
        assert b"pod_closed_connection" in client.raw
        assert client.fate == "closed"
        back = one.resumes(last_id(client))
        one.turn()
        assert back.answer().complete


def test_an_event_that_cannot_be_kept_goes_on_without_ids(one: ResumingRig) -> None:
    with one:
        client, pod = one.begins(" a")
        pod.sends(chunk(b"data: \x01\n\n"), event(delta(" b")))
        ends(pod)
        assert client.answer().complete
        assert said(client) == " a b"
        assert client.raw.count(b"\nid: ") == 2
        one.turn()
        assert one.keeper.streams == {}


def test_a_pool_without_the_setting_keeps_nothing() -> None:
    with ResumingRig(MemoryStreams(), "a", resume=False) as one:
        client = one.asks()
        one.rig.asked().sends(SSE_HEAD, event("[DONE]"), b"0\r\n\r\n")
        assert b"\nid: " not in client.raw
        assert one.streams.logs == {}


def test_a_client_of_http_1_0_gets_its_stream_without_ids(one: ResumingRig) -> None:
    with one:
        client = one.rig.client()
        client.sends(
            b"POST /v1/chat/completions HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(STREAMED), STREAMED)
        )
        one.rig.asked().sends(SSE_HEAD, event(delta(" a")), b"0\r\n\r\n")
        assert b"\nid: " not in client.raw
        assert said(client) == " a"


def test_a_comment_is_put_in_front_of_the_next_event(one: ResumingRig) -> None:
    """OpenAI's SDK takes a comment of its own for an event without data, once it has seen an id."""
    with one:
        client, pod = one.begins(" a")
        pod.sends(chunk(b": ping\n\n"), event(delta(" b")))
        ends(pod)
        assert b": ping\n\n" not in client.answer().body
        assert b": ping\nid: " in client.answer().body
        one.turn()
