"""The official OpenAI SDK against the gateway: answers as it models them, failures as its own classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from loadtests.sim.ports import free_ports
from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, running
from tests.fakes.sim_process import MODEL, SimPods

pytestmark = pytest.mark.slow

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"days": {"const": 7}}}},
}


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config(all_sims.urls[:2], health=PATIENT_HEALTH | {"eject_failures": 1000}, retries={"budget_min": 1000})
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def faulty(sims: SimPods, kind: str, **fields: object) -> None:
    """The same fault on both pods, so that no retry succeeds."""
    for pod in sims.addresses[:2]:
        sims.fault(pod, kind, **fields)


def test_a_chat_is_answered(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id


def test_a_streamed_chat_has_the_text_of_the_plain_one_and_its_usage(client: OpenAI) -> None:
    plain = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=32)
    with client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=32, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == plain.choices[0].message.content
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(said) // 4
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_tool_calls_come_back(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "weather"}}
    )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"days":7}')


def test_tool_calls_come_back_in_pieces(client: OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=HELLO, tools=[WEATHER], tool_choice="required", stream=True
    ) as stream:
        deltas = [chunk.choices[0].delta for chunk in stream]
    pieces = [call.function for delta in deltas for call in delta.tool_calls or [] if call.function]
    assert [piece.name for piece in pieces if piece.name] == ["weather"]
    assert "".join(piece.arguments or "" for piece in pieces) == '{"days":7}'


def test_a_completion_is_answered_and_streamed(client: OpenAI) -> None:
    plain = client.completions.create(model=MODEL, prompt="once upon", max_tokens=12)
    with client.completions.create(model=MODEL, prompt="once upon", max_tokens=12, stream=True) as stream:
        said = "".join(chunk.choices[0].text for chunk in stream)
    assert said == plain.choices[0].text != ""


def test_embeddings_come_back_in_order(client: OpenAI) -> None:
    both = client.embeddings.create(model=MODEL, input=["one", "two"])
    alone = client.embeddings.create(model=MODEL, input="two")
    assert [row.index for row in both.data] == [0, 1]
    assert len(both.data[0].embedding) == 64
    assert both.data[1].embedding == alone.data[0].embedding != both.data[0].embedding


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_the_raw_answer_names_the_pod(client: OpenAI, sims: SimPods) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=4)
    assert raw.headers["x-turnout-pod"] in sims.addresses[:2]
    assert raw.headers["x-inference-pod"] == f"sim-{raw.headers['x-turnout-pod'].rpartition(':')[2]}"


def test_the_async_client_gets_the_same(gateway: GatewayProcess) -> None:
    async def talk() -> tuple[str | None, str, list[str], int]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            plain = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=16)
            stream = await client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=16, stream=True)
            async with stream:
                said = [chunk.choices[0].delta.content or "" async for chunk in stream]
            models = [model.id async for model in client.models.list()]
            vector = await client.embeddings.create(model=MODEL, input="x")
            return plain.choices[0].message.content, "".join(said), models, len(vector.data[0].embedding)

    plain, said, models, size = asyncio.run(talk())
    assert said == plain
    assert (models, size) == ([MODEL], 64)


def test_many_async_streams_at_once_do_not_mix(gateway: GatewayProcess) -> None:
    async def one(client: AsyncOpenAI, at: int) -> bool:
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"number {at}, please"}]
        plain = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=24)
        stream = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=24, stream=True)
        async with stream:
            said = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        return said == plain.choices[0].message.content

    async def all_of_them() -> list[bool]:
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, at) for at in range(40)))

    assert asyncio.run(all_of_them()) == [True] * 40


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="sim-modal", messages=HELLO)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
    assert "sim-model" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_a_pods_refusal_is_passed_on_as_the_pod_wrote_it(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=10**6)
    assert "max_model_len" in caught.value.message


def test_case_a_4_without_a_model_the_pod_s_own_answers(client: OpenAI) -> None:
    assert client.chat.completions.create(model="", messages=HELLO).model == MODEL


def test_a_pods_429_is_a_rate_limit(client: OpenAI, sims: SimPods) -> None:
    faulty(sims, "http_429", retry_after_s=7)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["x-turnout-attempts"] == "2"
    assert "queued" in caught.value.message


@pytest.mark.parametrize("status", [500, 503])
def test_a_pods_5xx_is_a_server_error(client: OpenAI, sims: SimPods, status: int) -> None:
    faulty(sims, f"http_{status}")
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.status_code == status


def test_the_sdks_own_retries_meet_a_pod_that_recovers(gateway: GatewayProcess, sims: SimPods) -> None:
    faulty(sims, "http_503", count=1)
    with OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=3) as client:
        assert client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4).choices


@pytest.mark.parametrize("kind", ["reset_midstream", "truncated_sse"])
def test_a_stream_that_dies_raises_and_does_not_look_complete(client: OpenAI, sims: SimPods, kind: str) -> None:
    faulty(sims, kind, after_chunks=5)
    got: list[str] = []
    with (
        pytest.raises(openai.APIError) as caught,
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=64, stream=True) as stream,
    ):
        for chunk in stream:
            got.append(chunk.choices[0].delta.content or "")  # noqa: PERF401  what came before the error counts
    assert len(got) == 5
    assert caught.value.code == "pod_closed_connection"
    assert "closed the connection" in caught.value.message


def test_a_closed_port_is_a_connection_error() -> None:
    (unused_port,) = free_ports(1)
    with (
        OpenAI(base_url=f"http://127.0.0.1:{unused_port}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.models.list()


def test_an_answer_cut_in_half_is_a_connection_error(client: OpenAI, sims: SimPods) -> None:
    faulty(sims, "reset_midstream")
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=64)
