"""What each tenant used: requests, tokens and refusals. Its labels are the configured tenants, which are few; without
`auth` there are none, and no metric of them is shown.
"""

from __future__ import annotations

from collections.abc import Mapping


class TenantCounts:
    """Counters of one replica, which only grow."""

    __slots__ = ("rejections", "requests", "tokens")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        """By (tenant, class of the status): `2xx` and so on."""
        self.tokens: dict[tuple[str, str], int] = {}
        """By (tenant, kind): `prompt` and `completion`, as engines report them."""
        self.rejections: dict[tuple[str, str], int] = {}
        """By (tenant, reason)."""

    def ended(self, tenant: str, status: int, usage: Mapping[str, int]) -> None:
        """A request of the tenant ended; `usage` is what the engine reports, as `prompt_tokens` and so on."""
        key = (tenant, f"{status // 100}xx")
        self.requests[key] = self.requests.get(key, 0) + 1
        for name, count in usage.items():
            kind = (tenant, name.removesuffix("_tokens"))
            self.tokens[kind] = self.tokens.get(kind, 0) + count

    def refused(self, tenant: str, reason: str) -> None:
        """The gateway itself refused a request of the tenant."""
        self.rejections[tenant, reason] = self.rejections.get((tenant, reason), 0) + 1
