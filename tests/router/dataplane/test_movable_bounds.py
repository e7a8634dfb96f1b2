"""Streams that move: what is bounded, and requests that cannot be continued."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from router.resuming import ATTEMPTS, ResumingTransport
from router.settings import Failover
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, chunk, event, post
from tests.fakes.memory_gateway import Rig, one_pool
from tests.fakes.resuming_gateway import STREAMED, delta


def test_of_the_next_pods_event_no_more_is_held_than_of_the_first_ones() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True)), batched=False) as rig:
        client = rig.client().sends(post(STREAMED))
        rig.asked().sends(SSE_HEAD, event(delta()), event(delta(" a"))).dies()
        following = rig.asked().sends(SSE_HEAD)
        for _ in range(10):
            following.sends(chunk(b"x" * 30_000))
        assert following.fate == "aborted"
        assert b'data: {"error"' in client.raw


def test_stop_strings_that_are_none_are_for_the_pod_to_refuse() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True)), batched=False) as rig:
        rig.client().sends(post(STREAMED[:-1] + b',"stop":[1]}'))
        rig.asked().sends(SSE_HEAD, LAST_CHUNK)  # was 500


class _Breaks(httpx.SyncByteStream):
    def __init__(self, first: bytes) -> None:
        self._first = first

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        raise httpx.RemoteProtocolError("cut")


class _Broken(httpx.BaseTransport):
    asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert self.asked < 100
        first = b"id: a.1.\ndata: x\n\n" if self.asked == 1 else b""
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=_Breaks(first))


def test_a_stream_that_breaks_again_and_again_without_a_byte_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    broken = _Broken()
    with httpx.Client(transport=ResumingTransport(broken)) as client, pytest.raises(httpx.RemoteProtocolError):
        client.post("http://x/")
    assert broken.asked == ATTEMPTS + 1  # was without end
