"""Checks of the settings about clients and the paths that they may use: `paths`, `cors`, `trusted_proxies`.
Pure; called by `checks.py`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from router.config.problems import Problem
from router.settings import Settings

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
