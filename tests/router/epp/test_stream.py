"""The state machine of one ext_proc stream: messages in, messages out, with a gateway of real components behind it."""

from __future__ import annotations

import gc
import json

import pytest

from router.dataplane.http.edge import Edge
from router.epp.call import PickerCall
from router.epp.messages import MAX_CHUNK_BYTES
from router.epp.stream import BUFFERED, NONE, ExtProcStream, framed
from router.settings import Limits, Pool, Retries
from tests.fakes.each_case import each_case
from tests.fakes.ext_proc import (
    BODY,
    CHAT,
    OK,
    PickerRig,
    destination,
    kinds,
    request_body,
    request_headers,
    request_trailers,
    response_body,
    response_headers,
    response_trailers,
    set_by,
)
from tests.fakes.memory_gateway import Rig, one_pool

FIRST, SECOND = "10.0.0.1:8000", "10.0.0.2:8000"


def test_a_full_duplex_request_is_answered_once_its_body_is_whole() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY[:10], end=False))
        assert stream.takes() == []
        stream.sends(request_body(BODY[10:], end=False), request_body(b""))
        head, body = stream.takes()
        assert destination(head) == FIRST
        assert head.request_headers.response.clear_route_cache
        assert set_by(head.request_headers.response.header_mutation)["content-length"] == str(len(BODY))
        echoed = body.request_body.response.body_mutation.streamed_response
        assert (echoed.body, echoed.end_of_stream) == (BODY, True)
        assert picker.inflight() == {FIRST: 1}
        stream.closes(clean=False)
        assert picker.inflight() == {}


def test_a_buffered_request_has_its_headers_passed_and_the_pick_with_its_body() -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, mode=BUFFERED))
        assert kinds(stream.takes()) == ["request_headers"]
        stream.sends(request_body(BODY))
        (reply,) = stream.takes()
        assert destination(reply) == FIRST
        assert reply.request_body.response.body_mutation.body == BODY
        stream.closes()


def test_an_envoy_that_does_not_name_its_mode_is_taken_to_stream() -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, mode=None), request_body(BODY))
        assert kinds(stream.takes()) == ["request_headers", "request_body"]
        stream.closes()


def test_a_request_without_a_body_is_picked_by_its_headers() -> None:
    with Rig() as rig:
        asked = CHAT | {":method": "GET", ":path": "/v1/responses/resp_1"}
        stream = PickerRig(rig).opens().sends(request_headers(asked, mode=BUFFERED, end=True))
        (reply,) = stream.takes()
        assert destination(reply) == FIRST
        stream.sends(response_headers({":status": "200"}, end=True)).closes()


def test_a_request_with_trailers_has_them_passed_after_its_body() -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens()
        stream.sends(request_headers(CHAT), request_body(BODY, end=False), request_trailers())
        replies = stream.takes()
        assert kinds(replies) == ["request_headers", "request_body", "request_trailers"]
        assert not replies[1].request_body.response.body_mutation.streamed_response.end_of_stream
        stream.closes()


def test_a_large_body_is_passed_in_pieces() -> None:
    with Rig() as rig:
        large = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 150_000}]}).encode()
        stream = PickerRig(rig).opens().sends(request_headers(CHAT), request_body(large))
        _, *pieces = [reply.request_body.response.body_mutation.streamed_response for reply in stream.takes()]
        assert b"".join(piece.body for piece in pieces) == large
        assert [piece.end_of_stream for piece in pieces] == [False, False, True]
        assert max(len(piece.body) for piece in pieces) == MAX_CHUNK_BYTES
        stream.closes()


@pytest.mark.parametrize("mode", [NONE, 1, 3, 5])
def test_a_mode_that_hides_the_body_is_refused_with_advice(mode: int) -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, mode=mode))
        (reply,) = stream.takes()
        assert reply.immediate_response.status.code == 500
        assert b"request_body_mode" in reply.immediate_response.body
        stream.closes()


def test_the_gateways_error_is_the_immediate_response_with_its_headers() -> None:
    with Rig() as rig:
        body = BODY.replace(b'"m"', b'"other"')
        stream = PickerRig(rig).opens().sends(request_headers(CHAT | {"x-request-id": "r1"}), request_body(body))
        (reply,) = stream.takes()
        assert reply.immediate_response.status.code == 404
        assert json.loads(reply.immediate_response.body)["error"]["code"] == "model_not_found"
        sent = set_by(reply.immediate_response.headers)
        assert (sent["x-request-id"], sent["content-type"]) == ("r1", "application/json")
        stream.sends(response_headers({":status": "404"})).closes()
        assert stream.takes() == [], "nothing follows an immediate response"


def test_a_pool_without_pods_is_503_with_the_time_to_come_again() -> None:
    with Rig(pods=0) as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT), request_body(BODY))
        (reply,) = stream.takes()
        assert reply.immediate_response.status.code == 503
        assert set_by(reply.immediate_response.headers)["retry-after"] == "1"
        stream.closes()


def test_a_full_pool_queues_a_request_and_refuses_what_its_queue_cannot_hold_with_429() -> None:
    with Rig(one_pool(max_inflight_per_pod=1), pods=1, limits=Limits(max_queue=1)) as rig:
        picker = PickerRig(rig)
        first = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        waiting = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        refused = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        assert (kinds(waiting.takes()), refused.takes()[0].immediate_response.status.code) == ([], 429)
        first.sends(response_headers(OK), response_body(b"data: [DONE]\n\n", end=True)).closes()
        assert destination(waiting.takes()[0]) == FIRST
        waiting.closes(clean=False)
        refused.closes()


def test_the_pick_is_from_the_subset_that_envoy_names() -> None:
    with Rig(pods=4) as rig:
        stream = PickerRig(rig).opens()
        stream.sends(request_headers(CHAT, subset=["10.0.0.3:8000", "10.9.9.9:1"]), request_body(BODY))
        assert destination(stream.takes()[0]) == "10.0.0.3:8000"
        stream.closes()


@pytest.mark.parametrize("subset", [[], ["10.9.9.9:1"]])
def test_a_subset_without_a_pod_of_ours_is_503(subset: list[str]) -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, subset=subset), request_body(BODY))
        assert stream.takes()[0].immediate_response.status.code == 503
        stream.closes()


def test_more_endpoints_follow_for_envoys_retries() -> None:
    with Rig(one_pool("least_load"), pods=3) as rig:
        stream = PickerRig(rig, spare=4).opens().sends(request_headers(CHAT), request_body(BODY))
        named = destination(stream.takes()[0]).split(",")
        assert sorted(named) == ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"]
        stream.closes()


def test_the_load_moves_to_the_endpoint_that_served() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        stream.sends(response_headers(OK, served=SECOND))
        assert picker.inflight() == {SECOND: 1}
        assert set_by(stream.takes()[-1].response_headers.response.header_mutation)["x-turnout-pod"] == SECOND
        stream.sends(response_body(b"data: {}\n\n"), response_body(b"", end=True)).closes()
        assert picker.inflight() == {}


def test_the_proxy_gets_the_rank_and_an_endpoint_that_served_in_its_place_serves_that_rank() -> None:
    with Rig(one_pool(ranks=2)) as rig:
        picker = PickerRig(rig, spare=4)
        picker.opens().sends(request_headers(CHAT), request_body(BODY)).closes()
        stream = picker.opens().sends(request_headers(CHAT | {"x-data-parallel-rank": "7"}), request_body(BODY))
        head, _ = stream.takes()
        assert set_by(head.request_headers.response.header_mutation)["x-data-parallel-rank"] == "1"
        assert destination(head) == f"{FIRST},{SECOND}", "an address once, and a retry goes to another pod"
        stream.sends(response_headers(OK, served=SECOND))
        assert picker.inflight() == {f"{SECOND}@1": 1}
        stream.closes()


def test_a_streamed_answer_is_measured_and_ends_the_load() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY), response_headers(OK))
        rig.wire.clock.now += 0.25
        stream.takes()
        stream.sends(response_body(b"data: {}\n\n"))
        assert rig.metrics.pool("main").ttft.cumulative()[-1] == 1
        assert rig.metrics.pool("main").ttft.sum == pytest.approx(0.25)
        stream.sends(response_body(b"data: [DONE]\n\n", end=True))
        echoed = [reply.response_body.response.body_mutation.streamed_response for reply in stream.takes()]
        assert [(piece.body, piece.end_of_stream) for piece in echoed] == [
            (b"data: {}\n\n", False),
            (b"data: [DONE]\n\n", True),
        ]
        assert picker.inflight() == {}, "before the stream is closed"
        stream.closes()


def test_an_answer_with_trailers_ends_with_them() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY), response_headers(OK))
        stream.sends(response_body(b"data: {}\n\n"), response_trailers())
        assert kinds(stream.takes())[-1] == "response_trailers"
        assert picker.inflight() == {}
        stream.closes()


def test_an_answer_that_is_not_full_duplex_is_passed_without_its_body() -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT, answer_mode=BUFFERED), request_body(BODY))
        stream.sends(response_headers(OK))
        stream.takes()
        stream.sends(response_body(b"data: {}\n\n", end=True))
        (reply,) = stream.takes()
        assert not reply.response_body.response.HasField("body_mutation")
        stream.closes()


def test_where_envoy_shows_no_body_the_end_of_the_stream_is_the_end_of_the_answer() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT, answer_mode=NONE), request_body(BODY))
        stream.sends(response_headers(OK))
        assert picker.inflight() == {FIRST: 1}
        stream.closes()
        assert picker.inflight() == {}
        assert rig.metrics.requests == {("main", "round_robin", FIRST, 200): 1}


def test_an_answer_that_means_failure_is_not_tried_again_here() -> None:
    with Rig(retries=Retries(attempts=0, budget_ratio=0.0, budget_min=0)) as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        stream.sends(response_headers({":status": "503", "content-length": "2"}), response_body(b"{}", end=True))
        assert picker.inflight() == {}
        stream.closes()


def test_a_second_attempt_of_the_gateway_changes_nothing_for_envoy() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY))
        stream.takes()
        stream.sends(response_headers({":status": "503", "content-length": "2"}), response_body(b"{}", end=True))
        assert kinds(stream.takes()) == ["response_headers", "response_body"]
        stream.closes()
        assert picker.inflight() == {}


def test_a_fall_back_pool_gets_its_own_name_of_the_model() -> None:
    other = Pool(name="other", models=["m2"], aliases={"m": "m2"})
    with Rig(pools=[Pool(name="main", models=["m"], fallback=["other"]), other], pods={"other": 1}) as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT), request_body(BODY))
        head, body = stream.takes()
        sent = body.request_body.response.body_mutation.streamed_response.body
        assert (destination(head), json.loads(sent)["model"]) == ("10.0.1.1:8000", "m2")
        assert set_by(head.request_headers.response.header_mutation)["content-length"] == str(len(sent))
        stream.closes(clean=False)


def test_headers_that_are_no_request_are_refused() -> None:
    with Rig() as rig:
        stream = PickerRig(rig).opens().sends(request_headers(CHAT | {"x-bad": "a\r\nx-other: b"}))
        assert stream.takes()[0].immediate_response.status.code == 400
        stream.closes()


@each_case(
    "limits, status",
    [(Limits(max_headers=6), 431), (Limits(max_header_bytes=300), 431), (Limits(max_body_bytes=30), 413)],
)
def test_limits_are_those_of_a_request_that_is_read_as_text(limits: Limits, status: int) -> None:
    refused = []
    for more in (CHAT, CHAT | {"x-odd": "\u00ff"}):
        asked = more | {"x-request-id": "r1", "x-a": "1", "x-b": "2", "x-c": "3" * 200}
        with Rig(limits=limits) as rig:
            stream = PickerRig(rig).opens().sends(request_headers(asked), request_body(BODY, end=False))
            refused += [reply.SerializeToString() for reply in stream.takes()]
            assert [code for *_, code in rig.metrics.requests] == [status]
            stream.closes()
    assert len(refused) == 2 and refused[0] == refused[1]


def test_a_body_that_goes_on_after_its_end_is_refused_and_an_empty_piece_is_none() -> None:
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(b"", end=False), request_body(BODY))
        assert kinds(stream.takes()) == ["request_headers", "request_body"]
        stream.sends(request_body(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")).closes(clean=False)
        assert (stream.takes(), picker.inflight()) == ([], {})


def alive() -> list[object]:
    return [each for each in gc.get_objects() if type(each) in (ExtProcStream, PickerCall, Edge)]


def test_a_stream_that_is_over_is_in_no_reference_cycle() -> None:
    gc.collect()
    gc.disable()
    before = alive()
    with Rig() as rig:
        picker = PickerRig(rig)
        stream = picker.opens().sends(request_headers(CHAT), request_body(BODY), response_headers(OK))
        stream.sends(response_body(b"data: {}\n\n", end=True)).closes()
        picker.streams.clear()
        del stream
        left = len(alive()) - len(before)
    gc.enable()
    assert left == 0


def test_a_connection_without_a_socket_is_used_again_by_the_next_request() -> None:
    with Rig(pods=1) as rig:
        picker = PickerRig(rig)
        for _ in range(3):
            stream = picker.opens().sends(request_headers(CHAT), request_body(BODY))
            assert destination(stream.takes()[0]) == FIRST
            stream.sends(response_headers(OK), response_body(b"data: {}\n\n", end=True)).closes()
        assert rig.upstream.open == 1


def test_an_empty_piece_of_a_body_is_no_last_chunk() -> None:
    assert (framed(b"", end=False), framed(b"ab", end=False)) == (b"", b"2\r\nab\r\n")
    assert (framed(b"", end=True), framed(b"ab", end=True)) == (b"0\r\n\r\n", b"2\r\nab\r\n0\r\n\r\n")
