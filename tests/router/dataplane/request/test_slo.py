"""What requests are promised, by settings and by headers."""

from __future__ import annotations

import pytest

from router.dataplane.request.slo import asked_slo, pool_slos
from router.errors import BadRequest
from router.settings import Pool, PoolSlo
from schedulers.types import NO_SLO, Slo

TTFT, TPOT = b"x-turnout-slo-ttft-ms", b"x-turnout-slo-tpot-ms"


def test_only_pools_that_promise_something_are_kept() -> None:
    pools = [Pool(name="a"), Pool(name="b", slo=PoolSlo(ttft_s=2.0)), Pool(name="c", slo=PoolSlo(tpot_s=0.1))]
    assert pool_slos(pools) == {"b": Slo(2.0, 0.0), "c": Slo(0.0, 0.1)}


def test_a_header_stands_in_for_the_pools_time_and_the_other_one_stays() -> None:
    assert asked_slo({TTFT: b"500"}, Slo(2.0, 0.1)) == Slo(0.5, 0.1)
    assert asked_slo({TPOT: b"12.5"}, Slo(2.0, 0.1)) == Slo(2.0, 0.0125)
    assert asked_slo({TTFT: b"500", TPOT: b"50"}, NO_SLO) == Slo(0.5, 0.05)


def test_zero_asks_for_nothing() -> None:
    assert asked_slo({TTFT: b"0"}, Slo(2.0, 0.1)) == Slo(0.0, 0.1)
    assert asked_slo({TTFT: b"0", TPOT: b"0"}, Slo(2.0, 0.1)) is None


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"nan", b"inf", b"1e99", b"9" * 5000, b"1s"])
def test_what_is_no_time_is_refused_with_the_headers_name(value: bytes) -> None:
    with pytest.raises(BadRequest, match="x-turnout-slo-tpot-ms"):
        asked_slo({TPOT: value}, NO_SLO)
