"""The control port's view of pods, pools and the replica."""

from __future__ import annotations

import msgspec

from router.control.plane import describe_pod, describe_pools, describe_record, describe_state, named_pods
from router.lifecycle import Phase
from router.settings import Pool
from schedulers.types import Pod, PodId, PodLoad
from statesync.discovery.ranks import ranks_of
from statesync.store.lineage import digest
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord
from statesync.types import PodStatus
from tests.fakes.control_port import POD, Replica


def test_a_pod_is_shown_with_all_fields_and_can_be_encoded() -> None:
    pod = Pod(PodId("u-1"), "[::1]:8000", frozenset({"b", "a"}), "prefill", {"zone": "z"})
    shown = describe_pod(PodStatus(pod, "p", PodLoad(queued=1, ttft_ewma_s=0.25), False, ("ejected", "probe"), limit=7))
    assert shown["models"] == ["a", "b"]
    assert (shown["role"], shown["labels"], shown["max_inflight"]) == ("prefill", {"zone": "z"}, 7)
    assert (shown["queued"], shown["ttft_ewma_s"]) == (1, 0.25)
    assert (shown["routable"], shown["blockers"]) == (False, ["ejected", "probe"])
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_a_shown_policy_can_be_put_back() -> None:
    canary = Canary(PolicyChoice("random", {"k": 2}), 5.0)
    record = PolicyRecord("p2c", {"k": 1}, 4, PolicyChoice("least_load"), canary, "why", 2)
    shown = describe_record(record)
    assert shown == {
        "policy": "p2c",
        "params": {"k": 1},
        "generation": 4,
        "digest": digest(record),
        "shadow": {"policy": "least_load", "params": {}},
        "canary": {"policy": "random", "params": {"k": 2}, "percent": 5.0, "guard": CanaryGuard()._asdict()},
        "note": "why",
        "restores": 2,
    }
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_a_pool_whose_pods_are_not_discovered_yet_is_shown_empty() -> None:
    replica = Replica()
    settings = msgspec.structs.replace(replica.plane.settings, pools=[Pool(name="default")])
    replica.view.set_pods("default", ())
    (shown,) = describe_pools(
        type(replica.plane)(
            **{name: getattr(replica.plane, name) for name in replica.plane.__slots__} | {"settings": settings}
        )
    )
    assert (shown["pods"], shown["routable"], shown["inflight"], shown["models"]) == (0, 0, 0, [])


def test_configured_models_and_models_of_the_pods_are_both_shown() -> None:
    replica = Replica()
    assert describe_pools(replica.plane)[0]["models"] == ["m"]
    assert replica.view.status(POD).pod.models == {"m"}


def test_phases_are_shown_by_the_seconds_since_they_began() -> None:
    replica = Replica()
    replica.now = 101.0
    replica.lifecycle.enter(Phase.WARMING)
    replica.now = 103.5
    shown = describe_state(replica.plane)
    assert shown["phases"] == {"starting": 3.5, "warming": 2.5}
    assert (shown["phase"], shown["ready"]) == ("warming", False)


def test_a_pod_s_id_without_a_rank_names_all_its_ranks() -> None:
    view = Replica().view
    first, second = ranks_of(Pod(PodId("a:1"), "a:1"), 2)
    view.set_pods("ranked", [first, second])
    assert named_pods(view, "a:1") == [first.id, second.id]
    assert named_pods(view, "a:1@1") == [second.id]
    assert named_pods(view, POD) == [POD]
    assert named_pods(view, "nonesuch") == ["nonesuch"]
