"""The limits of tenants: which apply to a request, whether it may pass, and what it gives back at its end. Everything
here is in memory; `limit_sharing.py` exchanges the shares with the other replicas. Knows no HTTP and no exchange.

The tokens of a request are estimated when it is admitted: the prompt by its bytes, the answer by the mean of the
tenant's answers so far, at most `max_tokens`. OpenAI charges `max_tokens` in full, which clients set to thousands for
answers of hundreds. At its end the engine's count takes the place of the estimate, and what is missing is a debt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from router.access.limit_lines import LimitLines
from router.access.rate_share import RateShare
from router.access.slot_share import SlotShare
from router.access.tenants import EVERYTHING, Tenant
from router.errors import RateLimitExceeded
from router.settings import TenantLimit
from schedulers.ttft import ANSWER_TOKENS
from statesync.shares import share_key

MAX_SETS: Final = 10_000
"""Names of keys with limits of their own, in all; the subjects of tokens are any number. The others share one limit."""

LEARNED: Final = 0.05
"""How much of the mean answer is replaced by the last one."""

Share = RateShare | SlotShare


class LimitSet:
    """The limits that apply to the requests of one tenant, key and model, as this replica's shares of them."""

    __slots__ = ("answer_tokens", "request_lines", "requests", "slots", "tenant", "token_lines", "tokens")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.requests: list[RateShare] = []
        self.tokens: list[RateShare] = []
        self.slots: list[SlotShare] = []
        self.answer_tokens = float(ANSWER_TOKENS)
        """Mean tokens of an answer."""
        self.request_lines = LimitLines(b"requests")
        self.token_lines = LimitLines(b"tokens")


class LimitCharge:
    """What one request takes of its limits. It is made for every request that has any, and is empty until `take`."""

    __slots__ = ("_at", "_cost", "_taken", "limits")

    def __init__(self, limits: LimitSet) -> None:
        self.limits = limits
        self._at = 0.0
        self._cost = 0.0
        """Tokens taken."""
        self._taken = False

    @property
    def counts_tokens(self) -> bool:
        """Whether the end of the request is to say how many tokens it used."""
        return bool(self.limits.tokens)

    def take(self, prompt_tokens: int, max_tokens: int, now: float) -> None:
        """Take a request, a slot and the expected tokens. `max_tokens`: of the answer; 0 for no bound, below that for
        no answer. Raises RateLimitExceeded, and then nothing is taken."""
        limits = self.limits
        for share in limits.requests:
            if not share.admits(1.0, now):
                raise _refusal(limits.tenant, "requests per minute", share, 1.0, now)
        cost = 0.0
        if limits.tokens:
            cost = float(prompt_tokens)
            if max_tokens >= 0:
                cost += max_tokens if 0 < max_tokens < limits.answer_tokens else limits.answer_tokens
            for share in limits.tokens:
                # Only a prompt that is larger than the limit can never pass, not an answer that may turn out shorter.
                asked = cost if prompt_tokens > share.capacity else min(cost, share.capacity)
                if not share.admits(asked, now):
                    raise _refusal(limits.tenant, "tokens per minute", share, asked, now)
        for slots in limits.slots:
            if not slots.admits(now):
                raise _no_slot(limits.tenant, slots)
        self._at, self._cost, self._taken = now, cost, True
        for share in limits.requests:
            share.use(1.0)
        for share in limits.tokens:
            share.use(cost)
        for slots in limits.slots:
            slots.begin()

    def give_back(self, now: float) -> None:
        """The request was not served: all that it took goes back. Without effect after the first end."""
        if self._taken:
            for share in self.limits.requests:
                share.use(-1.0)
            self.settle(0, now)

    def settle_as_expected(self, now: float) -> None:
        """The request ended, and it is not known how many tokens it used."""
        self.settle(self._cost, now)

    def settle(self, tokens: float, now: float, answer_tokens: float = -1.0) -> None:
        """The request ended and used these tokens. `answer_tokens`: those of its answer, negative if not known. Without
        effect after the first end."""
        if not self._taken:
            return
        self._taken = False
        limits = self.limits
        for share in limits.tokens:
            share.use(tokens - self._cost)
        for slots in limits.slots:
            slots.end(now - self._at)
        if answer_tokens >= 0:
            limits.answer_tokens += LEARNED * (answer_tokens - limits.answer_tokens)


class LimitRegistry:
    """The limits of all tenants that have any."""

    def __init__(
        self, tenants: Iterable[Tenant], clock: Callable[[], float], *, shared: bool, most: int = MAX_SETS
    ) -> None:
        """`tenants`: those with limits; `shared`: whether there may be other replicas; `clock`: monotonic seconds."""
        self._clock = clock
        self._shared = shared
        self._most = most
        self.shares: list[Share] = []
        """Of the limits that the settings name from the start, and of all that a request has met: a share that is made
        for a request has nothing in hand."""
        self._by_key: dict[str, Share] = {}
        self._tenants = {each: _TenantRows(each) for each in tenants}
        self._sets: dict[tuple[Tenant, str, str], LimitSet] = {}
        for tenant in self._tenants:
            named = [(row.key if row.key != EVERYTHING else "", row.model) for row in tenant.limits]
            for key, model in dict.fromkeys([("", ""), *named]):
                self._set_of(tenant, key, model)
            if not named:
                self._tenants[tenant].only = self._sets[tenant, "", ""]

    def charge(self, tenant: Tenant | None, key: str, model: str) -> LimitCharge | None:
        """An empty charge for a request; None if no limit applies. `key` is the name of the client's key, `model` what
        the client calls the model."""
        rows = self._tenants.get(tenant) if tenant is not None else None
        if tenant is None or rows is None:
            return None
        if rows.only is not None:
            return LimitCharge(rows.only)
        name = key if rows.by_key else ""
        model = model if model in rows.models else ""
        limits = self._sets.get((tenant, name, model))
        if limits is None:
            name = name if len(self._sets) < self._most else EVERYTHING
            limits = self._sets.get((tenant, name, model)) or self._set_of(tenant, name, model)
        return LimitCharge(limits)

    def share(self, key: str) -> Share | None:
        """The share of this key (`share_key`); None if there is none yet."""
        return self._by_key.get(key)

    def _set_of(self, tenant: Tenant, key: str, model: str) -> LimitSet:
        made = self._sets[tenant, key, model] = LimitSet(tenant.name)
        own = TenantLimit(
            requests_per_minute=tenant.requests_per_minute,
            tokens_per_minute=tenant.tokens_per_minute,
            max_inflight=tenant.max_inflight,
        )
        self._add(made, own, (tenant.name,))
        for at, row in enumerate(tenant.limits):
            if row.model in ("", model) and row.key in ("", key, EVERYTHING if key else key):
                self._add(made, row, (tenant.name, str(at), row.model, key if row.key else ""))
        return made

    def _add(self, limits: LimitSet, row: TenantLimit, names: Sequence[str]) -> None:
        if row.requests_per_minute:
            limits.requests.append(self._rate(share_key("requests", *names), row.requests_per_minute))
        if row.tokens_per_minute:
            limits.tokens.append(self._rate(share_key("tokens", *names), row.tokens_per_minute))
        if row.max_inflight:
            key = share_key("slots", *names)
            slots = self._by_key.get(key)
            if not isinstance(slots, SlotShare):
                slots = SlotShare(key, row.max_inflight, self._clock(), shared=self._shared)
                self._keep(key, slots)
            limits.slots.append(slots)

    def _rate(self, key: str, per_minute: int) -> RateShare:
        share = self._by_key.get(key)
        if not isinstance(share, RateShare):
            share = RateShare(key, per_minute, self._clock(), shared=self._shared)
            self._keep(key, share)
        return share

    def _keep(self, key: str, share: Share) -> None:
        self._by_key[key] = share
        self.shares.append(share)


class _TenantRows:
    """Which of a request's names the limits of a tenant depend on."""

    __slots__ = ("by_key", "models", "only")

    def __init__(self, tenant: Tenant) -> None:
        self.only: LimitSet | None = None
        """The limits of all its requests, where these depend on no name."""
        self.models = frozenset(row.model for row in tenant.limits if row.model)
        self.by_key = any(row.key for row in tenant.limits)


def _refusal(tenant: str, what: str, share: RateShare, cost: float, now: float) -> RateLimitExceeded:
    wait_s = share.wait_s(cost, now)
    if math.isinf(wait_s):
        return RateLimitExceeded(
            f"This request is larger than the limit of tenant {tenant!r} on {what}: limit {share.capacity:.0f}, "
            f"requested {cost:.0f}. Send a shorter prompt."
        )
    return RateLimitExceeded(
        f"Tenant {tenant!r} is at its limit on {what}: limit {share.capacity:.0f}, "
        f"remaining {share.remaining(now):.0f}, requested {cost:.0f}. Try again in {max(wait_s, 0.001):.3g} s.",
        retry_after_s=wait_s,
    )


def _no_slot(tenant: str, slots: SlotShare) -> RateLimitExceeded:
    return RateLimitExceeded(
        f"Tenant {tenant!r} is at its limit of {slots.capacity} requests at a time. Try again when one has ended.",
        retry_after_s=slots.wait_s(),
    )
