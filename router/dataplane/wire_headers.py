"""Who is who in the bytes: request ids, the head sent to a pod, the gateway's own response headers. Pure but for one
counter; prepared once where the parts do not change between requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from router.dataplane.exchange import Exchange
from router.dataplane.http.responses import Headers
from schedulers.types import Pod

_NO_CLUSTERS: Mapping[str, str] = MappingProxyType({})
APART_BYTES: Final = 16384
"""A body from this size on is written beside its head: two buffers in one system call cost 0.7 us, copying 32 KB 2."""

MOST_PLACEMENTS: Final = 100_000
"""Remembered at a time."""

_FINE_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class WireHeaders:
    """Makes the bytes that name this replica, a request and a pod. `seed` tells this process's ids from others';
    `clusters` are those of the pools that name one."""

    def __init__(self, replica: str, seed: int, clusters: Mapping[str, str] = _NO_CLUSTERS) -> None:
        self._replica = replica.encode()
        self._clusters = clusters
        self._prefix = b"%012x" % (seed & 0xFFFFFFFFFFFF)
        self._count = 0
        self._by_placement: dict[tuple[str, str, int, str, str], bytes] = {}

    def request_id(self, header_map: dict[bytes, bytes]) -> bytes:
        """The client's own id if it is a sane one, else a new one."""
        given = header_map.get(b"x-request-id")
        if given is not None and _FINE_ID.fullmatch(given):
            return given
        self._count += 1
        return b"%b%08x" % (self._prefix, self._count)

    def request_parts(self, exchange: Exchange, pod: Pod) -> list[bytes]:
        """The request as the pod gets it: the client's headers as they came, less what ends here. A large body is a
        part of its own, because joining it to its head would copy it."""
        body = exchange.body
        parts = [
            exchange.method,
            b" ",
            exchange.target,
            b" HTTP/1.1\r\nhost: ",
            pod.address.encode(),
            b"\r\n",
            *exchange.kept,
            b"x-request-id: ",
            exchange.request_id,
            b"\r\ncontent-length: %d\r\n\r\n" % len(body),
        ]
        if len(body) >= APART_BYTES:
            return [b"".join(parts), body]
        parts.append(body)
        return [b"".join(parts)]

    def response_headers(self, exchange: Exchange) -> list[bytes]:
        """`x-request-id` and who served it, ready to be joined into a head."""
        pod = exchange.pod
        home = exchange.pool if exchange.fallback_state is None else exchange.fallback_state.home.pool
        key = (pod.id if pod is not None else "", exchange.policy, exchange.attempts, exchange.pool, home)
        named = self._by_placement.get(key)
        if named is None:
            if len(self._by_placement) > MOST_PLACEMENTS:
                self._by_placement.clear()  # pods come and go for years; what is live is back at once
            named = self._by_placement[key] = b"".join(
                name + b": " + value + b"\r\n" for name, value in self._placement(exchange)
            )
        if exchange.arm is not None:
            return [b"x-request-id: ", exchange.request_id, b"\r\n", named, exchange.arm.header]
        return [b"x-request-id: ", exchange.request_id, b"\r\n", named]

    def error_headers(self, exchange: Exchange) -> Headers:
        """The same, as pairs, for an answer of our own."""
        if exchange.attempts:
            return ((b"x-request-id", exchange.request_id), *self._placement(exchange))
        return ((b"x-request-id", exchange.request_id), (b"x-turnout-replica", self._replica))

    def refusal_headers(self) -> Headers:
        """The same for bytes that never became a request, and so brought no id."""
        return ((b"x-request-id", self.request_id({})), (b"x-turnout-replica", self._replica))

    def _placement(self, exchange: Exchange) -> Headers:
        pod, pool = exchange.pod, exchange.pool
        placed: Headers = (
            (b"x-turnout-pod", pod.id.encode() if pod is not None else b"-"),
            (b"x-turnout-pool", pool.encode()),
            (b"x-turnout-policy", exchange.policy.encode()),
            (b"x-turnout-replica", self._replica),
            (b"x-turnout-attempts", b"%d" % exchange.attempts),
        )
        cluster = pod.labels.get("cluster") if pod is not None else None
        cluster = cluster or self._clusters.get(pool)
        if cluster:
            placed += ((b"x-turnout-cluster", _fine(cluster)),)
        if exchange.fallback_state is not None and exchange.fallback_state.home.pool != pool:
            placed += ((b"x-turnout-fallback", b"from=" + exchange.fallback_state.home.pool.encode()),)
        return placed


def _fine(label: str) -> bytes:
    """A label as a header's value: discovery may bring any text."""
    return "".join(each if each.isprintable() and each.isascii() else "?" for each in label).encode()
