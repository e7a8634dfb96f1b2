"""Streams whose pod dies: which pod goes on with them, what it is asked, what the client gets and what is counted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from router.settings import Failover, Limits, Pool, Timeouts
from schedulers.types import PodId
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, Client, PodEnd, chunk, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

MESSAGES = [{"role": "user", "content": "hi"}]
BODY: dict[str, Any] = {"model": "m", "messages": MESSAGES, "stream": True, "max_tokens": 9}
ROLE = {"role": "assistant", "content": ""}
MOVED = b": turnout moved\n\n"
DONE = chunk(b"data: [DONE]\n\n")


def moving(**fields: Any) -> Pool:
    limits = {name: fields.pop(name) for name in ("max_moves", "max_chars") if name in fields}
    return one_pool(failover=Failover(mid_stream=True, **limits), **fields)


def asks(rig: Rig, *headers: str, **fields: Any) -> Client:
    return rig.asks(msgspec.json.encode(BODY | fields), *headers)


def event(delta: dict[str, Any], used: int, prompt: int = 5, id: str = "a", finish: str | None = None) -> bytes:
    """A chunk of the answer, with the tokens so far as engines are asked to count them."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    usage = {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}
    return chunk(b"data: " + msgspec.json.encode({"id": id, "choices": choices, "usage": usage}) + b"\n\n")


def begins(pod: PodEnd) -> PodEnd:
    return pod.sends(SSE_HEAD + event(ROLE, 0), event({"content": "Hel"}, 1), event({"content": "lo"}, 2))


def ends(pod: PodEnd, prompt: int = 7) -> PodEnd:
    last = event({"content": "!"}, 2, prompt, "b", "stop")
    return pod.sends(
        SSE_HEAD + event(ROLE, 0, prompt, "b"), event({"content": ", you"}, 1, prompt, "b"), last + DONE + LAST_CHUNK
    )


def text(client: Client) -> str:
    said = [each[6:] for each in client.answer().body.split(b"\n\n") if each[:6] == b"data: " and each[6:] != b"[DONE]"]
    chunks = [msgspec.json.decode(each) for each in said]
    return "".join(each["choices"][0]["delta"].get("content", "") for each in chunks if each.get("choices"))


def error(client: Client) -> str:
    message: str = msgspec.json.decode(client.answer().body.split(b"\n\n")[-2][6:])["error"]["message"]
    return message


def test_another_pod_goes_on_where_the_first_one_stopped() -> None:
    with Rig(moving()) as rig:
        client = asks(rig)
        first = begins(rig.asked())
        first.dies()
        second = rig.asked()
        assert second.address != first.address
        asked = msgspec.json.decode(second.request.body)
        assert asked["messages"] == [*MESSAGES, {"role": "assistant", "content": "Hello"}]
        assert (asked["continue_final_message"], asked["add_generation_prompt"], asked["max_tokens"]) == (
            True,
            False,
            7,
        )
        assert rig.load(first).inflight == 0, "the first pod's charge is given back"
        ends(second)
        answer = client.answer()
        assert answer.complete
        assert text(client) == "Hello, you!"
        assert answer.body.count(MOVED) == 1
        assert answer.body.count(b'"role"') == 1
        assert b'"usage"' not in answer.body, "the client did not ask for it"
        assert b'"id":"b"' not in answer.body
        assert rig.metrics.moves == {("main", "moved"): 1}
        assert rig.metrics.retries == {}
        assert rig.metrics.pool("main").ttft.count == 1
    assert [key[3] for key in rig.metrics.requests] == [200]


def test_a_chat_of_vllm_goes_on_with_the_tokens_that_it_has() -> None:
    with Rig(moving(engine="vllm")) as rig:
        client = asks(rig)
        assert msgspec.json.decode(rig.asked().request.body)["return_token_ids"] is True
        role = b'data: {"id":"a","choices":[{"index":0,"delta":{"role":"assistant"}}],"prompt_token_ids":[%b]}\n\n'
        said = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%b"},"token_ids":[%d]}]}\n\n'
        rig.asked().sends(SSE_HEAD + chunk(role % b"1,2"), chunk(said % (b"Hel", 3)), chunk(said % (b"lo", 4))).dies()
        asked = msgspec.json.decode(rig.asked().request.body)
        assert asked["kv_transfer_params"] == {"prompt_token_ids": [1, 2, 3, 4]}
        rig.asked().sends(SSE_HEAD + chunk(role % b"1,2,3,4") + chunk(said % (b"!", 5)) + DONE + LAST_CHUNK)
        assert text(client) == "Hello!"
        assert b'"token_ids":[' not in client.raw
        assert b'"prompt_token_ids":[' not in client.raw


def test_a_chat_with_a_long_prompt_goes_on_with_its_tokens() -> None:
    with Rig(moving(engine="vllm")) as rig:
        client = asks(rig)
        role = b'data: {"id":"a","choices":[{"index":0,"delta":{"role":"assistant"}}],"prompt_token_ids":[%b]}\n\n'
        said = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%b"},"token_ids":[%d]}]}\n\n'
        ids = b",".join([b"%d" % number for number in range(100_000, 120_000)])

        def sends(pod: PodEnd, event: bytes) -> None:
            for at in range(0, len(event), 50_000):  # as a socket gives them
                pod.sends(event[at : at + 50_000])

        first = rig.asked()
        sends(first, SSE_HEAD + chunk(role % ids))
        first.sends(chunk(said % (b"Hel", 3))).dies()
        assert b'"prompt_token_ids":[' not in client.raw
        second = rig.asked()
        assert len(msgspec.json.decode(second.request.body)["kv_transfer_params"]["prompt_token_ids"]) == 20_001
        sends(second, SSE_HEAD + chunk(role % (ids + b",3")))
        second.sends(chunk(said % (b"lo", 5)) + DONE + LAST_CHUNK)
        assert text(client) == "Hello"


def test_the_first_pod_is_asked_to_count_and_the_client_sees_what_it_asked_for() -> None:
    with Rig(moving()) as rig:
        client = asks(rig, stream_options={"include_usage": True})
        assert msgspec.json.decode(rig.asked().request.body)["stream_options"]["continuous_usage_stats"] is True
        begins(rig.asked()).dies()
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        last = chunk(b"data: " + msgspec.json.encode({"id": "b", "choices": [], "usage": usage}) + b"\n\n")
        rig.asked().sends(SSE_HEAD + event({"content": "!"}, 2, 7, "b", "stop"), last, DONE + LAST_CHUNK)
        counted = msgspec.json.decode(client.answer().body.split(b"\n\n")[-3][6:])
        assert counted["turnout"] == {"moved": 1}
        assert counted["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}


@pytest.mark.parametrize("how", ["dies", "closes", "ends early", "is silent", "has an error"])
def test_every_way_to_die_moves_the_stream(how: str) -> None:
    with Rig(moving(), timeouts=Timeouts(idle_s=5.0)) as rig:
        client = asks(rig)
        first = begins(rig.asked())
        if how == "is silent":
            rig.passes(6.0)
        elif how == "ends early":
            first.sends(LAST_CHUNK)
        elif how == "has an error":
            first.sends(chunk(b'data: {"error":{"message":"EngineCore died","code":500}}\n\n') + DONE + LAST_CHUNK)
        else:
            getattr(first, how)()
        ends(rig.asked())
        assert client.answer().complete
        assert text(client) == "Hello, you!"
        assert b"EngineCore" not in client.raw


def test_half_an_event_is_not_passed_on_and_not_lost() -> None:
    with Rig(moving()) as rig:
        client = asks(rig)
        first = begins(rig.asked())
        whole = event({"content": "lost"}, 3)
        first.sends(whole[:30]).dies()
        ends(rig.asked())
        assert text(client) == "Hello, you!"


def test_a_stream_moves_as_often_as_it_may() -> None:
    with Rig(moving(max_moves=2), pods=5) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        rig.asked().sends(SSE_HEAD + event({"content": ", "}, 1, 7, "b")).dies()
        asked = msgspec.json.decode(rig.asked().request.body)
        assert (asked["messages"][-1]["content"], asked["max_tokens"]) == ("Hello, ".rstrip(), 7 - 1)
        rig.asked().sends(SSE_HEAD + event({"content": " so"}, 1, 8, "c")).dies()
        assert error(client).endswith("It was not continued on another pod: too many pods failed it.")
        assert rig.metrics.moves == {("main", "moved"): 2, ("main", "attempts"): 1}
        assert not client.answer().complete


def test_a_pod_that_does_not_go_on_is_replaced() -> None:
    with Rig(moving(), pods=3) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        rig.asked().sends(ok(b"full", status="503 Service Unavailable"))
        ends(rig.asked())
        assert text(client) == "Hello, you!"
        assert client.answer().body.count(MOVED) == 1


def test_a_pod_that_refuses_the_text_ends_the_stream() -> None:
    with Rig(moving(), pods=3) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        rig.asked().sends(ok(b"no", status="400 Bad Request"))
        assert "answered 400" in error(client)
        assert error(client).endswith("the other pod refused to go on.")
        assert len(rig.net.made) == 2


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"n": 2}, "choices"), ({"tools": [{"type": "function"}]}, "tools"), ({"logprobs": True}, "logprobs")],
)
def test_what_cannot_be_exact_ends_with_an_error_that_says_why(fields: dict[str, Any], why: str) -> None:
    with Rig(moving()) as rig:
        client = asks(rig, **fields)
        assert b"continuous_usage_stats" not in rig.asked().request.body
        begins(rig.asked()).dies()
        assert "It was not continued on another pod: " in error(client)
        assert rig.metrics.moves == {("main", why): 1}
        assert len(rig.net.made) == 1


def test_a_stream_waits_for_a_pod_with_room() -> None:
    with Rig(moving(max_inflight_per_pod=1)) as rig:
        client, other = asks(rig), asks(rig)
        first, full = rig.net.made
        begins(first).dies()
        assert (rig.admission.queued, len(rig.net.made)) == (1, 2)
        assert rig.metrics.moves == {}
        begins(full).sends(event({"content": "."}, 3, finish="stop") + DONE + LAST_CHUNK)
        assert other.answer().complete
        second = rig.asked()
        assert second.address == full.address
        ends(second)
        assert text(client) == "Hello, you!"
        assert rig.metrics.moves == {("main", "moved"): 1}
        rig.assert_clean()


def test_a_stream_for_which_no_pod_comes_in_time_ends() -> None:
    with Rig(moving(max_inflight_per_pod=1), limits=Limits(queue_timeout_s=20.0)) as rig:
        client, other = asks(rig), asks(rig)
        first, full = rig.net.made
        rig.passes(25.0)  # as long as it has run does not count
        rig.net.trouble[first.address] = ConnectionRefusedError(111, "Connection refused")
        begins(first).dies()
        begins(full)
        rig.passes(19.0)
        assert b'"error"' not in client.raw
        rig.passes(2.0)
        assert error(client).endswith("It was not continued on another pod: no other pod has room.")
        assert rig.metrics.moves == {("main", "no_pod"): 1}
        assert not client.answer().complete
        assert rig.admission.queued == 0
        other.leaves()


@pytest.mark.parametrize("slow", ["reads on", "gets a pod", "stalls"])
def test_a_stream_of_a_slow_client_does_not_wait_without_end(slow: str) -> None:
    limits, timeouts = Limits(queue_timeout_s=20.0, write_buffer_bytes=200), Timeouts(client_write_s=60.0)
    with Rig(moving(max_inflight_per_pod=1), limits=limits, timeouts=timeouts) as rig:
        client, other = asks(rig), asks(rig)
        first, full = rig.net.made
        client.stops_reading()
        begins(first)
        rig.wire.do(lambda: rig.view.block(PodId(first.address), "draining"))
        first.dies()
        assert rig.admission.queued == 1
        rig.passes(2.0)  # no pod is tried again
        if slow == "reads on":
            client.reads_on()
            rig.passes(21.0)
            assert error(client).endswith("no other pod has room.")
        elif slow == "gets a pod":
            full.sends(ok())
            assert rig.admission.queued == 0
        rig.passes(61.0)
        assert client.fate == "aborted" if slow != "reads on" else "closed"
        other.leaves()


def test_a_stream_waits_for_its_only_pod_to_come_back() -> None:
    with Rig(moving(), pods=1) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        assert rig.admission.queued == 1
        rig.passes(1.1)
        ends(rig.asked())
        assert text(client) == "Hello, you!"


def test_a_stream_does_not_wait_where_too_many_do() -> None:
    with Rig(moving(), pods=1, limits=Limits(max_queue=0)) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        assert error(client).endswith("no other pod has room.")
        assert rig.metrics.moves == {("main", "no_pod"): 1}


def test_a_client_that_leaves_while_its_stream_waits_leaves_nothing_behind() -> None:
    with Rig(moving(), pods=1) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        client.leaves()
        assert rig.admission.queued == 0
        rig.assert_clean()


def test_a_whole_answer_that_is_cut_begins_anew_on_another_pod() -> None:
    with Rig(moving()) as rig:
        client = asks(rig, stream=False)
        whole = ok(b'{"choices": []}')
        rig.asked().sends(whole[:-5]).dies()
        assert client.raw == b""
        rig.asked().sends(whole)
        assert (client.answer().status, client.answer().body) == (200, b'{"choices": []}')
        assert rig.metrics.retries == {("main", "cut"): 1}


def test_an_answer_that_comes_little_by_little_is_not_held() -> None:
    with Rig(moving()) as rig:
        client = asks(rig, stream=False)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ntransfer-encoding: chunked\r\n\r\n"
        pod = rig.asked().sends(head + chunk(b"la"))
        assert client.raw.endswith(chunk(b"la"))
        pod.sends(LAST_CHUNK)
        assert client.answer().body == b"la"


def test_of_a_whole_answer_no_more_is_held_than_of_a_text() -> None:
    with Rig(moving(max_chars=100)) as rig:
        client = asks(rig, stream=False)
        pod = rig.asked().sends(ok(b"x" * 200)[:-50])
        assert client.raw.endswith(b"x" * 150)
        pod.dies()
        assert (client.fate, len(rig.net.made)) == ("aborted", 1)
        assert rig.metrics.moves == {("main", "size"): 1}


def test_a_deadline_is_no_death_of_a_pod() -> None:
    with Rig(moving()) as rig:
        client = asks(rig, "x-turnout-deadline-ms: 5000")
        begins(rig.asked())
        rig.passes(6.0)
        assert b'"error"' in client.raw
        assert len(rig.net.made) == 1


def test_before_the_first_byte_another_pod_gets_the_request_as_ever() -> None:
    with Rig(moving()) as rig:
        client = asks(rig)
        rig.asked().dies()
        begins(rig.asked()).sends(event({"content": "!"}, 3, finish="stop") + DONE + LAST_CHUNK)
        assert text(client) == "Hello!"
        assert rig.metrics.retries == {("main", "reset"): 1}
        assert rig.metrics.moves == {}


def test_a_fall_back_pool_that_moves_no_streams_gets_the_clients_own_request() -> None:
    pools = [moving(fallback=["other"]), Pool(name="other", models=["m"])]
    with Rig(pools=pools, pods={"main": 1, "other": 1}) as rig:
        client = asks(rig)
        rig.asked().dies()
        assert msgspec.json.decode(rig.asked().request.body) == BODY
        ends(rig.asked())
        assert client.answer().complete


def test_answers_in_one_piece_and_other_pools_are_left_alone() -> None:
    with Rig(moving()) as rig:
        client = asks(rig, stream=False)
        assert msgspec.json.decode(rig.asked().request.body) == BODY | {"stream": False}
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_client_that_leaves_while_its_stream_moves_stops_the_next_pod() -> None:
    with Rig(moving()) as rig:
        client = asks(rig)
        begins(rig.asked()).dies()
        second = rig.asked()
        client.leaves()
        assert second.fate


def test_a_completion_goes_on_after_its_prompt() -> None:
    with Rig(moving()) as rig:
        body = msgspec.json.encode({"model": "m", "prompt": "Once", "stream": True})
        client = rig.client().sends(post(body, path="/v1/completions"))
        said = b'data: {"id":"a","choices":[{"index":0,"text":" upon","finish_reason":null}]}\n\n'
        rig.asked().sends(SSE_HEAD + chunk(said)).dies()
        asked = msgspec.json.decode(rig.asked().request.body)
        assert (asked["prompt"], asked["max_tokens"]) == ("Once upon", 15)
        rig.asked().sends(SSE_HEAD + chunk(said.replace(b" upon", b" a")) + DONE + LAST_CHUNK)
        assert client.answer().complete
