"""preStop hook of an engine: returns when the engine is idle, because engines drop their requests on SIGTERM.

Gateways that watch pods send a terminating one no new requests. Those that use DNS need some seconds: SETTLE_S.
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
    """Number of requests in the engine's metrics, in its batch or in its queue."""
    return sum(float(value) for value in OPEN.findall(text))


def main(url: str = "http://127.0.0.1:8000/metrics", settle_s: str = "5") -> None:
    """Wait until no request is open. Ends when the engine does not answer; the grace period bounds the rest."""
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
