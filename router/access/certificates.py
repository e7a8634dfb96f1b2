"""The identity of a connection: the tenant that its client's certificate names. The port's TLS has verified the
certificate by then; this reads its names only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from router.access.identity import ClientIdentity
from router.access.tenants import Tenant

KINDS: Final = ("URI", "DNS", "email", "CN")
"""What a name may be: an alternative name of the certificate, or the common name of its subject."""


class CertificateTenants:
    """The tenants by the names of their certificates."""

    def __init__(self, tenants: Iterable[Tenant]) -> None:
        self._identities: dict[tuple[str, str], ClientIdentity] = {}
        for tenant in tenants:
            for name in tenant.certificates:
                kind, _, rest = name.partition(":")
                self._identities[kind, rest] = ClientIdentity(tenant, f"cert:{name}")

    def __bool__(self) -> bool:
        return bool(self._identities)

    def find(self, transport: asyncio.BaseTransport) -> ClientIdentity | None:
        """Whose the connection is; None if its client showed no certificate that names a tenant. The alternative names
        go before the common name, each in the order of the certificate."""
        shown = transport.get_extra_info("peercert")
        if not shown:
            return None
        for kind, name in shown.get("subjectAltName", ()):
            if (found := self._identities.get((kind, name))) is not None:
                return found
        common = [name for part in shown.get("subject", ()) for kind, name in part if kind == "commonName"]
        return self._identities.get(("CN", common[0])) if common else None
