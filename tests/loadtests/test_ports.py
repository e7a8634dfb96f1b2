"""Finding ports."""

from __future__ import annotations

import socket

from loadtests.ports import HOST, free_ports, this_or_free


def test_free_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.create_server((HOST, 0)) as holder:
        taken = holder.getsockname()[1]
        assert this_or_free(taken) != taken
    assert this_or_free(taken) == taken
