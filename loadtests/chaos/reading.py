"""What an answer says, whichever the API and whether whole or streamed, in one form that can be compared. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

DONE = "[DONE]"


class Said(NamedTuple):
    """What an answer says."""

    text: str = ""
    """The text, a tool's name and arguments, or vectors as JSON."""
    finish: str = ""
    tokens: int = 0
    """Of the answer, by its usage."""
    error: str = ""
    """The code of an error event, or its message where it has no code."""
    ended: bool = False
    """Whether the API's own last event arrived."""
    ids: frozenset[str] = frozenset()
    """The answer's ids: a stream has one."""
    fresh_starts: int = 0
    """Events that begin an answer: a stream has one at most."""

    @property
    def content(self) -> tuple[str, str, int]:
        """The part that follows from the request."""
        return self.text, self.finish, self.tokens


def error_of(body: object) -> str:
    """The code of an error body, else its type, else its message; empty if it is no error body."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not error.get("message"):
        return ""
    return str(error.get("code") or error.get("type") or error["message"])


def of_whole(path: str, body: Any) -> Said:
    """An answer in one piece. KeyError, TypeError or IndexError if it has another form."""
    if path == "/v1/embeddings":
        return Said(_json([row["embedding"] for row in body["data"]]), ended=True)
    if path == "/v1/messages":
        (block,) = body["content"]
        text = block["text"] if block["type"] == "text" else block["name"] + _json(block["input"])
        return Said(text, body["stop_reason"], body["usage"]["output_tokens"], ended=True)
    if path == "/v1/responses":
        (item,) = body["output"]
        text = "".join(part["text"] for part in item["content"])
        return Said(text, body["status"], body["usage"]["output_tokens"], ended=True)
    (choice,) = body["choices"]
    text = choice["text"] if path == "/v1/completions" else _message(choice["message"])
    return Said(text, choice["finish_reason"], body["usage"]["completion_tokens"], ended=True)


def of_stream(path: str, body: bytes) -> Said:
    """The events of a stream, as far as they arrived. DecodeError, KeyError or TypeError if one has another form."""
    reader = {"/v1/messages": _anthropic, "/v1/responses": _responses}.get(path, _openai)
    return reader(list(events(body)))


def events(body: bytes) -> Iterator[Any]:
    """The data of each event that arrived whole; comments are left out."""
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if data:
            yield DONE if data == b"[DONE]" else msgspec.json.decode(data)


def _openai(seen: Sequence[Any]) -> Said:
    text, finish, tokens, error, starts = "", "", 0, "", 0
    ids: set[str] = set()
    for event in seen:
        if event == DONE:
            continue
        if "error" in event:
            error = error_of(event)
            continue
        ids.add(event["id"])
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        for choice in event["choices"]:
            delta = choice.get("delta") or {}
            starts += "role" in delta
            text += choice["text"] if "text" in choice else _message(delta)
            finish = choice["finish_reason"] or finish
    ended = bool(seen) and seen[-1] == DONE and seen.count(DONE) == 1
    return Said(text, finish, tokens, error, ended, frozenset(ids), starts)


def _message(message: Mapping[str, Any]) -> str:
    """The text of a message or of a part of it, or its tool calls."""
    calls = message.get("tool_calls") or ()
    functions = [call.get("function") or {} for call in calls]
    said = "".join((each.get("name") or "") + (each.get("arguments") or "") for each in functions)
    return (message.get("content") or "") + said


def _anthropic(seen: Sequence[Any]) -> Said:
    text, finish, tokens, error, starts = "", "", 0, "", 0
    ids: set[str] = set()
    for event in seen:
        kind = event["type"]
        if kind == "message_start":
            starts += 1
            ids.add(event["message"]["id"])
        elif kind == "content_block_delta":
            text += event["delta"].get("text", "")
        elif kind == "message_delta":
            finish, tokens = event["delta"]["stop_reason"], event["usage"]["output_tokens"]
        elif kind == "error":
            error = error_of(event)
    ended = bool(seen) and seen[-1]["type"] == "message_stop"
    return Said(text, finish, tokens, error, ended, frozenset(ids), starts)


def _responses(seen: Sequence[Any]) -> Said:
    text, finish, tokens, error, starts, ended = "", "", 0, "", 0, False
    ids: set[str] = set()
    for event in seen:
        kind = event["type"]
        if kind == "response.created":
            starts += 1
            ids.add(event["response"]["id"])
        elif kind == "response.output_text.delta":
            text += event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            whole, ended = event["response"], True
            finish, tokens = whole["status"], whole["usage"]["output_tokens"]
        elif kind in ("error", "response.failed"):
            error = error_of(event) or error_of(event.get("response")) or str(event.get("code") or event.get("message"))
    return Said(text, finish, tokens, error, ended, frozenset(ids), starts)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
