"""Starts background tasks that are not collected early and whose errors are logged.

The event loop keeps only weak references to tasks (docs.python.org, asyncio.create_task), so each is held here
until it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

_running: set[asyncio.Task[Any]] = set()
_log = logging.getLogger("turnout.tasks")


def spawn(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Run `work` in the background under `name`. Its error is logged; a cancellation is not."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(_done)
    return task


def _done(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("background task %s failed", task.get_name(), exc_info=error)
