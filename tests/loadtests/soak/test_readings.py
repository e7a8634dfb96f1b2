"""What a soak's readings say: which growth is a leak, and which outcome no request asked for."""

from __future__ import annotations

import pytest

from loadtests.soak.load import KINDS
from loadtests.soak.readings import EXPECTED, Reading, failures, findings, table

FIRST = Reading(100_000, 100 << 20, 30, 0, 0, 20 << 20, 8)


def test_a_gateway_that_holds_the_same_passes() -> None:
    last = FIRST._replace(requests=1_000_000, rss_bytes=104 << 20, descriptors=31)
    assert list(findings([FIRST, last])) == []
    assert len(list(table([FIRST, last]))) == 3


@pytest.mark.parametrize(
    ("grown", "named"),
    [
        ({"rss_bytes": 106 << 20}, "memory grew by 6.0%"),
        ({"descriptors": 40}, "40 descriptors"),
        ({"inflight": 1}, "1 requests"),
        ({"connections": 2}, "2 connections"),
        ({"redis_bytes": 65 << 20}, "Redis holds 65 MB"),
    ],
)
def test_growth_is_named(grown: dict[str, int], named: str) -> None:
    (finding,) = findings([FIRST, FIRST._replace(**grown)])
    assert named in finding


def test_outcomes_that_the_load_did_not_ask_for_are_failures() -> None:
    assert set(EXPECTED) == set(KINDS)
    good = {"whole: 200": 5, "unknown model: 404": 1, "stream: 502": 2, "left at once: left": 3}
    assert list(failures(good)) == []
    assert list(failures(good | {"whole: timeout": 1, "no JSON: 500": 2})) == ["no JSON: 500: 2", "whole: timeout: 1"]
