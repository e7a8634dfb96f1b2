"""Which failures are worth a line in the log: the first, a new reason, and one that lasts, now and then. Pure: the time
comes as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

AGAIN_S: Final = 300.0
"""Seconds after which a failure that lasts is logged again."""
SOONEST_S: Final = 5.0
"""Least seconds between two lines about one thing, whatever the reasons."""


class FailureLog:
    """The failures that last, by a key of the caller's."""

    def __init__(self) -> None:
        self._failing: dict[str, tuple[str, float]] = {}

    @property
    def failing(self) -> Mapping[str, tuple[str, float]]:
        """Key -> the reason that was logged last, and when."""
        return self._failing

    def failed(self, key: str, reason: str, now: float) -> bool:
        """Note a failure; returns whether to log it."""
        last = self._failing.get(key)
        if last is not None and now - last[1] < (AGAIN_S if last[0] == reason else SOONEST_S):
            return False
        self._failing[key] = (reason, now)
        return True

    def ended(self, key: str) -> bool:
        """Note a success; returns whether a failure had been logged."""
        return self._failing.pop(key, None) is not None

    def forget(self, keys: Iterable[str]) -> None:
        """Remove what is gone."""
        for key in keys:
            self._failing.pop(key, None)
