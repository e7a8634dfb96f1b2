"""What is known of one pod's list of models, and lists as pages that replicas share. Pure: when a list is read is
`model_reader.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from statesync.engines.model_list import ModelCard, ModelCards, NoModelList, cards_of, ids_of

PAGES: Final = 1_000
"""Different lists whose pages are kept."""


class Doubt(NamedTuple):
    """A pod refused a model that it listed."""

    times: int
    """Refusals in a row."""
    until: float
    """Until then its list does not count for the model."""


@dataclass(slots=True)
class PodModels:
    """What is known of one pod's list."""

    cards: ModelCards | None = None
    """As the pod sent them; None before the first and without a list."""
    ids: frozenset[str] | None = None
    shown: frozenset[str] | None = None
    """Of these, the ids that were passed on last: without those that it refused."""
    began_at: float = float("-inf")
    """When the last reading began whose result counted; results of older ones are ignored."""
    due_at: float = float("-inf")
    """When to read in any case."""
    compared_at: float = float("-inf")
    doubts: dict[str, Doubt] = field(default_factory=dict)
    open: bool = False
    """Whether it answers, but has no list."""
    failing: bool = False
    """Whether it could not be read last time, so that a failure is logged once."""
    by_message: bool = False
    """Whether the next reading follows a message of another replica, which is not sent on."""

    def undoubted(self, now: float) -> frozenset[str] | None:
        """The ids without those that the pod refused a moment ago."""
        if self.ids is None or not self.doubts:
            return self.ids
        return self.ids.difference([model for model, doubt in self.doubts.items() if now < doubt.until])


class ParsedPage(NamedTuple):
    """A page that another replica shared; None for a pod without a list."""

    ids: frozenset[str] | None
    cards: ModelCards | None


class ParsedPages:
    """Parses equal pages once: of thousands of pods most have the same."""

    def __init__(self) -> None:
        self._parsed: dict[bytes, ParsedPage | None] = {b"": ParsedPage(None, None)}

    def of(self, page: bytes) -> ParsedPage | None:
        """None for a page that cannot be read."""
        if page not in self._parsed:
            try:
                self._parsed[page] = ParsedPage(ids_of(page), cards_of(page))
            except NoModelList:
                self._parsed[page] = None
        return self._parsed[page]


class CardPages:
    """Pages of lists of models, the same object for equal cards, whatever an engine makes up anew for every answer."""

    def __init__(self) -> None:
        self._pages: dict[tuple[ModelCard, ...], bytes] = {}

    def of(self, cards: Mapping[str, ModelCard] | None) -> bytes:
        """The page that stands for these cards; empty for None."""
        if cards is None:
            return b""
        key = tuple(cards.values())
        page = self._pages.get(key)
        if page is None:
            if len(self._pages) >= PAGES:
                self._pages.clear()
            page = self._pages[key] = msgspec.json.encode({"data": [card.fields for card in key]})
        return page
