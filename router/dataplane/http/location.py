"""Takes the inner address out of a pod's redirects. Pure; knows the address under which the gateway reached the pod.

Engines behind uvicorn make `Location` from the Host header, which is the pod's own address here. A client could not
follow it and would learn it, so it becomes a path, which leads to this gateway.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

_HEADERS: Final = (b"location", b"content-location")
_ABSOLUTE: Final = re.compile(rb"(?:[a-z][a-z0-9+.-]*:)?[/\\]{2,}([^/\\?#]*)([^#]*)", re.IGNORECASE | re.DOTALL)
_INNER: Final = re.compile(r"(?:.*\.)?(?:localhost|local|internal|svc|cluster\.local|lan|home\.arpa|invalid|test)")
"""Names that mean nothing outside the pods' network; names without a dot are such, too."""


def relative(kept: Sequence[bytes], address: str, base: bytes = b"") -> list[bytes]:
    """The header lines that a pod at `address` sent, with its redirects as paths where they name an inner host, and
    without the pod's base path."""
    lines = b"".join(kept).split(b"\r\n")
    for at, line in enumerate(lines):
        name, _, value = line.partition(b": ")
        if name in _HEADERS:
            lines[at] = name + b": " + without_base(path_of(value, address), base)
    return [b"\r\n".join(lines)]


def path_of(location: bytes, address: str) -> bytes:
    """A path in place of a URL with the pod's or another inner host; any other location as it is."""
    found = _ABSOLUTE.match(location.strip())
    if found is None:
        return location
    host, rest = found.groups()
    if not _is_inner(_host(host.rpartition(b"@")[2]), _host(address.encode())):
        return location
    return b"/" + rest.lstrip(b"/\\")


def without_base(path: bytes, base: bytes) -> bytes:
    """The path as clients of the gateway know it, which puts `base` before each."""
    rest = path[len(base) :]
    return rest if base and path.startswith(base) and rest.startswith((b"/", b"?")) else path


def _host(authority: bytes) -> str:
    try:
        return (urlsplit(b"//" + authority).hostname or b"").decode("latin-1").rstrip(".")
    except ValueError:
        return ""


def _is_inner(host: str, pod: str) -> bool:
    if not host or host == pod:
        return True
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        return "." not in host or _INNER.fullmatch(host) is not None
