"""The slots' sockets, on real ports of this machine."""

from __future__ import annotations

import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from loadtests.sim.ports import HOST, free_ports, neighbouring_ports
from router.address import ListenAddress
from router.workers.slots import Slot, open_slots

ANY = ListenAddress(HOST, 0)


def free() -> ListenAddress:
    """A free inference port for slots."""
    return ListenAddress(HOST, free_ports(1)[0])


@contextmanager
def opened(count: int, control: ListenAddress = ANY) -> Iterator[list[Slot]]:
    slots = open_slots(free(), control, count)
    try:
        yield slots
    finally:
        for slot in slots:
            slot.close()


def connected(slot: Slot, count: int = 1) -> list[socket.socket]:
    return [socket.create_connection(slot.listen, timeout=60.0) for _ in range(count)]


def taken(slots: list[Slot], count: int) -> Counter[int]:
    """Make connections and count them by the slot whose queue has them. A connection may arrive late: a
    client is connected before its server can accept."""
    found: Counter[int] = Counter()
    queues = {slot.inference_socket: slot.number for slot in slots}
    while found.total() < count:
        ready, _, _ = select.select([*queues], [], [], 60.0)
        assert ready, found
        for queue in ready:
            queue.accept()[0].close()
            found[queues[queue]] += 1
    return found


def test_slots_share_one_inference_port_and_have_a_control_port_each() -> None:
    with opened(3) as slots:
        assert len({slot.listen for slot in slots}) == 1
        assert len({slot.control for slot in slots}) == 3
        assert [slot.number for slot in slots] == [0, 1, 2]


def test_control_ports_count_upwards_from_the_configured_one() -> None:
    ports = neighbouring_ports(3)
    with opened(3, ListenAddress(HOST, ports.start)) as slots:
        assert [slot.control.port for slot in slots] == [*ports]


def test_connections_are_refused_before_a_worker_listens() -> None:
    with opened(2) as slots, pytest.raises(ConnectionRefusedError):
        connected(slots[0])


def test_a_parked_slot_gets_no_connections_until_it_listens_again() -> None:
    with opened(2) as slots:
        first, second = slots
        for slot in slots:
            slot.inference_socket.listen(1000)
        clients = connected(first, 40)
        assert taken(slots, 40)[1], "of 40 one goes to each"
        second.park()
        clients += connected(first, 40)
        assert taken([first], 40) == {0: 40}
        second.park()
        second.inference_socket.listen(1000)
        clients += connected(first, 40)
        assert taken(slots, 40)[1], "the kernel deals nothing to it any more"
        for client in clients:
            client.close()


def test_a_port_in_use_is_an_error_even_if_its_socket_allows_sharing() -> None:
    with opened(1) as slots:
        (slot,) = slots
        slot.inference_socket.listen()
        with pytest.raises(OSError, match=rf"cannot listen on {slot.listen}: Address already in use"):
            open_slots(slot.listen, ANY, 2)


def test_a_control_port_in_use_is_an_error_and_closes_the_sockets_opened_so_far() -> None:
    listen = free()
    with closing(socket.create_server((HOST, 0))) as served:
        with pytest.raises(OSError, match="in use"):
            open_slots(listen, ListenAddress(HOST, served.getsockname()[1]), 1)
        with closing(socket.create_server(listen)):
            pass


def test_more_workers_than_ports_is_reported() -> None:
    with pytest.raises(OSError, match="no control port is left for worker 1"):
        open_slots(free(), ListenAddress(HOST, 65535), 2)
