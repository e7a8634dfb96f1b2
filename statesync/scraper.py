"""Reading every engine's load and models off its own pages, and noticing when an engine has restarted.

Reports are handed on; what they mean for routing is decided by who hears them. A page that cannot be read hands on
nothing: the last report ages, and the view knows how old it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import httpx
import msgspec

from schedulers.types import Pod, PodId
from statesync.patrol import Pace, Patrol
from statesync.promtext import parse
from statesync.types import EngineReport

_log = logging.getLogger("turnout.scraper")

_MAX_PAGE_BYTES = 8 * 2**20
_KEEPALIVE_S = 4.0
"""Below vLLM's (uvicorn's) 5 s, so that an idle connection is ours to close."""
_RETRY_MODELS_S = 5.0
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

    on_report: Callable[[PodId, EngineReport], None]
    on_models: Callable[[PodId, frozenset[str]], None]
    """The ids the pod serves, LoRA adapters included: on first contact, after a restart, and at an interval."""
    on_restart: Callable[[PodId], None]
    """The engine is a new process: what it had cached is gone. Comes before the new process's report."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Unreadable(Exception):
    """The page came, but is not what it should be."""


@dataclass(slots=True)
class _Engine:
    """What is remembered of one pod."""

    report: EngineReport = NOTHING_KNOWN
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
        *,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._listener = listener
        self._clock = clock
        self._patrol = Patrol(Pace(config.interval_s, config.max_per_s), "scrape", clock=clock, dice=dice)
        self._engines: dict[PodId, _Engine] = {}
        self.scrapes_total = 0
        """Counter: pages asked for."""
        self.failures_total = 0
        """Counter: of those, not read."""

    def set_pods(self, pool: str, pods: Iterable[Pod]) -> None:
        """The pool's pods are now these."""
        self._patrol.set_pods(pool, pods)
        self._engines = {pod: self._engines.get(pod) or _Engine() for pod in self._patrol.pods}

    async def run(self) -> None:
        """Scrape until cancelled."""
        async with httpx.AsyncClient(
            # Pods speak no TLS: `verify` only spares loading certificates. Engines are spared compressing.
            verify=False,
            trust_env=False,
            timeout=None,
            limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
            headers={"accept-encoding": "identity", **self._config.headers},
        ) as client:
            await self._patrol.run(partial(self._visit, client))

    async def _visit(self, client: httpx.AsyncClient, pod: Pod) -> None:
        # A pod that left while this waited keeps an engine nobody sees any more.
        engine = self._engines.get(pod.id)
        if engine is None:
            return
        if (page := await self._read(client, pod, engine, self._config.path, _metrics)) is not None:
            self._heard(pod.id, engine, page)
        if self._clock() >= engine.models_at:
            models = await self._read(client, pod, engine, self._config.models_path, _model_ids)
            wait_s = _RETRY_MODELS_S if models is None else self._config.models_interval_s
            engine.models_at = self._clock() + min(wait_s, self._config.models_interval_s)
            if models is not None:
                self._listener.on_models(pod.id, models)

    def _heard(self, pod: PodId, engine: _Engine, report: EngineReport) -> None:
        before, engine.report = engine.report, report
        if restarted(before, report):
            _log.info("%s: the engine has restarted", pod)
            engine.models_at = float("-inf")
            self._listener.on_restart(pod)
        self._listener.on_report(pod, report)

    async def _read(
        self, client: httpx.AsyncClient, pod: Pod, engine: _Engine, path: str, reader: Callable[[bytes], _T]
    ) -> _T | None:
        """What `reader` makes of the page at this path; None, counted and logged once, if there is no such page."""
        self.scrapes_total += 1
        try:
            async with asyncio.timeout(self._config.timeout_s):
                read = reader(await _page(client, f"http://{pod.address}{path}"))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, _Unreadable) as error:
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
    stamps = before.started_at, after.started_at
    if stamps[0] is not None and stamps[1] is not None and abs(stamps[1] - stamps[0]) > _SAME_START_S:
        return True
    counters = (
        (before.prefix_queries_tokens, after.prefix_queries_tokens),
        (before.prefix_hits_tokens, after.prefix_hits_tokens),
    )
    return any(was is not None and now is not None and now < was for was, now in counters)


async def _page(client: httpx.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url) as response:
        if response.status_code != 200:
            raise _Unreadable(f"status {response.status_code}")
        page = bytearray()
        async for chunk in response.aiter_bytes():
            page += chunk
            if len(page) > _MAX_PAGE_BYTES:
                raise _Unreadable(f"more than {_MAX_PAGE_BYTES} bytes")
        return bytes(page)


def _metrics(page: bytes) -> EngineReport:
    report = parse(page)
    if report == NOTHING_KNOWN:
        raise _Unreadable("no metrics of an engine known here")
    return report


def _model_ids(page: bytes) -> frozenset[str]:
    try:
        return frozenset(model.id for model in msgspec.json.decode(page, type=_Models).data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _Unreadable(f"no list of models: {error}") from None
