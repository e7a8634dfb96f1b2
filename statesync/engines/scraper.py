"""Reading every engine's load and models off its own pages, and noticing when an engine has restarted.

Reports are handed on; what they mean for routing is decided by who hears them. A page that cannot be read hands on
nothing: the last report ages, and the view knows how old it is.

Of several replicas one reads an engine's metrics, the one that is elected for it, and tells the others; where nobody's
report comes for a while, whoever misses it reads for itself. The models each replica asks for itself: it is rare.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange, change_of
from statesync.engines.http_get import HttpGetter, Unreadable
from statesync.engines.polling import Poller, PollInterval
from statesync.engines.promtext import parse
from statesync.types import EngineReport

_log = logging.getLogger("turnout.scraper")

_RETRY_MODELS_S = 5.0
_SILENT_INTERVALS = 3
"""An engine of which nothing was heard for so long is read here too: whoever is elected for it is cut off, or dead."""
_SAME_START_S = 1.0
"""Start stamps nearer than this are one start: some exporters compute theirs anew and round."""

NOTHING_KNOWN = EngineReport()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ScrapeConfig:
    """How to scrape; the defaults are the settings'."""

    path: str = "/metrics"
    interval_s: float = 1.0
    timeout_s: float = 2.0
    """For a whole page."""
    max_per_s: float = 50.0
    models_path: str = "/v1/models"
    models_interval_s: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along, such as `authorization` for engines whose /v1/models wants a key."""


class ScrapeListener(NamedTuple):
    """Who hears what was read. Called on the event loop; must not block."""

    on_report: Callable[[PodId, EngineReport, float], None]
    """With the report's age in seconds: 0.0 unless another replica made it."""
    on_models: Callable[[PodId, frozenset[str]], None]
    """The ids the pod serves, LoRA adapters included: on first contact, after a restart, and at an interval."""
    on_restart: Callable[[PodId], None]
    """The engine is a new process: what it had cached is gone. Comes before the new process's report."""


class SharedScrapes(Protocol):
    """The part of a StateStore that divides the work."""

    def elected(self, pod: PodId, /) -> bool:
        """See StateStore."""
        ...

    def report(self, pod: PodId, report: EngineReport, /) -> None:
        """See StateStore."""

    def forgot(self, pod: PodId, /) -> None:
        """See StateStore."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


@dataclass(slots=True)
class _Engine:
    """What is remembered of one pod."""

    heard_at: float
    """When the last report was made, whoever made it; before the first, when the pod came."""
    report: EngineReport = NOTHING_KNOWN
    read_here: bool = False
    """Whether its metrics were for this replica to read at its last turn."""
    models_at: float = float("-inf")
    """When to ask for the models next."""
    failing: set[str] = field(default_factory=set)
    """Paths that failed last time, so that a failure is logged once and not every second."""


class Scraper:
    """Scrapes the pods of all pools."""

    def __init__(
        self,
        config: ScrapeConfig,
        listener: ScrapeListener,
        shared: SharedScrapes,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._listener = listener
        self._shared = shared
        self._clock = clock
        pace = PollInterval(config.interval_s, config.max_per_s)
        self._poller = Poller(pace, "scrape", wanted=self._wanted, clock=clock, rng=rng)
        self._engines: dict[PodId, _Engine] = {}
        self.scrapes_total = 0
        """Counter: pages asked for."""
        self.failures_total = 0
        """Counter: of those, not read."""

    def set_pods(self, pool: str, pods: Iterable[Pod]) -> None:
        """The pool's pods are now these."""
        self.change_pods(pool, change_of(self._poller.pods_of(pool), pods))

    def change_pods(self, pool: str, change: PodChange) -> None:
        """As `set_pods`, told only the difference."""
        left = self._poller.change_pods(pool, change)
        now = self._clock()
        for pod in change.come:
            if pod.id not in self._engines:
                self._engines[pod.id] = _Engine(now)
        for gone in left:
            del self._engines[gone]

    @property
    def pods_read_here(self) -> int:
        """Engines whose metrics this replica reads at present."""
        return sum(engine.read_here for engine in self._engines.values())

    async def run(self) -> None:
        """Scrape until cancelled."""
        pages = HttpGetter(self._config.headers)
        try:
            await self._poller.run(partial(self._visit, pages))
        finally:
            pages.close()

    # Told by other replicas

    def reported_elsewhere(self, pod: PodId, report: EngineReport, age_s: float) -> None:
        """Take a report that another replica made `age_s` ago. Older than the last, or of a pod that is not here, it is
        passed over."""
        engine = self._engines.get(pod)
        at = self._clock() - age_s
        if engine is None or (at < engine.heard_at and engine.report is not NOTHING_KNOWN):
            return
        # A page takes up to `timeout_s` from the engine to its reader, so two readers' counters may cross on the way
        # and seem to go backwards. The one that scrapes sees a restart in its own and says so; stamps cannot cross.
        crossed = at - engine.heard_at < self._config.timeout_s
        before, engine.report, engine.heard_at = engine.report, report, max(engine.heard_at, at)
        if (_started_anew if crossed else restarted)(before, report):
            self._restarted(pod, engine)
        self._listener.on_report(pod, report, age_s)

    def forgotten_elsewhere(self, pod: PodId) -> None:
        """Another replica saw the engine restart and said so: its next report must not say it again."""
        engine = self._engines.get(pod)
        if engine is not None:
            engine.report = NOTHING_KNOWN
            engine.models_at = float("-inf")

    def _wanted(self, pod: PodId) -> bool:
        """Whether a visit has anything to do."""
        engine = self._engines.get(pod)
        if engine is None:
            return False
        now = self._clock()
        interval_s = max(self._config.interval_s, len(self._engines) / self._config.max_per_s)
        engine.read_here = self._shared.elected(pod) or now - engine.heard_at >= _SILENT_INTERVALS * interval_s
        return engine.read_here or now >= engine.models_at

    async def _visit(self, pages: HttpGetter, pod: Pod) -> None:
        # A pod that left while this waited keeps an engine nobody sees any more.
        engine = self._engines.get(pod.id)
        if engine is None:
            return
        began = self._clock()
        if engine.read_here and (page := await self._read(pages, pod, engine, self._config.path, _metrics)) is not None:
            self._heard(pod.id, engine, page, began)
        if self._clock() >= engine.models_at:
            models = await self._read(pages, pod, engine, self._config.models_path, _model_ids)
            wait_s = _RETRY_MODELS_S if models is None else self._config.models_interval_s
            engine.models_at = self._clock() + min(wait_s, self._config.models_interval_s)
            if models is not None:
                self._listener.on_models(pod.id, models)

    def _heard(self, pod: PodId, engine: _Engine, report: EngineReport, began: float) -> None:
        if engine.heard_at > began:
            return  # another replica read it meanwhile: which page is the newer cannot be told
        before, engine.report, engine.heard_at = engine.report, report, self._clock()
        if restarted(before, report):
            self._restarted(pod, engine)
            self._shared.forgot(pod)
        self._listener.on_report(pod, report, 0.0)
        self._shared.report(pod, report)

    def _restarted(self, pod: PodId, engine: _Engine) -> None:
        _log.info("%s: the engine has restarted", pod)
        engine.models_at = float("-inf")
        self._listener.on_restart(pod)

    async def _read(
        self, pages: HttpGetter, pod: Pod, engine: _Engine, path: str, reader: Callable[[bytes], _T]
    ) -> _T | None:
        """What `reader` makes of the page at this path; None, counted and logged once, if there is no such page."""
        self.scrapes_total += 1
        try:
            async with asyncio.timeout(self._config.timeout_s):
                read = reader(await pages.get(pod.address, path))
        except (OSError, Unreadable) as error:
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
    """Whether these are reports of two processes: the start stamp moved, or a counter went backwards."""
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


def _metrics(page: bytes) -> EngineReport:
    report = parse(page)
    if report == NOTHING_KNOWN:
        raise Unreadable("no metrics of an engine known here")
    return report


def _model_ids(page: bytes) -> frozenset[str]:
    try:
        return frozenset(model.id for model in msgspec.json.decode(page, type=_Models).data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unreadable(f"no list of models: {error}") from None
