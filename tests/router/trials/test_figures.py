"""Figures that replicas share and add up."""

from __future__ import annotations

import logging

import msgspec
import pytest

from router.trials.figures import SCHEMA, ArmFigures, ShadowFigures, SideFigures, TrialFigures, pack, summed, unpack

ONE = TrialFigures(
    canary=ArmFigures(placed=3, failures=1, ttft={5: 2}, ttft_sum_s=0.5),
    shadow=ShadowFigures(compared=2, agreed=1, live=SideFigures(picks=2, pods={"a": 2})),
)
OTHER = TrialFigures(
    baseline=ArmFigures(placed=7),
    canary=ArmFigures(placed=4, ttft={5: 1, 9: 1}, ttft_sum_s=0.25),
    shadow=ShadowFigures(compared=1, agreed=1, live=SideFigures(picks=1, pods={"b": 1})),
)


def test_shared_figures_are_read_back_equal() -> None:
    assert unpack({"r1": pack(ONE), "r2": pack(OTHER)}) == {"r1": ONE, "r2": OTHER}


def test_the_sum_of_two_replicas_is_field_by_field() -> None:
    both = summed([ONE, OTHER], TrialFigures())
    assert both.baseline == ArmFigures(placed=7)
    assert both.canary == ArmFigures(placed=7, failures=1, ttft={5: 3, 9: 1}, ttft_sum_s=0.75)
    assert (both.shadow.compared, both.shadow.agreed, both.shadow.live.pods) == (3, 2, {"a": 2, "b": 1})
    assert both.v == SCHEMA


def test_fields_of_a_newer_version_are_ignored() -> None:
    newer = {"v": SCHEMA + 1, "canary": {"placed": 3, "warmth": 4}, "third_arm": {"placed": 1}}
    assert unpack({"r": msgspec.msgpack.encode(newer)})["r"].canary == ArmFigures(placed=3)


@pytest.mark.parametrize(
    "wrong",
    [
        b"\xc1",
        b"\x81\xa6canary" + b"\x91" * 100_000,
        b"\x81\xa6shadow\x81\xa4live\x81\xa4pods\x81\xa2\xff\xfe\x01",
        msgspec.msgpack.encode({"canary": {"placed": 2**64 - 1}}),
        msgspec.msgpack.encode({"canary": {"placed": -1}}),
        msgspec.msgpack.encode({"canary": {"ttft_sum_s": float("nan")}}),
    ],
)
def test_invalid_bytes_are_ignored_and_logged(wrong: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Case E 25."""
    with caplog.at_level(logging.WARNING, "turnout.trials"):
        assert unpack({"r1": wrong, "r2": pack(OTHER)}) == {"r2": OTHER}
    assert "replica r1" in caplog.text


def test_an_arm_of_a_thousand_buckets_stays_small() -> None:
    full = TrialFigures(canary=ArmFigures(placed=10**6, ttft=dict.fromkeys(range(500), 1000)))
    assert len(pack(full)) < 4096
