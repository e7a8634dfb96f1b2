"""The same stretch in the simulator: a router's algorithm, written anew, beside the router itself. Pure."""

from __future__ import annotations

import msgspec

from loadtests.bench.shootout.play import PODS
from loadtests.bench.shootout.stretches import Stretch
from loadtests.sim.simulate.contenders import contender
from loadtests.sim.simulate.runs import Case, new_world
from loadtests.sim.simulate.sessions import converse
from loadtests.sim.simulate.world import Outcome


class Simulated(msgspec.Struct, frozen=True):
    """What the simulator says of one policy on one stretch."""

    policy: str
    ttft_s: list[float]
    prompt_tokens: int
    cached_tokens: int


def simulated(policy: str, part: Stretch, seed: int = 0) -> Simulated:
    """Play it in virtual time; every run draws its own random bits from the seed."""
    case = Case(pods=PODS, seed=seed)
    world = new_world(case, part.unit_tokens)
    router = contender(policy)(world, part.unit_tokens, case.sharing, case.seed)
    return _read(policy, converse(world, part.sessions, router))


def _read(policy: str, outcomes: list[Outcome]) -> Simulated:
    return Simulated(
        policy,
        [each.ttft_s for each in outcomes],
        sum(each.prompt_tokens for each in outcomes),
        sum(each.cached_tokens for each in outcomes),
    )
