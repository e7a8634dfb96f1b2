"""Chat completions as a client sees them: the request's body, and what an answer holds, whole or streamed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from loadtests.sim.http_client import Answer

PATH = "/v1/chat/completions"
DONE = b"[DONE]"


class TrafficError(Exception):
    """A request without a complete answer; `kind` is a short constant to count by."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind} {detail}".strip())
        self.kind = kind


class _Details(msgspec.Struct):
    cached_tokens: int | None = 0


class Usage(msgspec.Struct):
    """The engine's own count."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that were in the engine's cache."""
        return (self.prompt_tokens_details.cached_tokens or 0) if self.prompt_tokens_details else 0


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Text | None = None
    delta: _Text | None = None


class Completion(msgspec.Struct):
    """A whole answer, or one event of a streamed one."""

    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None

    @property
    def text(self) -> str:
        """The text of all choices."""
        parts = [choice.message or choice.delta for choice in self.choices]
        return "".join(part.content or "" for part in parts if part is not None)


_decode = msgspec.json.Decoder(Completion).decode


def read(data: bytes) -> Completion:
    """A whole answer, or the data of an event. Raises msgspec.DecodeError."""
    return _decode(data)


class Reply(NamedTuple):
    """A complete streamed answer."""

    sent_at: float
    headers: dict[str, str]
    text: list[str]
    """Of each event that has any."""
    token_times: list[float]
    """The arrival of each of these events."""
    usage: Usage

    @property
    def ttft_s(self) -> float:
        """From sending to the first token."""
        return self.token_times[0] - self.sent_at if self.token_times else 0.0

    @property
    def gaps_s(self) -> list[float]:
        """Times between tokens."""
        return [later - earlier for earlier, later in zip(self.token_times, self.token_times[1:], strict=False)]


def body(
    model: str, messages: Sequence[object], max_tokens: int, *, stream: bool = True, ignore_eos: bool = False
) -> bytes:
    """The request's body; `ignore_eos` makes the answer exactly `max_tokens` long."""
    fields: dict[str, object] = {"model": model, "messages": messages, "max_tokens": max_tokens}
    if ignore_eos:
        fields["ignore_eos"] = True
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode(fields)


def events(pieces: Iterable[bytes], times: Iterable[float]) -> Iterator[tuple[bytes, float]]:
    """The data of each server-sent event, and the arrival of the piece that completed it."""
    rest = b""
    for piece, at in zip(pieces, times, strict=True):
        *whole, rest = (rest + piece).split(b"\n\n")
        for event in whole:
            if event.startswith(b"data: "):
                yield event[6:], at


def reply(answer: Answer) -> Reply:
    """A streamed answer, read. Raises TrafficError unless it is complete."""
    text: list[str] = []
    times: list[float] = []
    usage, done = Usage(), False
    for data, at in events(answer.pieces, answer.times) if answer.status == 200 else ():
        if data == DONE:
            done = True
            continue
        event = _event(data)
        if event.text:
            text.append(event.text)
            times.append(at)
        usage = event.usage or usage
    if answer.failure:
        raise TrafficError(answer.failure)
    if answer.status != 200:
        raise TrafficError(f"http_{answer.status}", answer.body.decode(errors="replace"))
    if not done:
        raise TrafficError("truncated")
    return Reply(answer.sent_at, answer.headers, text, times, usage)


def _event(data: bytes) -> Completion:
    try:
        event = read(data)
    except msgspec.DecodeError as error:
        raise TrafficError("bad_http", str(error)) from None
    if event.error is not None:
        raise TrafficError("stream_error", str(event.error))
    return event
