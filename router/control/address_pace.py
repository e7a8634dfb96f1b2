"""How often each address does something, in a table of limited size. Knows no request: its users decide what counts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from router.dataplane.http.listener import client_of

MOST_ADDRESSES: Final = 1024
"""Beyond it the address that was quiet for the longest is forgotten."""


class AddressPace:
    """A rate and a burst for each address, of IPv6 for each /64."""

    def __init__(self, clock: Callable[[], float], *, per_s: float, burst: int) -> None:
        """`clock` is in seconds, monotonic."""
        self._clock = clock
        self._interval_s = 1 / per_s
        self._burst_s = burst / per_s
        self._due: OrderedDict[str, float] = OrderedDict()
        """By address: when all that it did would have been done at the rate."""

    def wait_s(self, address: str) -> float:
        """Seconds until the address is within its burst again; 0.0 while it is."""
        due = self._due.get(counted_for(address), 0.0)
        return max(0.0, due - self._clock() - self._burst_s)

    def count(self, address: str) -> None:
        """Count one."""
        key, now = counted_for(address), self._clock()
        self._due[key] = max(now, self._due.get(key, now)) + self._interval_s
        self._due.move_to_end(key)
        if len(self._due) > MOST_ADDRESSES:
            self._due.popitem(last=False)

    def __len__(self) -> int:
        return len(self._due)


def counted_for(address: str) -> str:
    """Who an address is counted for: itself, of IPv6 its /64."""
    try:
        return client_of(address)
    except ValueError:
        return address
