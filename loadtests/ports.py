"""Ports of this machine that are free now. Another program may take one before it is used: to be sure, bind port 0."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on; all are held until all are known, so that none comes twice."""
    held = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [int(holder.getsockname()[1]) for holder in held]
    for holder in held:
        holder.close()
    return ports


def neighbouring_ports(count: int) -> range:
    """`count` neighbouring ports that nobody listens on. Raises OSError where there seem to be none."""
    for first in free_ports(50):
        if first + count < 65536 and all(this_or_free(port) == port for port in range(first, first + count)):
            return range(first, first + count)
    raise OSError(f"no {count} neighbouring ports are free")


def this_or_free(port: int) -> int:
    """`port` if nobody listens on it, else any free one."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return free_ports(1)[0]
    return port
