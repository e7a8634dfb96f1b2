"""Request ids, the request as it is sent to a pod, and the gateway's own response headers. Pure but for one counter;
what does not change between requests is prepared once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

from router.dataplane.exchange import Exchange, Placement
from router.dataplane.http import location
from router.dataplane.http.cors import AllowedOrigins, without_cors
from router.dataplane.http.forwarded import TrustedProxies, peer_of
from router.dataplane.http.head_cache import HeadCache
from router.dataplane.http.header_rules import FORWARDING
from router.dataplane.http.response_parser import ResponseHead
from router.dataplane.http.responses import Headers
from router.dataplane.request.priority import with_priority
from schedulers.types import Pod
from statesync.discovery import address as addresses
from statesync.discovery.ranks import HEADER as RANK_HEADER
from statesync.discovery.ranks import RANK
from statesync.engines.access import PLAIN, PoolAccess

_NO_CLUSTERS: Mapping[str, str] = MappingProxyType({})
_NO_ACCESSES: Mapping[str, PoolAccess] = MappingProxyType({})

APART_BYTES: Final = 16384
"""From this size on, a body is sent as a buffer of its own: two buffers in one system call cost 0.7 us, and copying
32 KB costs 2 us."""

MAX_PLACEMENTS = 100_000
"""How many prepared headers are kept."""

MAX_HEADS = 2048
"""How many heads of clients are kept as a pool's pods get them."""

_ID_DIGITS: Final = 16
"""Of an id, after its prefix; a part of the digest's 128."""

_RANK_HEADER: Final = RANK_HEADER.encode()

_VALID_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class PodHead:
    """The parts of a request's head that depend on its pod alone, around the target."""

    __slots__ = ("after", "before")

    def __init__(self, address: str, access: PoolAccess) -> None:
        self.before = b" " + addresses.of(address).base.encode()
        self.after = b" HTTP/1.1\r\nhost: " + access.host_of(address).encode("latin-1") + b"\r\n"


class PoolHeaders:
    """The heads of clients' requests as the pods of one pool get them: without the headers that it strips or replaces,
    and with its own."""

    __slots__ = ("_adds", "_known", "_pods", "access", "priority")

    def __init__(self, access: PoolAccess) -> None:
        self.access = access
        self._adds = access.adds
        self.priority = access.priority
        self._pods: dict[str, PodHead] = {}
        """By pod address."""
        self._known: dict[bytes, bytes] = {}
        """By the headers of a head, which are one piece: what is left of them."""

    def before(self, address: str) -> PodHead:
        """What depends on the pod."""
        head = self._pods.get(address)
        if head is None:
            if len(self._pods) > MAX_PLACEMENTS:
                self._pods.clear()
            head = self._pods[address] = PodHead(address, self.access)
        return head

    def changed(self, kept: list[bytes]) -> list[bytes]:
        """The headers that reach the pods."""
        if not kept:
            return [self.access.added().encode("latin-1")]
        first = self._known.get(kept[0])
        if first is None:
            first = self._passed(kept[0])
            if len(kept[0]) <= HeadCache.MAX_HEAD_BYTES:  # a head may have 64 KB
                if len(self._known) >= MAX_HEADS:
                    self._known.clear()
                self._known[kept[0]] = first
        changed = [first]
        if len(kept) > 1:
            changed += [self._passed(lines) for lines in kept[1:]]
        if self._adds:
            changed.append(self.access.added().encode("latin-1"))
        return changed

    def _passed(self, lines: bytes) -> bytes:
        strip = self.access.strip  # names are in lower case, and no value has a line end
        passed = [line for line in lines.split(b"\r\n") if line and line.partition(b":")[0] not in strip]
        return b"".join([line + b"\r\n" for line in passed])


class WireHeaders:
    """Makes the bytes that name this replica, a request and a pod. Request ids begin with the low 48 bits of `seed`, so
    that two processes do not make the same ones; `clusters` maps the pools that name a cluster to it, `accesses` says
    which pools change the headers of their requests."""

    def __init__(
        self,
        replica: str,
        seed: int,
        clusters: Mapping[str, str] = _NO_CLUSTERS,
        cors: AllowedOrigins | None = None,
        proxies: TrustedProxies | None = None,
        accesses: Mapping[str, PoolAccess] = _NO_ACCESSES,
        key: bytes = b"",
    ) -> None:
        """With a secret `key`, ids do not show how many requests others have sent."""
        self._proxies = proxies or TrustedProxies(())
        self._cors = cors
        self.rewrites = cors is not None
        """Whether `pods_headers` changes every answer, and not only those without status 200."""
        self._replica = replica.encode()
        self._clusters = clusters
        self._prefix = b"%012x" % (seed & 0xFFFFFFFFFFFF)
        self._count = 0
        self._key = key
        self._ids: list[bytes] = []
        """Ids that were made and not given yet."""
        self._by_placement: dict[tuple[str, str, int, str, str], bytes] = {}
        self._plain = PoolHeaders(PLAIN)
        self._changing = {pool: PoolHeaders(access) for pool, access in accesses.items() if access.changes_requests}

    def request_id(self, header_map: dict[bytes, bytes]) -> bytes:
        """The client's `x-request-id` if it is 1 to 128 visible ASCII characters, else a new id."""
        given = header_map.get(b"x-request-id")
        if given is not None and _VALID_ID.fullmatch(given):
            return given
        if self._key:
            return self._hidden_id()
        self._count += 1
        return b"%b%08x" % (self._prefix, self._count)

    def _hidden_id(self) -> bytes:
        """A new id that does not show its number; one digest makes eight."""
        if not self._ids:
            self._count += 1
            digits = blake2b(b"%d" % self._count, key=self._key).hexdigest().encode()
            self._ids = [self._prefix + digits[at : at + _ID_DIGITS] for at in range(0, len(digits), _ID_DIGITS)]
        return self._ids.pop()

    def request(self, exchange: Exchange, pod: Pod) -> list[bytes]:
        """The request as the pod gets it: the client's headers as they came, without those that end here. A large body
        is a part of its own, because joining it to its head would copy it."""
        routed = exchange.routed
        return self.request_as(exchange, pod, routed.pool, routed.body)

    def request_as(self, exchange: Exchange, pod: Pod, pool: str, body: bytes) -> list[bytes]:
        """The same with another body, for a pod that may be of another pool."""
        routed = exchange.routed
        kept = exchange.kept
        if self._changing and pool in self._changing:
            headers = self._changing[pool]
            head, kept = headers.before(pod.address), headers.changed(kept)
            if RANK in pod.labels:
                kept.append(b"%b: %b\r\n" % (_RANK_HEADER, pod.labels[RANK].encode()))
            if headers.priority and not exchange.upgrade:
                asked = 0 if routed.info is None else routed.info.priority
                kind = exchange.header_map.get(b"content-type", b"")
                body = with_priority(exchange.path, kind, body, headers.priority * asked)
        else:
            head = self._plain.before(pod.address)
        parts = [
            exchange.method,
            head.before,
            exchange.target,
            head.after,
            *kept,
            self._forwarding(exchange),
            b"x-request-id: ",
            exchange.request_id,
            b"\r\n\r\n" if exchange.upgrade else b"\r\ncontent-length: %d\r\n\r\n" % len(body),
        ]
        if len(body) >= APART_BYTES:
            return [b"".join(parts), body]
        parts.append(body)
        return [b"".join(parts)]

    def _forwarding(self, exchange: Exchange) -> bytes:
        if FORWARDING in exchange.header_map or self._proxies.always:
            edge = exchange.edge
            return self._proxies.lines(edge.peer or peer_of(edge.transport), exchange.header_map)
        return b""

    def response_headers(self, exchange: Exchange, placement: Placement) -> list[bytes]:
        """`x-request-id` and the headers that name pod, pool, policy and replica, ready to be joined into a head."""
        routed = exchange.routed
        home = routed.pool if exchange.fallback_state is None else exchange.fallback_state.home.pool
        key = (placement.pod.id, placement.policy, exchange.attempts, routed.pool, home)
        named = self._by_placement.get(key)
        if named is None:
            if len(self._by_placement) > MAX_PLACEMENTS:
                self._by_placement.clear()  # drops entries of pods that are gone; those in use are made again
            named = self._by_placement[key] = _lines(self._placement(exchange, placement))
        if routed.arm is not None:
            return [b"x-request-id: ", exchange.request_id, b"\r\n", named, routed.arm.header]
        return [b"x-request-id: ", exchange.request_id, b"\r\n", named]

    def pods_headers(self, exchange: Exchange, pod: Pod, head: ResponseHead) -> list[bytes]:
        """The headers that the pod sent, with inner addresses as paths, and with the gateway's answer to a cross-origin
        request in place of the pod's. Only called where one of the two may change something: see `rewrites`."""
        kept = head.kept if head.status == 200 else self._without_inner(head.kept, exchange.routed.pool, pod)
        if self._cors is None:
            return kept
        return [*without_cors(kept), _lines(self._cors.headers(exchange.header_map))]

    def _without_inner(self, kept: list[bytes], pool: str, pod: Pod) -> list[bytes]:
        headers = self._changing.get(pool)
        host = (PLAIN if headers is None else headers.access).host_of(pod.address)
        return location.relative(kept, host, addresses.of(pod.address).base.encode())

    def error_headers(self, exchange: Exchange) -> Headers:
        """The same headers as pairs, for an answer that the gateway makes itself."""
        cors = () if self._cors is None else self._cors.headers(exchange.header_map)
        if exchange.placement is not None:
            return ((b"x-request-id", exchange.request_id), *self._placement(exchange, exchange.placement), *cors)
        return ((b"x-request-id", exchange.request_id), (b"x-turnout-replica", self._replica), *cors)

    def refusal_headers(self, origin: bytes = b"") -> Headers:
        """The headers of an answer to bytes that never became a request; the id is new."""
        cors = () if self._cors is None else self._cors.unread(origin)
        return ((b"x-request-id", self.request_id({})), (b"x-turnout-replica", self._replica), *cors)

    def _placement(self, exchange: Exchange, placement: Placement) -> Headers:
        pod, pool, state = placement.pod, exchange.routed.pool, exchange.fallback_state
        headers: Headers = (
            (b"x-turnout-pod", pod.id.encode()),
            (b"x-turnout-pool", pool.encode()),
            (b"x-turnout-policy", placement.policy.encode()),
            (b"x-turnout-replica", self._replica),
            (b"x-turnout-attempts", b"%d" % exchange.attempts),
        )
        cluster = pod.labels.get("cluster") or self._clusters.get(pool)
        if cluster:
            headers += ((b"x-turnout-cluster", _printable(cluster)),)
        if state is not None and state.home.pool != pool:
            headers += ((b"x-turnout-fallback", b"from=" + state.home.pool.encode()),)
        return headers


def _lines(headers: Headers) -> bytes:
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


def _printable(label: str) -> bytes:
    """A label as a header's value. Discovery may find any text in it; what is not printable ASCII becomes `?`."""
    return "".join(each if each.isprintable() and each.isascii() else "?" for each in label).encode()
