"""An engine's span continues the trace of its caller, whatever the answer is."""

from __future__ import annotations

import asyncio

import httpx

from loadtests.sim.simpod.fleet import SimPod
from tests.fakes.otlp_receiver import OtlpReceiver, otlp_receiver

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def ask(receiver: OtlpReceiver, *flags: int, **more: object) -> None:
    """Ask a pod once for each flag, which says whether the caller samples."""
    async with (
        SimPod(speed=100, otlp_endpoint=f"{receiver.url}/v1/traces") as pod,
        httpx.AsyncClient(base_url=pod.url, trust_env=False, verify=False, timeout=60.0) as client,
    ):
        for flag in flags:
            given = {"traceparent": f"00-{TRACE}-{SPAN}-0{flag}"}
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2} | more
            await client.post("/v1/chat/completions", json=body, headers=given)


def test_a_span_continues_the_trace_of_a_caller_that_samples() -> None:
    with otlp_receiver() as receiver:
        asyncio.run(ask(receiver, 1, 0, stream=True))
        (span,) = receiver.spans
        assert (span.trace_id, span.parent_id, span.kind) == (TRACE, SPAN, "SERVER")
        assert span.attributes["http.response.status_code"] == 200
        assert [name for name, _ in span.events] == ["first token"]


def test_a_refusal_has_its_status() -> None:
    with otlp_receiver() as receiver:
        asyncio.run(ask(receiver, 1, model="unknown"))
        (span,) = receiver.spans
        assert span.attributes["http.response.status_code"] == 404
