"""Reads which models each pod lists, adapters included, and passes every change on.

Of several replicas the elected one reads a pod's list at the interval. When it differs, the others are sent the pod's
name and read it for themselves. Each reads on its own, too, though rarely: a message may be lost. `look_again` reads
all lists at once, for a request whose model no list names; `refused` corrects a list by a pod's answer to a request.

Knows no pool, no route and no request. `model_list.py` reads the page.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from schedulers.types import Pod, PodId
from statesync.discovery.changes import PodChange
from statesync.engines.access import NO_ACCESSES, Accesses
from statesync.engines.http_get import ABSENT, HttpGetter, Unreadable
from statesync.engines.model_list import ModelCards, NoModelList, cards_of, ids_of
from statesync.engines.pod_models import CardPages, Doubt, ParsedPages, PodModels
from statesync.engines.polling import Poller, PollInterval
from statesync.settings import Scrape
from statesync.store.protocol import StateStore
from statesync.tasks import spawn

_log = logging.getLogger("turnout.models")

OWN_READ_S: Final = 30.0
"""Seconds between two readings by a replica that is not elected, and between two comparisons of whole cards."""
RETRY_S: Final = 5.0
"""Seconds until a list that could not be read is read again."""
LOOK_LIMIT_S: Final = 2.0
"""Seconds that a look at all lists may take; pods that answer later are not waited for."""
LOOKS_PER_S: Final = 2.0
"""Most looks a second."""
LOOK_POD_S: Final = 0.01
"""Seconds between two looks for each pod: with 1,000 pods there is one in 10 s."""
MOST_PATIENCE_S: Final = 1.0
"""Longest wait, in seconds, for the beginning of a look."""
LATELY_S: Final = 10.0
"""Seconds for which a model that a pod listed is looked for with patience."""
MOST_GONE: Final = 10_000
"""Such models that are kept."""
_NONE: Final[frozenset[str]] = frozenset()
_AT_ONCE: Final = 64
"""Most readings under way in a look."""
TRUSTED: Final = 2
"""Refusals of a model after each of which the next reading of the pod's list counts again: the adapter may have been
unloaded and loaded. After more in a row, without a list that lacks the model, the pod is doubted."""
DOUBT_S: Final = 1.0
"""Seconds for which a list is doubted at first; doubled by each refusal that follows, up to `MOST_DOUBT_S`."""
MOST_DOUBT_S: Final = 60.0

PATH: Final = "/v1/models"
MAX_PER_S: Final = 200.0
"""Readings a second over all pods."""


OnModels = Callable[[PodId, ModelCards | None], None]
"""Takes what a pod lists now, without the models that it refused; None if it has no list."""

LookWaiter = Callable[[bool], bool]
"""Called after each change during a look, and with True at its end; returns whether it need not be called again."""


class ModelReader:
    """Reads the lists of the pods of all pools."""

    def __init__(
        self,
        config: Scrape,
        on_models: OnModels,
        shared: StateStore,
        accesses: Accesses = NO_ACCESSES,
        *,
        max_per_s: float = MAX_PER_S,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._on_models = on_models
        self._shared = shared
        self._clock = clock
        self._accesses = accesses
        self._pages = HttpGetter()
        pace = PollInterval(config.models_interval_s, max_per_s)
        self._poller = Poller(pace, "models", wanted=self._wanted, clock=clock, rng=rng)
        self.first_round = self._poller.first_round
        """Returns when each list known at the call has been read once, or cannot be. Use a timeout."""
        self._rng = rng
        self._card_pages = CardPages()
        self._lists: dict[PodId, PodModels] = {}
        self._gone: dict[str, float] = {}
        """When a pod ceased to list the model."""
        self._waiters: list[tuple[float, LookWaiter]] = []
        """With the time of each call."""
        self._look: asyncio.Task[None] | None = None
        self._looked_at = float("-inf")
        self._looking = False
        """Whether a look has begun and not ended."""
        self.reads_total = 0
        """Counter: pages requested."""

    def change_pods(self, pool: str, change: PodChange) -> None:
        """Pods came to a pool or left it."""
        left = self._poller.change_pods(pool, change)
        for pod in change.come:
            if self._lists.setdefault(pod.id, PodModels()).open:
                self._on_models(pod.id, None)  # discovery may name other models for it now
        for gone in left:
            del self._lists[gone]

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            await self._poller.run(self._visit)
        finally:
            if self._look is not None:
                self._look.cancel()
            self._pages.close()

    def rush(self, on: bool) -> None:
        """Whether lists are first read in a rush: while this replica does nothing else yet."""
        self._poller.rush = on

    def read_elsewhere(self, pages: Mapping[PodId, bytes]) -> None:
        """Take what the replicas that were there before have read, of pods not read here yet."""
        now, parsed = self._clock(), ParsedPages()
        for pod in self._poller.unvisited.intersection(pages):
            if (page := parsed.of(pages[pod])) is not None:
                known = self._lists[pod]
                known.ids, known.cards, known.open = page.ids, page.cards, page.cards is None
                known.compared_at, known.due_at = now, now + OWN_READ_S * self._rng()
                self._poller.visited(pod)
                self._pass_on(pod, known)

    # Reasons to read before the turn comes

    def changed_elsewhere(self, pod: PodId) -> None:
        """Another replica found that the pod's list has changed."""
        known = self._lists.get(pod)
        if known is not None:
            known.by_message = True
            self._read_soon(pod, known)

    def restarted(self, pod: PodId) -> None:
        """The pod's engine is a new process."""
        known = self._lists.get(pod)
        if known is not None:
            known.doubts.clear()
            known.compared_at = float("-inf")
            self._read_soon(pod, known)

    def refused(self, pod: PodId, model: str) -> None:
        """The pod answered a request that it does not have the model: it is no candidate for it, at once."""
        known, now = self._lists.get(pod), self._clock()
        if known is None or known.ids is None or model not in (known.undoubted(now) or ()):
            return
        count = known.doubts[model].times + 1 if model in known.doubts else 1
        wait_s = min(MOST_DOUBT_S, DOUBT_S * 2.0 ** (count - TRUSTED - 1)) if count > TRUSTED else 0.0
        known.doubts[model] = Doubt(count, now + wait_s)
        known.began_at = now  # a reading under way may have seen it still
        known.ids -= {model}
        if wait_s:
            _log.warning("%s lists %s and refuses it: not a candidate for it for %g s", pod, model[:200], wait_s)
        self._pass_on(pod, known)
        self._shared.models_changed(pod)
        self._read_soon(pod, known)

    def had(self, model: str) -> bool:
        """Whether a pod that listed the model ceased to do so a moment ago."""
        return self._clock() - self._gone.get(model, float("-inf")) < LATELY_S

    def look_again(self, waiter: LookWaiter, *, patient: bool) -> bool:
        """Read all lists, because one may name a model by now that none did; `waiter` follows. A look that has to wait
        because of the last one is for the `patient`, and not if that takes too long; others join one that is under way.
        False, and nothing is done, where there is none."""
        now = self._clock()
        wait_s = self._looked_at + self._pause_s() - now
        if not self._lists:
            return False
        if wait_s > 0 and (not patient or wait_s > MOST_PATIENCE_S):
            if not self._looking:
                return False
            now = float("-inf")
        self._waiters.append((now, waiter))
        if self._look is None:
            self._begin_look(max(0.0, wait_s))
        return True

    def _pause_s(self) -> float:
        """Seconds between two looks."""
        return max(1 / LOOKS_PER_S, LOOK_POD_S * len(self._lists))

    # Reading

    def _wanted(self, pod: PodId) -> bool:
        """Whether a visit has anything to do."""
        known = self._lists.get(pod)
        if known is None:
            return False
        return self._clock() >= known.due_at or (not known.failing and self._shared.elected(pod))

    def _read_soon(self, pod: PodId, known: PodModels) -> None:
        known.due_at = float("-inf")
        self._poller.hurry(pod)

    async def _visit(self, pod: Pod) -> None:
        known = self._lists.get(pod.id)
        if known is None:  # it left while this visit waited
            return
        began, by_message, known.by_message = self._clock(), known.by_message, False
        known.due_at = began + OWN_READ_S
        page = await self._page(pod, known)
        if self._lists.get(pod.id) is not known:
            return
        if known.failing:
            known.due_at = min(known.due_at, began + RETRY_S)
        if page is not None and began >= known.began_at:
            known.began_at = began
            first = known.ids is None and not known.open
            if self._take(known, page, began):
                self._pass_on(pod.id, known)
                if not (first or by_message):
                    self._shared.models_changed(pod.id)

    async def _page(self, pod: Pod, known: PodModels) -> bytes | None:
        """The page; empty where the pod answers that it has none, None if it did not answer."""
        self.reads_total += 1
        access = self._accesses.of(self._poller.pool_of(pod.id))
        try:
            async with asyncio.timeout(self._config.timeout_s):
                page = await self._pages.get(pod.address, PATH, access)
            ids_of(page)
        except (OSError, Unreadable, NoModelList) as error:
            if not known.failing:
                known.failing = True
                reason = str(error) or type(error).__name__
                _log.warning("%s: cannot read its models at %s: %s", pod.id, PATH, reason)
            status = error.status if isinstance(error, Unreadable) else 200 if isinstance(error, NoModelList) else 0
            return b"" if status in ABSENT or (status and known.ids is None) else None
        if known.failing:
            known.failing = False
            _log.info("%s: its models can be read again", pod.id)
        return page

    def _take(self, known: PodModels, page: bytes, now: float) -> bool:
        """Keep what the page says; returns whether it changes what the pod is a candidate for."""
        if not page:
            was_open, known.open, known.ids, known.cards, known.shown = known.open, True, None, None, None
            return not was_open
        ids = ids_of(page)
        for model, doubt in list(known.doubts.items()):
            if model not in ids or now >= doubt.until + MOST_DOUBT_S:
                del known.doubts[model]
        before = known.cards
        if ids != known.ids or now - known.compared_at >= OWN_READ_S:
            known.cards, known.ids, known.compared_at, known.open = cards_of(page), ids, now, False
        return known.shown != known.undoubted(now) or (known.cards is not before and known.cards != before)

    def _pass_on(self, pod: PodId, known: PodModels) -> None:
        now = self._clock()
        cards, before, known.shown = known.cards, known.shown, known.undoubted(now)
        if len(self._gone) > MOST_GONE:
            self._gone.clear()
        self._gone.update(dict.fromkeys((before or _NONE) - (known.shown or _NONE), now))
        if cards is not None and known.shown is not None and len(known.shown) < len(cards):
            cards = {model: card for model, card in cards.items() if model in known.shown}
        self._on_models(pod, cards)
        self._shared.listed(pod, self._card_pages.of(cards))
        if self._waiters:
            self._waiters = [each for each in self._waiters if not each[1](False)]

    def _begin_look(self, wait_s: float) -> None:
        self._look = spawn(self._look_at_all(wait_s), "look at all lists of models")
        self._look.add_done_callback(self._looked)

    async def _look_at_all(self, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._looked_at, self._looking = self._clock(), True
        free = asyncio.Semaphore(_AT_ONCE)

        async def visit(pod: Pod) -> None:
            async with free:
                await self._visit(pod)

        visits = [spawn(visit(pod), f"models {pod.id}") for pod in self._poller.pods.values()]
        try:
            await asyncio.wait(visits, timeout=LOOK_LIMIT_S)
        finally:
            for late in visits:
                late.cancel()

    def _looked(self, task: asyncio.Task[None]) -> None:
        """A look ended: an answer to those that called before it began. For the others there is another one."""
        self._look, self._looking = None, False
        waiters, self._waiters = self._waiters, []
        self._waiters = [each for each in waiters if each[0] > self._looked_at]
        if self._waiters and not task.cancelled():
            self._begin_look(self._pause_s())
        for called_at, waiter in waiters:
            if called_at <= self._looked_at:
                waiter(True)

    def __repr__(self) -> str:
        listed = sum(known.ids is not None for known in self._lists.values())
        return f"<ModelReader: {listed} of {len(self._lists)} pods list their models, {len(self._waiters)} wait>"
