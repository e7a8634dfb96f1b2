"""Logging: one handler on stderr, as JSON lines or for people, for the gateway's loggers and those of libraries.

A log line never fails on its arguments, never spans lines in JSON, and never holds a secret or a prompt: fields that
could hold one are replaced, whichever logger is called. The request id is passed as `extra={"request_id": ...}`.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO

from router.settings import Logging

ACCESS = "turnout.access"
"""Logger of one line per request; disabled unless the settings enable it."""

FORMATS = ("human", "json")
LEVELS = ("debug", "info", "warning", "error")

_QUIET = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "uvicorn": logging.WARNING,
    "asyncio": logging.WARNING,
    "opentelemetry.trace": logging.ERROR,
}
"""Libraries whose `info` is too much here: a line for each probe, scrape or start. OpenTelemetry warns of a malformed
`tracestate` with what the client sent."""

_ADOPTED = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "redis", "asyncio", "fastapi")

_STANDARD = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "color_message"}

_SECRET_FIELDS = frozenset(
    {"authorization", "token", "api_key", "password", "cookie", "headers", "prompt", "messages", "input", "body"}
)
_REMOVED = "[removed]"

_SECRETS = (
    ("bearer", re.compile(r"(?i)\b(bearer)\s+[^\s'\",]+"), rf"\1 {_REMOVED}"),
    ("://", re.compile(r"(://)[^/@\s:]*+:[^/@\s]*+@"), rf"\1{_REMOVED}@"),
)
"""What a text with a secret contains, in small letters; the secret; its replacement. The first saves the search in most
fields of the access log. No part of a pattern gives back what it took: clients write paths of 8 KB of colons."""

_LONGEST = 8192
_DEEPEST = 6


def configure(logging_settings: Logging, stream: IO[str] | None = None) -> None:
    """Send everything to `stream` (stderr) in the configured form. May be called again; the last call counts."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if logging_settings.format == "json" else HumanFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, JsonFormatter | HumanFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    level = logging.getLevelNamesMapping()[logging_settings.level.upper()]
    root.setLevel(level)
    for name in _ADOPTED:
        adopted = logging.getLogger(name)
        adopted.handlers.clear()
        adopted.propagate = True
    for name, floor in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, floor))
    logging.getLogger(ACCESS).disabled = not logging_settings.access


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, msg, request_id if there is one, then the call's other fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises, whatever the record holds."""
        line: dict[str, object] = {
            "ts": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": message_of(record),
        }
        for key, value in fields_of(record).items():
            # A field may not pass itself off as the level or the time.
            line[key if key not in line else f"{key}_"] = value
        if failure := _failure(record):
            line["exc"] = failure
        return json.dumps(line, separators=(",", ":"))


class HumanFormatter(logging.Formatter):
    """`12:00:01.234 warning turnout.health: pod is out pod=10.0.0.1:8000`, then the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises, whatever the record holds."""
        clock = _moment(record.created)[11:23]
        message = _one_line(message_of(record))
        fields = "".join(f" {key}={_one_line(_word(value))}" for key, value in fields_of(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.name}: {message}{fields}"
        failure = _failure(record)
        return f"{line}\n{failure}" if failure else line


def message_of(record: logging.LogRecord) -> str:
    """The message with its arguments, shortened and without secrets; arguments that do not fit are appended."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001  arguments may be any objects, and a log line must not fail for them
        text = f"{_text(record.msg)} {_plain(record.args)!r}"
    return _clean(text)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """The call's `extra` as plain JSON values, the request id first."""
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD and not key.startswith("_")}
    ordered = {"request_id": given.pop("request_id")} | given if "request_id" in given else given
    return {key: _REMOVED if key.lower() in _SECRET_FIELDS else _plain(value) for key, value in ordered.items()}


def without_secrets(value: object) -> object:
    """`value` as what JSON can hold, bounded in depth and length, without the fields that could hold a secret."""
    return _plain(value)


def _plain(value: object, depth: int = 0) -> object:
    """`value` as what JSON can hold, bounded in depth and length."""
    if isinstance(value, int) and value.bit_length() > 1024:
        return f"<int of {value.bit_length()} bits>"
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth < _DEEPEST and isinstance(value, Mapping):
        named = [(_text(key), item) for key, item in list(value.items())[:100]]
        return {name: _REMOVED if name.lower() in _SECRET_FIELDS else _plain(item, depth + 1) for name, item in named}
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth + 1) for item in list(value)[:100]]
    return _text(value)


def _text(value: object) -> str:
    try:
        return _clean(str(value))
    except Exception:  # noqa: BLE001  `__str__` may be any code
        return f"<{type(value).__name__}>"


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _clean(text: str) -> str:
    short = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    small = short.lower()
    for sign, secret, instead in _SECRETS:
        if sign in small:
            short = secret.sub(instead, short)
    return short


def _one_line(text: str) -> str:
    """Control characters escaped: what a client sends must not forge a line or move the cursor."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _failure(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[1] is not None:
        return _clean("".join(traceback.format_exception(record.exc_info[1])).rstrip())
    return ""


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
