"""The official Anthropic SDK against the gateway: messages, streams, and failures as its own classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import MessageParam

from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, running
from tests.fakes.sim_process import MODEL, SimPods

pytestmark = pytest.mark.slow

HELLO: list[MessageParam] = [{"role": "user", "content": "good morning"}]


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    settings = config(all_sims.urls[:2], health=PATIENT_HEALTH | {"eject_failures": 1000}, retries={"budget_min": 1000})
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[Anthropic]:
    with Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as client:
        yield client


def faulty(sims: SimPods, kind: str, **fields: object) -> None:
    for pod in sims.addresses[:2]:
        sims.fault(pod, kind, **fields)


def test_a_message_is_answered(client: Anthropic) -> None:
    answer = client.messages.create(model=MODEL, messages=HELLO, max_tokens=8, system="Be brief.")
    assert answer.content[0].type == "text"
    assert answer.content[0].text
    assert answer.usage.output_tokens > 0


def test_a_streamed_message_has_the_text_of_the_plain_one(client: Anthropic) -> None:
    plain = client.messages.create(model=MODEL, messages=HELLO, max_tokens=24)
    with client.messages.stream(model=MODEL, messages=HELLO, max_tokens=24) as stream:
        said = "".join(stream.text_stream)
        whole = stream.get_final_message()
    assert plain.content[0].type == "text"
    assert said == plain.content[0].text
    assert whole.stop_reason == plain.stop_reason
    assert whole.usage.output_tokens == plain.usage.output_tokens


def test_a_tool_is_used(client: Anthropic) -> None:
    answer = client.messages.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=50,
        tools=[{"name": "weather", "input_schema": {"type": "object", "properties": {"days": {"const": 7}}}}],
        tool_choice={"type": "tool", "name": "weather"},
    )
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].type == "tool_use"
    assert answer.content[0].input == {"days": 7}


def test_the_async_client_gets_the_same(gateway: GatewayProcess) -> None:
    async def talk() -> str:
        async with (
            AsyncAnthropic(base_url=gateway.url, api_key="none", max_retries=0) as client,
            client.messages.stream(model=MODEL, messages=HELLO, max_tokens=8) as stream,
        ):
            return "".join([text async for text in stream.text_stream])

    assert asyncio.run(talk())


def test_an_unknown_model_is_not_found(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.create(model="nothing", messages=HELLO, max_tokens=8)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["code"] == "model_not_found"
    assert caught.value.body["error"]["type"] == "not_found_error", "Case G 35"


def test_a_pods_refusal_is_passed_on_as_the_pod_wrote_it(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="max_model_len"):
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=20_000)


def test_a_pods_429_is_a_rate_limit(client: Anthropic, sims: SimPods) -> None:
    faulty(sims, "http_429")
    with pytest.raises(anthropic.RateLimitError):
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=8)


def test_a_pods_500_is_a_server_error(client: Anthropic, sims: SimPods) -> None:
    faulty(sims, "http_500")
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=8)


def test_a_stream_that_dies_raises_an_api_error(client: Anthropic, sims: SimPods) -> None:
    faulty(sims, "reset_midstream", after_chunks=6)
    with (
        pytest.raises(anthropic.APIError, match="closed the connection"),
        client.messages.stream(model=MODEL, messages=HELLO, max_tokens=64) as stream,
    ):
        list(stream.text_stream)
