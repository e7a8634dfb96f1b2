"""Clients that come back: to the same replica, to another one, and after their replica's death."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from router.dataplane.resume.event_log import LogReader
from router.dataplane.resume.follower import MISSING_S, UNREACHED_S
from router.dataplane.resume.keeper import TTL_S
from router.settings import TenantSettings
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, event, ok
from tests.fakes.memory_streams import MemoryStreams
from tests.fakes.resuming_gateway import STREAMED, ResumingRig, delta, ends, last_id, said


@pytest.fixture(params=[False, True], ids=["", "mid_stream"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[ResumingRig, ResumingRig]]:
    """Two replicas, in whose pool streams are moved from pod to pod as well or not."""
    streams, moves = MemoryStreams(), bool(request.param)
    with ResumingRig(streams, "a", mid_stream=moves) as one, ResumingRig(streams, "b", mid_stream=moves) as two:
        yield one, two
        for _ in range(3):
            one.turn(TTL_S / 2)
            two.turn(TTL_S / 2)


Pair = tuple[ResumingRig, ResumingRig]


def test_a_client_gets_what_it_missed_and_follows_the_replica_that_serves_its_stream(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a", " b")
    one.turn()
    client.leaves()
    pod.sends(event(delta(" c")))
    one.turn(0.1)
    back = two.resumes(last_id(client))
    two.turn()
    assert said(client, back) == " a b c"
    ends(pod, " d")
    one.turn(0.1)
    two.turn()
    assert said(client, back) == " a b c d"
    assert back.answer().complete
    assert back.raw.count(b"[DONE]") == 1
    assert two.rig.nobody_asked()


def test_a_follower_keeps_the_stream_alive_beyond_the_grace(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    client.leaves()
    back = two.resumes(last_id(client))
    for _ in range(30):
        two.turn(1.0)
        one.turn(1.0)
    assert pod.fate == ""
    back.leaves()
    for _ in range(8):
        two.turn(1.0)
        one.turn(1.0)
    assert pod.fate == "aborted"


def test_the_new_connection_takes_the_place_of_one_that_is_not_known_to_be_broken(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    one.turn(3.0)
    client.stops_reading()
    back = two.resumes(last_id(client))
    two.turn()
    one.turn(3.0)
    assert client.fate == "aborted"
    ends(pod, " b")
    one.turn(0.1)
    two.turn()
    assert said(client, back) == " a b"


def killed(one: ResumingRig) -> None:
    """The replica's lease is over. Its connections are left to the test."""
    one.streams.alive.discard(one.owner)


def test_after_its_replicas_death_a_stream_goes_on_on_a_pod(pair: Pair) -> None:
    one, two = pair
    client, _ = one.begins(" a", " b")
    one.turn()
    killed(one)
    back = two.resumes(last_id(client))
    two.turn()
    pod = two.rig.asked()
    asked = msgspec.json.decode(pod.request.body)
    assert asked["messages"][-1] == {"role": "assistant", "content": " a b"}
    assert asked["continue_final_message"] is True
    pod.sends(SSE_HEAD, event(delta()), event(delta(" c").replace("chatcmpl-1", "chatcmpl-2")))
    pod.sends(event(delta("", "stop")), event("[DONE]") + LAST_CHUNK)
    assert said(client, back) == " a b c"
    assert back.answer().complete
    assert b"chatcmpl-2" not in back.raw
    assert b'"role"' not in back.raw
    assert b": turnout moved\n" in back.raw
    two.turn(0.1)
    late = two.resumes(last_id(client))
    two.turn(0.1)
    assert said(client, late) == " a b c"
    assert two.rig.metrics.moves == {("main", "taken_over"): 1}


def test_lines_that_were_not_saved_are_taken_from_the_id(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    pod.sends(event(delta(" b")), event(delta(" c")))
    killed(one)
    back = two.resumes(last_id(client))
    two.turn()
    following = two.rig.asked().sends(SSE_HEAD)
    assert msgspec.json.decode(following.request.body)["messages"][-1]["content"] == " a b c"
    ends(following, " d")
    assert said(client, back) == " a b c d"


def test_a_replica_that_dies_before_the_first_lines_are_saved_loses_nothing(pair: Pair) -> None:
    one, two = pair
    one.turn()
    client, _ = one.begins(" a")
    killed(one)
    back = two.resumes(last_id(client))
    two.turn()
    two.turn(MISSING_S + 0.1)
    ends(two.rig.asked().sends(SSE_HEAD), " b")
    assert said(client, back) == " a b"


def test_a_stream_that_was_handed_over_goes_on_at_once(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    one.rig.wire.do(one.rig.gateway.cut_off)
    assert (pod.fate, client.fate) == ("aborted", "closed")
    assert not client.answer().complete
    one.turn(0.1)
    back = two.resumes(last_id(client))
    two.turn()
    ends(two.rig.asked().sends(SSE_HEAD), " b")
    assert said(client, back) == " a b"


def test_a_client_that_follows_is_sent_on_when_this_replica_drains(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    client.leaves()
    back = two.resumes(last_id(client))
    two.turn()
    two.rig.wire.do(two.rig.gateway.cut_off)
    assert back.fate == "closed"
    assert not back.answer().complete
    again = one.resumes(last_id(client))
    one.turn(0.1)
    ends(pod, " b")
    one.turn(0.1)
    assert said(client, again) == " a b"


def test_of_two_replicas_one_alone_goes_on(pair: Pair) -> None:
    one, two = pair
    client, _ = one.begins(" a")
    one.turn()
    killed(one)
    first, second = two.resumes(last_id(client)), two.resumes(last_id(client))
    two.turn()
    ends(two.rig.asked().sends(SSE_HEAD), " b")
    assert two.rig.nobody_asked()
    two.turn(0.1)
    assert said(client, second) == " a b"
    assert said(client, first) == " a b"


def test_another_request_cannot_resume_a_stream(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    back = two.resumes(last_id(client), STREAMED.replace(b"hi", b"ho"))
    two.turn()
    assert back.answer().status == 400
    ends(pod)


def test_another_tenants_key_does_not_resume_a_stream(pair: Pair) -> None:
    one, _ = pair
    deps = one.rig.gateway.deps
    one.rig.rebuild(deps._replace(access=access_of(TenantSettings(name="one"), TenantSettings(name="two"))))
    client = one.asks(bearer("one"))
    pod = one.rig.asked().sends(SSE_HEAD, event(delta()), event(delta(" a")))
    one.turn()
    name = last_id(client).split(b".")[0].decode()
    theirs = one.asks(bearer("two"), f"last-event-id: {name}.1")
    own = one.asks(bearer("one"), f"last-event-id: {name}.1")
    one.turn()
    one.turn(MISSING_S + 0.1)
    assert theirs.answer().status == 404
    ends(pod)
    one.turn(0.1)
    assert said(own) == " a"


@pytest.mark.parametrize("id", [b"abcdefghijklmnop.9", b"abcdefghijklmnop.1."])
def test_a_stream_that_no_one_knows_is_not_found(pair: Pair, id: bytes) -> None:
    _, two = pair
    back = two.resumes(id)
    two.turn()
    two.turn(MISSING_S + 0.1)
    assert back.answer().status == 404


def test_an_id_of_another_kind_begins_a_stream_anew(pair: Pair) -> None:
    one, _ = pair
    client = one.asks("last-event-id: 7")
    ends(one.rig.asked().sends(SSE_HEAD), " a")
    assert said(client) == " a"


def test_a_stream_that_cannot_go_on_exactly_ends_with_the_reason(pair: Pair) -> None:
    one, two = pair
    body = STREAMED.replace(b'"stream"', b'"logprobs":true,"stream"')
    client = one.asks(body=body)
    one.rig.asked().sends(SSE_HEAD, event(delta()), event(delta(" a")))
    one.turn()
    killed(one)
    back = two.resumes(last_id(client), body)
    two.turn()
    assert b"stream_lost" in back.raw and b"logprobs" in back.raw
    assert back.fate == "closed"


def test_a_client_waits_for_the_store_and_not_for_ever(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    one.turn()
    two.streams.away = True
    back = two.resumes(last_id(client))
    two.turn(1.0)
    assert back.raw == b""
    two.turn(UNREACHED_S)
    assert back.answer().status == 503
    two.streams.away = False
    ends(pod)


def test_an_answer_that_was_complete_but_for_its_end_is_ended(pair: Pair) -> None:
    one, two = pair
    client, pod = one.begins(" a")
    pod.sends(event(delta("", "stop")))
    one.turn()
    killed(one)
    back = two.resumes(last_id(client))
    two.turn()
    assert back.answer().complete
    assert back.raw.count(b"[DONE]") == 1
    assert two.rig.nobody_asked()
    two.turn()
    (log,) = two.streams.logs.values()
    reader = LogReader()
    reader.feed(log[33:])
    assert reader.ended, "one that comes back again gets the same"


def test_a_refusal_of_the_pod_that_is_to_go_on_is_an_error_event(pair: Pair) -> None:
    one, two = pair
    client, _ = one.begins(" a")
    one.turn()
    killed(one)
    back = two.resumes(last_id(client))
    two.turn()
    two.rig.asked().sends(ok(b'{"error":{"message":"too long"}}', status="400 Bad Request"))
    assert b'data: {"error":{"message":"too long"}}\n\n' in back.raw
    assert back.fate == "closed"
