"""Reads every engine's load from its metrics page, and detects restarts of engines.

Reports are passed to a listener, which decides what they mean for routing. A page that cannot be read passes nothing
on: the last report ages, and the view knows its age.

A pod without metrics is used all the same: its queue is estimated from what the gateway sent it. Where the metrics are
is the engine's preset, or a setting.

Of several replicas the elected one reads an engine's metrics and shares them. If no report arrives for a while, each
replica that misses it reads for itself. Every replica reads the models itself, which is rare.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple, TypeVar

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.discovery.ranks import is_first, process_of
from statesync.engines.access import NO_ACCESSES, Accesses
from statesync.engines.http_get import Absent, HttpGetter, Unreadable
from statesync.engines.metrics_page import engine_of, parse, parse_ranks
from statesync.engines.polling import Poller, PollInterval
from statesync.engines.presets import AUTO
from statesync.settings import Scrape
from statesync.store.protocol import StateStore
from statesync.types import EngineReport

_log = logging.getLogger("turnout.scraper")

_SILENT_INTERVALS = 3
"""Scrape intervals without a report after which an engine is read here, too: its elected replica is cut off, or
dead."""
ABSENT_S: Final = 30.0
"""Seconds between two searches for metrics that a pod does not have."""
_SAME_START_S = 1.0
"""Seconds by which two start times of one process may differ: some exporters compute and round theirs each time."""

NOTHING_KNOWN = EngineReport()

_T = TypeVar("_T")


class ScrapeListener(NamedTuple):
    """Receives what was read. Called on the event loop; must not block."""

    on_report: Callable[[PodId, EngineReport, float], None]
    """With the report's age in seconds: 0.0 unless another replica made it."""
    on_restart: Callable[[PodId], None]
    """The engine is a new process with an empty cache. Called before the new process's report."""


@dataclass(slots=True)
class _Engine:
    """The state of one pod."""

    reported_at: float
    """When the last report was made, by any replica; before the first, when the pod came."""
    report: EngineReport = NOTHING_KNOWN
    read_here: bool = False
    """Whether this replica reads its metrics, as of its last turn."""
    metrics_path: str = ""
    """Where its metrics were found last."""
    metrics_at: float = float("-inf")
    """When to look for metrics next."""
    failing: set[str] = field(default_factory=set)
    """Paths that failed last time, so that a failure is logged once."""


class Scraper:
    """Scrapes the pods of all pools."""

    def __init__(
        self,
        config: Scrape,
        listener: ScrapeListener,
        shared: StateStore,
        accesses: Accesses = NO_ACCESSES,
        *,
        absent_s: float = ABSENT_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._absent_s = absent_s
        self._accesses = accesses
        self._noted: set[tuple[str, str]] = set()
        """Pool and what was found, of what the log named."""
        self._listener = listener
        self._shared = shared
        self._clock = clock
        pace = PollInterval(config.interval_s, config.max_per_s)
        self._poller = Poller(pace, "scrape", wanted=self._wanted, clock=clock, rng=rng)
        self._engines: dict[PodId, _Engine] = {}
        self.failures_total = 0
        """Counter: pages that could not be read."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it."""
        left = self._poller.change_pods(pool, change)
        now = self._clock()
        for pod in change.come:
            if pod.id not in self._engines:
                self._engines[pod.id] = _Engine(now)
        for gone in left:
            del self._engines[gone]

    @property
    def pods_read_here(self) -> int:
        """Engines whose metrics this replica reads now."""
        return sum(engine.read_here for engine in self._engines.values())

    async def run(self) -> None:
        """Scrape until cancelled."""
        pages = HttpGetter()
        try:
            await self._poller.run(partial(self._visit, pages))
        finally:
            pages.close()

    # Called for other replicas' reports

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float) -> None:
        """Take a report that another replica made `age_s` ago. It is ignored if it is older than the last one, or its
        pod is unknown."""
        engine = self._engines.get(pod)
        at = self._clock() - age_s
        if engine is None or (at < engine.reported_at and engine.report is not NOTHING_KNOWN):
            return
        # A page takes up to `timeout_s` from the engine to its reader, so the counters of two readers may arrive in the
        # wrong order and seem to go backwards. Each reader sees a restart in its own pages, and start times have no
        # order.
        crossed = at - engine.reported_at < self._config.timeout_s
        before, engine.report, engine.reported_at = engine.report, report, max(engine.reported_at, at)
        if (_started_anew if crossed else restarted)(before, report):
            self._restarted(pod)
        self._listener.on_report(pod, report, age_s)

    def forgotten_elsewhere(self, pod: PodId) -> None:
        """Another replica reported the engine's restart: its next report must not count as one again."""
        engine = self._engines.get(pod)
        if engine is not None:
            engine.report = NOTHING_KNOWN

    def _wanted(self, pod: PodId) -> bool:
        """Whether a visit has anything to do."""
        engine = self._engines.get(pod)
        if engine is None or not is_first(self._poller.pods[pod]):
            return False
        now = self._clock()
        interval_s = max(self._config.interval_s, len(self._engines) / self._config.max_per_s)
        engine.read_here = self._shared.elected(pod) or now - engine.reported_at >= _SILENT_INTERVALS * interval_s
        return engine.read_here and now >= engine.metrics_at

    async def _visit(self, pages: HttpGetter, pod: Pod) -> None:
        # The pod may have left while this visit waited.
        engine = self._engines.get(pod.id)
        if engine is None:
            return
        if engine.read_here and self._clock() >= engine.metrics_at:
            await self._read_metrics(pages, pod, engine)

    async def _read_metrics(self, pages: HttpGetter, pod: Pod, engine: _Engine) -> None:
        """Take the first of the engine's metrics pages that the pod has."""
        pool = self._poller.pool_of(pod.id)
        absent: list[str] = []
        known = engine.metrics_path
        for path in sorted(self._accesses.of(pool).preset.metrics, key=lambda each: each != known):
            began = self._clock()
            try:
                read = await self._read(pages, pod, engine, path, partial(_metrics, pod), may_lack=True)
            except Absent as error:
                absent.append(f"{path}: {error}")
                if isinstance(error, _EmptyPage):
                    break
                continue
            if read is not None:
                engine.metrics_path = path
                self._note_engine(pool, pod, path, read[0])
                for rank, report in zip(process_of(pod), read[1], strict=True):
                    if (each := self._engines.get(rank)) is not None:
                        self._take(rank, each, report, began)
            return
        if not known:
            engine.metrics_at = self._clock() + self._absent_s
        engine.metrics_path = ""
        said = ", ".join(absent)
        if absent and (pool, said) not in self._noted:
            self._noted.add((pool, said))
            advice = "set `engine`, or upstream.metrics_path to where they are"
            _log.warning("%s: no metrics (%s), so its queue is estimated; %s of pool %s", pod.id, said, advice, pool)

    def _note_engine(self, pool: str, pod: Pod, path: str, name: str) -> None:
        """Log which engine `engine: auto` found, once a pool."""
        if (pool, name) in self._noted:
            return
        self._noted.add((pool, name))
        if self._accesses.of(pool).engine == AUTO:
            _log.info("%s: %s is of engine %s; to say so, set engine: %s of pool %s", pod.id, path, name, name, pool)

    def _take(self, pod: PodId, engine: _Engine, report: EngineReport, began: float) -> None:
        if engine.reported_at > began:
            return  # another replica read it meanwhile: the newer page is unknown
        before, engine.report, engine.reported_at = engine.report, report, self._clock()
        if restarted(before, report):
            self._restarted(pod)
            self._shared.forgot(pod)
        self._listener.on_report(pod, report, 0.0)
        self._shared.report(pod, report)

    def _restarted(self, pod: PodId) -> None:
        _log.info("%s: the engine has restarted", pod)
        self._listener.on_restart(pod)

    async def _read(
        self,
        pages: HttpGetter,
        pod: Pod,
        engine: _Engine,
        path: str,
        reader: Callable[[bytes], _T],
        *,
        may_lack: bool = False,
    ) -> _T | None:
        """The page at this path, decoded by `reader`; None, counted and logged once, if it cannot be read. With
        `may_lack` raises Absent where the pod has no such page."""
        access = self._accesses.of(self._poller.pool_of(pod.id))
        try:
            async with asyncio.timeout(self._config.timeout_s):
                read = reader(await pages.get(pod.address, path, access))
        except (OSError, Unreadable) as error:
            if may_lack and isinstance(error, Absent):
                raise
            self.failures_total += 1
            if path not in engine.failing:
                engine.failing.add(path)
                _log.warning("%s: cannot read %s: %s", pod.id, path, str(error) or type(error).__name__)
            return None
        if path in engine.failing:
            engine.failing.remove(path)
            _log.info("%s: %s can be read again", pod.id, path)
        return read


def restarted(before: EngineReport, after: EngineReport) -> bool:
    """Whether these are reports of two processes: the start time changed, or a counter went backwards."""
    counters = (
        (before.prefix_queries_tokens, after.prefix_queries_tokens),
        (before.prefix_hits_tokens, after.prefix_hits_tokens),
    )
    return _started_anew(before, after) or any(
        was is not None and now is not None and now < was for was, now in counters
    )


def _started_anew(before: EngineReport, after: EngineReport) -> bool:
    was, now = before.started_at, after.started_at
    return was is not None and now is not None and abs(now - was) > _SAME_START_S


class _EmptyPage(Absent):
    """The pod has this path and says nothing there: it has no metrics elsewhere."""


def _metrics(pod: Pod, page: bytes) -> tuple[str, list[EngineReport]]:
    """The engine that wrote the page, and its load, or that of each of its ranks."""
    if not page:
        raise _EmptyPage("an empty page")
    ranks = len(process_of(pod))
    reports = [parse(page)] if ranks == 1 else parse_ranks(page, ranks)
    if all(report == NOTHING_KNOWN for report in reports):
        raise Absent("no metrics of an engine known here")
    return engine_of(page), reports
