"""Publishes a simulated engine's KV events over ZeroMQ, as vLLM does with `--kv-events-config`: numbered batches to
subscribers, and a replay of the last ones. Imported only with that option, because it needs pyzmq.

The engine's blocks have ids and no tokens, so tokens are made of the ids: equal ids have equal tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import msgspec
import zmq

BUFFER = 10_000
"""Batches kept for replay: vLLM's default."""
TOPIC = b"kv"
SERVE_S = 0.01
"""Seconds between two looks for replays that are asked for."""
_END = ((1 << 64) - 1).to_bytes(8, "big")
_HASH = (1 << 64) - 1


class KvEventSockets:
    """The publisher of one pod, or of one rank of it: it watches the engine's blocks."""

    def __init__(self, endpoint: str, replay: str, *, block_tokens: int, rank: int = 0) -> None:
        """Binds both addresses. Raises OSError where one is taken."""
        self._block_tokens, self._rank = block_tokens, rank
        self._events: list[dict[str, object]] = []
        self._seq = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=BUFFER)
        self._loop = asyncio.get_running_loop()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self._live, self._replay = context.socket(zmq.PUB), context.socket(zmq.ROUTER)
        self._flushing: asyncio.Handle | None = None
        self._serving: asyncio.Handle = self._loop.call_later(SERVE_S, self._serve)
        try:
            self._live.setsockopt(zmq.SNDHWM, 100_000)  # not for replays, which lose batches as vLLM's do
            for socket, address in ((self._live, endpoint), (self._replay, replay)):
                socket.bind(address)
        except zmq.ZMQError as error:
            self.stop()
            raise OSError(error.errno, f"KV events: {error}") from None

    def stored(self, ids: Sequence[int], parent: int | None, /) -> None:
        """See KvWatcher."""
        self._add(
            {
                "type": "BlockStored",
                "block_hashes": [unit & _HASH for unit in ids],
                "parent_block_hash": None if parent is None else parent & _HASH,
                "token_ids": [(unit + at) & 0x7FFFFFFF for unit in ids for at in range(self._block_tokens)],
                "block_size": self._block_tokens,
                "lora_id": None,
                "medium": "GPU",
                "lora_name": None,
                "extra_keys": [None] * len(ids),
                "group_idx": 0,
            }
        )

    def removed(self, unit: int, /) -> None:
        """See KvWatcher."""
        self._add({"type": "BlockRemoved", "block_hashes": [unit & _HASH], "medium": "GPU", "group_idx": 0})

    def stop(self) -> None:
        """Close the sockets."""
        self._serving.cancel()
        if self._flushing is not None:
            self._flushing.cancel()
        self._live.close(0)
        self._replay.close(0)

    def _add(self, event: dict[str, object]) -> None:
        self._events.append(event)
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Publish the events of a step as one batch."""
        events, self._events, self._flushing = self._events, [], None
        payload = msgspec.msgpack.encode([time.time(), events, self._rank])
        self._live.send_multipart((TOPIC, self._seq.to_bytes(8, "big"), payload))
        self._buffer.append((self._seq, payload))
        self._seq += 1

    def _serve(self) -> None:
        """Answer the replays that are asked for."""
        self._serving = self._loop.call_later(SERVE_S, self._serve)
        while self._replay.poll(0):
            client, _, first = self._replay.recv_multipart()
            for seq, payload in self._buffer:
                if seq >= int.from_bytes(first, "big"):
                    self._replay.send_multipart((client, b"", TOPIC, seq.to_bytes(8, "big"), payload))
            self._replay.send_multipart((client, b"", b"", _END, b""))
