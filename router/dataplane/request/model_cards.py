"""What the pods of each pool say of each model, merged for GET /v1/models. Pure.

Equal cards are kept once, with the number of pods that have them: 1,000 pods with the same adapters cost as much as
one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

from statesync.engines.model_list import ModelCard, ModelCards

LEAST: Final = frozenset(("max_model_len",))
"""Fields of which the smallest value is true of every pod."""


class CardCatalog:
    """The cards of all pods, by pool."""

    def __init__(self) -> None:
        self._by_pod: dict[str, dict[str, ModelCards]] = {}
        """Pool -> pod -> its cards."""
        self._by_model: dict[str, dict[str, Counter[ModelCard]]] = {}
        """Pool -> model -> its cards and how many pods have each."""

    def set(self, pool: str, pod: str, cards: ModelCards | None) -> None:
        """Take in what a pod lists; None if it has no list."""
        pods, models = self._by_pod.setdefault(pool, {}), self._by_model.setdefault(pool, {})
        before, now = pods.pop(pod, {}), cards or {}
        for model, card in before.items():
            if now.get(model) != card:
                _take_away(models, model, card)
        kept: dict[str, ModelCard] = {}
        for model, card in now.items():
            if (same := before.get(model)) == card:
                kept[model] = card if same is None else same
            else:
                kept[model] = _add(models.setdefault(model, Counter()), card)
        if kept:
            pods[pod] = kept

    def forget(self, pool: str, pods: Collection[str]) -> None:
        """Remove pods that are gone."""
        for pod in pods:
            if pod in self._by_pod.get(pool, {}):
                self.set(pool, pod, None)

    def merged(self, pool: str, model: str) -> dict[str, Any]:
        """The model's fields, as its pods say them: the first that has a value decides. Empty if no pod lists it."""
        fields: dict[str, Any] = {}
        for card in self._by_model.get(pool, {}).get(model, ()):
            _merge(fields, card.fields)
        return fields

    def __repr__(self) -> str:
        pools = ", ".join(f"{pool} {len(models)}" for pool, models in self._by_model.items())
        return f"<CardCatalog: {pools or 'no pools'}>"


def _add(cards: Counter[ModelCard], card: ModelCard) -> ModelCard:
    """Count the card; returns the equal one that is kept."""
    if card in cards:
        cards[card] += 1  # the key stays the first of the equal cards
        return next(each for each in cards if each == card)
    cards[card] = 1
    return card


def _take_away(models: dict[str, Counter[ModelCard]], model: str, card: ModelCard) -> None:
    cards = models[model]
    cards[card] -= 1
    if not cards[card]:
        del cards[card]
    if not cards:
        del models[model]


def _merge(fields: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        have = fields.get(name)
        if have is None or (name in LEAST and isinstance(value, int) and isinstance(have, int) and value < have):
            fields[name] = value
