"""One error tree for the gateway, and one table from errors to the client's answer.

Nothing here knows a socket. A `PodFailure` is the result of an attempt; it becomes an answer only when no other pod may
be tried. A test asserts that the table covers the tree.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class ErrorShape(NamedTuple):
    """An error as the client sees it, in OpenAI's terms."""

    status: int
    type: str
    code: str
    closes: bool = False
    """The connection cannot be used again: the request was not read to a known end."""


class GatewayError(Exception):
    """Root of the errors that a request can end with. `param` names the field at fault, `retry_after_s` when to
    retry."""

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.client = ""
        """Address of the client that is refused before it has sent a whole request."""
        self.path = b""
        self.origin = b""
        """Of such a request, as far as its head was read: they decide on the form of the answer."""

    @property
    def shape(self) -> ErrorShape:
        """Its row of the table."""
        return next(SHAPES[kind] for kind in type(self).__mro__ if kind in SHAPES)


class ClientError(GatewayError):
    """The request is at fault; a retry of the same bytes fails too."""


class BadRequest(ClientError):
    """A body or header that cannot be understood."""


class BadFraming(ClientError):
    """Bytes that are not HTTP/1.x, or that have two lengths."""


class InvalidApiKey(ClientError):
    """No key, or one that is not accepted: unknown, expired, revoked."""


class PermissionDenied(ClientError):
    """The client is known, and may not do this."""


class MissingModel(ClientError):
    """No `model` in the body."""


class ModelNotFound(ClientError):
    """No pool serves the model."""


class ModelNotListed(ModelNotFound):
    """No list names the model, and the lists may be out of date; it becomes an answer only by mistake."""


class StateNotFound(ClientError):
    """What the request names does not exist, or another tenant made it."""


class OwnerGone(ClientError):
    """The pod that has the state which the request names has left: the state is lost."""


class PoolNotFound(ClientError):
    """`x-turnout-pool` or `x-turnout-cluster` names what does not exist."""


class TargetNotAllowed(ClientError):
    """`x-turnout-pool` or `x-turnout-cluster` names what this client may not choose."""


class PolicyNotAllowed(ClientError):
    """`x-turnout-policy` names a policy this pool does not offer."""


class UnknownPath(ClientError):
    """Nothing is served under this path."""


class MethodNotAllowed(ClientError):
    """The path exists, the method does not."""

    allow: ClassVar[str] = "POST"


class BodyTooLarge(ClientError):
    """More body than `limits.max_body_bytes`."""


class HeadersTooLarge(ClientError):
    """More header than `limits.max_header_bytes`, or more headers than `limits.max_headers`."""


class RequestTimeout(ClientError):
    """The client took too long to send its headers or body."""


class UnsupportedEncoding(ClientError):
    """A compressed body: the gateway would have to unpack it to route it."""


class Overload(GatewayError):
    """The request is valid; there is no capacity for it now."""


class NoPodAvailable(Overload):
    """The pool has no routable pod, or all of them failed this request."""


class RateLimitExceeded(Overload):
    """The client's tenant has used up a limit, or has too many requests under way."""


class Saturated(Overload):
    """Every pod is at its limit, and the queue is full, or the wait in it was or would be too long."""


class Shed(Overload):
    """This replica is at `limits.max_inflight`, or has too many connections."""


class KeysUnread(Overload):
    """Keys are in the shared state, and this replica has not read them yet."""


class DeadlineExceeded(Overload):
    """The request's own deadline passed before a pod could take it."""


class PodFailure(GatewayError):
    """An attempt failed at its pod. `reason` is the metric label."""

    reason: ClassVar[str] = "failure"
    repeatable: ClassVar[bool] = True
    """Whether the client may send the request again at once. False where the pod was at work on it: SDKs would start
    the same work a second and a third time, so the answer says `x-should-retry: false`."""


class ConnectFailed(PodFailure):
    """The pod refused the connection or cannot be reached."""

    reason = "connect"


class ConnectTimeout(PodFailure):
    """The pod did not accept the connection in time."""

    reason = "connect_timeout"


class TlsFailed(PodFailure):
    """There is no TLS connection to the pod: its certificate is refused here, the gateway's there, or it speaks none.
    Nothing was processed."""

    reason = "tls"


class StaleConnection(PodFailure):
    """A kept-alive connection was closed by the pod as it was reused; nothing was processed."""

    reason = "stale"


class ResetBeforeAnswer(PodFailure):
    """The pod closed the connection before the first byte of its answer."""

    reason = "reset"


class BadAnswer(PodFailure):
    """The pod's bytes are not an HTTP answer."""

    reason = "bad_answer"


class PodRefused(PodFailure):
    """The pod answered 429, 502, 503 or 504, and another pod is tried; it becomes an answer only by mistake."""

    reason = "refused"


class PodGone(PodFailure):
    """The pod fails its probes, and the request had no byte of an answer: it moves on to another pod."""

    reason = "gone"


class ModelRefused(PodFailure):
    """The pod answered that it does not have the model, and another pod is tried; it becomes an answer only by
    mistake."""

    reason = "model"


class FirstByteTimeout(PodFailure):
    """The pod sent nothing for `timeouts.first_byte_s`."""

    reason = "first_byte_timeout"
    repeatable = False


class IdleTimeout(PodFailure):
    """The pod sent nothing in the middle of its answer for `timeouts.idle_s`."""

    reason = "idle_timeout"
    repeatable = False


class TotalTimeout(PodFailure):
    """The answer took longer than `timeouts.total_s` or the request's deadline."""

    reason = "total_timeout"
    repeatable = False


class CutMidAnswer(PodFailure):
    """The pod closed the connection in the middle of its answer."""

    reason = "cut"


class DrainTimeout(PodFailure):
    """This replica's drain ran out of time before the answer ended."""

    reason = "drain_timeout"


class StreamLost(PodFailure):
    """A stream to which its client came back, and which no replica can go on with. The message says why."""

    reason = "stream_lost"
    repeatable = False


class VersionNotSupported(GatewayError):
    """HTTP of another version than 1.0 or 1.1."""


class InternalError(GatewayError):
    """A defect of the gateway; the log has the traceback, the client a request id."""


INVALID = "invalid_request_error"
SERVER = "server_error"
UPSTREAM = "upstream_error"
LIMIT = "rate_limit_error"

SHAPES: dict[type[GatewayError], ErrorShape] = {
    BadRequest: ErrorShape(400, INVALID, "invalid_request"),
    BadFraming: ErrorShape(400, INVALID, "bad_framing", closes=True),
    InvalidApiKey: ErrorShape(401, INVALID, "invalid_api_key"),
    PermissionDenied: ErrorShape(403, INVALID, "permission_denied"),
    MissingModel: ErrorShape(400, INVALID, "missing_model"),
    ModelNotFound: ErrorShape(404, INVALID, "model_not_found"),
    StateNotFound: ErrorShape(404, INVALID, "not_found"),
    OwnerGone: ErrorShape(404, INVALID, "owner_gone"),
    ModelNotListed: ErrorShape(404, INVALID, "model_not_found"),
    PoolNotFound: ErrorShape(404, INVALID, "pool_not_found"),
    TargetNotAllowed: ErrorShape(403, INVALID, "target_not_allowed"),
    PolicyNotAllowed: ErrorShape(403, INVALID, "policy_not_allowed"),
    UnknownPath: ErrorShape(404, INVALID, "unknown_path"),
    MethodNotAllowed: ErrorShape(405, INVALID, "method_not_allowed"),
    BodyTooLarge: ErrorShape(413, INVALID, "body_too_large", closes=True),
    HeadersTooLarge: ErrorShape(431, INVALID, "headers_too_large", closes=True),
    RequestTimeout: ErrorShape(408, INVALID, "request_timeout", closes=True),
    UnsupportedEncoding: ErrorShape(415, INVALID, "unsupported_encoding"),
    RateLimitExceeded: ErrorShape(429, LIMIT, "rate_limit_exceeded"),
    NoPodAvailable: ErrorShape(503, SERVER, "no_pod_available"),
    Saturated: ErrorShape(429, SERVER, "pool_saturated"),
    Shed: ErrorShape(503, SERVER, "overloaded"),
    KeysUnread: ErrorShape(503, SERVER, "keys_unread"),
    DeadlineExceeded: ErrorShape(504, SERVER, "deadline_exceeded"),
    ConnectFailed: ErrorShape(503, UPSTREAM, "pod_unreachable"),
    ConnectTimeout: ErrorShape(504, UPSTREAM, "pod_connect_timeout"),
    TlsFailed: ErrorShape(502, UPSTREAM, "pod_failed"),
    StaleConnection: ErrorShape(502, UPSTREAM, "pod_closed_connection"),
    ResetBeforeAnswer: ErrorShape(502, UPSTREAM, "pod_closed_connection"),
    BadAnswer: ErrorShape(502, UPSTREAM, "pod_bad_answer"),
    PodRefused: ErrorShape(503, UPSTREAM, "pod_refused"),
    ModelRefused: ErrorShape(503, UPSTREAM, "pod_refused"),
    PodGone: ErrorShape(502, UPSTREAM, "pod_gone"),
    FirstByteTimeout: ErrorShape(504, UPSTREAM, "pod_timeout"),
    IdleTimeout: ErrorShape(504, UPSTREAM, "pod_stalled"),
    TotalTimeout: ErrorShape(504, UPSTREAM, "request_timed_out"),
    CutMidAnswer: ErrorShape(502, UPSTREAM, "pod_closed_connection"),
    DrainTimeout: ErrorShape(503, SERVER, "gateway_draining"),
    StreamLost: ErrorShape(502, UPSTREAM, "stream_lost"),
    VersionNotSupported: ErrorShape(505, SERVER, "http_version_not_supported", closes=True),
    InternalError: ErrorShape(500, SERVER, "internal_error"),
}
