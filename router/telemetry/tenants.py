"""What each tenant used: requests, tokens and refusals. Its labels are the configured tenants, which are few; without
`auth` there are none, and no metric of them is shown.
"""

from __future__ import annotations


class TenantUse:
    """What one tenant used. A request adds to numbers; names are put to them when they are read."""

    __slots__ = ("answer_tokens", "prompt_tokens", "requests")

    def __init__(self) -> None:
        self.requests = [0] * 10
        """By the first digit of the status."""
        self.prompt_tokens = self.answer_tokens = -1
        """-1 where no engine has reported any."""


class TenantCounts:
    """Counters of one replica, which only grow."""

    __slots__ = ("_uses", "rejections")

    def __init__(self) -> None:
        self._uses: dict[str, TenantUse] = {}
        """By tenant."""
        self.rejections: dict[tuple[str, str], int] = {}
        """By (tenant, reason)."""

    @property
    def requests(self) -> dict[tuple[str, str], int]:
        """By (tenant, class of the status): `2xx` and so on."""
        return {
            (tenant, f"{digit}xx"): count
            for tenant, use in self._uses.items()
            for digit, count in enumerate(use.requests)
            if count
        }

    @property
    def tokens(self) -> dict[tuple[str, str], int]:
        """By (tenant, kind): `prompt` and `completion`, as engines report them."""
        kinds = {
            (tenant, kind): count
            for tenant, use in self._uses.items()
            for kind, count in (("prompt", use.prompt_tokens), ("completion", use.answer_tokens))
        }
        return {name: count for name, count in kinds.items() if count >= 0}

    def ended(self, tenant: str, status: int, prompt_tokens: int = -1, answer_tokens: int = -1) -> None:
        """A request of the tenant ended; tokens are those that the engine reports, -1 where it does not."""
        use = self._uses.get(tenant)
        if use is None:
            use = self._uses[tenant] = TenantUse()
        use.requests[status // 100] += 1
        if prompt_tokens >= 0:
            use.prompt_tokens = max(0, use.prompt_tokens) + prompt_tokens
        if answer_tokens >= 0:
            use.answer_tokens = max(0, use.answer_tokens) + answer_tokens

    def refused(self, tenant: str, reason: str) -> None:
        """The gateway itself refused a request of the tenant."""
        self.rejections[tenant, reason] = self.rejections.get((tenant, reason), 0) + 1
