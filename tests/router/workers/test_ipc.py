"""Messages between supervisor and worker over a real socket pair, and the effect of a closed end."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from router.workers.ipc import FAILED, PLACE_VARIABLE, READY, WorkerChannel, WorkerSockets, place_in

PLACE = WorkerSockets(slot=1, listen="[::1]:8000", control="127.0.0.1:9001", inference_fd=5, control_fd=6, tether_fd=7)


def test_a_place_is_passed_through_the_environment() -> None:
    assert place_in(PLACE.as_environment()) == PLACE
    assert place_in({}) is None


def test_fields_that_a_newer_supervisor_adds_to_a_place_are_ignored() -> None:
    assert place_in({PLACE_VARIABLE: json.dumps(PLACE._asdict() | {"colour": "red"})}) == PLACE


class Received:
    """Both ends of a channel; collects the messages that one of them receives."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.channel = WorkerChannel(ours)
        self.messages: list[tuple[str, str]] = []
        self.came = asyncio.Event()
        self.lost = asyncio.Event()
        self.channel.listen(self.on_message, self.lost.set)

    def on_message(self, message: str, argument: str) -> None:
        self.messages.append((message, argument))
        self.came.set()

    async def next(self) -> list[tuple[str, str]]:
        await asyncio.wait_for(self.came.wait(), 60.0)
        self.came.clear()
        return self.messages


def test_messages_arrive_whole_however_they_were_cut() -> None:
    async def run() -> None:
        received = Received()
        received.theirs.sendall(b"rea")
        received.theirs.sendall(b"dy\nwarming 2")
        assert await received.next() == [("ready", "")]
        received.theirs.sendall(b".5\n")
        assert await received.next() == [("ready", ""), ("warming", "2.5")]
        received.theirs.close()
        await asyncio.wait_for(received.lost.wait(), 60.0)
        received.channel.close()

    asyncio.run(run())


def test_the_last_messages_are_read_on_close_and_the_end_is_not_reported_as_a_loss() -> None:
    """The process's end may be detected before its last messages are read."""

    async def run() -> None:
        received = Received()
        other = WorkerChannel(received.theirs)
        other.send(READY)
        other.send(FAILED, "no such\nfile")
        other.close()
        received.channel.close()
        received.channel.close()
        assert received.messages == [("ready", ""), ("failed", "no such file")]
        assert not received.lost.is_set()

    asyncio.run(run())


def test_sending_to_a_closed_end_does_nothing() -> None:
    ours, theirs = socket.socketpair()
    channel = WorkerChannel(ours)
    theirs.close()
    channel.send(READY)
    channel.close()


def test_sending_too_much_to_an_end_that_does_not_read_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    channel = WorkerChannel(ours)
    for _ in range(1000):
        channel.send(FAILED, "x" * 10_000)
    channel.close()
    theirs.close()


@pytest.mark.parametrize("word", ["a-word-of-the-future", ""])
def test_unknown_messages_are_passed_on_without_an_error(word: str) -> None:
    async def run() -> None:
        received = Received()
        received.theirs.sendall(word.encode() + b" with things\nready\n\xff\n")
        await received.next()
        assert received.messages == [(word, "with things"), ("ready", ""), ("\ufffd", "")]
        received.channel.close()
        received.theirs.close()

    asyncio.run(run())
