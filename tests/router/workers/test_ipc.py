"""What supervisor and worker say to each other over a real socket pair, and what its end says."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from router.workers.ipc import FAILED, PLACE_VARIABLE, READY, WorkerChannel, WorkerSockets, place_in

PLACE = WorkerSockets(slot=1, listen="[::1]:8000", control="127.0.0.1:9001", inference_fd=5, control_fd=6, tether_fd=7)


def test_a_place_goes_through_the_environment() -> None:
    assert place_in(PLACE.as_environment()) == PLACE
    assert place_in({}) is None


def test_what_a_newer_supervisor_adds_to_a_place_is_ignored() -> None:
    assert place_in({PLACE_VARIABLE: json.dumps(PLACE._asdict() | {"colour": "red"})}) == PLACE


class Heard:
    """Both ends; collects what one of them hears."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.tether = WorkerChannel(ours)
        self.words: list[tuple[str, str]] = []
        self.news = asyncio.Event()
        self.lost = asyncio.Event()
        self.tether.listen(self.hear, self.lost.set)

    def hear(self, word: str, rest: str) -> None:
        self.words.append((word, rest))
        self.news.set()

    async def next(self) -> list[tuple[str, str]]:
        await asyncio.wait_for(self.news.wait(), 60.0)
        self.news.clear()
        return self.words


def test_words_arrive_whole_however_they_were_cut() -> None:
    async def run() -> None:
        heard = Heard()
        heard.theirs.sendall(b"rea")
        heard.theirs.sendall(b"dy\nwarming 2")
        assert await heard.next() == [("ready", "")]
        heard.theirs.sendall(b".5\n")
        assert await heard.next() == [("ready", ""), ("warming", "2.5")]
        heard.theirs.close()
        await asyncio.wait_for(heard.lost.wait(), 60.0)
        heard.tether.close()

    asyncio.run(run())


def test_last_words_are_heard_by_who_closes_and_are_no_loss_then() -> None:
    """The process's end may be noticed before its words are."""

    async def run() -> None:
        heard = Heard()
        other = WorkerChannel(heard.theirs)
        other.say(READY)
        other.say(FAILED, "no such\nfile")
        other.close()
        heard.tether.close()
        heard.tether.close()
        assert heard.words == [("ready", ""), ("failed", "no such file")]
        assert not heard.lost.is_set()

    asyncio.run(run())


def test_saying_something_to_nobody_is_nothing() -> None:
    ours, theirs = socket.socketpair()
    tether = WorkerChannel(ours)
    theirs.close()
    tether.say(READY)
    tether.close()


def test_saying_too_much_to_who_does_not_listen_does_not_block() -> None:
    ours, theirs = socket.socketpair()
    tether = WorkerChannel(ours)
    for _ in range(1000):
        tether.say(FAILED, "x" * 10_000)
    tether.close()
    theirs.close()


@pytest.mark.parametrize("word", ["a-word-of-the-future", ""])
def test_unknown_words_are_handed_on_and_not_choked_on(word: str) -> None:
    async def run() -> None:
        heard = Heard()
        heard.theirs.sendall(word.encode() + b" with things\nready\n\xff\n")
        await heard.next()
        assert heard.words == [(word, "with things"), ("ready", ""), ("\ufffd", "")]
        heard.tether.close()
        heard.theirs.close()

    asyncio.run(run())
