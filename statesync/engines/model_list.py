"""The page /v1/models of an engine: bytes in, the cards of its models out. Pure.

A card keeps every field, those that this project does not know included. Two cards of one model are equal if they
differ in nothing but what an engine makes up anew for every answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

VOLATILE: Final = ("created", "permission")
"""Fields that vLLM makes anew for every answer: the time, and a list of random ids."""


class NoModelList(Exception):
    """The page is no list of models."""


class ModelCard:
    """One model as an engine lists it."""

    __slots__ = ("_key", "fields")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        lasting = {name: value for name, value in fields.items() if name not in VOLATILE}
        self._key = msgspec.json.encode(lasting, order="deterministic")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelCard) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"<ModelCard {self._key.decode()}>"


ModelCards = Mapping[str, ModelCard]
"""Cards by the model's id, in the order of the page."""


class _Id(msgspec.Struct):
    id: str


class _Ids(msgspec.Struct):
    data: list[_Id]


class _Cards(msgspec.Struct):
    data: list[dict[str, Any]]


_ids: Final = msgspec.json.Decoder(_Ids).decode
_cards: Final = msgspec.json.Decoder(_Cards).decode


def ids_of(page: bytes) -> frozenset[str]:
    """The ids alone: a tenth of the cost of the cards. Raises NoModelList."""
    try:
        return frozenset([each.id for each in _ids(page).data])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return frozenset(_read_leniently(page, error))


def cards_of(page: bytes) -> ModelCards:
    """The cards; `ids_of` has accepted the page. Raises NoModelList."""
    try:
        return {card["id"]: ModelCard(card) for card in _cards(page).data if type(card["id"]) is str}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError) as error:
        return _read_leniently(page, error)


def _read_leniently(page: bytes, error: Exception) -> ModelCards:
    """The cards of a page that msgspec refuses, as Python's `json` reads it: with NaN, numbers without bound and a
    byte-order mark. `data` is null where Ollama has no model. An entry that is no card hides no other.

    Raises NoModelList.
    """
    try:
        found = json.loads(page)["data"] or []
        cards = dict(pair for each in found if (pair := _card(each)) is not None)
    except (ValueError, LookupError, TypeError, RecursionError):
        found, cards = [error], {}
    if found and not cards:
        raise NoModelList(f"no list of models: {error}") from None
    return cards


def _card(entry: object) -> tuple[str, ModelCard] | None:
    """The id and the card; None for an entry without an id, and for text that is no Unicode."""
    id = entry.get("id") if isinstance(entry, dict) else None
    try:
        return (id, ModelCard(entry)) if isinstance(entry, dict) and isinstance(id, str) else None
    except UnicodeEncodeError:
        return None
