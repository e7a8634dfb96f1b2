"""docs/errors.md: every answer that the gateway itself gives in place of a pod's, from the one table of errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence

from router.errors import SHAPES, ErrorShape, GatewayError, PodFailure
from scripts.reference.markdown import opening, sentence, table

_TEXT = """
Errors of the gateway have OpenAI's shape, on paths of Anthropic's API that of Anthropic:

```json
{"error": {"message": "...", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}
```

`code` is stable: test for it, and show `message` to people. The header `x-turnout-reason` has it, too, and the access
log and `turnout_rejections_total` have it as `reason`. `retry-after` says when to try again, where that is known. An
error of an engine passes unchanged; it has the header `x-turnout-pod`.
[Alerts](operations.md#alerts) says what to do when one of these becomes frequent.
"""
_FAILURES = """
Before one of these becomes an answer, other pods and [fall-backs](operations.md#clusters-and-fall-back) are tried, as
long as no byte of an answer has been sent. `reason` is the label of `turnout_retries_total` and the `cause` in the
access log. In the middle of a stream the status has been sent already: then the stream ends with an event that holds
the error.
"""
_REPEAT = "SDKs do not repeat it (`x-should-retry: false`)."


def page() -> str:
    """The whole page."""
    own = [kind for kind in SHAPES if not issubclass(kind, PodFailure)]
    failures = [kind for kind in SHAPES if issubclass(kind, PodFailure)]
    parts = [
        opening("Error codes", "router/errors.py", _TEXT),
        "## Requests that the gateway refuses\n",
        table(("status", "code", "type", "when"), map(_row, _by_status(own))),
        f"## Failures of pods\n{_FAILURES}",
        table(("status", "code", "reason", "when"), map(_failure_row, _by_status(failures))),
    ]
    return "\n".join(parts)


def _by_status(kinds: Sequence[type[GatewayError]]) -> Iterator[tuple[type[GatewayError], ErrorShape]]:
    shown = [(kind, SHAPES[kind]) for kind in kinds if "only by mistake" not in _words(kind)]
    yield from sorted(shown, key=lambda pair: (pair[1].status, pair[1].code or ""))


def _words(kind: type[GatewayError]) -> str:
    return sentence(inspect.getdoc(kind) or "")


def _row(pair: tuple[type[GatewayError], ErrorShape]) -> Sequence[str]:
    kind, shape = pair
    closes = " The connection is closed." if shape.closes else ""
    return str(shape.status), f"`{shape.code}`", f"`{shape.type}`", _words(kind) + closes


def _failure_row(pair: tuple[type[GatewayError], ErrorShape]) -> Sequence[str]:
    kind, shape = pair
    assert issubclass(kind, PodFailure)
    words = _words(kind) if kind.repeatable else f"{_words(kind)} {_REPEAT}"
    return str(shape.status), f"`{shape.code}`", f"`{kind.reason}`", words
