"""A trace's requests as bodies: texts whose blocks are equal exactly where the trace's units are. Pure."""

from __future__ import annotations

from typing import Final

from loadtests.sim import chat
from loadtests.sim.simpod.fleet import DEFAULT_MODEL
from loadtests.sim.simpod.text import BYTES_PER_TOKEN
from loadtests.sim.simulate.traces import Arrival

TEMPLATE_BYTES: Final = 24
"""Added by the pods' chat template to a single message; the text is shorter by it, so that lengths are right."""


def body(arrival: Arrival, unit_tokens: int) -> bytes:
    """The request, as a client of the gateway would send it; the answer has the trace's length."""
    messages = [{"role": "user", "content": text(arrival, unit_tokens)}]
    return chat.body(DEFAULT_MODEL, messages, arrival.output_tokens, ignore_eos=True)


def text(arrival: Arrival, unit_tokens: int) -> str:
    """Of the arrival's length, template included; it shares a prefix exactly where the units do."""
    times = unit_tokens * BYTES_PER_TOKEN // 16
    whole = "".join([f"{unit:016x}" * times for unit in arrival.units])
    return whole[: max(1, arrival.prompt_tokens * BYTES_PER_TOKEN - TEMPLATE_BYTES)]
