"""API keys as they are stored: a SHA-256 and whose it is, never the key. The file of keys is read here.

A key has 256 random bits, so one plain SHA-256 protects it: there is nothing to guess, and a slow hash as for passwords
would only cost every request milliseconds. Looking a digest up leaks nothing by its time: a client cannot choose the
digest of what it sends, and the table is hashed with a secret of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
import yaml

MAX_FILE_BYTES: Final = 8 << 20
"""Most bytes of a file of keys; a key takes about 200."""

_LOADER: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class BadKeys(ValueError):
    """Text that holds no keys; the message says why, and completes a sentence about the file."""


class KeyRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One API key."""

    name: _Text
    """Names the key among all; in logs and metrics it stands for the key."""
    tenant: _Text
    sha256: _Digest
    created: datetime | None = None
    expires: datetime | None = None
    """None: never."""
    revoked: datetime | None = None
    """None: it was not."""

    def refusal(self, now: float) -> str:
        """Why the key is not accepted at this Unix time; empty if it is."""
        if self.revoked is not None:
            return f"The API key {self.name!r} was revoked."
        if self.expires is not None and self.expires.timestamp() <= now:
            return f"The API key {self.name!r} expired at {self.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
        return ""


class KeysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file of keys."""

    keys: list[KeyRecord] = []


def parse_keys(raw: bytes) -> Sequence[KeyRecord]:
    """The keys in this YAML text. Raises BadKeys."""
    if len(raw) > MAX_FILE_BYTES:
        raise BadKeys(f"has more than {MAX_FILE_BYTES} bytes")
    try:
        value = yaml.load(raw, _LOADER)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise BadKeys(f"is not YAML{f' in line {mark.line + 1}' if mark is not None else ''}") from None
    try:
        keys = msgspec.convert({} if value is None else value, KeysFile).keys
    except msgspec.ValidationError as error:
        raise BadKeys(f"is not a file of keys: {error}") from None
    for field in ("name", "sha256"):
        seen: set[str] = set()
        for at, key in enumerate(keys):
            text: str = getattr(key, field)
            if text in seen:
                raise BadKeys(f"has the {field} of keys[{at}] ({key.name!r}) twice")
            seen.add(text)
        for key in keys:
            if any(when is not None and when.tzinfo is None for when in (key.expires, key.revoked)):
                raise BadKeys(f"has a time without a zone for key {key.name!r}: write it as 2026-12-31T00:00:00Z")
    return keys


def read_keys(path: str) -> Sequence[KeyRecord]:
    """The keys in a file. Raises OSError and BadKeys."""
    with open(path, "rb") as file:
        return parse_keys(file.read(MAX_FILE_BYTES + 1))
