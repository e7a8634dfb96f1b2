import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.api import WRITERS
from loadtests.sim.simpod.bodies import ResponsesBody, read
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.fleet import SimPod
from loadtests.sim.simpod.openai import detokenize, tokenize
from loadtests.sim.simpod.responses import write
from loadtests.sim.simpod.script import PodSpec, Script
from tests.fakes.examples import examples

SPEC = PodSpec("pod-1", ("m",), PROFILES["tiny"])
RESPONSES = "/v1/responses"
FIELDS = (
    "dimensions echo encoding_format ignore_eos include input instructions logprobs max_completion_tokens "
    "max_output_tokens max_tokens messages min_tokens model n output_config previous_response_id prompt "
    "response_format return_token_ids stop stop_sequences stop_token_ids stream stream_options structured_outputs "
    "system text tokens tool_choice tools top_logprobs"
).split()

SCALARS = st.none() | st.booleans() | st.integers(-5, 20) | st.text(max_size=5) | st.just(2**63)
MESSAGE = st.fixed_dictionaries({"role": st.just("user"), "content": SCALARS | st.lists(SCALARS, max_size=3)})
KEYS = st.sampled_from(["type", "name", "function", "json_schema", "schema", "json", "regex", "choice"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner), max_leaves=6)
BODIES = st.dictionaries(st.sampled_from(FIELDS), VALUES) | st.fixed_dictionaries(
    {"messages": st.lists(MESSAGE, min_size=1, max_size=3), "prompt": SCALARS, "input": SCALARS, "max_tokens": SCALARS},
    optional=dict.fromkeys(set(FIELDS) - {"messages", "prompt", "input", "max_tokens"}, VALUES)
    | {"model": st.just("m"), "stream": st.booleans()},
)


@examples(150)
@given(BODIES)
def test_any_json_object_becomes_a_script_or_an_error_with_its_reason(body: dict[str, object]) -> None:
    writers = dict(WRITERS) | {RESPONSES: lambda given, spec: write(read(ResponsesBody, given), spec, "r", []).script}
    for path, writer in writers.items():
        try:
            script = writer(body, SPEC)
        except ApiError as error:
            assert error.status in (400, 404) and error.message, path
            continue
        for choice in script.choices:
            assert choice.prompt_tokens >= 1, path
            assert choice.prompt_tokens + choice.tokens <= SPEC.profile.max_model_len, path
        assert script.whole(0), path
        check_stream(script)


def check_stream(script: Script) -> None:
    """Assert that every event of a stream is complete, and that it has text."""
    if script.stream is None:
        return
    for choice in script.choices:
        assert choice.event is not None and choice.tokens
        middle = [choice.event(0), choice.event(choice.tokens - 1)]
        assert all(event.endswith(b"\n\n") for event in [*script.stream.opening(0), *middle, *script.stream.closing(0)])


@examples(100)
@given(BODIES)
def test_tokens_are_returned_or_an_error_with_its_reason(body: dict[str, object]) -> None:
    for answer in (tokenize, detokenize):
        try:
            assert answer(body, SPEC)
        except ApiError as error:
            assert error.status in (400, 404)


def run(scenario: Callable[[httpx.AsyncClient, SimPod], Awaitable[None]], speed: float = 1000.0) -> None:
    async def whole() -> None:
        async with (
            SimPod(speed=speed) as pod,
            httpx.AsyncClient(base_url=pod.url, trust_env=False, verify=False, timeout=60.0) as http,
        ):
            await scenario(http, pod)

    asyncio.run(whole())


def ask(**more: object) -> dict[str, Any]:
    return {"input": "hi", "max_output_tokens": 4, "ignore_eos": True} | more


def test_a_response_can_be_fetched_gone_on_with_and_deleted() -> None:
    """Case G 36: /v1/responses with `store` and `previous_response_id`."""

    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        first = (await http.post(RESPONSES, json=ask(input="x" * 400))).json()
        assert (await http.get(f"{RESPONSES}/{first['id']}")).json() == first
        second = (await http.post(RESPONSES, json=ask(previous_response_id=first["id"]))).json()
        usage = second["usage"]
        assert usage["input_tokens"] > first["usage"]["total_tokens"]
        assert usage["input_tokens_details"]["cached_tokens"] >= 96, "the first prompt's blocks are in the cache"
        gone = await http.delete(f"{RESPONSES}/{first['id']}")
        assert gone.json() == {"id": first["id"], "object": "response", "deleted": True}
        assert (await http.get(f"{RESPONSES}/{first['id']}")).status_code == 404
        assert (await http.post(RESPONSES, json=ask(previous_response_id=first["id"]))).status_code == 404
        unkept = (await http.post(RESPONSES, json=ask(store=False))).json()
        assert (await http.get(f"{RESPONSES}/{unkept['id']}")).status_code == 404

    run(scenario)


def test_a_streamed_response_can_be_fetched_when_it_has_ended() -> None:
    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        streamed = await http.post(RESPONSES, json=ask(stream=True))
        name = streamed.text.partition('"id":"')[2].partition('"')[0]
        stored = (await http.get(f"{RESPONSES}/{name}")).json()
        assert (stored["status"], stored["usage"]["output_tokens"]) == ("incomplete", 4)

    run(scenario)


def test_a_response_in_the_background_can_be_cancelled_and_frees_the_engine() -> None:
    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        begun = (await http.post(RESPONSES, json=ask(background=True, max_output_tokens=9000))).json()
        assert begun["status"] == "queued"
        assert (await http.get("/load")).json() == {"server_load": 1}
        cancelled = (await http.post(f"{RESPONSES}/{begun['id']}/cancel")).json()
        assert (cancelled["id"], cancelled["status"]) == (begun["id"], "cancelled")
        assert (await http.get("/load")).json() == {"server_load": 0}
        assert (await http.post(f"{RESPONSES}/{begun['id']}/cancel")).status_code == 400

    run(scenario, speed=1.0)


def test_the_events_of_a_response_in_the_background_can_be_read_again_from_any_on() -> None:
    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        all_of_them = (await http.post(RESPONSES, json=ask(background=True, stream=True))).text
        name = all_of_them.partition('"id":"')[2].partition('"')[0]
        assert (await http.get(f"{RESPONSES}/{name}", params={"stream": "true"})).text == all_of_them
        rest = (await http.get(f"{RESPONSES}/{name}", params={"stream": "true", "starting_after": "3"})).text
        assert all_of_them.endswith(rest) and rest.count("\n\n") == all_of_them.count("\n\n") - 4
        assert (await http.get(f"{RESPONSES}/{name}")).json()["status"] == "incomplete"

    run(scenario)


def test_a_response_whose_events_were_not_kept_has_none_to_read() -> None:
    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        first = (await http.post(RESPONSES, json=ask())).json()
        assert (await http.get(f"{RESPONSES}/{first['id']}", params={"stream": "true"})).status_code == 400

    run(scenario)


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/responses/resp_x/", "/health/?a=b"])
def test_a_slash_at_the_end_is_redirected_to_the_path_without_it(path: str) -> None:
    """Case G 36, as Starlette does: 307 to the same host, query kept."""

    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        answer = await http.get(path)
        assert answer.status_code == 307
        assert answer.headers["location"] == pod.url + path.replace("/?", "?").removesuffix("/")

    run(scenario)


def test_only_json_is_taken() -> None:
    """Case G 36: `text/plain` is refused."""

    async def scenario(http: httpx.AsyncClient, pod: SimPod) -> None:
        body = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":1}'
        for kind, status in (("text/plain", 400), ("application/json; charset=utf-8", 200)):
            answer = await http.post("/v1/chat/completions", content=body, headers={"content-type": kind})
            assert answer.status_code == status, kind

    run(scenario)
