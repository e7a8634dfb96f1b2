"""Do OLD and NEW read each other's state? A replica of each on one Redis, both ways, without other load.

What one of them learns the other must use: requests in flight, prefixes, policies. A fault is NEW's in both directions,
since OLD replicas are there until the last roll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple

from loadtests.processes.replica import ReplicaProcess
from loadtests.prove.load import Rotation
from loadtests.prove.replicas import POOL, holds, inflight, policy_of
from loadtests.prove.traffic import question

WITHIN_S = 15.0
"""A replica shows what another one did within this time; it usually takes milliseconds."""
SENT_S = 0.4
"""For a placement that takes milliseconds: processes of a busy machine wait for each other for tenths of a second."""
HELD = 3
ASKED = 8
KNOWN = 7
"""Prefixes of `ASKED` that have to be found again. One of three pods is right by chance: a replica that knows no prefix
finds as many once in 300 times."""
PREFIX_CHARACTERS = 8_000


class Fault(NamedTuple):
    """Something that must not happen."""

    kind: str
    """A short constant: two runs with the same kind of fault have the same fault."""
    replica: str
    detail: str


async def check(one: ReplicaProcess, other: ReplicaProcess, load: Rotation) -> AsyncIterator[Fault]:
    """Faults of reading each other, for both directions."""
    both = (one, other), (other, one)
    for writer, reader in both:
        if not await holds(lambda reader=reader: reader.metric("turnout_replicas") == 2, WITHIN_S):  # type: ignore[misc]
            yield Fault("replicas do not see each other", reader.slot.name, f"it does not see {writer.slot.name}")
    for writer, reader in both:
        async for fault in _loads(writer, reader, load):
            yield fault
        async for fault in _prefixes(writer, reader, load):
            yield fault
        async for fault in _policies(writer, reader):
            yield fault


async def _loads(writer: ReplicaProcess, reader: ReplicaProcess, load: Rotation) -> AsyncIterator[Fault]:
    long = [question(0.0, f"{writer.slot.name} holds stream {at}.", 30) for at in range(HELD)]
    async with asyncio.TaskGroup() as group:
        group.create_task(load.play(long[1:], writer))
        left = group.create_task(load.ask(long[0], writer))
        if not await holds(lambda: inflight(reader) == HELD, WITHIN_S):
            what = f"{writer.slot.name} has {HELD} requests that it does not count"
            yield Fault("load is not read", reader.slot.name, what)
        left.cancel()  # a client that leaves in the middle of its answer
    if not await holds(lambda: inflight(reader) == 0, WITHIN_S):
        yield Fault("load stays", reader.slot.name, f"it still counts requests that {writer.slot.name} has ended")


async def _prefixes(writer: ReplicaProcess, reader: ReplicaProcess, load: Rotation) -> AsyncIterator[Fault]:
    found = 0
    for at in range(ASKED):
        text = f"Document {at} of {writer.slot.name}: " + f"{at} {writer.slot.name} " * (PREFIX_CHARACTERS // 12)
        await load.ask(question(0.0, text, 1), writer)
        # A placement is sent within milliseconds; there is nothing to ask a replica for whether it has it.
        await asyncio.sleep(SENT_S)
        again = await load.ask(question(0.0, text + "And then?", 1), reader)
        found += again.cached_tokens > again.prompt_tokens // 2
    if found < KNOWN:
        what = f"{found} of {ASKED} prompts found where {writer.slot.name} had sent them"
        yield Fault("prefixes are not shared", reader.slot.name, what)


async def _policies(writer: ReplicaProcess, reader: ReplicaProcess) -> AsyncIterator[Fault]:
    for name in ("least_load", "prefix_aware"):
        await asyncio.to_thread(writer.change, f"/admin/pools/{POOL}/policy", {"policy": name})
        if not await holds(lambda name=name: policy_of(reader) == name, WITHIN_S):  # type: ignore[misc]
            detail = f"{name}, set on {writer.slot.name}, is not in force"
            yield Fault("policy is not shared", reader.slot.name, detail)


def unreadable(replica: ReplicaProcess) -> list[Fault]:
    """Messages that this replica could not read so far. Raises httpx.HTTPError."""
    count = replica.metric("turnout_state_unreadable_total")
    if not count:
        return []
    return [Fault("messages are not readable", replica.slot.name, f"{count:.0f} messages of others")]
