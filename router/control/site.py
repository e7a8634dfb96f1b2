"""Whether a request was sent by a page of another site: its `Host`, `Origin` and `Sec-Fetch-Site` headers.

Three attacks end here. A page of another site that sends requests from an operator's browser: the browser names the
page's origin, which must be this host. A hostile name that resolves to this address, so that its page is of the same
origin: without a token only names are accepted that others cannot point here. And requests that two programs on the way
could read as two different hosts: there must be one Host header, of a strict form.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

_HOST: Final = re.compile(r"(?P<name>\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z._-]+)(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_FOREIGN: Final = frozenset({"cross-site", "same-site"})
"""Of `Sec-Fetch-Site`: neither this origin nor a person who typed an address."""


class SiteProblem(NamedTuple):
    """Why a request is refused."""

    status: int
    code: str
    message: str


_BAD_HOST: Final = SiteProblem(400, "invalid_host", "a request has one Host header: a name or address, and a port")
_FOREIGN_PAGE: Final = SiteProblem(403, "foreign_origin", "the admin API cannot be used from another site's page")
_FOREIGN_NAME: Final = SiteProblem(
    403, "foreign_host", "without a token the control port answers only to its address, not to a name"
)


def site_problem(
    hosts: Sequence[str], origins: Sequence[str], fetch_sites: Sequence[str], *, own_name: str | None, pages: bool
) -> SiteProblem | None:
    """Why the request is refused; None if it is not.

    `own_name` is the configured host where names are checked, None where a token makes that needless. `pages`: pages of
    other sites may lead to it, as a link does; they may not send with an origin of their own.
    """
    host = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if host is None:
        return _BAD_HOST
    if not all(_is_from(host, origin) for origin in origins):
        return _FOREIGN_PAGE
    if not pages and not _FOREIGN.isdisjoint(site.strip().lower() for site in fetch_sites):
        return _FOREIGN_PAGE
    if own_name is not None and not _cannot_be_rebound(host["name"].strip("[]").lower(), own_name.strip("[]").lower()):
        return _FOREIGN_NAME
    return None


def _is_from(host: re.Match[str], origin: str) -> bool:
    """Whether the origin is this host; schemes may differ, since a proxy may end TLS in front of this port."""
    scheme, separator, authority = origin.partition("://")
    default = _DEFAULT_PORTS.get(scheme.lower())
    page = _HOST.fullmatch(authority)
    if not separator or default is None or page is None:
        return False
    ports = [int(each["port"]) if each["port"] else default for each in (page, host)]
    return page["name"].lower() == host["name"].lower() and ports[0] == ports[1]


def _cannot_be_rebound(name: str, own_name: str) -> bool:
    if name in ("localhost", own_name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
