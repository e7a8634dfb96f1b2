"""Waiting for a condition with a deadline: the only way these tests wait for another process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.01


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = 10.0) -> T:
    """What `look` returns, once that is truthy. Fails, with the last look in words, after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(LOOK_S)
    return seen


def wait_until_still(look: Callable[[], T], still_s: float = 0.5, timeout_s: float = 10.0) -> T:
    """What `look` returns, once it has not changed for `still_s`."""
    end = time.monotonic() + timeout_s
    seen, since = look(), time.monotonic()
    while time.monotonic() - since < still_s:
        assert time.monotonic() < end, f"still changing after {timeout_s:g} s: {seen!r}"
        time.sleep(LOOK_S)
        if (now := look()) != seen:
            seen, since = now, time.monotonic()
    return seen
