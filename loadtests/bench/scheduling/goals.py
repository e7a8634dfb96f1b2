"""The goals: each bound with the number found. Pure; rows in, verdicts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from loadtests.bench.scheduling.cases import HERD_REPLICAS, KNEE, ONE, OURS, RATES, shared
from loadtests.bench.scheduling.live import Agreement
from loadtests.bench.scheduling.play import Rows
from loadtests.sim.simulate.summary import Row, Window

Figure = Callable[[Row], float]


def mean(row: Row) -> float:
    """Mean time to first token, seconds."""
    return row.ttft_s.mean


def p99(row: Row) -> float:
    """Its 99th percentile."""
    return row.ttft_s.p99


def short_p99(row: Row) -> float:
    """Of prompts below 16,000 tokens."""
    return row.ttft_short_s.p99


class Goal(NamedTuple):
    """One number and its bound."""

    what: str
    found: float
    bound: float
    at_most: bool
    """Else: at least."""

    @property
    def met(self) -> bool:
        """Whether it is within."""
        return self.found <= self.bound if self.at_most else self.found >= self.bound


_TO_ORACLE: Final = {"1.4": 1.05, "1.7": 1.05, KNEE: 1.10}
_PEERS: Final = {"sglang_cache_aware": 1.7, "aibrix_prefix_cache": 1.7, "llmd_default": 1.2, "dynamo_kv": 1.1}
_HIT_RATE_POINTS: Final = 3.0
_HERDING: Final = {0: 1.02, 10: 1.25, 50: 1.5}
"""By age in ms; 2 % at age 0 are random variation."""
_AGREEMENT: Final = 0.15


def goals(rows: Rows, live: Agreement | None) -> list[Goal]:
    """Every goal whose runs exist."""
    found = [*_oracle(rows), *_peers(rows), *_hits(rows), *_replicas(rows), *_herding(rows), *_agentic(rows)]
    return [*found, *(_live(live) if live is not None else ())]


def _oracle(rows: Rows) -> Iterator[Goal]:
    for rate, bound in _TO_ORACLE.items():
        yield from _over(rows, rate, "oracle", "mean", mean, bound)
        yield from _over(rows, rate, "oracle", "p99", p99, bound)
        yield from _over(rows, rate, "oracle", "short p99", short_p99, 1.20)


def _over(rows: Rows, rate: str, peer: str, name: str, figure: Figure, bound: float) -> Iterator[Goal]:
    """This gateway's figure over the peer's, at most the bound."""
    own, other = rows.get(("policies", rate, OURS)), rows.get(("policies", rate, peer))
    if own and other:
        yield Goal(f"rate {rate}: {name} over {peer}'s", figure(own) / figure(other), bound, True)


def _under(rows: Rows, rate: str, peer: str, name: str, figure: Figure, bound: float) -> Iterator[Goal]:
    """The peer's figure over this gateway's, at least the bound."""
    own, other = rows.get(("policies", rate, OURS)), rows.get(("policies", rate, peer))
    if own and other:
        yield Goal(f"rate {rate}: {peer}'s {name} over ours", figure(other) / figure(own), bound, False)


def _peers(rows: Rows) -> Iterator[Goal]:
    for peer, bound in _PEERS.items():
        yield from _under(rows, KNEE, peer, "mean", mean, bound)
    for rate in RATES:
        # Past the knee it has to be better, not only as good.
        yield from _under(rows, rate, "lmetric", "mean", mean, 1.0 if rate != RATES[-1] else 1.001)
    for peer in ("sglang_cache_aware", "aibrix_prefix_cache"):
        yield from _under(rows, KNEE, peer, "short p99", short_p99, 5.0)


def _hits(rows: Rows) -> Iterator[Goal]:
    own = rows.get(("policies", KNEE, OURS))
    others = [row for peer in (*_PEERS, "lmetric") if (row := rows.get(("policies", KNEE, peer)))]
    if own and others:
        best = max(others, key=lambda row: row.hit_rate)
        points = 100 * (best.hit_rate - own.hit_rate)
        yield Goal(f"rate {KNEE}: points of hit rate below {best.policy}'s", points, _HIT_RATE_POINTS, True)


def _replicas(rows: Rows) -> Iterator[Goal]:
    one, four = rows.get(("replicas", ONE, OURS)), rows.get(("replicas", shared(4, 5), OURS))
    if one and four:
        yield Goal("4 replicas, view 5 ms old: mean over one replica's", mean(four) / mean(one), 1.05, True)


def _herding(rows: Rows) -> Iterator[Goal]:
    one = rows.get(("herding", ONE, OURS))
    for age, bound in _HERDING.items():
        many = rows.get(("herding", shared(HERD_REPLICAS, age), OURS))
        if one and many:
            yield Goal(f"herding, view {age} ms old: mean over one replica's", mean(many) / mean(one), bound, True)


def _agentic(rows: Rows) -> Iterator[Goal]:
    own, other = (rows.get(("agentic", "closed loop", policy)) for policy in (OURS, "llmd_default"))
    if own and other:
        yield Goal("agentic: p99 over llmd_default's", p99(own) / p99(other), 1.0, True)


def _live(live: Agreement) -> Iterator[Goal]:
    for name, figure in (("p50", live.simulated.p50 / live.real.p50), ("p99", live.simulated.p99 / live.real.p99)):
        yield Goal(f"real time: simulated {name} over real, apart", abs(figure - 1), _AGREEMENT, True)


def hits_around(row: Row, restart_at_s: float, before_s: float, after_s: float) -> tuple[float, float]:
    """Hit rates of the requests that arrived within `before_s` before the restart and `after_s` after it."""
    return (
        _hit_rate([each for each in row.windows if restart_at_s - before_s <= each.at_s < restart_at_s]),
        _hit_rate([each for each in row.windows if restart_at_s <= each.at_s < restart_at_s + after_s]),
    )


def _hit_rate(windows: list[Window]) -> float:
    requests = sum(each.requests for each in windows)
    return sum(each.hit_rate * each.requests for each in windows) / requests if requests else 0.0
