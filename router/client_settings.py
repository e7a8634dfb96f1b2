"""The settings about clients: which may come, what they may use and choose. `router/settings.py` has the whole file.
Knows no pod and no engine."""

from __future__ import annotations

from router.upstream_settings import Section


class PathSettings(Section, frozen=True):
    """Which requests go to pods besides the known inference paths, such as `POST /v1/chat/completions`."""

    forward: tuple[str, ...] = ("/v1/*",)
    """Full paths, or beginnings that end in `*`. `/v1/*` stands for POST, other entries for every method: add an
    engine's native paths, such as `/generate`. Paths that manage an engine (`/v1/load_lora_adapter`, `/sleep`) are open
    only where their full name is here."""


class Cors(Section, frozen=True):
    """Requests of browsers from pages of other origins."""

    allow_origins: list[str] = []
    """Exact origins, such as `https://chat.example.com`, or `"*"`. Empty is off: a pod's own headers pass."""


class TargetClient(Section, frozen=True):
    """A client known by its API key, and where it may go. Use long random keys: the hash of a guessable one is no
    secret."""

    key_sha256: str
    """SHA-256, in hex, of the key that it sends as `Authorization: Bearer` or `x-api-key`."""
    name: str = ""
    """For people; part of messages to that client."""
    allow: list[str] = []
    """In place of `targets.allow`."""


class Targets(Section, frozen=True):
    """Which clients may choose with `x-turnout-pool` or `x-turnout-cluster` where a request goes. To name the pool that
    it would go to anyway is always allowed; every other choice must be allowed here."""

    allow: list[str] = []
    """Pools and clusters that any request may name; `["*"]` for all."""
    clients: list[TargetClient] = []
