"""Finds what must not be written: keys, credentials and words of prompts, in any text that the gateway's processes left
behind. What it searches for are canaries, which only a leak can put there, and the form of credentials and bodies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

CANARY: Final = "c4n4ry"
"""Part of every secret that a test makes for this purpose."""

_FORMS: Final = (
    re.compile(r"(?i)\bbearer +(?!\[removed\]|<|realm|token)[^\s'\",]{6,}"),
    re.compile(r"(?i)\bauthorization['\"]?: *(?!\[removed\])['\"]?(?:bearer|basic) +(?!\[removed\]|<)\S{6,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{12,}"),
    re.compile(r"""\\?["']messages\\?["']: ?\[ ?\{"""),
    re.compile(r"""\\?["']role\\?["']: ?\\?["'](?:user|system)"""),
)
"""A credential, and the beginning of a chat."""
_AROUND: Final = 60


def leaks(text: str, secrets: Iterable[str] = ()) -> Iterator[str]:
    """Each place where a secret, a canary or something of their form stands, with what is around it."""
    for secret in (CANARY, *secrets):
        if (at := text.find(secret)) >= 0:
            yield text[max(0, at - _AROUND) : at + len(secret) + _AROUND]
    for form in _FORMS:
        for found in form.finditer(text):
            yield text[max(0, found.start() - _AROUND) : found.end() + _AROUND]


def secrets_of(settings: Any, name: str = "") -> Iterator[str]:
    """The secrets that a configuration holds in itself: every `token` and password."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from secrets_of(value, str(key))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from secrets_of(value, name)
    elif isinstance(settings, str) and name in ("token", "password") and len(settings) >= 6:
        yield settings
    elif isinstance(settings, str) and (login := re.search(r"://[^/@\s]*:([^/@\s]{6,})@", settings)):
        yield login[1]


def leaks_in_files(paths: Iterable[Path], secrets: Iterable[str] = ()) -> list[str]:
    """The same for files; one that is gone has none."""
    known = list(secrets)
    return [
        f"{path.name}: {found}"
        for path in paths
        if path.is_file()
        for found in leaks(path.read_text(errors="replace"), known)
    ]
