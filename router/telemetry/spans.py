"""A request that has ended -> its OpenTelemetry spans: one tree, with names and attributes by the conventions, as the
bytes that are sent. Knows no collector and no library.

HTTP and GenAI conventions; what they have no name for begins with `turnout.`. No header, query or body is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from router.protobuf import field
from router.telemetry import span_encoding as encoding
from router.telemetry.request_trace import AttemptTrace, PendingOutcome, RequestOutcome, RequestTrace
from router.telemetry.span_encoding import (
    CLIENT,
    INTERNAL,
    SERVER,
    CountAttribute,
    EventName,
    SecondsAttribute,
    flag_attribute,
    text_attribute,
)
from statesync.discovery import address as addresses

_API: Final[Mapping[str, tuple[str, str]]] = {
    "/v1/chat/completions": ("chat", "openai"),
    "/v1/completions": ("text_completion", "openai"),
    "/v1/responses": ("chat", "openai"),
    "/v1/embeddings": ("embeddings", "openai"),
    "/v1/messages": ("chat", "anthropic"),
}
"""Path -> `gen_ai.operation.name` and `gen_ai.provider.name`: the API that the engine speaks."""

_USAGE: Final = {
    "prompt_tokens": CountAttribute("gen_ai.usage.input_tokens"),
    "completion_tokens": CountAttribute("gen_ai.usage.output_tokens"),
    "cached_tokens": CountAttribute("gen_ai.usage.cache_read.input_tokens"),
}
_HIT_TOKENS: Final = CountAttribute("turnout.expected_hit_tokens")
_CANDIDATES: Final = CountAttribute("turnout.candidates")
_STATUS: Final = CountAttribute("http.response.status_code")
_PORT: Final = CountAttribute("server.port")
_RESENDS: Final = CountAttribute("http.request.resend_count")
_EXPECTED: Final = SecondsAttribute("turnout.expected_ttft_s")
_FIRST_CHUNK: Final = SecondsAttribute("gen_ai.response.time_to_first_chunk")
_FIRST_BYTE: Final = EventName("first byte")
_LAST_BYTE: Final = EventName("last byte")
_QUEUE: Final = encoding.named("queue", INTERNAL)
_RELAY: Final = encoding.named("relay", INTERNAL)

_REFUSED: Final = 400
_FAILED: Final = 500
"""Statuses from which on an answer is an error: for a caller, and for a server."""

MOST_KNOWN: Final = 2048
"""Parts of spans that are kept as bytes. When they are more, all are made again."""


def count_of(trace: RequestTrace, outcome: PendingOutcome) -> int:
    """How many spans a `SpanMaker` makes of a request."""
    return 1 + 2 * len(trace.attempts) + int(outcome.waited) + int(outcome.first_at > 0.0)


class SpanMaker:
    """Makes spans of finished values. Most of a span is text that came before, and is kept as it is sent."""

    def __init__(
        self,
        state_of: Callable[[bytes], str],
        rng: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`state_of` reads a client's `tracestate`; `clock` is that of the times in a `RequestTrace`; `rng` returns 64
        random bits."""
        self._state_of = state_of
        self._rng = rng
        self._clock = clock
        self._wall_ns = wall_ns
        self._known: dict[tuple[object, ...], bytes] = {}

    def spans(self, trace: RequestTrace, outcome: RequestOutcome) -> list[bytes]:
        """The request, and below it queue, decisions, attempts and relay. A decision lasts from what was before it
        to the attempt: routing, the policy and the reservation."""
        tree = _Tree(trace, self._state_of, self._wall_ns() - int(self._clock() * 1e9))
        made = [self._request(tree, outcome)]
        since, waited = outcome.arrived_at, outcome.waited
        attempts = trace.attempts
        for number, attempt in enumerate(attempts):
            if waited and not number:
                made.append(self._child(tree, _QUEUE, since, attempt.decided_at, b""))
                since = attempt.decided_at
            made.append(self._child(tree, self._decision(attempt), since, attempt.started_at, _expected(attempt)))
            made.append(self._attempt(tree, attempt, outcome, number, last=attempt is attempts[-1]))
            since = attempt.ended_at
        if waited and not attempts:
            made.append(self._child(tree, _QUEUE, since, outcome.ended_at, b""))
        if outcome.first_at:
            first_at, last_at = outcome.first_at, outcome.last_at
            events = _FIRST_BYTE.at(tree.ns(first_at)) + _LAST_BYTE.at(tree.ns(last_at))
            made.append(self._child(tree, _RELAY, first_at, last_at, events))
        return made

    def _request(self, tree: _Tree, outcome: RequestOutcome) -> bytes:
        key = ("request", *outcome[:8])
        about = self._known.get(key) or self._keep(key, _about_request(outcome))
        parent_id = tree.trace.parent_id
        parent = encoding.below(parent_id) if parent_id else b""
        flags = encoding.REMOTE_PARENT if parent_id else encoding.LOCAL_PARENT
        when = encoding.times(tree.ns(outcome.arrived_at), tree.ns(outcome.ended_at))
        return encoding.span([tree.begin, tree.root, tree.state, parent, about, when, flags])

    def _decision(self, attempt: AttemptTrace) -> bytes:
        key = ("decision", attempt.policy, attempt.pod)
        return self._known.get(key) or self._keep(key, _about_decision(attempt))

    def _attempt(
        self, tree: _Tree, attempt: AttemptTrace, outcome: RequestOutcome, number: int, *, last: bool
    ) -> bytes:
        """`last`: if this attempt has an answer, it is the client's."""
        answered = last and attempt.status > 0
        key = (
            *("attempt", attempt.address, attempt.pod, attempt.pool, attempt.model, attempt.status, attempt.error),
            *(number, outcome.method, outcome.path, answered, outcome.stream),
        )
        about = self._known.get(key) or self._keep(key, _about_attempt(attempt, outcome, number, answered=answered))
        when = encoding.times(tree.ns(attempt.started_at), tree.ns(attempt.ended_at))
        parts = [tree.begin, encoding.id_bytes(attempt.span_id), tree.state, tree.below, about, when]
        if answered:
            for name, count in outcome.tokens.items():
                parts.append(_USAGE[name].of(count))
            if outcome.first_at:
                parts.append(_FIRST_CHUNK.of(outcome.first_at - attempt.started_at))
        parts.append(encoding.LOCAL_PARENT)
        return encoding.span(parts)

    def _child(self, tree: _Tree, about: bytes, start: float, end: float, more: bytes) -> bytes:
        start_ns, end_ns = tree.ns(start), tree.ns(end)
        when = encoding.times(start_ns, max(start_ns, end_ns))
        own_id = encoding.id_bytes(self._rng() or 1)
        return encoding.span([tree.begin, own_id, tree.state, tree.below, about, when, more, encoding.LOCAL_PARENT])

    def _keep(self, key: tuple[object, ...], made: bytes) -> bytes:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = made
        return made


class _Tree:
    """What the spans of one request have in common."""

    __slots__ = ("_offset_ns", "begin", "below", "root", "state", "trace")

    def __init__(self, trace: RequestTrace, state_of: Callable[[bytes], str], offset_ns: int) -> None:
        """`offset_ns` is Unix time less the gateway's clock."""
        self.trace = trace
        self._offset_ns = offset_ns
        state = state_of(trace.state) if trace.state else ""
        self.state = field(3, state.encode()) if state else b""
        self.begin = encoding.begin(trace.trace_id)
        self.root = encoding.id_bytes(trace.span_id)
        self.below = encoding.below(trace.span_id)

    def ns(self, moment: float) -> int:
        return int(moment * 1e9) + self._offset_ns


def _texts(given: Mapping[str, str]) -> bytes:
    return b"".join([text_attribute(name, value) for name, value in given.items() if value])


def _about_request(outcome: RequestOutcome) -> bytes:
    name = f"{outcome.method} {outcome.path}" if outcome.known_path else outcome.method
    given = {
        "http.request.method": outcome.method,
        "http.route": outcome.path if outcome.known_path else "",
        "url.path": outcome.path,
        "error.type": outcome.error,
        "gen_ai.request.model": outcome.model,
        "turnout.pool": outcome.pool,
        "turnout.tenant": outcome.tenant,
    }
    status = _STATUS.of(outcome.status) if outcome.status else b""
    return encoding.named(name, SERVER, failed=outcome.status >= _FAILED) + _texts(given) + status


def _about_decision(attempt: AttemptTrace) -> bytes:
    given = {"turnout.policy": attempt.policy, "turnout.pod": attempt.pod}
    return encoding.named("decision", INTERNAL) + _texts(given)


def _expected(attempt: AttemptTrace) -> bytes:
    parts = [_HIT_TOKENS.of(attempt.hit_tokens)]
    if attempt.candidates:
        parts.append(_CANDIDATES.of(attempt.candidates))
    if attempt.expected_s:
        parts.append(_EXPECTED.of(attempt.expected_s))
    return b"".join(parts)


def _about_attempt(attempt: AttemptTrace, outcome: RequestOutcome, number: int, *, answered: bool) -> bytes:
    model, status = attempt.model, attempt.status
    operation, provider = _API.get(outcome.path, (outcome.method, ""))
    error = attempt.error or (str(status) if status >= _REFUSED else "")
    where = addresses.of(attempt.address)
    given = {
        "server.address": where.socket or where.host,
        "gen_ai.operation.name": operation if provider else "",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "error.type": error,
        # As the pods call it; the body is not read.
        "gen_ai.response.model": model if answered and status < _REFUSED else "",
        "turnout.pod": attempt.pod,
        "turnout.pool": attempt.pool,
    }
    parts = [encoding.named(f"{operation} {model}".rstrip(), CLIENT, failed=bool(error)), _texts(given)]
    if not where.socket:
        parts.append(_PORT.of(where.port))
    if number:
        parts.append(_RESENDS.of(number))
    if status:
        parts.append(_STATUS.of(status))
    if answered:
        parts.append(flag_attribute("gen_ai.request.stream", value=outcome.stream))
    return b"".join(parts)
