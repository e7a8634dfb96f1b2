from __future__ import annotations

from tests.fakes.limited_crowd import REQUESTS, STREAMS, TOKENS, Asked, Limited, account, at_once, table


def test_the_most_spans_at_one_moment_and_their_mean_are_found() -> None:
    assert at_once([(0.0, 2.0), (1.0, 3.0), (3.0, 4.0)], 1) == (2, 1, 1.25, 0.25)


def test_each_kind_of_limit_is_accounted_in_its_own_unit() -> None:
    calls, spent, slots = (Limited(kind, kind, 60) for kind in (REQUESTS, TOKENS, STREAMS))
    asked = [Asked(of, at, status, 0.5, at + 1.0, 20) for of in (calls, spent, slots) for at, status in _TIMES]
    rows = account((calls, spent, slots), asked)
    assert [(row.admitted, row.most) for row in rows] == [(2, 70.5), (40, 70.5), (1, 60)]
    assert "+0.0" not in table("title", rows, asked)


_TIMES = ((0.0, 200), (10.0, 200), (5.0, 429))
