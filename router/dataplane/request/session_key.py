"""Which conversation a request belongs to: one table of the headers and body fields in which agents and SDKs say so.

Read only for pools where something asks for it (`PolicyController.session_pools`), so it may cost a few microseconds.
Pure: headers and body in, a text out. What is in the prompt is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from router.dataplane.request.json_skim import FROM_BYTES, abridge
from router.settings import Sessions

HEADERS: Final = (
    "x-session-id",
    "x-claude-code-session-id",
    "session_id",  # Codex; newer ones write a hyphen
    "session-id",
    "thread-id",
    "x-opencode-session",
    "x-session-affinity",
    "x-qwen-code-session-id",
    "x-conversation-id",
    "conversation_id",
    "x-openwebui-chat-id",
    "x-litellm-session-id",
    "helicone-session-id",
)
"""Headers with a session, the first that is present counts. Those of the settings come before all but the first."""

FIELDS: Final = (
    "prompt_cache_key",  # OpenAI; Codex sends its thread in it
    "metadata.user_id.session_id",  # Claude Code: JSON in a text
    "metadata.session_id",
    "metadata.conversation_id",
    "metadata.thread_id",
    "client_metadata.session_id",
    "session_id",
    "litellm_session_id",
    "conversation.id",
    "conversation",
    "safety_identifier",  # from here on a user, not a session
    "user",
    "metadata.user_id",
)
"""Fields of a JSON body with a session, or else with a user. A dot leads into an object, or into JSON in a text."""

OLD_CLAUDE_CODE: Final = "_session_"
"""Claude Code before 2026 joined user, account and session in `metadata.user_id`; the session follows this mark."""

_Fields = dict[str, msgspec.Raw]
_decode: Final = msgspec.json.Decoder(_Fields | str | int).decode


class SessionKeys:
    """Finds the session of a request, by the table and the settings' own names."""

    def __init__(self, settings: Sessions) -> None:
        first, *others = HEADERS
        names = (first, *[name.lower() for name in settings.headers], *others)
        self._headers = [b"\r\n%b: " % name.encode() for name in names]
        self._paths = [path.split(".") for path in (*settings.fields, *FIELDS)]

    def find(self, kept: Sequence[bytes], content_type: bytes, body: bytes) -> str:
        """The session; empty where the request names none. `kept`: the header lines that pods get."""
        head = b"\r\n" + b"".join(kept)
        for mark in self._headers:
            at = head.find(mark)
            if at >= 0:
                start = at + len(mark)
                value = head[start : head.find(b"\r\n", start)].strip()
                if value:
                    return value.decode("latin-1")
        return "" if content_type.startswith(b"multipart/") else self._in_body(body)

    def _in_body(self, body: bytes) -> str:
        short = abridge(body) if len(body) >= FROM_BYTES else None
        fields = _value(body if short is None else short.text)
        if isinstance(fields, str):
            return ""
        for path in self._paths:
            if path[0] in fields:
                found = _at(fields, path)
                if found:
                    return found
        return ""


def _at(fields: _Fields, path: Sequence[str]) -> str:
    """The text or number at the end of this path; empty where there is none."""
    raw = fields.get(path[0])
    value = _value(raw) if raw is not None else ""
    if len(path) == 1:
        return value if isinstance(value, str) and not value.startswith("{") else ""
    if isinstance(value, str) and value.startswith("{"):
        value = _value(value)
    if isinstance(value, dict):
        return _at(value, path[1:])
    return value.rpartition(OLD_CLAUDE_CODE)[2] if OLD_CLAUDE_CODE in value else ""


def _value(text: bytes | str | msgspec.Raw) -> _Fields | str:
    """An object's fields, or a text or number as text; empty for anything else, and for what is no JSON."""
    try:
        value = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return value if isinstance(value, dict) else str(value)
