"""Which core does what while a router is measured, and how a bench's own process is readied for that."""

from __future__ import annotations

import os
import signal

from loadtests.processes.owned import pin

ROUTER_CORE = 0
"""Of the measured router, alone."""
LOAD_CORE = 1
"""Of load generators, engines, and the bench itself."""


def prepare() -> bool:
    """Pin this process to the load's core, and let SIGTERM end it in order, as Ctrl-C does.

    Returns whether router and load can be kept apart; without taskset or a second core nothing is pinned.
    """

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)  # `with` blocks end what they started

    signal.signal(signal.SIGTERM, leave)
    apart = bool(pin(ROUTER_CORE) and pin(LOAD_CORE))
    if apart:
        os.sched_setaffinity(0, {LOAD_CORE})
    return apart
