"""Whether the cost of bytes from outside grows with their number and no faster: instructions for the worst inputs of
`worst.py` at four sizes, through a whole replica.

`python -m loadtests.bench.guard.linear PART [CASE ...]` plays them with 1, 2, 4 and 8 MiB, divided by PART. Callgrind
counts, so the result does not depend on the machine's load. It is a hundred times slower than the processor.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, cast

from loadtests.bench.guard.counting import dumped
from loadtests.bench.guard.script import Stage
from loadtests.bench.guard.valgrind import Callgrind
from loadtests.bench.guard.wires import MemoryLoop, Wire
from loadtests.bench.guard.worst import CASES, WorstCase

SIZES: Final = tuple(mebi << 20 for mebi in (1, 2, 4, 8))

GROWTH: Final = 2.5
"""Factor by which twice the bytes may cost more. A quadratic parser has 4."""

EACH_BYTE: Final = 4000
"""Instructions that a byte may cost."""

_SHORT: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
_TURNS: Final = 20
"""Turns of the loop after a read, in which the gateway does what it put off."""


def measured(names: Sequence[str], part: int) -> dict[str, list[int]]:
    """Instructions of each case at each size, counted in a process of its own. Raises CountingFailed."""
    found = dumped("loadtests.bench.guard.linear", str(part), *names)
    return {name: [found[f"{name}, {size}"] for size in sizes(name, part)] for name in names}


def sizes(name: str, part: int) -> list[int]:
    """The bytes of a case."""
    return [size // part // CASES[name].scale for size in SIZES]


def excess(counts: Mapping[str, Sequence[int]], part: int) -> list[str]:
    """What grew faster than its bytes, or costs too much for each."""
    found = []
    for name, numbers in counts.items():
        steps = [after / before for before, after in pairwise(numbers)]
        if max(steps) > GROWTH:
            found.append(f"{name}: {', '.join(f'x {step:.2f}' for step in steps)} for twice the bytes each")
        if (each := numbers[-1] / sizes(name, part)[-1]) > EACH_BYTE:
            found.append(f"{name}: {each:.0f} instructions for a byte")
    return found


async def play(stage: Stage, asked: list[Wire], case: WorstCase, size: int) -> int:
    """Send the case's bytes to the replica and let the pods answer; returns how many bytes the client got."""
    request = case.request(size)
    answer = case.answer(size) if case.answer is not None else _SHORT
    client = Wire(cast(asyncio.Protocol, stage.replica.parts.dataplane.listener.connect()), [])
    for part in _pieces(request, case.piece):
        if client.is_closing():
            break
        client.deliver(part)
        await _answered(asked, answer, case.piece)
    for _ in range(_TURNS):
        await _answered(asked, answer, case.piece)
    if not client.is_closing():
        client.hang_up()
    return sum(map(len, client.sent))


async def _answered(asked: list[Wire], answer: bytes, piece: int) -> None:
    await asyncio.sleep(0)
    while asked:
        pod = asked.pop()
        head = b"".join(pod.sent).partition(b"\r\n\r\n")[0] if pod.sent else b""
        pod.sent.clear()
        if head.startswith(b"POST "):
            for part in _pieces(answer, piece):
                if not pod.is_closing():
                    pod.deliver(part)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


async def run(callgrind: Callgrind, names: Sequence[str], part: int) -> None:
    """Play each case once unseen, then count it at each size."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MemoryLoop)
    stage = Stage("session_affinity")
    for name in names:
        await play(stage, loop.asked, CASES[name], sizes(name, part)[0] // 2)
    gc.collect()
    gc.disable()
    callgrind.start()
    for name in names:
        for size in sizes(name, part):
            callgrind.zero()
            await play(stage, loop.asked, CASES[name], size)
            callgrind.dump(f"{name}, {size}")
            loop.asked.clear()
    await stage.replica.close()


def main() -> None:
    """Under callgrind: count. Without it: run callgrind, and print what it counted and what is too much."""
    part, names = int(sys.argv[1]), sys.argv[2:] or list(CASES)
    callgrind = Callgrind()
    if callgrind.present:
        with asyncio.Runner(loop_factory=MemoryLoop) as runner:
            runner.run(run(callgrind, names, part))
        return
    counts = measured(names, part)
    for name, numbers in counts.items():
        each = " ".join(f"{n / size:8.1f}" for n, size in zip(numbers, sizes(name, part), strict=True))
        sys.stdout.write(f"{name:28} {each}  instructions for a byte\n")
    for line in excess(counts, part):
        sys.stdout.write(f"TOO MUCH: {line}\n")


if __name__ == "__main__":
    main()
