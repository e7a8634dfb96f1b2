"""A gateway in memory whose streams are kept; several share the logs, as replicas do."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Final, Self

import msgspec

from router.dataplane.http.deadlines import Deadlines
from router.dataplane.resume.follower import StreamFollower
from router.dataplane.resume.keeper import StreamKeeper
from router.dataplane.wire_headers import WireHeaders
from router.settings import Failover
from tests.fakes.memory_client_and_pods import LAST_CHUNK, SSE_HEAD, Client, PodEnd, event, post
from tests.fakes.memory_gateway import Rig, one_pool
from tests.fakes.memory_streams import MemoryStreams, run_now

STREAMED: Final = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
LEASE_S: Final = 5.0
GRACE_S: Final = 10.0
_ID: Final = re.compile(rb"^id: (.*)$", re.MULTILINE)


def delta(text: str | None = None, finish: str | None = None) -> str:
    """A chunk's data; without a text the first one, which has the role."""
    said = {"role": "assistant", "content": ""} if text is None else {"content": text}
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    return msgspec.json.encode({"id": "chatcmpl-1", "created": 7, "choices": [choice]}).decode()


class ResumingRig:
    """A replica. `turn` does what its background tasks do."""

    def __init__(self, streams: MemoryStreams, owner: str, *, resume: bool = True, mid_stream: bool = False) -> None:
        failover = Failover(resume=resume, grace_s=GRACE_S, mid_stream=mid_stream)
        self.rig = Rig(one_pool(failover=failover), batched=False)
        self.streams = streams
        self.owner = owner * 16
        deadlines: Deadlines = self.rig.deadlines
        self.keeper = StreamKeeper(streams, self.owner, LEASE_S, {"main": failover} if resume else {}, deadlines)
        identity: WireHeaders = self.rig.gateway.deps.identity
        self.follower = StreamFollower(self.keeper, identity.error_headers, self.rig.metrics.count_move)
        self.rig.rebuild(self.rig.gateway.deps._replace(streams=self.follower.serve))

    def __enter__(self) -> Self:
        self.rig.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.rig.__exit__(kind, error, at)

    def turn(self, after_s: float = 0.0) -> None:
        """Time passes, then the logs are saved and read."""
        self.rig.wire.clock.now += after_s
        self.rig.wire.do(lambda: run_now(self.keeper.flush()))
        self.rig.wire.do(lambda: run_now(self.follower.look()))

    def asks(self, *headers: str, body: bytes = STREAMED) -> Client:
        """A client that asks for a stream."""
        return self.rig.client().sends(post(body, *headers))

    def begins(self, *texts: str) -> tuple[Client, PodEnd]:
        """A stream that has these tokens so far, none of them saved."""
        client = self.asks()
        pod = self.rig.asked().sends(SSE_HEAD, event(delta()), *[event(delta(text)) for text in texts])
        return client, pod

    def resumes(self, last_id: bytes, body: bytes = STREAMED) -> Client:
        """A client that is back."""
        return self.asks(f"last-event-id: {last_id.decode()}", body=body)


def ends(pod: PodEnd, *texts: str) -> None:
    """The pod says these tokens and ends its answer."""
    said = [event(delta(text)) for text in texts]
    pod.sends(*said, event(delta("", "stop")), event("[DONE]") + LAST_CHUNK)


def last_id(client: Client) -> bytes:
    """The id of the last event that the client has."""
    ids: list[bytes] = _ID.findall(client.raw)
    return ids[-1]


def said(*clients: Client) -> str:
    """The text that the connections of one client have, one after the other."""
    text = ""
    for client in clients:
        for line in client.raw.split(b"\n"):
            if line.startswith(b"data: {"):
                choices = msgspec.json.decode(line[6:]).get("choices") or [{"delta": {}}]
                text += choices[0]["delta"].get("content") or ""
    return text
