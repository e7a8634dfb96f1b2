"""The file descriptors of this process: how many it may open, and how many client connections they are enough for.

A client's connection takes one descriptor and, while its request is at a pod, a second one. A part stays in reserve,
for the control port, the shared state, probes and connections that are about to be refused: so what clients do never
uses up all of them. Knows no listener.
"""

from __future__ import annotations

import logging
import resource
from typing import Final, NamedTuple

RESERVE: Final = 8
"""The part of the descriptors in reserve: one of so many. As many connections may wait to be accepted at a time."""

_MOST: Final = 1 << 20
"""Descriptors above which more make no difference, for a process without a limit."""

_log = logging.getLogger("turnout.replica")


class DescriptorLimit(NamedTuple):
    """What the process's limit is enough for."""

    descriptors: int

    @property
    def backlog(self) -> int:
        """Connections that may wait to be accepted: the loop accepts all of them before it closes any."""
        return max(16, min(4096, self.descriptors // RESERVE))

    @property
    def clients(self) -> int:
        """Client connections, each with one to a pod."""
        return max(1, (self.descriptors - self.descriptors // RESERVE - self.backlog) // 2)


def raise_limit(wanted: int) -> DescriptorLimit:
    """Raise the soft limit of open files to the hard one, and log whether it is enough for `wanted` clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        except (OSError, ValueError) as error:
            _log.warning("the limit of open files stays at %d: it cannot be raised to %d (%s)", soft, most, error)
    limit = DescriptorLimit(_MOST if soft == resource.RLIM_INFINITY else soft)
    if limit.clients < wanted:
        _log.warning(
            "this process may open %d files, which is enough for %d client connections, not for limits.max_connections:"
            " %d; raise the hard limit (ulimit -Hn, LimitNOFILE in systemd) to %d or lower limits.max_connections",
            *(limit.descriptors, limit.clients, wanted, needed(wanted)),
        )
    else:
        _log.info("this process may open %d files, enough for %d client connections", limit.descriptors, wanted)
    return limit


def needed(clients: int) -> int:
    """The least limit that is enough for this number of clients, rounded up to a thousand."""
    descriptors = 1000
    while DescriptorLimit(descriptors).clients < clients:
        descriptors += 1000
    return descriptors
