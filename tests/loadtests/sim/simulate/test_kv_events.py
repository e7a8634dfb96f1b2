"""Simulated gateways that follow KV events know what the pods hold."""

from __future__ import annotations

from loadtests.sim.simulate.replicas import Replicas, Sharing
from loadtests.sim.simulate.traces import Trace
from loadtests.sim.simulate.world import World
from schedulers import registry
from schedulers.types import PodId
from statesync.kv_events.precise_index import PreciseIndex
from tests.fakes.simulated_world import SMALL, UNIT, chain, prompt


def test_what_is_predicted_by_events_is_what_answers_report() -> None:
    world = World([SMALL], UNIT)
    router = Replicas(world, registry.create("prefix_aware", {}), UNIT, Sharing(2, kv_events=True))
    units = chain(1, 60)
    turns = [prompt(*units[: 10 + 5 * turn], at_s=5.0 * turn) for turn in range(10)]
    outcomes = world.play(Trace("turns", UNIT, turns), router)
    assert [each.cached_tokens // UNIT for each in outcomes] == [0, *[10 + 5 * turn for turn in range(9)]]
    predictions = 0
    for replica in router.replicas:
        assert isinstance(replica.prefix, PreciseIndex)
        pod = replica.prefix.publishing[PodId("pod-0")]
        assert pod.exact == pod.predictions
        assert len(pod.publishers[0].held) == 55, "of every request, whichever replica sent it"
        predictions += pod.predictions
    assert predictions > 0


def test_evictions_are_known() -> None:
    world = World([SMALL._replace(kv_blocks=400)], UNIT)
    router = Replicas(world, registry.create("prefix_aware", {}), UNIT, Sharing(kv_events=True))
    prompts = [prompt(*chain(name, 60), at_s=10.0 * at) for at, name in enumerate((1, 2, 3))]
    world.play(Trace("evicts", UNIT, prompts), router)
    index = router.replicas[0].prefix
    assert isinstance(index, PreciseIndex)
    held = index.publishing[PodId("pod-0")].publishers[0].held
    assert 0 < len(held) <= 100
    assert len(held) == len(world.engines[0].kv._refs) + world.engines[0].kv.idle_units
