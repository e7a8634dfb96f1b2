"""The load at random times, against a server in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.bench.epp.paced import Order, complete, dues, play
from tests.fakes.waiting import DEADLINE_S

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def order(port: int = 1, seconds: float = 0.05) -> Order:
    return Order("127.0.0.1", port, ["a", "b"], 400.0, seconds, 7)


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Answers each piece that comes; nothing is no answer but the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve(connection: socket.socket) -> None:
            with connection:
                while connection.recv(100) and answer:
                    connection.sendall(answer)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(DEADLINE_S)


def test_an_answer_is_complete_by_its_length_or_its_last_chunk() -> None:
    assert complete(SIZED)
    assert not complete(SIZED[:-1])
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    assert complete(chunked)
    assert not complete(chunked[:-5])
    assert not complete(b"HTTP/1.1 200 OK\r\n")


def test_times_are_random_and_the_same_for_a_seed() -> None:
    found = list(dues(order(seconds=1.0)))
    assert found == list(dues(order(seconds=1.0)))
    assert found == sorted(found)
    assert 300 < len(found) < 500


def test_every_request_is_answered_and_timed() -> None:
    with server(SIZED) as port:
        tally = play(order(port))
    assert tally.sent == len(tally.times_ms) == len(list(dues(order())))
    assert tally.wrong == 0


def test_answers_that_are_none_are_counted() -> None:
    with server(SIZED.replace(b"200", b"503")) as port:
        assert play(order(port)).wrong == len(list(dues(order())))
    with server(b"") as port:
        tally = play(order(port))
        assert (tally.wrong, tally.times_ms) == (tally.sent, [])
