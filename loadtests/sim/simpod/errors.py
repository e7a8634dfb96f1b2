"""Refusals in the shapes of vLLM 0.32: its validation errors, its own errors and the framework's. Pure.

vLLM has two forms of a bad request. A body that does not fit a request's fields is `Bad Request` with pydantic's
errors in the message; a value that the engine rejects is `BadRequestError` with a sentence, the parameter and the
value. Paths and methods that do not exist are answered by FastAPI itself, with `detail`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from pydantic import ValidationError

encode = msgspec.json.encode

_REPORTED = 10
"""Most errors of one body that the message lists, as in vLLM."""
_INPUT_CHARS = 200
"""Most characters of a wrong value that the message repeats."""
_BRANCHES = frozenset({"str", "int", "float", "bool", "list", "dict", "none", "nullable", "default", "union"})
"""Parts of pydantic's `loc` that name a type and no field."""


class ApiError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.param = status, message, kind, param

    def openai(self) -> bytes:
        """The body that most endpoints answer with."""
        fields = {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}
        return encode({"error": fields})

    def anthropic(self) -> bytes:
        """The body that /v1/messages answers with once the request's fields were read."""
        return encode({"type": "error", "error": {"type": self.kind, "message": self.message}})


class BodyError(ApiError):
    """A body that does not fit the request's fields: OpenAI's shape on every path."""

    def anthropic(self) -> bytes:
        """As everywhere: the framework refuses it before the endpoint sees it."""
        return self.openai()


class NoRoute(ApiError):
    """A path or a method that does not exist."""

    def openai(self) -> bytes:
        """FastAPI's own body."""
        return encode({"detail": self.message})

    anthropic = openai


NOT_FOUND = NoRoute(404, "Not Found")
WRONG_METHOD = NoRoute(405, "Method Not Allowed")
WRONG_TYPE = BodyError(
    400, "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed", "Bad Request"
)


def rejected(message: str, param: str | None = None, value: object = None) -> ApiError:
    """A value that the engine rejects; the message ends with the parameter and the value, as far as they are given."""
    extras = [f"{name}={one}" for name, one in (("parameter", param), ("value", value)) if one is not None]
    return ApiError(400, f"{message} ({', '.join(extras)})" if extras else message, param=param)


def unfit(error: ValidationError) -> BodyError:
    """The answer to a body in which pydantic found errors."""
    return body_error([dict(each) for each in error.errors(include_url=False)])


def body_error(errors: Sequence[Mapping[str, Any]]) -> BodyError:
    """The answer to errors as pydantic lists them, `loc` without its leading `body`."""
    label = "error" if len(errors) == 1 else "errors"
    lines = [f"  {_line(each)}" for each in errors[:_REPORTED]]
    if len(errors) > _REPORTED:
        lines.append(f"  ...and {len(errors) - _REPORTED} more {label}")
    message = "\n".join([f"{len(errors)} validation {label}:", *lines])
    return BodyError(400, message, "Bad Request", _place(errors[0]["loc"]))


def _line(error: Mapping[str, Any]) -> str:
    shown = {"type": error["type"], "loc": _place(error["loc"]), "msg": error["msg"]}
    shown["input"] = _summary(error["input"])
    if "ctx" in error:
        shown["ctx"] = error["ctx"]
    return str(shown)


def _place(loc: Sequence[str | int]) -> str:
    named = [str(part) for part in loc if not ("[" in str(part) or "(" in str(part) or str(part) in _BRANCHES)]
    return ".".join(["body", *named])


def _summary(value: object) -> object:
    """A wrong value, short: containers by their size."""
    if isinstance(value, list | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _INPUT_CHARS else text[:_INPUT_CHARS] + "...[truncated]"
