"""The recording's format: the fields of a line. Knows no file and no gateway.

A line is JSON: `timestamp` (ms since 1970, arrival), `input_length`, `output_length` (tokens; `estimated` says that the
answer had no usage, and they are estimated from bytes and events), `hash_ids` (the prompt's chained block hashes: equal
leading ids are an equal prefix), `block_tokens` (tokens of each of the first blocks), `blocks_per_size` (after this
number of blocks their size doubles), `session` (hashed), `ttft_ms` (streams only), `e2e_ms`, `pod`, `cached_tokens`
(where the answer has it). Never a word of a prompt or an answer; but the hashes show whether a known prompt was
recorded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from schedulers.types import BYTES_PER_TOKEN, PREFIX_BLOCK_TOKENS
from statesync.prefix.index import BLOCKS_PER_SIZE

TAIL_BYTES: Final = 4096
"""Bytes at an answer's end that are searched for its usage."""

FRAMING_EVENTS: Final = 2
"""Events of a stream that hold no token: the role at its beginning, and [DONE]."""


class RecordedRequest(NamedTuple):
    """A request whose answer is complete, before it is formatted."""

    arrived_at: float
    """Seconds since 1970."""
    prompt_tokens: int
    """Estimated by the gateway."""
    chain: Sequence[int]
    session_key: str
    ttft_s: float | None
    e2e_s: float
    pod: str
    events: int
    """Events of the answer, if it is a stream."""
    body_bytes: int
    tail: bytes
    """The end of the answer, which is searched for its usage and then dropped."""


class _Line(msgspec.Struct, omit_defaults=True):
    timestamp: int
    input_length: int
    output_length: int
    e2e_ms: float
    pod: str
    block_tokens: int = 0
    blocks_per_size: int = 0
    hash_ids: Sequence[int] = ()
    session: str = ""
    ttft_ms: float | None = None
    cached_tokens: int | None = None
    estimated: bool = False


def _count(*names: bytes) -> re.Pattern[bytes]:
    """A number under one of these keys; inside an answer's text a key's quote has a backslash before it."""
    return re.compile(rb'(?<!\\)"(?:' + b"|".join(names) + rb')"\s*:\s*(\d{1,12})\b')


_PROMPT: Final = _count(b"prompt_tokens", b"input_tokens")
_ANSWER: Final = _count(b"completion_tokens", b"output_tokens")
_CACHED: Final = _count(b"cached_tokens", b"cache_read_input_tokens")


def line(request: RecordedRequest) -> bytes:
    """The request as a line of the recording."""
    prompt, answer = _last(_PROMPT, request.tail), _last(_ANSWER, request.tail)
    recorded = _Line(
        timestamp=int(request.arrived_at * 1000),
        input_length=request.prompt_tokens if prompt is None else prompt,
        output_length=_estimated_tokens(request) if answer is None else answer,
        e2e_ms=round(request.e2e_s * 1000, 3),
        pod=request.pod,
        session=xxh3_64_hexdigest(request.session_key.encode()) if request.session_key else "",
        ttft_ms=None if request.ttft_s is None else round(request.ttft_s * 1000, 3),
        cached_tokens=_last(_CACHED, request.tail),
        estimated=prompt is None or answer is None,
    )
    if request.chain:
        recorded.hash_ids = request.chain
        recorded.block_tokens, recorded.blocks_per_size = PREFIX_BLOCK_TOKENS, BLOCKS_PER_SIZE
    return msgspec.json.encode(recorded) + b"\n"


def _last(pattern: re.Pattern[bytes], tail: bytes) -> int | None:
    found = pattern.findall(tail)
    return int(found[-1]) if found else None


def _estimated_tokens(request: RecordedRequest) -> int:
    """One token per event of a stream; otherwise estimated from bytes."""
    if request.events:
        return max(1, request.events - FRAMING_EVENTS)
    return max(1, request.body_bytes // BYTES_PER_TOKEN)
