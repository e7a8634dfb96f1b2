"""Checks of what the ports speak below HTTP: `tls`, `control.tls`, `proxy_protocol`. Files are read as the gateway
would read them, so that `turnout check` finds what would fail at the start. Called by `checks.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from router.config.problems import Path, Problem
from router.ports.tls import load
from router.settings import ServerTls, Settings
from statesync.engines.tls import BadTlsFiles


def port_problems(settings: Settings, clock: Callable[[], float] = time.time) -> Iterator[Problem]:
    """Problems of these settings; `clock` gives Unix time."""
    yield from _tls(settings.tls, ("tls",), clock())
    yield from _tls(settings.control.tls, ("control", "tls"), clock())
    if settings.proxy_protocol and not settings.trusted_proxies:
        message = "has no effect without trusted_proxies, whose connections begin with a PROXY header"
        yield Problem(("proxy_protocol",), message)


def _tls(tls: ServerTls | None, path: Path, now: float) -> Iterator[Problem]:
    if tls is None:
        return
    try:
        ends = load(tls).expires_at
    except BadTlsFiles as error:
        yield Problem((*path, error.field), str(error))
        return
    if ends < now:
        yield Problem((*path, "cert_file"), f"the certificate in {tls.cert_file} has expired", "warning")
