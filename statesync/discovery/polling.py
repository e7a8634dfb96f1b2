"""The loop of a source that asks again and again. The source says what a look finds, `known.py` what that changes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from statesync.discovery.known import KnownPods, Look
from statesync.discovery.source import OnPods

_log = logging.getLogger("turnout.discovery")


async def follow(
    name: str,
    look: Callable[[], Awaitable[Look]],
    known: KnownPods,
    on_pods: OnPods,
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Look, call `on_pods` if the list changed, sleep, and repeat until cancelled. `name` is for the log."""
    while True:
        step = known.after(await look())
        if step.note:
            _log.warning("discovery of %s: %s", name, step.note)
        if step.announce is not None:
            _log.info("discovery of %s: %d pods", name, len(step.announce))
            on_pods(step.announce)
        await sleep(step.delay_s)
