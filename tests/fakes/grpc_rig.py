"""The gRPC side of a gateway in memory, between clients and pods that h2 speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection

from router.dataplane.grpc import open_grpc
from router.settings import PolicySpec, Pool, PoolService
from statesync.engines.access import Accesses, PoolAccess
from tests.fakes.memory_client_and_pods import Client, PodEnd
from tests.fakes.memory_gateway import Rig

METHOD = b"/test.Echo/Unary"


def echo(**fields: Any) -> Pool:
    """The pool `echo`, which takes all calls."""
    service = PoolService(**fields.pop("service", {}))
    return Pool(name="echo", kind="grpc", policy=PolicySpec(name="round_robin"), service=service, **fields)


class H2Peer:
    """The far end of a connection, which speaks through h2."""

    def __init__(self, end: Client | PodEnd, *, client: bool) -> None:
        self.end = end
        self.h2 = H2Connection(H2Configuration(client_side=client, header_encoding=False))
        self.h2.initiate_connection()
        self.seen: list[events.Event] = []
        self._read = 0
        self.sends()

    def sends(self) -> None:
        """Send what h2 has made."""
        if data := self.h2.data_to_send():
            self.end.sends(data) if isinstance(self.end, Client) else self.end._wire.do(
                lambda: self.end.transport.deliver(data)
            )

    def reads(self, *, acknowledge: bool = True) -> list[events.Event]:
        """All events so far."""
        raw = bytes(self.end.transport.sent)
        new, self._read = raw[self._read :], len(raw)
        for event in self.h2.receive_data(new) if new else ():
            if isinstance(event, events.DataReceived) and acknowledge and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.seen.append(event)
        self.sends()
        return self.seen

    def all(self, kind: type[Any], stream: int = 0) -> list[Any]:
        """The events of one kind, of one stream if it is given."""
        found = [event for event in self.reads() if isinstance(event, kind)]
        return [event for event in found if not stream or cast(Any, event).stream_id == stream]

    def body(self, stream: int) -> bytes:
        """The bytes of a stream."""
        return b"".join(event.data for event in self.all(events.DataReceived, stream))


class GrpcPeerClient(H2Peer):
    """A client."""

    def call(self, *messages: bytes, path: bytes = METHOD, end: bool = True, **headers: str) -> int:
        """Begin a call; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"gateway")]
        given = {"content-type": "application/grpc", "te": "trailers"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        head += [(name.encode(), value.encode()) for name, value in given.items() if value]
        self.h2.send_headers(stream, head)
        for message in messages:
            self.h2.send_data(stream, message)
        if end:
            self.h2.end_stream(stream)
        self.sends()
        return stream

    def head(self, stream: int) -> dict[bytes, bytes]:
        """The head of the answer."""
        (found,) = self.all(events.ResponseReceived, stream)
        return dict(found.headers)

    def status(self, stream: int) -> str:
        """How the call ended: code and message."""
        found = [*self.all(events.ResponseReceived, stream), *self.all(events.TrailersReceived, stream)]
        last = dict(found[-1].headers)
        return f"{last[b'grpc-status'].decode()} {last.get(b'grpc-message', b'').decode()}".strip()


class GrpcPeerPod(H2Peer):
    """A pod's end of a connection."""

    def asked(self) -> list[int]:
        """The streams of the calls that it has."""
        return [event.stream_id for event in self.all(events.RequestReceived)]

    def request(self, stream: int) -> dict[bytes, bytes]:
        """The headers of a call."""
        (found,) = self.all(events.RequestReceived, stream)
        return dict(found.headers)

    def answers(self, stream: int, *messages: bytes, status: int = 0, end: bool = True) -> None:
        """Answer a call."""
        self.h2.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        for message in messages:
            self.h2.send_data(stream, message)
        if end:
            self.h2.send_headers(stream, [(b"grpc-status", b"%d" % status)], end_stream=True)
        self.sends()


class GrpcRig(Rig):
    """A gateway with pools of gRPC."""

    def __init__(self, *pools: Pool, accesses: Mapping[str, PoolAccess] | None = None, **more: Any) -> None:
        self._accesses = dict(accesses or {})
        super().__init__(pools=pools or [echo()], **({"pods": 2} | more))
        self.pods: dict[str, GrpcPeerPod] = {}
        self.open_port()

    def open_port(self) -> None:
        """Make the gRPC side from the gateway's parts as they are now."""
        rig = self

        class Dialled(Accesses):
            async def dial(self, make: Callable[[], asyncio.Protocol], address: str, pool: str) -> None:
                await rig.net.dial(make, address, pool)

        bits = iter(range(1, 1 << 20))
        port = open_grpc(self.gateway.deps, Dialled(self._accesses), self.listener, "rig", lambda: next(bits))
        if port is not None:
            self.port = port

    def caller(self) -> GrpcPeerClient:
        """A new client that speaks HTTP/2."""
        return GrpcPeerClient(self.sniffed(), client=True)

    def sniffed(self) -> Client:
        """A new client that may speak either."""
        assert self.listener.sniff is not None
        edge = self.listener.connect()
        self.clients.append(Client(self.wire, cast(asyncio.Protocol, self.listener.sniff(edge))))
        return self.clients[-1]

    def pod(self, number: int = -1) -> GrpcPeerPod:
        """The pod's end of the connection of this number."""
        end = self.net.made[number]
        key = str(id(end))
        if key not in self.pods:
            self.pods[key] = GrpcPeerPod(end, client=False)
        return self.pods[key]
