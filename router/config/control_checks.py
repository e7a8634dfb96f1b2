"""Checks of the control port: its tokens, read as the gateway would read them, and its audit log."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path as FilePath

from router.address import parse_listen
from router.config.problems import Path, Problem
from router.control_settings import ROLES, TOKEN
from router.settings import Control, ControlToken, Settings
from statesync.engines.file_stamp import read_text

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SOURCES = ("token_file", "token_env", "token_sha256")
_SINGLE = "control.token"
"""The name of the token in `control.token`."""


def control_problems(settings: Settings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Problems of `control`, without its address."""
    control = settings.control
    if control.token and not TOKEN.fullmatch(control.token):
        yield Problem(("control", "token"), _UNUSABLE)
    seen = {_SINGLE} if control.token else set()
    for at, token in enumerate(control.tokens):
        path: Path = ("control", "tokens", at)
        if not _NAME.fullmatch(token.name):
            yield Problem((*path, "name"), f"{token.name!r} is not 1 to 64 letters, digits, '.', '_' and '-'")
        elif token.name in seen:
            yield Problem((*path, "name"), f"{token.name!r} is another token's name; each needs its own")
        seen.add(token.name)
        if token.role not in ROLES:
            yield Problem((*path, "role"), f"{token.role!r} is not one of {', '.join(ROLES)}")
        yield from _token(token, path, environ)
    yield from _reachable(control)
    if control.metrics_auth and not (control.token or control.tokens):
        yield Problem(
            ("control", "metrics_auth"), "there is no token, so there is none to ask for; add one to `tokens`"
        )
    folder = FilePath(control.audit_file).parent
    if control.audit_file and not os.access(folder, os.W_OK | os.X_OK):
        yield Problem(("control", "audit_file"), f"{folder} is no folder in which a file can be written")


def _reachable(control: Control) -> Iterator[Problem]:
    try:
        listen = parse_listen(control.listen)
    except ValueError:
        return  # reported with the ports
    if not listen.loopback and not (control.token or control.tokens):
        yield Problem(
            ("control", "listen"),
            f"{listen} can be reached from other machines, so the admin API needs a token; "
            "set TURNOUT_CONTROL_TOKEN, add one to `control.tokens`, or listen on 127.0.0.1",
        )


def _token(token: ControlToken, path: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    given = [name for name in _SOURCES if getattr(token, name)]
    if len(given) != 1:
        count = f"has {' and '.join(given)}; keep one of them" if given else f"needs one of {', '.join(_SOURCES)}"
        yield Problem(path, f"token {token.name!r} {count}")
        return
    if token.token_sha256 and not _SHA256.fullmatch(token.token_sha256):
        yield Problem((*path, "token_sha256"), "is not 64 hex digits in small letters, such as sha256sum prints")
    if token.token_env and not TOKEN.fullmatch(environ.get(token.token_env, "")):
        wrong = _UNUSABLE if environ.get(token.token_env) else "is not set"
        yield Problem((*path, "token_env"), f"the environment variable {token.token_env} {wrong}")
    if token.token_file:
        try:
            read_text(token.token_file, TOKEN)
        except OSError as error:
            yield Problem((*path, "token_file"), f"{token.token_file} cannot be read: {error.strerror}")
        except ValueError as error:
            yield Problem((*path, "token_file"), f"{token.token_file} holds no token: {error}")
    if (
        token.expires is not None
        and token.expires.replace(tzinfo=token.expires.tzinfo or UTC).timestamp() < time.time()
    ):
        yield Problem((*path, "expires"), f"the token {token.name!r} has expired and is refused", "warning")


_UNUSABLE = "has a blank or line break at an end, or characters beyond ASCII"
