"""Where to listen: as users write it (`host:port`, IPv6 hosts in brackets), and bound."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import NamedTuple

_EVERY_ADDRESS = "::"


class ListenAddress(NamedTuple):
    """A host without brackets, and a port; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def overlaps(self, other: ListenAddress) -> bool:
        """Whether not both can be listened on: the same port of one address, or of all addresses."""
        hosts = {self.host, other.host}
        every = "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))
        return self.port == other.port != 0 and (every or len(hosts) == 1)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """`0.0.0.0:8000`, `[::]:8000`, `localhost:0`. Raises ValueError with what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        port = text.lstrip(":") if text.lstrip(":").isdigit() else "8000"
        raise ValueError(f"{text!r} is not host:port, such as 0.0.0.0:{port}")
    if "://" in text:
        raise ValueError(f"{text!r} is not host:port: leave out {text.partition('://')[0]}://")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{port!r} in {text!r} is not a port (0 to 65535)")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:8000")
    if not bare or any(each.isspace() or each in "/@[]" for each in bare):
        raise ValueError(f"{text!r} has no usable host")
    return ListenAddress(bare, int(port))


def cannot_listen(listen: ListenAddress, error: OSError, setting: str = "") -> OSError:
    """The error of an address that cannot be used, with the address and what sets it: `listen` or `control.listen`."""
    code = error.errno or 0
    reason = os.strerror(code) if code > 0 else error.strerror
    flag = "--control" if setting == "control.listen" else "--listen"
    hint = f"; choose another with {flag} or `{setting}`" if setting else ""
    return OSError(error.errno, f"cannot listen on {listen}: {reason}{hint}")


def bind(listen: ListenAddress, *, shared: bool = False, setting: str = "") -> socket.socket:
    """A socket bound there, not yet listening. `shared`: others may listen on the same port, and connections are dealt
    out over all of them. Raises OSError that names the address and `setting`, the key that sets it.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise cannot_listen(listen, error, setting) from None
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            every = listen.host == _EVERY_ADDRESS  # of IPv4 too, as other servers have it
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not every)
        bound.bind(address)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise cannot_listen(listen, error, setting) from None
    return bound
