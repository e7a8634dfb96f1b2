"""The priority of a request in its body, for engines that order their queue by one. Only for pools that ask for it: a
request of any other pool does not pass this file. Knows no pod.
"""

from __future__ import annotations

from typing import Final

from router.dataplane.request import openai
from router.dataplane.request.multipart import is_form

PATHS: Final = frozenset(
    b"/v1/" + name for name in (b"chat/completions", b"completions", b"responses", b"messages", b"embeddings")
)
"""Paths whose bodies have the field."""

MOST: Final = 2**31 - 1
"""Priorities beyond it are sent as it."""


def with_priority(path: bytes, content_type: bytes, body: bytes, priority: int) -> bytes:
    """The body with this priority in place of the client's own: who may be served first is not for the body to say.
    0 is every engine's default."""
    if not body or path not in PATHS or is_form(content_type):
        return body
    if not priority and b"priority" not in body and b"\\u" not in body:
        return body
    return openai.with_field(body, "priority", max(-MOST, min(MOST, priority)))
