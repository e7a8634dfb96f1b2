"""The sockets of each slot: bound once by the supervisor, kept for its whole life, lent to one worker after another.

Every slot has a listening socket of its own on the one inference port (SO_REUSEPORT: the kernel spreads connections
over them), and a control port of its own. Because the supervisor keeps them open, a connection that waits to be
accepted outlives the worker that would have accepted it. The worker calls `listen`: until the first one does, clients
are refused rather than kept waiting.
"""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from router.address import ListenAddress, bind


class Slot(NamedTuple):
    """A slot's sockets, and the addresses they have."""

    number: int
    listen: ListenAddress
    control: ListenAddress
    inference_socket: socket.socket
    control_socket: socket.socket

    def park(self) -> None:
        """Stop listening until a worker listens again; connections that wait to be accepted are refused.

        Otherwise a slot whose worker keeps dying would hold its share of the connections unanswered.
        """
        for each in (self.inference_socket, self.control_socket):
            with contextlib.suppress(OSError):  # it was not listening
                each.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Close both sockets."""
        self.inference_socket.close()
        self.control_socket.close()


def open_slots(listen: ListenAddress, control: ListenAddress, count: int) -> list[Slot]:
    """`count` slots on the inference port, with the control ports from `control` upwards.

    Port 0 lets the system choose: one inference port for all, and a control port each. Raises OSError when an address
    cannot be used, and then nothing is open.
    """
    # Bound once without sharing, so that a port that another gateway serves is an error.
    with bind(listen, setting="listen") as alone:
        listen = ListenAddress(listen.host, alone.getsockname()[1])
    slots: list[Slot] = []
    try:
        for number in range(count):
            slots += [_open(number, listen, control)]
    except OSError:
        for slot in slots:
            slot.close()
        raise
    return slots


def _open(number: int, listen: ListenAddress, control: ListenAddress) -> Slot:
    inference_socket = bind(listen, shared=True, setting="listen")
    try:
        port = control.port + number if control.port else 0
        if port > 65535:
            raise OSError(f"no control port is left for worker {number}: they go from {control.port} upwards")
        control_socket = bind(ListenAddress(control.host, port), setting="control.listen")
    except OSError:
        inference_socket.close()
        raise
    at = ListenAddress(control.host, control_socket.getsockname()[1])
    return Slot(number, listen, at, inference_socket, control_socket)
