"""The guard's script, without valgrind: every phase is answered, and two runs are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from loadtests.bench.guard.script import PHASES, PODS, Phase, Silence, Stage, Turn, turns
from loadtests.bench.guard.wires import MemoryLoop

T = TypeVar("T")


def run(script: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=MemoryLoop) as runner:
        return runner.run(script)


async def play(phase: Phase, count: int) -> Stage:
    stage = Stage(limited=phase.limited)
    script = turns(phase, count)
    for turn in script[:2]:
        await stage.check(turn)
    await stage.play(script[2:])
    await stage.close()
    return stage


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
def test_every_turn_of_a_phase_is_answered_and_counted(phase: Phase) -> None:
    stage = run(play(phase, 20))
    counted = stage.replica.parts.core.metrics.requests
    assert sum(counted.values()) == 20
    assert {status for *_, status in counted} == {200}
    assert stage.replica.parts.state.view.inflight == 0


def test_two_runs_send_the_same_requests_to_the_same_pods() -> None:
    first, second = (run(play(PHASES[0], 50)).replica.parts.core.metrics.requests for _ in range(2))
    assert first == second
    assert 1 < len(first) <= PODS


def test_a_wrong_answer_is_noticed() -> None:
    good = turns(PHASES[0], 1)[0]

    async def bad() -> None:
        await Stage().check(Turn(good.request, b"", [good.pieces[0].replace(b"200 OK", b"201 OK")]))

    with pytest.raises(Silence, match=r"a wrong answer: b'HTTP/1\.1 201"):
        run(bad())


def test_a_gateway_that_forwards_nothing_is_noticed() -> None:
    good = turns(PHASES[0], 1)[0]

    async def cut() -> None:
        await Stage().play([Turn(good.request, b"", [good.pieces[0][:20]])])

    with pytest.raises(Silence, match="did not pass"):
        run(cut())


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.name)
def test_prompts_have_the_stated_size_and_differ(phase: Phase) -> None:
    bodies = {turn.request.partition(b"\r\n\r\n")[2] for turn in turns(phase, 70)}
    assert len(bodies) == 70
    assert all(phase.prompt_bytes - 100 < len(body) < phase.prompt_bytes + 100 for body in bodies)


def test_heads_repeat_unless_the_phase_has_new_ones() -> None:
    def heads(phase: Phase) -> tuple[int, int]:
        script = turns(phase, 40)
        asked = {turn.request.partition(b"content-length")[0] for turn in script}
        dates = {(turn.head or turn.pieces[0]).partition(b"date: ")[2][:29] for turn in script}
        return len(asked), len(dates)

    assert {phase.name: heads(phase) for phase in PHASES} == {
        phase.name: (40, 40) if phase.new_heads else (1, 1) for phase in PHASES
    }
