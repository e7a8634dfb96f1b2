"""Free ports that stay free while other processes look for ports, too."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtests.sim.ports import HOST, PORTS, claim, free_ports, neighbouring_ports, this_or_free


def test_free_ports_are_all_different_and_below_those_of_outgoing_connections() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(port in PORTS for port in ports)


def test_neighbouring_ports_are_consecutive_and_have_no_listener() -> None:
    for port in neighbouring_ports(4):
        socket.create_server((HOST, port)).close()


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        assert not claim([port])
        assert this_or_free(port) != port


@pytest.fixture
def kept() -> Iterator[int]:
    """A bound port without a listener, which the system gives to no outgoing connection."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, 0))
        yield bound.getsockname()[1]


linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no abstract socket names")

CLAIM = "import sys; from loadtests.sim.ports import claim; print(claim([int(sys.argv[1])]), flush=True); input()"


@linux
def test_a_port_claimed_by_a_process_goes_to_no_other_until_it_ends(kept: int) -> None:
    command = [sys.executable, "-c", CLAIM, str(kept)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert not claim([kept])
        other.communicate("\n", timeout=60)
    assert claim([kept])


def test_a_preferred_port_is_claimed_like_any_other(kept: int) -> None:
    assert this_or_free(kept) == kept
    if sys.platform == "linux":
        assert this_or_free(kept) != kept


@linux
def test_ports_are_claimed_all_or_none(kept: int) -> None:
    with socket.create_server((HOST, 0)) as taken:
        assert not claim([kept, taken.getsockname()[1]])
    assert claim([kept])
