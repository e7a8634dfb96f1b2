"""API keys as they are stored: a SHA-256 and whose it is, never the key. Also the text of a file of keys.

A key has 256 random bits, so one plain SHA-256 protects it: there is nothing to guess, and a slow hash as for passwords
would only cost every request milliseconds. Looking a digest up leaks nothing by its time: a client cannot choose the
digest of what it sends, and the table is hashed with a secret of the process.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Final

import msgspec
import yaml

KEY_PREFIX: Final = "sk-turnout-"
"""What keys begin with, so that scanners of repositories and logs find them."""

KEY_BYTES: Final = 32
"""Random bytes of a key."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
"""Names of keys and tenants: they are part of paths, logs and metric labels."""

MAX_FILE_BYTES: Final = 8 << 20
"""Most bytes of a file of keys; a key takes about 200."""

_LOADER: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_HEAD: Final = b"# API keys of Turnout by their SHA-256. `turnout keys` writes this file and keeps no comments.\n"

_Text = Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class BadKeys(ValueError):
    """Text that holds no keys; the message says why, and completes a sentence about the file."""


class KeyNameTaken(ValueError):
    """There is a key of this name, revoked or not."""


class UnknownKey(ValueError):
    """There is no key of this name."""


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

    def revoke(self, now: datetime) -> KeyRecord:
        """The key as it is from now on; one that was revoked before stays as it was."""
        return self if self.revoked is not None else msgspec.structs.replace(self, revoked=now)

    def describe(self, now: float) -> dict[str, object]:
        """The key for people and scripts, without its hash; `now` in Unix seconds."""
        shown: dict[str, object] = msgspec.to_builtins(self)
        del shown["sha256"]
        state = "revoked" if self.revoked is not None else "expired" if self.refusal(now) else "valid"
        return {**shown, "state": state}

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


def written_keys(keys: Sequence[KeyRecord]) -> bytes:
    """The keys as the text of a file."""
    lines = [msgspec.json.encode(each) for each in keys]  # JSON is YAML, and a key a line makes small diffs
    return _HEAD + (b"keys:\n- " + b"\n- ".join(lines) + b"\n" if lines else b"keys: []\n")


def new_key(token: Callable[[int], str] = secrets.token_urlsafe) -> str:
    """A new key; `token` makes text of that many random bytes."""
    return KEY_PREFIX + token(KEY_BYTES)


def digest_of(key: str) -> str:
    """What is stored of a key."""
    return sha256(key.encode()).hexdigest()


def with_key(keys: Sequence[KeyRecord], key: KeyRecord) -> Sequence[KeyRecord]:
    """These keys and another one. Raises KeyNameTaken."""
    if any(each.name == key.name for each in keys):
        raise KeyNameTaken(f"there is a key {key.name!r} already: choose another name")
    return [*keys, key]


def with_revoked(keys: Sequence[KeyRecord], name: str, now: datetime) -> Sequence[KeyRecord]:
    """These keys, of which that one is revoked. Raises UnknownKey."""
    if all(each.name != name for each in keys):
        raise UnknownKey(f"there is no key {name!r}")
    return [each.revoke(now) if each.name == name else each for each in keys]
