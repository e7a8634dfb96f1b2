"""Where to listen, as users write it: `host:port`, IPv6 hosts in brackets."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple


class Listen(NamedTuple):
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

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Listen:
    """`0.0.0.0:8000`, `[::]:8000`, `localhost:0`. Raises ValueError with what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not host:port")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{port!r} in {text!r} is not a port (0 to 65535)")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare and bare == host:
        raise ValueError(f"{text!r}: an IPv6 host stands in brackets, as in [::1]:8000")
    if not bare or any(each.isspace() or each in "/@[]" for each in bare):
        raise ValueError(f"{text!r} has no usable host")
    return Listen(bare, int(port))
