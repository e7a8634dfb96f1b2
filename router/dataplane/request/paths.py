"""Which paths of the inference port go to pods: tables of the known ones, and the setting for all others. Pure; knows
no body and no pool.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from statesync.engines.presets import AUTOMATIC

INFERENCE_PATHS: Final = frozenset(
    b"/v1/" + name
    for name in (
        *(b"chat/completions", b"completions", b"embeddings", b"responses", b"messages", b"rerank", b"score"),
        *(b"classify", b"tokenize", b"detokenize", b"pooling", b"moderations"),
        *(b"audio/transcriptions", b"audio/translations", b"audio/speech"),
        *(b"images/generations", b"images/edits", b"images/variations"),
    )
)
"""Paths that take POST, whatever `paths.forward` says."""

_STATE: Final = (b"/v1/responses", b"/v1/audio/", b"/v1/images/")

STATELESS_PATHS: Final = frozenset(path for path in INFERENCE_PATHS if not path.startswith(_STATE))
"""Those whose requests name no state on a pod, and whose answers give no ids out that a later request could name."""

ROOT_PATHS: Final = frozenset(
    (b"/tokenize", b"/detokenize", b"/pooling", b"/classify", b"/score", b"/rerank", b"/v2/rerank")
)
"""Paths that vLLM serves outside /v1. All take a model; tokenize and detokenize have no path below /v1 there."""

UPGRADE_PATHS: Final = frozenset((b"/v1/realtime", b"/v1/responses"))
"""Paths that take a WebSocket."""

MANAGEMENT: Final = tuple(b"/" + name.encode() for name in sorted(AUTOMATIC.closed))
"""Paths by which engines are managed, with and without /v1 before them. They change what every client gets, so a
pattern of `paths.forward` does not open them; only their own full name there does."""

METHODS: Final = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE"))
"""Methods that are forwarded to paths which `paths.forward` names."""

ANY_POST: Final = "/v1/*"
"""The default of `paths.forward`: a POST to any path of OpenAI's API. Other entries stand for every method."""

_PARAMETERS: Final = re.compile(rb";[^/]*")
_SLASHES: Final = re.compile(rb"[/\\]+")


class ForwardedPaths:
    """The paths besides the known ones that go to pods."""

    def __init__(self, forward: Sequence[str]) -> None:
        """`forward`: full paths, or beginnings of paths that end in `*`."""
        self._posts = ANY_POST in forward
        self._full = frozenset(each.encode() for each in forward if not each.endswith("*"))
        self._beginnings = tuple(each[:-1].encode() for each in forward if each.endswith("*") and each != ANY_POST)

    def takes(self, method: bytes, path: bytes) -> bool:
        """Whether a request with this method and path goes to a pod; `path` is not one of the local ones."""
        if method == b"POST" and (path in INFERENCE_PATHS or path in ROOT_PATHS):
            return True
        if path in self._full:
            return method in METHODS
        if is_management(path):
            return False
        if path.startswith(self._beginnings):
            return method in METHODS
        return self._posts and method == b"POST" and path.startswith(b"/v1/")


def is_management(path: bytes) -> bool:
    """Whether an engine would take this path, in any spelling, for one of its management paths."""
    plain = _SLASHES.sub(b"/", _PARAMETERS.sub(b"", _decoded(path))).rstrip(b"/").lower()
    return any(_begins(plain.removeprefix(b"/v1"), name) for name in MANAGEMENT)


def without_slash(path: bytes, known: Collection[bytes]) -> bytes:
    """A known path without the slashes at its end; any other path as it is. An engine redirects such a request."""
    bare = path.rstrip(b"/")
    return bare if bare in known or bare in INFERENCE_PATHS or bare in ROOT_PATHS else path


def _begins(path: bytes, name: bytes) -> bool:
    return path == name or path.startswith(name + b"/")


def _decoded(path: bytes) -> bytes:
    """The path without percent-encoding, which may be there more than once."""
    for _ in range(4):
        if b"%" not in path:
            break
        path = unquote_to_bytes(path)
    return path
