"""The priority of a request in its body, for engines that order their queue by one. Only for pools that ask for it: a
request of any other pool does not pass this file. Knows no pod.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

from router.dataplane.request import openai
from router.dataplane.request.multipart import is_form

_POOLING: Final = (b"rerank", b"score", b"classify", b"pooling")

PATHS: Final = frozenset(
    (
        *(b"/v1/" + name for name in (b"chat/completions", b"completions", b"responses", b"messages", b"embeddings")),
        *(b"/v1/" + name for name in _POOLING),
        *(b"/" + name for name in _POOLING),
        b"/v2/rerank",
    )
)
"""Paths whose bodies have the field: vLLM's pooling requests have it, too."""

_SIGNS: Final = (b"priority", b"\\u", b"\0")
"""What a body with the field contains at least one of: its name, an escape in it, or the zero bytes of UTF-16 and
UTF-32, which engines read as well."""

MOST: Final = 2**31 - 1
"""Priorities beyond it are sent as it."""


def with_priority(path: bytes, content_type: bytes, body: bytes, priority: int) -> bytes:
    """The body with this priority in place of the client's own: who may be served first is not for the body to say.
    0 is every engine's default."""
    if not body or _as_engines_read(path) not in PATHS or is_form(content_type):
        return body
    if not priority and not any(sign in body for sign in _SIGNS):
        return body
    return openai.with_field(body, "priority", max(-MOST, min(MOST, priority)))


def _as_engines_read(path: bytes) -> bytes:
    """The path without percent-encoding: engines take `/v1/chat/%63ompletions` for the path that it stands for."""
    return unquote_to_bytes(path) if b"%" in path else path
