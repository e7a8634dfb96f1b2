"""Families collected in pieces equal whole families."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.telemetry.collector import GatewayCollector
from router.telemetry.metrics import Metrics
from tests.fakes.fixed_readings import pods, readings


@pytest.mark.parametrize("size", [1, 7, 20, 1000])
def test_pieces_hold_the_samples_of_the_whole_families_in_order(size: int) -> None:
    collector = GatewayCollector(Metrics(), readings(20))
    whole = [sample for family in collector.collect() for sample in family.samples]
    pieces = list(collector.pieces(size))
    assert [sample for piece in pieces for sample in piece.samples] == whole
    assert max(len(piece.samples) for piece in pieces) <= size


def test_pieces_of_one_family_follow_each_other_and_every_family_has_one() -> None:
    collector = GatewayCollector(Metrics(), readings(20))
    names = [piece.name for piece in collector.pieces(7)]
    once = [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]
    assert once == [family.name for family in collector.collect()]
    assert len(once) == len(set(once))


def test_a_failing_pod_that_is_kept_is_not_counted_as_routable_and_a_pool_without_pods_has_a_series() -> None:
    """Cases H 37 and H 38."""
    dead, well = pods(1)[0]._replace(kept=("probe",)), pods(3)[2]
    shown = replace(readings(0), pods=lambda: [dead, well], pools=lambda: ["default", "empty"])
    found = {
        (sample.name, sample.labels.get("pod", sample.labels["pool"])): sample.value
        for family in GatewayCollector(Metrics(), shown).collect()
        for sample in family.samples
        if sample.name in ("turnout_pod_routable", "turnout_pod_kept", "turnout_pool_pods")
    }
    assert found == {
        ("turnout_pod_routable", dead.pod.id): 0,
        ("turnout_pod_routable", well.pod.id): 1,
        ("turnout_pod_kept", dead.pod.id): 1,
        ("turnout_pod_kept", well.pod.id): 0,
        ("turnout_pool_pods", "default"): 2,
        ("turnout_pool_pods", "empty"): 0,
    }
