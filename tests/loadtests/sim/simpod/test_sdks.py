"""Case G 36: OpenAI's and Anthropic's SDKs against a simulated engine, without a gateway between them.

The SDKs parse every answer into their own types, and their stream helpers put answers together from their events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic import BaseModel

from loadtests.sim.simpod.fleet import DEFAULT_MODEL, SimPod

# Slow: the import of both SDKs takes longer than the tests.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class Forecast(BaseModel):
    """What a structured answer is parsed into."""

    city: str
    sky: Literal["clear", "cloudy"]
    degrees: list[float]
    later: Forecast | None


class Weather(BaseModel):
    """A tool's parameters."""

    city: str
    days: int


def run(scenario: Callable[[AsyncOpenAI], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with (
            SimPod(speed=1000, profile="agent") as pod,
            AsyncOpenAI(base_url=f"{pod.url}/v1", api_key="none", max_retries=0) as client,
        ):
            await scenario(client)

    asyncio.run(whole())


def run_anthropic(scenario: Callable[[AsyncAnthropic], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with (
            SimPod(speed=1000, profile="agent") as pod,
            AsyncAnthropic(base_url=pod.url, api_key="none", max_retries=0) as client,
        ):
            await scenario(client)

    asyncio.run(whole())


def test_chat_completions_are_parsed_into_a_model() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        answer = await client.chat.completions.parse(
            model=DEFAULT_MODEL, messages=[{"role": "user", "content": "weather?"}], response_format=Forecast
        )
        parsed = answer.choices[0].message.parsed
        assert isinstance(parsed, Forecast) and parsed.sky in ("clear", "cloudy")

    run(scenario)


def test_the_chat_stream_helper_puts_text_usage_and_tool_calls_together() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        async with client.chat.completions.stream(
            model=DEFAULT_MODEL,
            messages=[{"role": "user", "content": "hi"}],
            tools=[openai.pydantic_function_tool(Weather)],
            tool_choice="required",
            stream_options={"include_usage": True},
        ) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_completion()
        call = (final.choices[0].message.tool_calls or [])[0]
        assert isinstance(call.function.parsed_arguments, Weather)
        assert final.choices[0].finish_reason == "tool_calls" and final.usage
        assert "tool_calls.function.arguments.done" in {event.type for event in events}

    run(scenario)


def test_choices_probabilities_and_lists_of_prompts_are_parsed() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        chat = await client.chat.completions.create(
            model=DEFAULT_MODEL,
            messages=[{"role": "user", "content": "hi"}],
            n=3,
            logprobs=True,
            top_logprobs=2,
            max_completion_tokens=5,
        )
        assert [choice.index for choice in chat.choices] == [0, 1, 2]
        assert (
            chat.choices[2].logprobs is not None and len((chat.choices[2].logprobs.content or [])[0].top_logprobs) == 2
        )
        several = await client.completions.create(
            model=DEFAULT_MODEL, prompt=["one", "two"], n=2, echo=True, logprobs=1, max_tokens=3
        )
        assert [choice.text[:3] for choice in several.choices] == ["one", "one", "two", "two"]

    run(scenario)


def test_responses_are_created_streamed_parsed_and_gone_on_with() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        first = await client.responses.create(model=DEFAULT_MODEL, input="hi", max_output_tokens=12)
        assert first.output_text and first.usage and first.usage.output_tokens == 12
        async with client.responses.stream(
            model=DEFAULT_MODEL, input="more", previous_response_id=first.id, max_output_tokens=12
        ) as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            second = await stream.get_final_response()
        assert second.output_text == "".join(deltas) and second.previous_response_id == first.id
        parsed = await client.responses.parse(model=DEFAULT_MODEL, input="weather?", text_format=Forecast)
        assert isinstance(parsed.output_parsed, Forecast)
        assert (await client.responses.retrieve(second.id)).output_text == second.output_text
        await client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(second.id)

    run(scenario)


def test_an_agents_loop_over_responses_calls_a_tool_and_gives_its_output_back() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        tool = openai.pydantic_function_tool(Weather)["function"]
        asked = await client.responses.create(
            model=DEFAULT_MODEL,
            input="call weather",
            tools=[{"type": "function", "name": "weather", "parameters": tool["parameters"], "strict": True}],
        )
        call = asked.output[0]
        assert call.type == "function_call" and Weather.model_validate_json(call.arguments)
        answered = await client.responses.create(
            model=DEFAULT_MODEL,
            previous_response_id=asked.id,
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sun"}],
        )
        assert answered.output_text

    run(scenario)


def test_responses_in_the_background_are_polled_streamed_and_cancelled() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        begun = await client.responses.create(model=DEFAULT_MODEL, input="hi", background=True, max_output_tokens=4)
        while begun.status in ("queued", "in_progress"):
            begun = await client.responses.retrieve(begun.id)
        assert begun.status == "incomplete"
        stream = await client.responses.create(
            model=DEFAULT_MODEL, input="ho", background=True, stream=True, max_output_tokens=4
        )
        events = [event async for event in stream]
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        assert events[0].type == "response.created"
        again = await client.responses.retrieve(events[0].response.id, stream=True, starting_after=3)
        assert [event.sequence_number async for event in again] == [event.sequence_number for event in events][4:]
        long = await client.responses.create(
            model=DEFAULT_MODEL, input="hu", background=True, extra_body={"ignore_eos": True}
        )
        assert (await client.responses.cancel(long.id)).status == "cancelled"

    run(scenario)


def test_refusals_become_the_errors_of_the_sdk() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve(DEFAULT_MODEL)
        with pytest.raises(openai.BadRequestError, match="temperature must be"):
            await client.chat.completions.create(
                model=DEFAULT_MODEL, messages=[{"role": "user", "content": "hi"}], temperature=7
            )

    run(scenario)


def test_messages_are_counted_created_and_streamed_with_tools() -> None:
    async def scenario(client: AsyncAnthropic) -> None:
        said = [{"role": "user", "content": "hi there"}]
        counted = await client.messages.count_tokens(model=DEFAULT_MODEL, messages=said)  # type: ignore[arg-type]
        plain = await client.messages.create(model=DEFAULT_MODEL, messages=said, max_tokens=9)  # type: ignore[arg-type]
        assert counted.input_tokens == plain.usage.input_tokens and plain.content[0].type == "text"
        async with client.messages.stream(
            model=DEFAULT_MODEL,
            messages=said,  # type: ignore[arg-type]
            max_tokens=900,
            tools=[{"name": "weather", "input_schema": Weather.model_json_schema()}],
            tool_choice={"type": "any"},
        ) as stream:
            events = [event.type async for event in stream]
            final = await stream.get_final_message()
        assert final.stop_reason == "tool_use" and final.content[0].type == "tool_use"
        assert Weather.model_validate(final.content[0].input)
        assert events[-1] == "message_stop" and "input_json" in events

    run_anthropic(scenario)


def test_an_agents_first_prompt_of_many_thousand_tokens_fits() -> None:
    """Claude Code's has 18,800."""

    async def scenario(client: AsyncAnthropic) -> None:
        answer = await client.messages.create(
            model=DEFAULT_MODEL,
            system=[{"type": "text", "text": "a b c " * 20_000, "cache_control": {"type": "ephemeral"}}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            max_tokens=8_000,
            metadata={"user_id": "u"},
            thinking={"type": "adaptive"},
        )
        assert answer.usage.input_tokens > 18_800

    run_anthropic(scenario)
