"""The gRPC side of the inference port: which pool a call goes to, who may make it, which pod gets it, and what is
counted. One object for all connections; `call.py` has a call's way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Final

from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange, Placement
from router.dataplane.grpc.call import GrpcCall
from router.dataplane.grpc.client import ClientConnection, FirstBytes
from router.dataplane.grpc.http2 import Http2Connection
from router.dataplane.grpc.pods import PodConnections
from router.dataplane.grpc.status import HTTP, Headers, Status, seconds, trailers
from router.dataplane.http.edge import Edge
from router.dataplane.request.path_table import PathTable
from router.dataplane.request.service_session import SessionPlaces
from router.dataplane.request.tenant_routes import may_be_served_by
from router.errors import GatewayError, InvalidApiKey, PermissionDenied
from router.lifecycle import Phase, PhaseChange
from router.settings import Pool
from schedulers.types import Rejection, RequestInfo
from statesync.discovery import address as addresses
from statesync.engines.access import Accesses
from statesync.engines.health import Outcome

KIND: Final = b"application/grpc"
REFUSALS: Final[Mapping[type[GatewayError], Status]] = {
    InvalidApiKey: Status.UNAUTHENTICATED,
    PermissionDenied: Status.PERMISSION_DENIED,
}
ALL: Final = ("/*",)

_DROPPED: Final = frozenset((b"host", b"connection", b"grpc-timeout", b"x-request-id", b"forwarded", b"x-real-ip"))
_PREFIXES: Final = (b":", b"x-turnout-", b"x-forwarded-")


class GrpcPool:
    """One pool, as its calls need it."""

    def __init__(self, pool: Pool, accesses: Accesses, timeouts_s: tuple[float, float]) -> None:
        """`timeouts_s`: for a connection, and for a whole call."""
        self.pool = pool
        self.name = pool.name
        self.sessions = SessionPlaces(pool.service.session)
        self.deadlines = PathTable(pool.service.deadlines_s.items())
        self.connect_s, self.total_s = timeouts_s
        self.sequence = count()
        self._access = accesses.of(pool.name)

    def within_s(self, path: bytes, asked: bytes) -> float | None:
        """How long a call of this method may take: the least of what the client asks, the method and the pool have."""
        found = self.deadlines.find(path)
        limits = [self.total_s or None, found[0] if found is not None else None, seconds(asked)]
        return min((limit for limit in limits if limit is not None), default=None)

    def request(self, sent: Headers, address: str, id: str) -> Headers:
        """The client's headers as the pod at this address gets them."""
        access, at = self._access, addresses.of(address)
        path = next(value for name, value in sent if name == b":path")
        head = [
            (b":method", b"POST"),
            (b":scheme", b"https" if at.tls else b"http"),
            (b":path", at.base.encode() + path),
            (b":authority", access.host_of(address).encode("latin-1")),
        ]
        head += [
            (name, value)
            for name, value in sent
            if name not in _DROPPED and name not in access.strip and not name.startswith(_PREFIXES)
        ]
        added = [line.partition(": ") for line in access.added().split("\r\n") if line]
        head += [(name.encode("latin-1"), value.encode("latin-1")) for name, _, value in added]
        return [*head, (b"x-request-id", id.encode("latin-1"))]


class GrpcPort:
    """Takes the calls of all connections."""

    def __init__(
        self, deps: GatewayDeps, pools: Sequence[Pool], accesses: Accesses, replica: str, rng: Callable[[], int]
    ) -> None:
        """`rng` returns 64 random bits."""
        timeouts = deps.routes.timeouts
        found = [
            GrpcPool(pool, accesses, (timeouts[pool.name].connect_s, timeouts[pool.name].total_s)) for pool in pools
        ]
        self._paths = PathTable((path, pool) for pool in found for path in pool.pool.service.paths or ALL)
        self._deps = deps
        self._replica = replica.encode()
        self.clock = deps.clock
        self.retries = deps.settings.retries.attempts
        self.pods = PodConnections(accesses.dial)
        self.calls: set[GrpcCall] = set()
        self.connections: set[ClientConnection] = set()
        self._rng = rng
        deps.lifecycle.listen(self._phase)

    def protocol(self, edge: Edge[Exchange]) -> FirstBytes:
        """The protocol of a new connection."""
        return FirstBytes(self, edge)

    def connection(self, edge: Edge[Exchange]) -> ClientConnection:
        """The protocol of a connection whose client speaks HTTP/2."""
        return ClientConnection(self, edge)

    @property
    def open(self) -> int:
        """Calls and connections that have not ended; a drain waits for them."""
        return len(self.calls) + sum(connection.leaving for connection in self.connections)

    def take(self, client: ClientConnection, stream: int, headers: Headers) -> GrpcCall | None:
        """The call of a new stream; None for one that is refused."""
        by_name = dict(headers)
        if not by_name.get(b"content-type", b"").startswith(KIND) or by_name.get(b":method") != b"POST":
            _refuse_http(client, stream)
            return None
        try:
            call = self._call(client, stream, headers, by_name)
        except GatewayError as error:
            _refuse(client, stream, REFUSALS.get(type(error), Status.UNAVAILABLE), error.message)
            return None
        if call is None:
            name = by_name[b":path"][:200].decode("latin-1")
            _refuse(client, stream, Status.UNIMPLEMENTED, f"No pool serves the method {name}.")
            return None
        most = self._deps.settings.limits.max_inflight
        if 0 < most <= len(self._deps.admission.active) + len(self.calls):
            _refuse(client, stream, Status.RESOURCE_EXHAUSTED, "This gateway has all the requests that it may have.")
            return None
        self.calls.add(call)
        return call

    def _call(
        self, client: ClientConnection, stream: int, headers: Headers, by_name: dict[bytes, bytes]
    ) -> GrpcCall | None:
        """The call, if there is a pool for it. Raises GatewayError for a client that is not let in."""
        access, path = self._deps.access, by_name[b":path"]
        tenant = access.identify(by_name, client.transport).tenant if access is not None else None
        found = self._paths.find(path)
        if found is None or (tenant is not None and not may_be_served_by(tenant, found[0].pool)):
            return None
        pool, rest = found
        session = pool.sessions.find([b"%b: %b\r\n" % header for header in headers], rest)
        if tenant is not None and session:
            session = f"{tenant.name}\n{session}"
        now, within_s = self.clock(), pool.within_s(path, by_name.get(b"grpc-timeout", b""))
        info = RequestInfo(
            id=self._deps.identity.request_id(by_name).decode("latin-1"),
            model="",
            prompt_tokens=1,
            max_tokens=1,
            arrived_at=now,
            entropy=self._rng(),
            sequence=next(pool.sequence),
            session_key=session,
            deadline=None if within_s is None else now + within_s,
        )
        return GrpcCall(self, client, stream, pool, headers, info)

    def choose(self, pool: str, info: RequestInfo) -> Placement | Rejection:
        """See `Dispatch.choose`."""
        return self._deps.dispatch.choose(pool, info)

    def named(self, call: GrpcCall) -> Headers:
        """Headers that name the call, its pod, its pool and this replica."""
        head = [(b"x-request-id", call.info.id.encode("latin-1")), (b"x-turnout-replica", self._replica)]
        if call.placement is not None:
            head += [
                (b"x-turnout-pod", call.placement.pod.id.encode()),
                (b"x-turnout-pool", call.pool.name.encode()),
                (b"x-turnout-policy", call.placement.policy.encode()),
                (b"x-turnout-attempts", b"%d" % call.attempts),
            ]
        return head

    # What a call reports

    def well(self, placement: Placement) -> None:
        """The pod answers."""
        self._deps.view.prefill_done(placement.charge)
        if placement.pod.id in self._deps.unsettled:
            self._deps.outcome(placement.pod.id, Outcome.OK, self.clock())

    def failed(self, placement: Placement, outcome: Outcome | None) -> None:
        """An attempt at the pod ended early."""
        if outcome is not None:
            self._deps.outcome(placement.pod.id, outcome, self.clock())

    def released(self, placement: Placement) -> None:
        """Another pod gets the call."""
        self._deps.view.release(placement.charge)

    def over(self, call: GrpcCall, code: int) -> None:
        """The call ended: give back what it holds, and count it."""
        pool, placement, metrics = call.pool.name, call.placement, self._deps.metrics
        self.calls.discard(call)
        pod, policy = "-", "-"
        if placement is not None:
            pod, policy = placement.pod.id, placement.policy
            self._deps.view.release(placement.charge)
        metrics.pool(pool).e2e.observe(self.clock() - call.info.arrived_at)
        metrics.count_request(pool, policy, pod, HTTP.get(code, 500))

    # The end of the replica

    def _phase(self, change: PhaseChange) -> None:
        if change.after is Phase.DRAINING:
            for connection in list(self.connections):
                connection.leave()

    def cut_off(self) -> None:
        """End every call, because the drain ran out of time."""
        for call in list(self.calls):
            call.fail(Status.UNAVAILABLE, "This gateway is going away and its drain time is over; try again.")
            call.client.flush()


def _refuse(client: Http2Connection, stream: int, status: Status, message: str) -> None:
    head = [(b":status", b"200"), (b"content-type", KIND), *trailers(status, message)]
    client.send_headers(stream, head, end=True, on_sent=_ignored)


def _refuse_http(client: Http2Connection, stream: int) -> None:
    """HTTP/2 is for gRPC here."""
    head = [(b":status", b"415"), (b"content-type", b"text/plain"), *trailers(Status.UNKNOWN, "only gRPC over HTTP/2")]
    client.send_headers(stream, head, end=True, on_sent=_ignored)


def _ignored(counted: int) -> None:
    """Nothing is sent after such headers."""
