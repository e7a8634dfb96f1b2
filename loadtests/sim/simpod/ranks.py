"""The data-parallel ranks of a pod: engines with their own batches and caches behind one port. The header
`x-data-parallel-rank` chooses one, as with vLLM; without it the one with the fewest requests gets the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from loadtests.sim.engine.model import Engine
from loadtests.sim.engine.profiles import EngineProfile
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.metrics import Meters
from loadtests.sim.simpod.pump import Pump

if TYPE_CHECKING:
    from loadtests.sim.simpod.kv_events import KvEventSockets

HEADER = b"x-data-parallel-rank"

_FIGURES = ("running", "waiting", "prefix_queries_tokens", "prefix_hits_tokens", "prompt_tokens", "generation_tokens")


class EngineRank:
    """One rank: its engine, what is counted of it, and, once the pod has started, what steps it."""

    def __init__(self, profile: EngineProfile, models: tuple[str, ...], started_at: float, number: int) -> None:
        self.number = number
        self.engine = Engine(profile)
        self.meters = Meters(self.engine, models, started_at, number)
        self.pump: Pump | None = None
        self.publisher: KvEventSockets | None = None
        self.requests = 0
        """Requests that it got."""

    def start(self, speed: float, kv_events: tuple[str, str] | None) -> Pump:
        """Begin to step the engine, and to publish its events. Raises OSError where an address is taken."""
        self.pump = Pump(self.engine, self.meters, speed)
        if kv_events is not None:
            from loadtests.sim.simpod.kv_events import KvEventSockets

            live, replay = (_next(address, self.number) for address in kv_events)
            size = self.engine.profile.block_tokens
            self.publisher = KvEventSockets(live, replay, block_tokens=size, rank=self.number)
            self.engine.kv.watcher = self.publisher
        return self.pump

    def stop(self) -> None:
        """No more steps, no more events."""
        if self.pump is not None:
            self.pump.stop()
        if self.publisher is not None:
            self.publisher.stop()
            self.publisher = None

    def figures(self) -> dict[str, object]:
        """What /sim/state says of it."""
        return {"requests": self.requests, **{name: getattr(self.engine, name) for name in _FIGURES}}


def chosen(ranks: Sequence[EngineRank], headers: Mapping[bytes, bytes]) -> EngineRank:
    """The rank that gets a request with these headers. ApiError for one that does not exist."""
    named = headers.get(HEADER, b"")
    if named.removeprefix(b"-").isdigit():  # vLLM reads anything else as no rank
        number = int(named)
        if not 0 <= number < len(ranks):
            message = f"data_parallel_rank {number} is out of range [0, {len(ranks)})."
            raise rejected(message, "data_parallel_rank", number)
        return ranks[number]
    return min(ranks, key=lambda each: each.engine.running + each.engine.waiting)


def exposition(ranks: Sequence[EngineRank]) -> bytes:
    """The metrics page: the series of all ranks, those of a metric together."""
    metrics: dict[bytes, dict[bytes, None]] = {}
    for rank in ranks:
        for text in rank.meters.text().split(b"# HELP ")[1:]:
            lines = metrics.setdefault(text.partition(b" ")[0], {})
            lines.update(dict.fromkeys(text.splitlines(keepends=True)))
    return b"".join(b"# HELP " + b"".join(lines) for lines in metrics.values())


def totals(ranks: Sequence[EngineRank]) -> dict[str, object]:
    """What /sim/state says of all of them."""
    engines = [each.engine for each in ranks]
    pumps = [each.pump for each in ranks if each.pump is not None]
    ends = [each.meters.finished for each in ranks]
    return {
        **{name: sum(getattr(engine, name) for engine in engines) for name in (*_FIGURES, "preemptions")},
        "kv_usage": sum(engine.kv_usage for engine in engines) / len(engines),
        "steps": sum(pump.steps for pump in pumps),
        "late_s": sum(pump.late_s for pump in pumps),
        "lost_s": sum(pump.lost_s for pump in pumps),
        "finished": {reason: sum(each[reason] for each in ends) for reason in ends[0]},
        "ranks": [each.figures() for each in ranks],
    }


def _next(address: str, number: int) -> str:
    """The address of a rank's publisher: as many ports further."""
    front, _, port = address.rpartition(":")
    return f"{front}:{int(port) + number}"
