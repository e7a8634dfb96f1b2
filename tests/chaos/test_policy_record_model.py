"""One record for every pool, whatever happens: operators, partitions, delays, restarts, and a server that comes back
empty or with an old snapshot, in any order (case I 48, case I 49).

The replicas are real stores and controllers, the server is a real redis-server; network and clock are simulated.
`make policy-model` runs 10,000 histories; `make test` some hundred.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.fakes.policy_world import POLICIES, PolicyWorld
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.simulated_network import simulated_loop

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

RUNS = int(os.environ.get("TURNOUT_MODEL_RUNS", "200"))
PHASES = [Phase.generate, *([Phase.shrink] if "TURNOUT_MODEL_SHRINK" in os.environ else [])]
MOST_CHANGES = 14
"""In a history: the server keeps 16 records, and a change is looked up in them."""

REPLICA = st.integers(0, 2)
POLICY = st.sampled_from(POLICIES)
BACK_TO = st.none() | st.integers(0, 3)
"""Which snapshot the server has when it comes back; 0 is empty, None is what it had."""
THEN = st.sampled_from([0.0, 0.0005, 0.0025, 0.01, 0.1, 1.5, 4.0])
"""Seconds until the next step."""


async def begun(server: RedisServer) -> PolicyWorld:
    """Three replicas that are ready."""
    world = PolicyWorld(server.port)
    await asyncio.sleep(0.1)
    return world


class PolicyMachine(RuleBasedStateMachine):
    """A history of three replicas, their operators and their server."""

    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=simulated_loop)
        self.world: PolicyWorld = self.runner.run(self._begin())

    async def _begin(self) -> PolicyWorld:
        return await begun(self.server)

    def do(self, act: Callable[[], object], seconds: float = 0.0) -> None:
        """Act, then let time pass."""

        async def acting() -> None:
            act()
            await asyncio.sleep(seconds)

        self.runner.run(acting())

    @precondition(lambda self: self.world.changes < MOST_CHANGES)
    @rule(
        at=REPLICA,
        kind=st.sampled_from(["set", "set", "shadow", "canary", "rollback"]),
        policy=POLICY,
        known=st.booleans(),
        then=THEN,
    )
    def change(self, at: int, kind: str, policy: str, known: bool, then: float) -> None:
        self.do(lambda: self.world.change(at, kind, policy, known), then)

    @precondition(lambda self: self.world.changes < MOST_CHANGES - 1)
    @rule(at=REPLICA, other=REPLICA, policy=POLICY, known=st.booleans(), then=THEN)
    def two_change(self, at: int, other: int, policy: str, known: bool, then: float) -> None:
        self.do(lambda: self.world.change(at, "set", policy, known))
        self.do(lambda: self.world.change(other, "set", policy, known), then)

    @rule(at=REPLICA, then=THEN)
    def cut_or_heal(self, at: int, then: float) -> None:
        cut = self.world.replicas[at].path.cut
        self.do(lambda: self.world.heal(at) if cut else self.world.cut(at), then)

    @rule(at=REPLICA, seconds=st.sampled_from([0.001, 0.05, 0.3]))
    def delay(self, at: int, seconds: float) -> None:
        self.do(lambda: self.world.delay(at, seconds))

    @rule(at=REPLICA, then=THEN)
    def restart_replica(self, at: int, then: float) -> None:
        self.do(lambda: self.world.restart_replica(at), then)

    @rule()
    def snapshot(self) -> None:
        self.do(self.world.snapshot)

    @precondition(lambda self: self.world.end.up)
    @rule(then=THEN)
    def server_stops(self, then: float) -> None:
        self.do(self.world.stop_server, then)

    @precondition(lambda self: not self.world.end.up)
    @rule(back_to=BACK_TO, then=THEN)
    def server_starts(self, back_to: int | None, then: float) -> None:
        self.do(lambda: self.world.start_server(back_to), then)

    @rule(back_to=BACK_TO, with_it=st.sets(REPLICA, max_size=2), then=THEN)
    def outage(self, back_to: int | None, with_it: set[int], then: float) -> None:
        """The server restarts, and replicas on the same machine with it."""
        self.do(self.world.stop_server)
        for at in sorted(with_it):
            self.do(lambda at=at: self.world.restart_replica(at))  # type: ignore[misc]
        self.do(lambda: self.world.start_server(back_to), then)

    @rule()
    def settle(self) -> None:
        self.runner.run(self.world.settle())

    def teardown(self) -> None:
        try:
            self.runner.run(self.world.settle())
        finally:
            self.runner.run(self.world.close())
            self.runner.close()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as made:
        yield made


@pytest.mark.timeout(14_400)
def test_one_record_for_all_in_any_history(server: RedisServer) -> None:
    machine = type("PolicyMachineHere", (PolicyMachine,), {"server": server})
    run_state_machine_as_test(machine, settings=settings(max_examples=RUNS, stateful_step_count=30, phases=PHASES))


def play(server: RedisServer, scene: Callable[[PolicyWorld], Coroutine[None, None, None]]) -> None:
    """A history by hand; then every promise must hold."""

    async def run() -> None:
        world = await begun(server)
        try:
            await scene(world)
            await world.settle()
        finally:
            await world.close()

    with asyncio.Runner(loop_factory=simulated_loop) as runner:
        runner.run(run())


async def change(world: PolicyWorld, at: int, *policies: str) -> None:
    for policy in policies:
        world.change(at, "set", policy, known=False)
        await asyncio.sleep(0.1)


def restart_empty(world: PolicyWorld, *with_it: int) -> None:
    world.stop_server()
    for at in with_it:
        world.restart_replica(at)
    world.start_server(0)


def test_a_cut_off_replica_gives_up_its_generation_3_for_the_server_s_new_one(server: RedisServer) -> None:
    """Case I 48, the first half: eight steps."""

    async def scene(world: PolicyWorld) -> None:
        await change(world, 0, "random", "p2c", "round_robin")
        world.cut(0)
        restart_empty(world, 1, 2)
        await asyncio.sleep(4.0)
        await change(world, 1, "p2c", "random", "least_load")
        await world.settle()
        assert [each.record.name for each in world.replicas] == ["least_load"] * 3
        assert any("generation 3 (policy round_robin, " in text for _, text in world.log.lines)

    play(server, scene)


def test_a_replica_that_wakes_overwrites_no_change_that_was_made_on_an_old_snapshot(server: RedisServer) -> None:
    """Case I 48, the second half: generation 11 is given up for 10, because it does not descend from that."""

    async def scene(world: PolicyWorld) -> None:
        await change(world, 0, *["random", "p2c"] * 4)
        world.snapshot()
        await change(world, 0, "random", "p2c", "round_robin")
        world.cut(0)
        world.stop_server()
        for at in (1, 2):
            world.restart_replica(at)
        world.start_server(1)
        await asyncio.sleep(4.0)
        await change(world, 1, "least_load", "random")
        await world.settle()
        assert [(each.record.generation, each.record.name) for each in world.replicas] == [(10, "random")] * 3
        assert any("generation 11 (policy round_robin, " in text for _, text in world.log.lines)

    play(server, scene)


def test_an_old_snapshot_is_noticed_and_what_it_lacks_is_put_back(server: RedisServer) -> None:
    """Case I 48: every restore is logged."""

    async def scene(world: PolicyWorld) -> None:
        await change(world, 0, "random")
        world.snapshot()
        await change(world, 1, "p2c", "round_robin")
        world.stop_server()
        world.start_server(1)
        await world.settle()
        assert [(each.record.generation, each.record.name) for each in world.replicas] == [(3, "round_robin")] * 3
        assert any(
            "has generation 1, an earlier state: putting back generation 3" in text for _, text in world.log.lines
        )

    play(server, scene)
