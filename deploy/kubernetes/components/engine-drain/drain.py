"""preStop of an engine: return once it is idle, so that SIGTERM, on which engines drop what they have, finds nothing.

Gateways that watch pods send a terminating one nothing new; those that ask DNS need some seconds, hence the settling.
Standard library only: it runs in the engine's image. usage: drain.py [METRICS_URL [SETTLE_S]]
"""

from __future__ import annotations

import re
import sys
import time
import urllib.request

OPEN = re.compile(
    r"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs)(?:\{[^}]*\})? ([0-9.e+]+)$", re.M
)
LOOK_S = 0.5


def open_requests(text: str) -> float:
    """How many requests an engine's metrics speak of, in its batch or waiting for it."""
    return sum(float(value) for value in OPEN.findall(text))


def main(url: str = "http://127.0.0.1:8000/metrics", settle_s: str = "5") -> None:
    """Wait. An engine that no longer answers has nothing to wait for; the grace period bounds all others."""
    time.sleep(float(settle_s))
    try:
        while True:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if not open_requests(answer.read().decode()):
                    return
            time.sleep(LOOK_S)
    except OSError as error:
        sys.stderr.write(f"drain: {url}: {error}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
