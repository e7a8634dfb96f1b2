"""Reading a metrics page once a second, as a Prometheus does, while a router is under load."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import httpx

INTERVAL_S = 1.0


@contextlib.contextmanager
def scraped(url: str) -> Iterator[None]:
    """Read `url` at once and then every second until the block ends; an empty URL does nothing."""
    if not url:
        yield
        return
    stopped = threading.Event()
    thread = threading.Thread(target=_scrape, args=(url, stopped), name="scrape", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(5.0)


def _scrape(url: str, stopped: threading.Event) -> None:
    with httpx.Client(trust_env=False, verify=False, timeout=2.0) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                client.get(url)
            if stopped.wait(INTERVAL_S):
                return
