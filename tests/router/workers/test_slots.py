"""The slots' sockets, on real ports of this machine."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from router.listen import Listen
from router.workers.slots import Slot, open_slots

ANY = Listen("127.0.0.1", 0)


@contextmanager
def opened(count: int) -> Iterator[list[Slot]]:
    slots = open_slots(ANY, ANY, count)
    try:
        yield slots
    finally:
        for slot in slots:
            slot.close()


def connected(slot: Slot, count: int = 1) -> list[socket.socket]:
    return [socket.create_connection(slot.listen, timeout=5.0) for _ in range(count)]


def waiting(slot: Slot) -> int:
    """Connections in this slot's queue, taken out of it."""
    taken = 0
    while select.select([slot.inference_socket], [], [], 0)[0]:
        slot.inference_socket.accept()[0].close()
        taken += 1
    return taken


def test_slots_share_one_inference_port_and_have_a_control_port_each() -> None:
    with opened(3) as slots:
        assert len({slot.listen for slot in slots}) == 1
        assert len({slot.control for slot in slots}) == 3
        assert [slot.number for slot in slots] == [0, 1, 2]


def test_control_ports_go_upwards_from_the_configured_one() -> None:
    with opened(4) as free:  # ports that were free a moment ago
        first = min(slot.control.port for slot in free)
    for base in range(first, first + 200, 4):
        try:
            slots = open_slots(ANY, Listen("127.0.0.1", base), 3)
        except OSError:
            continue
        assert [slot.control.port for slot in slots] == [base, base + 1, base + 2]
        for slot in slots:
            slot.close()
        return
    raise AssertionError("no three neighbouring ports are free")


def test_nobody_is_let_in_before_a_worker_listens() -> None:
    with opened(2) as slots, pytest.raises(ConnectionRefusedError):
        connected(slots[0])


def test_a_parked_slot_gets_no_connection_and_the_others_get_all_until_it_listens_again() -> None:
    with opened(2) as slots:
        first, second = slots
        for slot in slots:
            slot.inference_socket.listen(1000)
        clients = connected(first, 40)
        second.park()
        waiting(first)
        clients += connected(first, 40)
        assert waiting(first) == 40
        second.park()
        second.inference_socket.listen(1000)
        clients += connected(first, 40)
        there, here = waiting(second), waiting(first)
        assert there + here == 40
        assert there, "the kernel deals nothing to it any more"
        for client in clients:
            client.close()


def test_a_port_that_somebody_serves_is_an_error_even_if_he_would_share_it() -> None:
    with opened(1) as slots:
        (slot,) = slots
        slot.inference_socket.listen()
        with pytest.raises(OSError, match=rf"cannot listen on {slot.listen}: Address already in use"):
            open_slots(slot.listen, ANY, 2)


def test_a_taken_control_port_is_an_error_and_lets_go_of_what_was_open() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with opened(1) as slots:
            listen = slots[0].listen
        with pytest.raises(OSError, match="in use"):
            open_slots(listen, Listen("127.0.0.1", taken.getsockname()[1]), 1)
        with closing(socket.create_server(listen)):
            pass


def test_more_workers_than_ports_is_said() -> None:
    with pytest.raises(OSError, match="no control port is left for worker 1"):
        open_slots(ANY, Listen("127.0.0.1", 65535), 2)
