"""Waiting for a state with a deadline: the only way in which tests wait for another process.

The deadline is for hangs only. It is not a speed limit, so it is far longer than any wait on a busy machine.
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
    """Returns the first truthy result of `look`. Fails after `timeout_s` with the last result."""
    end = time.monotonic() + timeout_s
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {seen!r}")
        time.sleep(LOOK_S)
    return seen


async def until(met: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Run the loop until the condition holds, where there is no event to wait for. The deadline is in real time."""
    end = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < end, f"not within {timeout_s:g} s"
        await real_moment()
