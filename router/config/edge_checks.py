"""Checks of the settings about clients, the paths that they may use, and what the ports speak below HTTP: `paths`,
`cors`, `trusted_proxies`, `tls`, `control.tls`, `proxy_protocol`. Files are read as the gateway would read them, so
that `turnout check` finds what would fail at the start. Called by `checks.py`.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Callable, Iterator

from router.config.problems import Path, Problem
from router.ports.tls import load
from router.settings import ServerTls, Settings
from statesync.engines.tls import BadTlsFiles

_ORIGIN = re.compile(
    r"(?!https://[^/]*:443$|http://[^/]*:80$)[a-z][a-z0-9+.-]*://(?:[^/\s:@?#*A-Z\x7f-\U0010ffff]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
)
_PATH = re.compile(r"/[!-)+-~]*\*?")
"""A path in visible ASCII; `*` at its end only."""


def edge_problems(settings: Settings) -> Iterator[Problem]:
    """Problems of these sections."""
    for at, path in enumerate(settings.paths.forward):
        if not _PATH.fullmatch(path) or "?" in path or "/." in path:
            yield Problem(
                ("paths", "forward", at),
                f"{path!r} is no path: it begins with '/', has no dot segment or query, and '*' is at its end only",
            )
    for at, origin in enumerate(settings.cors.allow_origins):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            yield Problem(
                ("cors", "allow_origins", at),
                f"{origin!r} is no origin: write it as browsers do, such as 'https://chat.example.com', in lower-case "
                'ASCII (xn--...), without a path and the scheme\'s own port, or "*"',
            )
    for at, proxy in enumerate(settings.trusted_proxies):
        try:
            ipaddress.ip_network(proxy)
        except ValueError as error:
            yield Problem(("trusted_proxies", at), f"{error}; write an address or a network, such as '10.0.0.0/8'")


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
