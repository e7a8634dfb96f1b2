"""The tokens of the control port: which one a request has, and its name and role. Knows no path and no address.

Tokens are compared by their SHA-256, in constant time, and always with all of them: the time of an answer does not say
which of them is nearly right, or how many there are.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple

from router.control_settings import TOKEN
from router.followed_files import FollowedFiles
from router.settings import Control, ControlToken
from statesync.engines.file_stamp import read_text

_log = logging.getLogger("turnout.control")

SINGLE: Final = "control.token"
"""The name of the token of this setting, which has none of its own."""


class Role(IntEnum):
    """What a caller may do; a higher role may do all that a lower one may."""

    PROBE = -1
    """Anyone, from any name: load balancers probe in many ways."""
    OPEN = 0
    """Anyone."""
    READ = 1
    OPERATE = 2

    @property
    def word(self) -> str:
        """As settings and messages have it."""
        return "open" if self < Role.READ else self.name.lower()


class Caller(NamedTuple):
    """Who makes a request."""

    name: str
    """Of its token; empty where none is needed."""
    role: Role


class UnknownToken(Exception):
    """No token, or none that is accepted; the message says what to do."""


class _Known(NamedTuple):
    caller: Caller
    digest: Callable[[], bytes]
    """SHA-256 of the token; empty while there is none."""
    expires: datetime | None


class ControlTokens:
    """Every token that is configured. False if there is none: then each caller may do everything."""

    def __init__(self, control: Control, environ: Mapping[str, str], wall: Callable[[], float]) -> None:
        """`wall` is in seconds since 1970. Raises OSError, ValueError and KeyError for a token that cannot be read;
        `control_checks.py` explains those."""
        self._wall = wall
        self._known = [_known(token, environ) for token in control.tokens if not token.token_file]
        self.files = [TokenFile(token) for token in control.tokens if token.token_file]
        """To be run."""
        self._known += [_Known(_caller(file.token), file.now, file.token.expires) for file in self.files]
        if control.token:
            everything = Caller(SINGLE, Role.OPERATE)
            self._known.append(_Known(everything, partial(bytes, _sha256(control.token)), None))

    def __bool__(self) -> bool:
        return bool(self._known)

    def now(self) -> float:
        """Seconds since 1970."""
        return self._wall()

    def caller(self, authorization: Sequence[str]) -> Caller:
        """Who sent these `Authorization` headers. Raises UnknownToken."""
        if not self._known:
            return Caller("", Role.OPERATE)
        if len(authorization) != 1:
            raise UnknownToken(_SEVERAL if authorization else _NONE)
        scheme, _, given = authorization[0].partition(" ")
        given = given.strip()
        digest, found = _sha256(given), None
        for each in self._known:
            if hmac.compare_digest(digest, each.digest()) and found is None:
                found = each
        if scheme.lower() != "bearer" or not given:  # a `token_sha256` may be that of no text, by mistake
            raise UnknownToken(_NONE)
        if found is None:
            raise UnknownToken(_WRONG)
        if found.expires is not None and aware(found.expires).timestamp() <= self._wall():
            raise UnknownToken(f"the token {found.caller.name!r} expired at {aware(found.expires).isoformat()}")
        return found.caller


_NONE: Final = "the admin API needs `Authorization: Bearer <token>`"
_WRONG: Final = "this is no token of this control port, or no longer one"
_SEVERAL: Final = "there are several `Authorization` headers; send one"


def aware(moment: datetime) -> datetime:
    """A time with its zone, UTC where it has none."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class TokenFile(FollowedFiles[str]):
    """A token in a file. There is none while the file is away or has no usable one."""

    def __init__(self, token: ControlToken) -> None:
        """Raises OSError and ValueError."""
        self.token = token
        self._digest = b""
        path = token.token_file
        super().__init__([path], partial(read_text, path, TOKEN), self._take, keep=self._drop)

    def now(self) -> bytes:
        """SHA-256 of the token; empty without one."""
        return self._digest

    def _take(self, text: str) -> None:
        self._digest = _sha256(text)

    def _drop(self, error: Exception) -> None:
        if self._digest:
            _log.warning("%s: the token read before is not used any more: %s", self.token.token_file, error)
        self._digest = b""


def _known(token: ControlToken, environ: Mapping[str, str]) -> _Known:
    digest = bytes.fromhex(token.token_sha256) if token.token_sha256 else _sha256(environ[token.token_env])
    return _Known(_caller(token), partial(bytes, digest), token.expires)


def _caller(token: ControlToken) -> Caller:
    return Caller(token.name, Role[token.role.upper()])


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
