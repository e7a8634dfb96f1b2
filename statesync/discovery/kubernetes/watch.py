"""Keeps a copy of a Kubernetes collection: decides the next request after each answer. A pure fold; no network, no
clock.

The rules. A list is requested without a resource version, which makes it a consistent read: with `0` it may come from a
cache older than the copy, and bring back deleted objects. A watch continues from the last version seen. Events are
ordered by their object's version, so one that comes twice, late or out of order changes nothing. A full list every
`relist_s` replaces the copy, which finds deletions that the watch lost. A failure never removes an object; only an
answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

FIRST_DELAY_S: Final = 1.0
"""Seconds before the first retry; doubled for each further one."""
MAX_DELAY_S: Final = 30.0
"""Most seconds before a retry."""
MAX_RETRY_AFTER_S: Final = 120.0
"""Most seconds of a server's `Retry-After` that are waited."""
WATCH_S: Final = (240.0, 360.0)
"""Seconds, least and most, of a watch: a random time, so that watches spread over servers that come and go."""
SHORT_S: Final = 1.0
"""Seconds below which a watch without an event counts as failed, whatever its status."""
GIVE_UP_AT: Final = 3
"""Refused watches in a row after which a list replaces the version."""
MOST_DELETED: Final = 10_000
"""Most deleted objects kept until the next list, to recognise late events."""

GONE: Final = 410
UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403


class ListRequest(NamedTuple):
    """Request a page of the list."""

    token: str = ""
    """The continue token of the page before; empty for the first."""


class Follow(NamedTuple):
    """Watch the changes after this version."""

    version: str
    timeout_s: int


class WatchStep(NamedTuple):
    """What to do next."""

    ask: ListRequest | Follow
    delay_s: float = 0.0
    """Seconds to wait before."""
    renew: bool = False
    """Whether to read the credentials again before."""
    note: str = ""
    """A message to log, or empty."""


class Item(NamedTuple, Generic[T]):
    """The part of an object that is kept."""

    uid: str
    version: str
    value: T


class ReceivedPage(NamedTuple, Generic[T]):
    """A page of a list."""

    items: Iterable[Item[T]]
    version: str
    """Version of the whole list."""
    token: str
    """Where to go on; empty on the last page."""


class WatchFailure(NamedTuple):
    """Why there was no answer."""

    why: str
    status: int = 0
    """HTTP's; 0 where no answer came."""
    retry_after_s: float = 0.0


class ListWatch(Generic[T]):
    """The copy of one collection. `now` are seconds on one monotonic clock, `rng` gives floats in [0, 1)."""

    def __init__(self, relist_s: float, rng: Callable[[], float]) -> None:
        self._relist_s = relist_s
        self._rng = rng
        self._objects: dict[str, Item[T]] = {}
        self._deleted: dict[str, str] = {}
        """By UID, objects deleted since the last list: the version of the deletion."""
        self._pages: dict[str, Item[T]] | None = None
        """Items of the list under way; None while there is none."""
        self._version = ""
        """Version to watch from; empty if a list is needed."""
        self._list_version = ""
        self._relist_at = 0.0
        self._watched_from = 0.0
        self._received = False
        """Whether the current watch has received anything."""
        self._listing = True
        """Whether the last request is a list."""
        self._lists_failed = 0
        self._watches_failed = 0
        self._reported = ""
        self.synced = False
        """Whether a list has ever been complete."""

    def values(self) -> Iterable[T]:
        """The known objects, the last changed one last."""
        return (item.value for item in self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def listed(self, page: ReceivedPage[T], now: float) -> WatchStep:
        """Take a page of the list. The last page replaces the copy."""
        pages = self._pages = {} if self._pages is None else self._pages
        pages.update((item.uid, item) for item in page.items)
        if page.token:
            return WatchStep(ListRequest(page.token))
        self._objects, self._pages, self._deleted = pages, None, {}
        self._version = self._list_version = page.version
        self._relist_at = now + self._relist_s * (0.9 + 0.2 * self._rng())
        self._lists_failed = 0
        self.synced = True
        note, self._reported = ("answers again" if self._reported else ""), ""
        return self._follow(now, note=note)

    def changed(self, item: Item[T], deleted: bool) -> bool:
        """Take an event of the watch; False if it changes nothing."""
        self._received, self._watches_failed = True, 0
        known = self._objects.get(item.uid)
        last = known.version if known is not None else self._deleted.get(item.uid, self._list_version)
        if not _newer(item.version, last):
            return False
        self.bookmark(item.version)
        # Removed and added, so that the order is that of the changes.
        self._objects.pop(item.uid, None)
        self._deleted.pop(item.uid, None)
        if not deleted:
            self._objects[item.uid] = item
            return True
        self._deleted[item.uid] = item.version
        if len(self._deleted) > MOST_DELETED:
            del self._deleted[next(iter(self._deleted))]
        return known is not None

    def bookmark(self, version: str) -> None:
        """Take a bookmark: all events up to this version have been sent."""
        self._received, self._watches_failed = True, 0
        if _newer(version, self._version):
            self._version = version

    def ended(self, now: float) -> WatchStep:
        """The watch ended without an error, by its time limit or with its connection."""
        if not self._received and now - self._watched_from < SHORT_S:
            return self.failed(WatchFailure("the watch ends as soon as it begins"), now)
        self._watches_failed = 0
        return self._onward(now)

    def failed(self, failure: WatchFailure, now: float) -> WatchStep:
        """The last request failed."""
        listing, self._pages = self._listing, None
        count = self._lists_failed if listing else self._watches_failed
        first = failure.status in (GONE, UNAUTHORIZED) and not count
        delay_s = 0.0 if first else self._delay_s(count, failure)
        if listing:
            self._lists_failed += 1
            # The watch continues meanwhile, if possible.
            self._relist_at = now + 2 * delay_s
        else:
            self._watches_failed += 1
        doubted = failure.status == GONE or (failure.status and self._watches_failed >= GIVE_UP_AT)
        if doubted and not listing:
            self._version = ""
        note = "" if failure.status == GONE and first else self._once(failure)
        return self._onward(now + delay_s, delay_s, failure.status == UNAUTHORIZED, note)

    def _onward(self, then: float, delay_s: float = 0.0, renew: bool = False, note: str = "") -> WatchStep:
        if not self._version or then >= self._relist_at:
            self._listing = True
            return WatchStep(ListRequest(), delay_s, renew, note)
        return self._follow(then, delay_s, renew, note)

    def _follow(self, then: float, delay_s: float = 0.0, renew: bool = False, note: str = "") -> WatchStep:
        low, high = WATCH_S
        lasts_s = min(low + (high - low) * self._rng(), self._relist_at - then)
        self._watched_from, self._received, self._listing = then, False, False
        return WatchStep(Follow(self._version, max(1, int(lasts_s) + 1)), delay_s, renew, note)

    def _delay_s(self, failures: int, failure: WatchFailure) -> float:
        # Random, so that replicas that lost the same server do not all come back at the same moment.
        backoff_s = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures, 10)) * (0.5 + 0.5 * self._rng())
        return max(backoff_s, min(failure.retry_after_s, MAX_RETRY_AFTER_S))

    def _once(self, failure: WatchFailure) -> str:
        kind = str(failure.status)
        if kind == self._reported:
            return ""
        self._reported = kind
        return f"keeping {len(self._objects)} known objects: {failure.why}"


def _newer(version: str, than: str) -> bool:
    """Whether it is a later version. Kubernetes defines versions as numbers since 1.35, and they always were. If a
    server has others, the later event is newer."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than or not version
