"""The settings of the control port: where it listens, and who may read and change what. `router/settings.py` has the
whole file. Values only."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from router.client_settings import ServerTls
from statesync.settings import Section

ROLES: Final = ("read", "operate")
"""What a token is good for: to look, or to look and to change."""

TOKEN: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
"""What every client can send as a header's value."""


class ControlToken(Section, frozen=True):
    """A bearer token of the control port. Exactly one of `token_file`, `token_env` and `token_sha256` says what
    it is."""

    name: str
    """Stands in the audit log and in the history of policies."""
    role: str = "read"
    """`read`: every GET. `operate`: changes, too."""
    token_file: str = ""
    """File with the token. Read again when it changes; while it is away or empty, the token is refused."""
    token_env: str = ""
    """Environment variable with the token."""
    token_sha256: str = ""
    """SHA-256 of the token, in hex: the file then holds no secret. Only for long random tokens."""
    expires: datetime | None = None
    """From this time on it is refused: `2027-01-01T00:00:00Z`; without a zone it is UTC."""


class Control(Section, frozen=True):
    """The control port: metrics, probes, admin API, docs."""

    listen: str = "127.0.0.1:9000"
    """Host and port. An address that is not a loopback one needs a token or clients' certificates."""
    token: str = ""
    """A bearer token that may do everything. Some token is required unless `listen` is on loopback."""
    tokens: list[ControlToken] = []
    """Further tokens, each with a name and a role."""
    tls: ServerTls | None = None
    """TLS on this port; without it plain HTTP."""
    metrics_auth: bool = False
    """`/metrics` needs a token, too, of any role. Probes never do."""
    audit_file: str = ""
    """A file to which a line of JSON is added for each change and each refused attempt; empty is off."""
    audit_max_bytes: int = 67108864
    """At half of it the file becomes `NAME.1`, in place of the one before."""
