"""Families collected in pieces equal whole families."""

from __future__ import annotations

import pytest

from router.telemetry.collector import GatewayCollector
from router.telemetry.metrics import Metrics
from tests.fakes.fixed_readings import readings


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
