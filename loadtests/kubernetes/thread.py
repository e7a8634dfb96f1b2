"""The stub API server for callers without a loop: it runs in a thread, in real time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

from loadtests.kubernetes.api import KubeApi, kube_api

LIMIT_S: Final = 90.0
"""For hangs only: longer than any wait on a busy machine."""


class KubeThread:
    """A server that runs from its construction until `stop`."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.api: KubeApi
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(LIMIT_S), "the API server does not listen"

    async def _run(self) -> None:
        async with kube_api() as self.api:
            self._ready.set()
            while not self._stop.is_set():
                self.api.tick(self._loop.time())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 0.2)

    def do(self, what: Callable[[KubeApi], Any]) -> Any:
        """Call `what` on the server's loop and return its result."""

        async def call() -> Any:
            return what(self.api)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(LIMIT_S)

    def stop(self) -> None:
        """Stop the server and its thread."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive(), "the API server does not end"
        self._loop.close()


@contextlib.contextmanager
def kube_thread() -> Iterator[KubeThread]:
    """Run a server for the block."""
    thread = KubeThread()
    try:
        yield thread
    finally:
        thread.stop()
