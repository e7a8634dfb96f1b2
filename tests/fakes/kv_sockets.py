"""Puts a `FakeKvPublisher` on ZeroMQ sockets, as vLLM does: PUB for live batches, ROUTER for replays."""

from __future__ import annotations

from types import TracebackType

import zmq

from tests.fakes.kv_publisher import Batch, FakeKvPublisher

END = ((1 << 64) - 1).to_bytes(8, "big")


class KvSockets:
    """The sockets of one engine. The test calls `serve` where a real engine has a thread."""

    def __init__(self, publisher: FakeKvPublisher, topic: bytes = b"kv") -> None:
        self._publisher = publisher
        self._topic = topic
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._live = self._context.socket(zmq.XPUB)
        self._replay = self._context.socket(zmq.ROUTER)
        port, replay_port = (each.bind_to_random_port("tcp://127.0.0.1") for each in (self._live, self._replay))
        self.endpoint = f"tcp://{{host}}:{port}"
        self.replay = f"tcp://{{host}}:{replay_port}"

    def __enter__(self) -> KvSockets:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._context.destroy(0)

    def subscribed(self) -> bool:
        """Whether a subscriber has come since the last call: what is sent before is lost."""
        try:
            return self._live.recv(zmq.NOBLOCK)[:1] == b"\1"
        except zmq.Again:
            return False

    def send(self, batch: Batch) -> None:
        """Publish a batch."""
        self._live.send_multipart((self._topic, batch[0].to_bytes(8, "big"), batch[1]))

    def send_raw(self, payload: bytes) -> None:
        """Publish anything."""
        self._live.send_multipart((self._topic, bytes(8), payload))

    def serve(self) -> int:
        """Answer the replays that were asked for; returns how many."""
        served = 0
        while True:
            try:
                client, _, first = self._replay.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return served
            for seq, payload in self._publisher.replay(int.from_bytes(first, "big")):
                self._replay.send_multipart((client, b"", self._topic, seq.to_bytes(8, "big"), payload))
            self._replay.send_multipart((client, b"", b"", END, b""))
            served += 1
