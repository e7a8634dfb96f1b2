"""Which part of a workload may be used for tuning, and which is kept for the report. Pure; it runs nothing.

Policies are tuned on the `tune` halves only. The reported tables come from the `report` halves, which nothing else
prints.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

from loadtests.sim.simulate.traces import Arrival, Trace

Half = Literal["tune", "report"]
HALVES: Final[tuple[Half, ...]] = ("tune", "report")

_SIDE: Final[Mapping[Half, int]] = MappingProxyType({"tune": 0, "report": 1})


def half_of(trace: Trace, half: Half) -> Trace:
    """That half of a recorded trace, from its own first arrival on.

    Sessions stay whole: a hash of their key decides. A trace without sessions is cut once in its middle: its earlier
    requests are for tuning. Thinned out, its prefixes would be reused sooner than they were.
    """
    arrivals = trace.arrivals
    if any(each.session for each in arrivals):
        chosen = [each for each in arrivals if zlib.crc32(each.session.encode()) & 1 == _SIDE[half]]
    else:
        middle = len(arrivals) // 2
        chosen = list(arrivals[:middle] if half == "tune" else arrivals[middle:])
    return trace._replace(arrivals=_from_zero(chosen))


def seed_of(seed: int, half: Half) -> int:
    """The seed of a generated workload: even ones are for tuning, odd ones for the report."""
    return 2 * seed + _SIDE[half]


def _from_zero(arrivals: Sequence[Arrival]) -> list[Arrival]:
    start = arrivals[0].at_s if arrivals else 0.0
    return [each._replace(at_s=each.at_s - start) for each in arrivals]
