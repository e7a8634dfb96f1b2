"""Fields of all candidates' loads at C speed: 65 us at 1,000 pods, where attributes take 90. Knows no scorer."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from schedulers.types import Candidate, LoadSnapshot, PodLoad

_LOAD: itemgetter[Any] = itemgetter(Candidate._fields.index("load"))


def field(*names: str) -> itemgetter[Any]:
    """What takes these fields out of a `PodLoad`: the value of one, a tuple of several."""
    return itemgetter(*map(PodLoad._fields.index, names))


def column(fields: itemgetter[Any], snapshot: LoadSnapshot) -> Iterable[Any]:
    """Them, of each candidate."""
    return map(fields, map(_LOAD, snapshot.candidates))
