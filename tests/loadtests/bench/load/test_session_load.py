"""Sessions played against a real simulated engine."""

from __future__ import annotations

import asyncio

from loadtests.bench.load.session_load import UNANSWERED, Sent, play
from loadtests.sim.ports import free_ports
from loadtests.sim.simpod.faults import Fault
from loadtests.sim.simpod.fleet import SimPod
from loadtests.sim.simulate.sessions import Session
from loadtests.sim.simulate.traces import Arrival

UNIT = 512


def turn(prompt: int = 600, output: int = 5, pause: float = 0.0) -> Arrival:
    return Arrival(pause, prompt, output, (1, 2))


def played(sessions: list[Session], limit_s: float = 60.0, fault: Fault | None = None) -> list[Sent]:
    async def scenario() -> list[Sent]:
        async with SimPod(profile="tiny", speed=100.0) as pod:
            pod.set_fault(fault)
            return await play(sessions, UNIT, pod.port, limit_s)

    return asyncio.run(scenario())


def test_every_turn_is_sent_and_timed() -> None:
    found = played([Session(0.0, [turn(), turn(700)]), Session(0.01, [turn(output=7)])])
    assert [(each.session, each.turn, each.prompt_tokens) for each in found] == [(0, 0, 600), (0, 1, 700), (1, 0, 600)]
    assert [each.output_tokens for each in found] == [5, 5, 7]
    assert {each.failure for each in found} == {""}
    assert all(0 < each.ttft_s <= each.e2e_s for each in found)


def test_a_turn_comes_after_the_last_answer_and_its_pause() -> None:
    first, second = played([Session(0.0, [turn(), turn(pause=0.2)])])
    assert second.due_s >= first.e2e_s + 0.2
    assert second.cached_tokens > 0


def test_lateness_is_from_the_moment_a_turn_was_due() -> None:
    (sent,) = played([Session(0.05, [turn()])])
    assert sent.due_s == 0.05
    assert sent.late_s > -0.002, "timers count milliseconds"


def test_what_has_no_answer_at_the_end_is_a_failure_of_its_kind() -> None:
    found = played([Session(0.0, [turn(), turn()])], limit_s=1.0, fault=Fault(kind="hang"))
    first, second = [each.failure for each in found]
    assert first in ("timeout", UNANSWERED), "a machine that is busy may not have sent it by then"
    assert second == UNANSWERED


def test_a_router_that_is_gone_fails_every_turn_and_ends_nothing() -> None:
    (port,) = free_ports(1)
    found = asyncio.run(play([Session(0.0, [turn(), turn()])], UNIT, port, 60.0))
    assert [each.failure for each in found] == ["connect", "connect"]
