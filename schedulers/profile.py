"""The parts of a composed policy: filters, scorers and pickers by name, and how specs become a composition.

After llm-d's endpoint picker (the Gateway API inference extension): filters select the pods that may be picked, scorers
give each of them a number from 0 to 1, the picker takes one by the weighted mean. The policy is `policies/profile.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from schedulers.filters.headroom import HasHeadroom
from schedulers.filters.label import HasLabel
from schedulers.filters.role import HasRole
from schedulers.parts import Specs
from schedulers.pickers.best import Best
from schedulers.pickers.top_k import TopK
from schedulers.pickers.weighted import Weighted
from schedulers.protocols import Filter, Picker, Scorer
from schedulers.scorers.inflight_tokens import FewTokens
from schedulers.scorers.kv_usage import FreeKv
from schedulers.scorers.latency import PeakEwma
from schedulers.scorers.locality import Nearness
from schedulers.scorers.lora import AdapterInUse
from schedulers.scorers.outlook import EarlyStart
from schedulers.scorers.prefix import PrefixShare
from schedulers.scorers.queue import ShortQueue
from schedulers.scorers.session import SessionPlace
from schedulers.types import LoadSnapshot, Rejection, RequestInfo
from schedulers.weighing import Weighed

FILTERS: Final[Mapping[str, type[Filter]]] = {"role": HasRole, "label": HasLabel, "headroom": HasHeadroom}

SCORERS: Final[Mapping[str, type[Scorer]]] = {
    "queue": ShortQueue,
    "kv_usage": FreeKv,
    "inflight_tokens": FewTokens,
    "prefix": PrefixShare,
    "latency": PeakEwma,
    "outlook": EarlyStart,
    "session": SessionPlace,
    "lora": AdapterInUse,
    "locality": Nearness,
}

PICKERS: Final[Mapping[str, type[Picker]]] = {"best": Best, "weighted": Weighted, "top_k": TopK}

MOST_WEIGHT: Final = 1000.0

_DIGITS: Final = 12
"""Decimals of a scorer's share of all weights: few enough that scaling all weights alike gives the same shares."""


class Weight(NamedTuple):
    """A scorer and its share of all weights."""

    share: float
    scorer: Scorer


class Composition(NamedTuple):
    """A composed policy's parts, without those that change nothing."""

    filters: tuple[Filter, ...]
    """The required ones first: a preferred filter must not remove the last pod that a required one passes."""
    scorers: tuple[Weight, ...]
    picker: Picker

    def left(self, request: RequestInfo, snapshot: LoadSnapshot) -> LoadSnapshot | Rejection:
        """The candidates that pass the filters; a preferred filter that none passes is ignored."""
        for each in self.filters:
            at = each.passes(request, snapshot)
            if not at:
                if each.required:
                    return Rejection(f"no_pod_passes_{each.name}")
            elif len(at) < len(snapshot.candidates):
                snapshot = snapshot.only(at)
        return snapshot

    def weighed(self, request: RequestInfo, snapshot: LoadSnapshot) -> Weighed:
        """The candidates' scores by all scorers."""
        weighed = Weighed(len(snapshot.candidates))
        for share, scorer in self.scorers:
            weighed.add(share, scorer.score(request, snapshot))
        return weighed


def compose(policy: str, filters: object, scorers: object, picker: object, sample: int) -> Composition:
    """The parts that these specs name. Raises InvalidParams with every mistake in them."""
    specs = Specs()
    chosen = [
        specs.part("filter", FILTERS, f"params.filters[{at}]", spec)
        for at, spec in enumerate(specs.listed("params.filters", filters))
    ]
    weighed = [
        _weighed(specs, f"params.scorers[{at}]", spec)
        for at, spec in enumerate(specs.listed("params.scorers", scorers))
    ]
    one = specs.part("picker", PICKERS, "params.picker", picker)
    if sample:
        specs.problems += [
            f"params.sample: {scorer.name} must see every pod, as those it would pick may not be drawn; use no sample"
            for _, scorer in weighed
            if scorer is not None and scorer.needs_all
        ]
    specs.refuse(policy)
    everything = sum(weight for weight, _ in weighed)
    shares = [Weight(round(weight / everything, _DIGITS), scorer) for weight, scorer in weighed if weight and scorer]
    in_order = sorted([each for each in chosen if each is not None], key=lambda each: not each.required)
    assert one is not None  # else it was refused
    return Composition(tuple(in_order), tuple(shares), one)


def _weighed(specs: Specs, where: str, spec: object) -> tuple[float, Scorer | None]:
    scorer = specs.part("scorer", SCORERS, where, spec, ("weight",))
    given = spec.get("weight", 1.0) if isinstance(spec, Mapping) else 1.0
    return specs.number(f"{where}.weight", given, 0.0, MOST_WEIGHT), scorer
