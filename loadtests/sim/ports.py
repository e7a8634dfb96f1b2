"""Free ports of this machine, for programs that cannot bind port 0 themselves.

Two processes that look for a free port at once could both take the same one. A port is claimed first:
the claim is a name in Linux's abstract socket namespace, which one process at a time can hold and which the kernel
gives back when that process ends. Ports come from below the range of outgoing connections, which could also take one.
"""

from __future__ import annotations

import os
import random
import socket
import sys
from collections import deque
from collections.abc import Sequence

HOST = "127.0.0.1"

PORTS = range(15_000, 32_000)
"""Linux gives outgoing connections 32,768 and up."""
TRIES = 2_000

_KEPT = 256
"""Claims held at a time, so that a long run does not use up its descriptors: by then the oldest port is listened on."""
_claims: deque[int] = deque()
"""Their descriptors: socket objects would warn at the process's end that they were not closed."""
_random = random.SystemRandom()
"""Not the seeded one: processes that start with the same seed would all try the same ports."""


def free_ports(count: int) -> list[int]:
    """`count` different ports without a listener. Raises OSError where there seem to be none."""
    return [neighbouring_ports(1)[0] for _ in range(count)]


def neighbouring_ports(count: int) -> range:
    """`count` neighbouring ports without a listener. Raises OSError where there seem to be none."""
    for _ in range(TRIES):
        first = _random.randrange(PORTS.start, PORTS.stop - count)
        if claim(range(first, first + count)):
            return range(first, first + count)
    raise OSError(f"no {count} neighbouring ports are free from {PORTS.start} to {PORTS.stop}")


def claim(ports: Sequence[int]) -> bool:
    """Claim all of `ports` for this process, or none. False where one has a listener or another process's claim."""
    held: list[socket.socket] = []
    for port in ports:
        claimed = _claimed(port)
        if claimed is None:
            for each in held:
                each.close()
            return False
        held.append(claimed)
    _claims.extend(each.detach() for each in held)
    while len(_claims) > max(_KEPT, len(held)):
        os.close(_claims.popleft())
    return True


def this_or_free(port: int) -> int:
    """`port` if it can be claimed, else any free one: of two programs that want the same port at once, one gets it."""
    return port if claim([port]) else free_ports(1)[0]


def _claimed(port: int) -> socket.socket | None:
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if sys.platform == "linux":
            mark.bind(f"\0turnout-port-{port}")
    except OSError:
        mark.close()
        return None
    if _bindable(port):
        return mark
    mark.close()
    return None


def _bindable(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
