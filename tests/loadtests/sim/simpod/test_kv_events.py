"""A simulated engine's KV events, as a subscriber gets them."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
import zmq

from loadtests.sim.engine.kv_blocks import KvBlocks
from loadtests.sim.ports import free_ports
from loadtests.sim.simpod.kv_events import KvEventSockets

Frames = list[bytes]


async def received(socket: zmq.Socket[bytes]) -> Frames:
    """The next message."""
    while not socket.poll(0):  # noqa: ASYNC110  a socket of ZeroMQ wakes no loop
        await asyncio.sleep(0.001)
    return socket.recv_multipart()


def events_of(frames: Frames) -> list[tuple[object, ...]]:
    """Kind, hashes and parent of each event."""
    _, events, rank = msgspec.msgpack.decode(frames[-1])
    assert rank == 0
    return [(event["type"], event["block_hashes"], event.get("parent_block_hash")) for event in events]


def test_what_is_stored_and_evicted_is_published_and_replayed() -> None:
    async def play() -> None:
        live, replay = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        publisher = KvEventSockets(live, replay, block_tokens=4)
        kv = KvBlocks(3)
        kv.watcher = publisher
        with zmq.Context() as context, context.socket(zmq.SUB) as sub, context.socket(zmq.DEALER) as dealer:
            for socket, address in ((sub, live), (dealer, replay)):
                socket.setsockopt(zmq.LINGER, 0)
                socket.connect(address)
            kv.reserve(2)
            kv.publish([11, 12])
            kv.publish([])
            await asyncio.sleep(0)
            dealer.send_multipart((b"", bytes(8)))
            empty, topic, seq, payload = await received(dealer)
            assert (empty, topic, seq) == (b"", b"kv", bytes(8))
            assert events_of([payload]) == [("BlockStored", [11, 12], None)]
            assert (await received(dealer))[2] == b"\xff" * 8
            sub.setsockopt(zmq.SUBSCRIBE, b"kv")
            kv.drop([11, 12], 0)
            number = 0
            while not sub.poll(1):  # until the subscription has arrived
                publisher.removed(number)
                number += 1
                await asyncio.sleep(0)
            while sub.poll(1):
                sub.recv_multipart()
            kv.take([11])
            kv.reserve(2)
            kv.publish([21, 22], 11)
            frames = await received(sub)
            assert events_of(frames) == [("BlockRemoved", [12], None), ("BlockStored", [21, 22], 11)]
        publisher.stop()

    asyncio.run(asyncio.wait_for(play(), 60.0))


def test_an_address_that_is_taken_is_an_error() -> None:
    async def play() -> None:
        addresses = [f"tcp://127.0.0.1:{port}" for port in free_ports(2)]
        publisher = KvEventSockets(addresses[0], addresses[1], block_tokens=4)
        with pytest.raises(OSError, match="Address"):
            KvEventSockets(addresses[0], addresses[1], block_tokens=4)
        publisher.stop()

    asyncio.run(play())
