"""Where a pod is: `http://host:port`, `https://host/base`, `unix:/run/vllm.sock`, as users write it and as
`Pod.address` holds it. Pure; nothing is resolved or opened here.

`Pod.address` of a plain HTTP pod is `host:port`, as it has always been: it is the pod's name in metrics and headers.
Every other pod's address says how it differs: `https://host:port/base`, `http://host:port/base`, `unix:/path:/base`.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from statesync.errors import DiscoveryError

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?")
# RFC 952 allows no underscores in a host name, but docker compose makes such names.
_BASE = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()*+,=:@-]+)*")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")

_LOGIN = re.compile(r"(^|//)[^/@]*@")
"""Credentials in front of a host: a secret, which messages leave out."""

_PORTS: Final = {"http": 80, "https": 443}
MAX_SOCKET_PATH: Final = 107
"""Bytes of a socket's path that the kernel takes."""
_ADDRESSES_KEPT: Final = 16384
_FORMS: Final = "http://host:port, https://host:port/base or unix:/path"


class PodAddress(NamedTuple):
    """A pod's address in parts."""

    host: str = ""
    """A name or an address, lower case, IPv6 without brackets and perhaps with a zone; empty for a socket."""
    port: int = 0
    tls: bool = False
    base: str = ""
    """Precedes the path of every request: `/base`, or empty."""
    socket: str = ""
    """The path of a unix socket; empty for TCP."""

    @property
    def text(self) -> str:
        """The form of `Pod.address`, which `of` reads."""
        if self.socket:
            return f"unix:{self.socket}:{self.base}" if self.base else f"unix:{self.socket}"
        where = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        if self.tls or self.base:
            return f"{'https' if self.tls else 'http'}://{where}{self.base}"
        return where

    @property
    def authority(self) -> str:
        """The value of `Host`: without the port that the scheme implies, and without an IPv6 zone, which has a meaning
        on this machine only (RFC 6874)."""
        if self.socket:
            return "localhost"
        host = self.host.partition("%")[0]
        host = f"[{host}]" if ":" in host else host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


@lru_cache(_ADDRESSES_KEPT)
def of(address: str) -> PodAddress:
    """The parts of a `Pod.address`. Raises DiscoveryError for text that is none."""
    return parse(address)


def parse(text: str, *, tls: bool = False, base: str = "") -> PodAddress:
    """The pod that a user names. `tls` counts where the text has no scheme, `base` where it has no path. Raises
    DiscoveryError, which says what to write."""
    if text.startswith("unix:"):
        return _socket(text, base)
    schemed = "://" in text
    try:
        url = urlsplit(text if schemed else f"{'https' if tls else 'http'}://{text}")
        host, port = url.hostname or "", url.port
    except ValueError as error:
        raise DiscoveryError(f"pod {shown(text)}: {error}") from None
    if port is None and schemed:
        port = _PORTS.get(url.scheme)
    host = host.replace("%25", "%", 1)  # RFC 6874 writes the zone of fe80::1%eth0 as %25eth0
    path = url.path.rstrip("/")
    if problem := _problem(url, host, port, path):
        raise DiscoveryError(f"pod {shown(text)}: {problem}; write {_FORMS}")
    assert port is not None
    return PodAddress(_canonical(host), port, url.scheme == "https", path or base)


def shown(text: str) -> str:
    """The text for a message: without credentials."""
    return repr(_LOGIN.sub(r"\1***@", text))


def _socket(text: str, base: str) -> PodAddress:
    path, colon, own = text.removeprefix("unix:").removeprefix("//").partition(":")
    own = own.rstrip("/")
    checks = (
        (not path.startswith("/"), "the path of a socket begins with /"),
        (len(path.encode()) > MAX_SOCKET_PATH, f"the path of a socket has at most {MAX_SOCKET_PATH} bytes"),
        (not (path.isascii() and path.isprintable()), "the path of a socket has only printable ASCII characters"),
        (bool(colon) and not _BASE.fullmatch(own), f"{own!r} is no base path, as in unix:/run/vllm.sock:/base"),
    )
    if problem := next((problem for wrong, problem in checks if wrong), ""):
        raise DiscoveryError(f"pod {text!r}: {problem}; write unix:/run/vllm.sock")
    return PodAddress(base=own or base, socket=path)


def _problem(url: SplitResult, host: str, port: int | None, path: str) -> str:
    checks = (
        (url.scheme not in _PORTS, f"unknown scheme {url.scheme!r}"),
        ("@" in url.netloc, "credentials do not belong in a pod's address; see upstream.api_key_file"),
        (bool(url.query or url.fragment), "a pod's address has no query or fragment"),
        (not host, "no host"),
        (not _is_host(host), f"{host!r} is neither a host name nor an IP address (IPv6 goes in brackets)"),
        (port is None, "no port"),
        (port == 0, "port 0 cannot be connected to"),
        (not is_base(path), f"{path!r} is no base path"),
    )
    return next((problem for wrong, problem in checks if wrong), "")


def is_base(path: str) -> bool:
    """Whether it may precede the path of a request: `/a/b` without dot segments, or empty."""
    return _BASE.fullmatch(path) is not None


def _canonical(host: str) -> str:
    return str(ipaddress.IPv6Address(host)) if ":" in host else host


def _may_be_ipv4(host: str) -> bool:
    """False for a host that ends in a number and is no address: no name does (RFC 1123, 2.1)."""
    if not host.rstrip(".").rpartition(".")[2].isdigit():
        return True
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return "." not in host  # 7, as docker compose may name a container
    return True


def _is_host(host: str) -> bool:
    if ":" not in host:
        return _HOST.fullmatch(host) is not None and ".." not in host and _may_be_ipv4(host)
    address, percent, zone = host.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None
