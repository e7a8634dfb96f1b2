"""Waiting for a state with a deadline: the only way these tests wait for another process.

The deadline is for what hangs. It says nothing of how quick anything is, so it is far beyond what a busy machine takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from tests.fakes.virtual_time import real_moment

T = TypeVar("T")

DEADLINE_S: Final = 90.0
LOOK_S: Final = 0.02


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = DEADLINE_S) -> T:
    """What `look` returns, once that is truthy. Fails, with the last look in words, after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(LOOK_S)
    return seen


async def until(met: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Let the loop turn until the condition holds, for what has no event. The deadline is real, whatever its clock."""
    end = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end, f"not within {timeout_s:g} s"
        await real_moment()
