"""A request whose stream may be moved, and one whose stream cannot be."""

from __future__ import annotations

import msgspec

from router.dataplane.failover.continuation import CHAT, Continuation, Opened, opened
from router.dataplane.failover.reasons import NotMoved
from router.dataplane.failover.stream import FixedStream, MovableStream

BODY = msgspec.json.encode(
    {"messages": [{"role": "user", "content": "hi"}], "stream_options": {"include_usage": False}}
)


def movable() -> MovableStream:
    made = opened(CHAT, BODY)
    assert isinstance(made, Opened)
    return MovableStream(CHAT, made, 1000)


def test_the_next_request_has_the_text_so_far() -> None:
    stream = movable()
    stream.splice.passed(b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n')
    made = stream.next_request()
    assert isinstance(made, Continuation)
    asked = msgspec.json.decode(made.body)
    assert asked["messages"][-1] == {"role": "assistant", "content": "Hello"}
    assert asked["stream_options"]["continuous_usage_stats"] is True


def test_another_pool_gets_the_clients_own_request() -> None:
    assert msgspec.json.decode(movable().original()) == msgspec.json.decode(BODY)
    assert FixedStream(BODY, NotMoved("tools")).original() is BODY
