"""The freeze bench's cluster: thousands of pods on one listening socket, and a DNS server.

Run as `python -m loadtests.bench.freeze.cluster PODS`. It prints where it listens, then a line on each DNS question.
SIGUSR1 swaps the pods of the name, SIGUSR2 stops the DNS answers or starts them again; SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys

import uvloop

from loadtests.bench.freeze.nameserver import Datagrams, Names, Stream
from loadtests.bench.load.canned import BACKLOG, CannedEngine
from loadtests.bench.load.timing_wheel import Wheel

GAP_S = 0.02
"""Between two chunks of a stream."""


def pods_socket() -> socket.socket:
    """One socket for every address of 127.0.0.0/8; bound to the loopback device, so that no network reaches it."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("0.0.0.0", 0))
    listening.setblocking(False)
    return listening


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def serve(pods: int) -> None:
    """Until SIGTERM."""
    loop, stopped, names = asyncio.get_running_loop(), asyncio.Event(), Names(pods, say)
    for number, act in ((signal.SIGUSR1, names.swap), (signal.SIGUSR2, names.toggle), (signal.SIGTERM, stopped.set)):
        loop.add_signal_handler(number, act)
    wheel, listening = Wheel(loop, GAP_S), pods_socket()
    await loop.create_server(lambda: CannedEngine(wheel), sock=listening, backlog=BACKLOG)
    over_tcp = await loop.create_server(lambda: Stream(names), "127.0.0.1", 0)
    port = over_tcp.sockets[0].getsockname()[1]
    await loop.create_datagram_endpoint(lambda: Datagrams(names), local_addr=("127.0.0.1", port))
    say(f"ready {listening.getsockname()[1]} {port}")
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
