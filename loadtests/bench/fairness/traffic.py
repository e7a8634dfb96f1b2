"""What tenants send, as arrivals: conversations that go on with their own prompts, and requests that have nothing in
common. Pure and repeatable; it knows no gateway.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from loadtests.sim.simulate.traces import Arrival

UNIT: Final = 64
"""Tokens of a piece of a prompt that others may have in common with it."""

SYSTEM_UNITS: Final = 16
"""Length of a tenant's system prompt, with which all its conversations begin."""


def conversations(rates: Mapping[str, float], seconds: float, speed: float = 1.0) -> list[Arrival]:
    """Tenants that send that many requests a second, most of which go on with a conversation; in order of arrival.
    `speed` divides every time."""
    arrivals: list[Arrival] = []
    for tenant, rate in rates.items():
        rng = random.Random(tenant)
        system = [rng.getrandbits(63) for _ in range(SYSTEM_UNITS)]
        idle: list[tuple[float, list[int]]] = []
        at = rng.expovariate(rate)
        while at < seconds:
            ready = [number for number, (since, _) in enumerate(idle[:50]) if since <= at]
            units = idle.pop(rng.choice(ready))[1] if ready and rng.random() < 0.75 else list(system)
            units = units + [rng.getrandbits(63) for _ in range(rng.randint(1, 9))]
            answer = rng.randint(20, 280)
            arrivals.append(Arrival(at / speed, len(units) * UNIT + 1, answer, tuple(units), tenant=tenant))
            idle.append((at + rng.uniform(8, 15), units + [rng.getrandbits(63) for _ in range(answer // UNIT)]))
            at += rng.expovariate(rate)
    return in_order(arrivals)


def steady(tenant: str, rate: float, begin_s: float, end_s: float, prompt_tokens: int, answer: int) -> list[Arrival]:
    """Requests at random times, of one size, that have nothing in common."""
    rng, at, made = random.Random(f"{tenant} {rate}"), begin_s, list[Arrival]()
    while (at := at + rng.expovariate(rate)) < end_s:
        units = [rng.getrandbits(63) for _ in range(-(-prompt_tokens // UNIT))]
        made.append(Arrival(at, prompt_tokens, answer, tuple(units), tenant=tenant))
    return made


def in_order(arrivals: Sequence[Arrival]) -> list[Arrival]:
    """By their times."""
    return sorted(arrivals, key=lambda each: each.at_s)
