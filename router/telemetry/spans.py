"""A request that has ended -> its OpenTelemetry spans: one tree, with names and attributes by the conventions.
Knows no collector. Only `tracing.py` imports it, because it needs the library of `turnout[otel]`.

HTTP and GenAI conventions; what they have no name for begins with `turnout.`. No header, query or body is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from router.telemetry.request_trace import AttemptTrace, RequestOutcome, RequestTrace
from statesync.discovery import address as addresses

Attributes = dict[str, str | int | float | bool]
When = tuple[float, float]
"""Start and end, on the gateway's monotonic clock."""

_API: Final[Mapping[str, tuple[str, str]]] = {
    "/v1/chat/completions": ("chat", "openai"),
    "/v1/completions": ("text_completion", "openai"),
    "/v1/responses": ("chat", "openai"),
    "/v1/embeddings": ("embeddings", "openai"),
    "/v1/messages": ("chat", "anthropic"),
}
"""Path -> `gen_ai.operation.name` and `gen_ai.provider.name`: the API that the engine speaks."""

_USAGE: Final = {
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
}
_REFUSED: Final = 400
_FAILED: Final = 500
"""Statuses from which on an answer is an error: for a caller, and for a server."""
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
RECORDED: Final = SpanContext(1, 1, False, _SAMPLED)
"""Stands for the context of any sampled request."""
_STATUSES: Final = {False: Status(StatusCode.UNSET), True: Status(StatusCode.ERROR)}
"""By whether it failed."""


def count_of(trace: RequestTrace, outcome: RequestOutcome) -> int:
    """How many spans a `SpanMaker` makes of a request."""
    return 1 + 2 * len(trace.attempts) + int(outcome.waited) + int(outcome.first_at > 0.0)


class SpanMaker:
    """Makes spans as finished values. The SDK's tracer is made for spans that are open while code runs, at a context
    variable, a lock and a bounded map each; these are over, and cost a tenth."""

    def __init__(
        self,
        resource: Mapping[str, str],
        rng: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`clock` is that of the times in a `RequestTrace`; `rng` returns 64 random bits."""
        self._resource = _OwnResource(Resource.create(dict(resource)))
        self._scope = InstrumentationScope("turnout", resource.get("service.version"))
        self._rng = rng
        self._clock = clock
        self._wall_ns = wall_ns

    def spans(self, trace: RequestTrace, outcome: RequestOutcome) -> Iterator[ReadableSpan]:
        """The request, and below it queue, decisions, attempts and relay. A decision lasts from what was before it
        to the attempt: routing, the policy and the reservation."""
        tree = _Tree(trace, self._wall_ns() - int(self._clock() * 1e9))
        root = tree.context(trace.span_id)
        yield self._request(tree, root, outcome)
        since = outcome.arrived_at
        for number, attempt in enumerate(trace.attempts):
            if outcome.waited and not number:
                yield self._child(tree, root, "queue", (since, attempt.decided_at), {})
                since = attempt.decided_at
            yield self._child(tree, root, "decision", (since, attempt.started_at), _decision_attributes(attempt))
            answered = outcome if attempt is trace.attempts[-1] else None
            attributes = _attempt_attributes(attempt, outcome, number, answered)
            yield self._attempt(tree, root, outcome, attempt, attributes)
            since = attempt.ended_at
        if outcome.waited and not trace.attempts:
            yield self._child(tree, root, "queue", (since, outcome.ended_at), {})
        if outcome.first_at:
            when = (outcome.first_at, outcome.last_at)
            yield self._child(tree, root, "relay", when, {}, ("first byte", "last byte"))

    def _request(self, tree: _Tree, root: SpanContext, outcome: RequestOutcome) -> ReadableSpan:
        name = f"{outcome.method} {outcome.path}" if outcome.known_path else outcome.method
        parent_id = tree.trace.parent_id
        parent = tree.context(parent_id, remote=True) if parent_id else None
        return ReadableSpan(
            name,
            root,
            parent,
            self._resource,
            _request_attributes(outcome),
            kind=SpanKind.SERVER,
            status=_STATUSES[outcome.status >= _FAILED],
            start_time=tree.ns(outcome.arrived_at),
            end_time=tree.ns(outcome.ended_at),
            instrumentation_scope=self._scope,
        )

    def _attempt(
        self, tree: _Tree, root: SpanContext, outcome: RequestOutcome, attempt: AttemptTrace, attributes: Attributes
    ) -> ReadableSpan:
        operation = _API[outcome.path][0] if outcome.path in _API else outcome.method
        return ReadableSpan(
            f"{operation} {attempt.model}".rstrip(),
            tree.context(attempt.span_id),
            root,
            self._resource,
            attributes,
            kind=SpanKind.CLIENT,
            status=_STATUSES["error.type" in attributes],
            start_time=tree.ns(attempt.started_at),
            end_time=tree.ns(attempt.ended_at),
            instrumentation_scope=self._scope,
        )

    def _child(
        self,
        tree: _Tree,
        root: SpanContext,
        name: str,
        when: When,
        attributes: Attributes,
        events: Sequence[str] = (),
    ) -> ReadableSpan:
        start, end = map(tree.ns, when)
        return ReadableSpan(
            name,
            tree.context(self._rng() or 1),
            root,
            self._resource,
            attributes,
            [Event(each, timestamp=at) for each, at in zip(events, (start, end), strict=False)],
            start_time=start,
            end_time=max(start, end),
            instrumentation_scope=self._scope,
        )


class _OwnResource(Resource):
    """The resource of every span. The SDK's own writes itself as JSON to be hashed, for each span that is sent, which
    is a quarter of the export."""

    def __init__(self, resource: Resource) -> None:
        super().__init__(dict(resource.attributes), resource.schema_url)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Tree:
    """What the spans of one request have in common."""

    def __init__(self, trace: RequestTrace, offset_ns: int) -> None:
        """`offset_ns` is Unix time less the gateway's clock."""
        self.trace = trace
        self._offset_ns = offset_ns
        self._state = TraceState.from_header([trace.state.decode("latin-1")]) if trace.state else None

    def context(self, span_id: int, *, remote: bool = False) -> SpanContext:
        return SpanContext(self.trace.trace_id, span_id, remote, _SAMPLED, self._state)

    def ns(self, moment: float) -> int:
        return int(moment * 1e9) + self._offset_ns


def _request_attributes(outcome: RequestOutcome) -> Attributes:
    given: Attributes = {
        "http.request.method": outcome.method,
        "http.response.status_code": outcome.status,
        "http.route": outcome.path if outcome.known_path else "",
        "url.path": outcome.path,
        "error.type": outcome.error,
        "gen_ai.request.model": outcome.model,
        "turnout.pool": outcome.pool,
        "turnout.tenant": outcome.tenant,
    }
    return {name: value for name, value in given.items() if value}


def _decision_attributes(attempt: AttemptTrace) -> Attributes:
    given: Attributes = {
        "turnout.policy": attempt.policy,
        "turnout.pod": attempt.pod,
        "turnout.expected_hit_tokens": attempt.hit_tokens,
    }
    if attempt.candidates:
        given["turnout.candidates"] = attempt.candidates
    if attempt.expected_s:
        given["turnout.expected_ttft_s"] = attempt.expected_s
    return given


def _attempt_attributes(
    attempt: AttemptTrace, outcome: RequestOutcome, number: int, answered: RequestOutcome | None
) -> Attributes:
    """`answered` is the outcome where this attempt's answer is the client's."""
    model = attempt.model
    given = _server(attempt.address)
    if outcome.path in _API:
        given["gen_ai.operation.name"], given["gen_ai.provider.name"] = _API[outcome.path]
    if model:
        given["gen_ai.request.model"] = model
    if number:
        given["http.request.resend_count"] = number
    if attempt.status:
        given["http.response.status_code"] = attempt.status
    if error := attempt.error or (str(attempt.status) if attempt.status >= _REFUSED else ""):
        given["error.type"] = error
    if answered is not None and attempt.status:
        given |= _answer_attributes(attempt, answered, model)
    return given | {"turnout.pod": attempt.pod, "turnout.pool": attempt.pool}


def _answer_attributes(attempt: AttemptTrace, outcome: RequestOutcome, model: str) -> Attributes:
    given: Attributes = {"gen_ai.request.stream": outcome.stream}
    if model and attempt.status < _REFUSED:
        given["gen_ai.response.model"] = model  # as its pods call it; the body is not read
    given |= {_USAGE[name]: count for name, count in outcome.tokens.items()}
    if outcome.first_at:
        given["gen_ai.response.time_to_first_chunk"] = outcome.first_at - attempt.started_at
    return given


def _server(address: str) -> Attributes:
    where = addresses.of(address)
    return (
        {"server.address": where.socket} if where.socket else {"server.address": where.host, "server.port": where.port}
    )
