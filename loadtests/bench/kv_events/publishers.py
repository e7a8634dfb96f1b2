"""`python -m loadtests.bench.kv_events.publishers PORT PODS RATE SECONDS EVENTS`: pods that publish, in one process.

Each pod has two ports from PORT on, and publishes RATE batches a second of EVENTS events: blocks that are stored, and
once a thousand are held, as many that are removed. It begins with a line on standard input, says what it sent, and
serves replays until standard input ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

from loadtests.sim.ports import HOST
from loadtests.sim.simpod.kv_events import KvEventSockets

BLOCK_TOKENS: Final = 16
KEPT: Final = 1_000
"""Blocks that a pod holds before it evicts some."""


def endpoints(port: int, pod: int) -> tuple[str, str]:
    """Where a pod publishes, and where it replays."""
    return f"tcp://{HOST}:{port + 2 * pod}", f"tcp://{HOST}:{port + 2 * pod + 1}"


async def publish(pods: list[KvEventSockets], rate: float, batches: int, events: int) -> float:
    """Send them; returns by how many seconds the latest batch was late."""
    began, late_s = time.monotonic(), 0.0
    for batch in range(batches):
        wait_s = began + batch / rate - time.monotonic()
        late_s = max(late_s, -wait_s)
        await asyncio.sleep(max(0.0, wait_s))  # what was added before becomes a batch meanwhile
        for pod in pods:
            for unit in range(batch * events, (batch + 1) * events):
                if unit >= KEPT and unit % 2:
                    pod.removed(unit - KEPT)
                else:
                    pod.stored([unit], None)
    await asyncio.sleep(0)
    return late_s


async def main(port: int, count: int, rate: float, seconds: float, events: int) -> None:
    """One process."""
    pods = [KvEventSockets(*endpoints(port, pod), block_tokens=BLOCK_TOKENS) for pod in range(count)]
    _say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    batches = int(rate * seconds)
    late_s = await publish(pods, rate, batches, events)
    _say(f"{batches * count} {late_s}")
    await asyncio.to_thread(sys.stdin.readline)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, first, pods, rate, seconds, events = sys.argv
    asyncio.run(main(int(first), int(pods), float(rate), float(seconds), int(events)))
