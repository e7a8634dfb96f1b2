"""One simulated gateway: the gateway's own view, index, correction, health tracker and retry rules, without a network.

It knows one replica's state; which replica gets a request, and when updates of others arrive, is `replicas.py`'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple

from loadtests.sim.simulate.traces import Arrival
from router.dataplane.retry import RULES, RetryBudget, RetryDecision, decide
from router.errors import PodFailure
from router.settings import Retries
from schedulers.types import Pod, PodId, RequestInfo
from statesync.discovery.changes import PodChange
from statesync.engines.health import HealthTracker, Outcome
from statesync.engines.scraper import restarted
from statesync.kv_events.matching import Answered
from statesync.kv_events.paths import PromptChain
from statesync.kv_events.precise_index import PreciseIndex
from statesync.load.pod_state import Charge
from statesync.load.view import LoadView
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex
from statesync.settings import Health
from statesync.types import EngineReport, InflightNumbers

POOL: Final = "default"

INDEX_BYTES: Final = 2**40
"""The simulated index is bounded by the pods' KV only."""


class Prediction(NamedTuple):
    """A time from an attempt's dispatch to its first token."""

    expected_s: float
    """As of the pick; 0.0 where nothing was expected."""
    found_s: float


class SentRequest:
    """A request on its way, with all that another attempt needs."""

    __slots__ = ("arrival", "attempts", "chain", "charge", "info", "known", "number", "replica", "sent_at", "tried")

    def __init__(self, number: int, arrival: Arrival, replica: Replica, chain: Sequence[int]) -> None:
        self.number = number
        self.arrival = arrival
        self.replica = replica
        self.chain = chain
        self.attempts = 0
        self.tried: frozenset[PodId] = frozenset()
        self.charge: Charge | None = None
        """None before the first attempt."""
        self.info: RequestInfo | None = None
        """As the policy saw it at the first attempt."""
        self.known = 0
        """Prompt tokens that its pod held when it was sent, by the index."""
        self.sent_at = 0.0
        """When the present attempt began."""


class Replica:
    """One gateway's own state."""

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        pods: Sequence[Pod],
        kv_tokens: int,
        rng: random.Random,
        view: LoadView,
        *,
        kv_events: bool = False,
    ) -> None:
        """`kv_tokens` is assumed of a pod before its first report."""
        self.name = name
        self._clock = clock
        self.announced: dict[PodId, InflightNumbers] = {}
        """Its latest own numbers, which a store keeps for replicas that start later."""
        self.view = view
        self.prefix = (PreciseIndex if kv_events else PrefixIndex)(INDEX_BYTES, kv_tokens)
        self.accuracy = PrefixAccuracy(self.prefix.set_trust)
        """Corrects the index by what engines report as cached; each replica by its own requests, as in the gateway."""
        self.health = HealthTracker(Health(), self._on_health, rng=rng.random, on_kept=view.keep)
        self.sequence = count()
        self._limits = Retries()
        self._budget = RetryBudget(self._limits, clock())
        self._reports: dict[PodId, EngineReport] = {}
        self.change_pods(PodChange(tuple(pods)))

    # From discovery, probes and scrapes.

    def change_pods(self, change: PodChange) -> None:
        """Pods came or went."""
        self.view.change_pods(POOL, change)
        self.health.change_pods(POOL, [pod.id for pod in change.come], change.gone)
        for pod in change.gone:
            self.prefix.forget(pod)
            self._reports.pop(pod, None)
        self.accuracy.forget(change.gone)

    def probed(self, answers: Mapping[PodId, bool]) -> None:
        """A round of probes: which pods answered."""
        for pod, well in answers.items():
            self.health.probe(pod, well, self._clock())

    def read(self, pod: PodId, report: EngineReport) -> None:
        """An engine's report; it also shows whether the engine is a new process."""
        before = self._reports.get(pod)
        self._reports[pod] = report
        if before is not None and restarted(before, report):
            self.prefix.forget(pod)
            self.accuracy.restarted(pod)
        self.view.report(pod, report)
        self.prefix.set_capacity(pod, report.kv_capacity_tokens or 0)
        self.accuracy.on_report(pod, report)

    # The stages of a request after dispatch, as the data plane takes them.

    def admitted(self) -> None:
        """Count a request of a client into the budget of retries."""
        self._budget.requests += 1

    def answered(self, sent: SentRequest) -> Prediction:
        """The first token is back: the pending prefill is given back. Returns what was expected of this attempt."""
        charge = _charge(sent)
        if charge.pod in self.health.unsettled:
            self.health.outcome(charge.pod, Outcome.OK, self._clock())
        took_s = self._clock() - sent.sent_at
        self.view.prefill_done(charge)
        self.view.observe_ttft(charge.pod, took_s, charge.expected_s)
        return Prediction(charge.expected_s, took_s)

    def finished(self, sent: SentRequest, cached_tokens: int | None) -> None:
        """The answer is complete: all is given back. A prediction is compared with the answer's usage."""
        charge = _charge(sent)
        self.view.release(charge)
        if sent.chain and cached_tokens is not None:
            reported = self._by_events(sent, charge.pod, cached_tokens)
            self.accuracy.judge(charge.pod, sent.known if reported is None else reported, cached_tokens)

    def _by_events(self, sent: SentRequest, pod: PodId, cached_tokens: int) -> int | None:
        """The cached tokens that events had said; the index learns from the answer, as in the gateway."""
        if not isinstance(self.prefix, PreciseIndex) or not isinstance(sent.chain, PromptChain):
            return None
        assert sent.info is not None, "it was sent"
        info = sent.info
        answer = Answered(
            sent.chain, info.arrived_at, self._clock(), info.prompt_tokens, cached_tokens, sent.arrival.output_tokens
        )
        return self.prefix.answered(pod, answer, info.prefix_hits)

    def failed(self, sent: SentRequest, failure: type[PodFailure], *, begun: bool) -> bool:
        """An attempt failed; whether another pod may be tried. The charge is the caller's to give back."""
        charge, now = _charge(sent), self._clock()
        outcome = RULES[failure].outcome
        if outcome is not None:
            self.health.outcome(charge.pod, outcome, now)
        decision = decide(failure(""), begun=begun, attempts=sent.attempts, stale_tries=0, limits=self._limits)
        if decision is not RetryDecision.ANOTHER_POD or not self._budget.withdraw(now):
            return False
        sent.tried |= {charge.pod}
        return True

    def _on_health(self, pod: PodId, reason: str, blocked: bool) -> None:
        if blocked:
            self.view.block(pod, reason)
        else:
            self.view.unblock(pod, reason)


def _charge(sent: SentRequest) -> Charge:
    assert sent.charge is not None, "it was sent"
    return sent.charge
