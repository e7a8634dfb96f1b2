"""What each tenant got of a pool, in tokens: the counters by which a saturated pool's queue is fair. Pure: knows no
exchange, no pod and no clock.

The scheme is the Virtual Token Counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 24): the tenant
with the lowest counter goes first, and a tenant that waits again after a pause is lifted to the others, so that it can
save up nothing. As in the paper's variant with predicted lengths, a request is charged its prompt and the answer that
is expected when it goes to a pod, and the true answer when it ends. A counter counts tokens divided by the tenant's
weight; tokens that other replicas served are added as their messages come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from schedulers.ttft import ANSWER_TOKENS

ANSWER_ALPHA: Final = 0.1
"""Weight of the newest answer in a tenant's moving average of answers."""

OVER: Final = 1.5
"""Times its share of the requests at the pods that a tenant has when it leaves all of the `RESERVED` places to others;
from its share on, it leaves a part that grows with what it has. If all were left from its share on, tenants that send
less would have more by chance, and wait: the p99 of their times to first token was 0.38 s so, with 1.5 it was 0.09 s.
If none were left below 1.5, a tenant at 1.4 times its share would take the last place of a pool, and all others would
wait."""

RESERVED: Final = 0.25
"""Fraction of a pool's places that a tenant which has too many leaves to the others. With four tenants at half of their
share and one at ten times its own, on four pods of 32 places, the p99 of the four is 0.47 s with 0.0, 0.09 s with 0.125
and 0.08 s with 0.25, as without the one; all together get 97, 95 and 90 thousand tokens a second."""

PREFILL_TOKENS: Final = 256
"""Uncached prompt tokens for each pod, of this replica's streams, that wait for their first token when a tenant which
has too many begins no further request. Its places bound only how many are at work: a tenant that begins to send would
fill all of them at once, and the others' first tokens would come after all of its prompts. In the first five seconds
of the same traffic, with empty caches, the p99 of the four is 0.19 s without this, 0.13 s with 512, 0.08 s with 256 and
0.06 s without the one; all together get 2 % fewer tokens a second."""

RECENT: Final = 256
"""Requests of a pool after which a tenant that sent none of them does not count as one that uses the pool."""

SEPARATOR: Final = "\n"
"""Stands between pool and tenant in the name under which replicas share what was served."""

Room = Callable[[str], tuple[int, int, int]]
"""`LoadView.room`."""

TenantWeight = tuple[float, int]
"""A tenant's weight and priority."""

_EQUAL: TenantWeight = (1.0, 0)


class TenantCounter:
    """What one tenant got of one pool."""

    __slots__ = (
        "answer_tokens", "held", "name", "open", "owed", "prefill_tokens", "prefilling", "priority", "served",
        "virtual", "weight",
    )  # fmt: skip

    def __init__(self, weight: float = 1.0, priority: int = 0, name: str = "") -> None:
        self.name = name
        """Under which replicas share what was served."""
        self.weight = weight
        self.priority = priority
        self.open = 0
        """Its requests that pods of this replica work on."""
        self.prefilling = self.prefill_tokens = 0
        """Those that have no first token yet, and the uncached tokens of their prompts; of streams alone, since the
        first token of a whole answer is not seen."""
        self.held = False
        """Whether it waits for one of these."""
        self.virtual = 0.0
        """Tokens divided by the weight, with what it was lifted by."""
        self.served = 0
        """Tokens that this replica served. It never shrinks: the other replicas add its growth."""
        self.owed = 0
        """Tokens, 0 or less, by which `served` is too high: its next growth is that much less."""
        self.answer_tokens = float(ANSWER_TOKENS)
        """Moving average of its answers."""

    def __repr__(self) -> str:
        return f"<TenantCounter {self.virtual:.0f}, weight {self.weight:g}>"


class ServiceCharge:
    """One request's part of a counter, from its dispatch to its end."""

    __slots__ = ("answer", "counter", "pool", "prefill", "prompt", "shares")

    def __init__(self, shares: PoolShares, counter: TenantCounter, prompt: int, answer: int, prefill: int) -> None:
        self.shares = shares
        self.counter = counter
        self.pool = shares.name
        self.prompt = prompt
        self.answer = answer
        """As expected."""
        self.prefill = prefill
        """Uncached tokens of the prompt until the first token comes, -1 from then on."""


class PriorityLevel:
    """The tenants of one priority in one pool."""

    __slots__ = ("floor", "lanes")

    def __init__(self) -> None:
        self.floor = 0.0
        """The lowest counter of those that waited when one was last served."""
        self.lanes = 0
        """How many of them wait, in all queues of the pool."""


class PoolShares:
    """One pool's counters."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters: dict[str, TenantCounter] = {}
        """By tenant."""
        self._open = 0
        self._begun = 0
        """Counter: requests that went to a pod."""
        self._recent: dict[TenantCounter, int] = {}
        """Tenants with one of the last `RECENT` of them, and which; the longest ago first."""
        self._latest: TenantCounter | None = None
        """The last of these."""
        self._forgets_at = RECENT
        """Which request is the first after which the first of these may be too long ago."""
        self._recent_weight = 0.0
        self._levels: dict[int, PriorityLevel] = {}
        """By priority."""

    def begins(self, counter: TenantCounter) -> None:
        """The tenant begins to wait: what it did not use while it was away is not saved up."""
        level = self._level(counter)
        level.lanes += 1
        counter.virtual = max(counter.virtual, level.floor)

    def ends(self, counter: TenantCounter) -> None:
        """Nothing of the tenant waits in that queue any more."""
        self._level(counter).lanes -= 1

    def raise_floor(self, counter: TenantCounter) -> None:
        """This is the lowest counter of its priority that takes part."""
        level = self._level(counter)
        level.floor = max(level.floor, counter.virtual)

    def charge(self, counter: TenantCounter, tokens: int) -> None:
        """Add tokens, or take some off. While no tenant of its priority waits, the floor follows: what is served then
        is at the cost of none."""
        level = self._level(counter)
        if not level.lanes:
            level.floor = counter.virtual = max(level.floor, counter.virtual)
        counter.virtual += tokens / counter.weight

    def opens(self, counter: TenantCounter) -> None:
        """A request of the tenant goes to a pod."""
        counter.open += 1
        self._open += 1
        self._begun += 1
        recent = self._recent
        if counter is not self._latest:
            self._latest = counter
            if counter in recent:
                del recent[counter]
            else:
                self._recent_weight += counter.weight
        recent[counter] = self._begun
        if self._begun >= self._forgets_at:
            self._forget()

    def _forget(self) -> None:
        """Forget the tenants whose last request is too long ago."""
        recent = self._recent
        while self._begun - recent[oldest := next(iter(recent))] >= RECENT:
            del recent[oldest]
            self._recent_weight -= oldest.weight
        self._forgets_at = recent[oldest] + RECENT

    def closes(self, charge: ServiceCharge) -> None:
        """It ended."""
        charge.counter.open -= 1
        self._open -= 1
        prefilled(charge)

    def of_share(self, counter: TenantCounter) -> float:
        """How many times its share of the requests at pods the tenant has, among the tenants that sent some lately. One
        that is alone has it once."""
        return counter.open * self._recent_weight / (counter.weight * self._open) if self._open else 0.0

    def leaves_places(self, counter: TenantCounter, room: Room) -> bool:
        """Whether the tenant has to leave the places that are free now to others."""
        over = (self.of_share(counter) - 1.0) / (OVER - 1.0)
        if over <= 0.0:
            return False
        free, places, pods = room(self.name)
        if free <= RESERVED * min(over, 1.0) * places:
            return True
        if over <= 1.0:
            return False
        counter.held = counter.prefilling >= pods and counter.prefill_tokens >= PREFILL_TOKENS * pods
        return counter.held

    def _level(self, counter: TenantCounter) -> PriorityLevel:
        found = self._levels.get(counter.priority)
        if found is None:
            found = self._levels[counter.priority] = PriorityLevel()
        return found


def prefilled(charge: ServiceCharge) -> bool:
    """The first token came; a second call does nothing. Whether the tenant waited for it to send more."""
    if charge.prefill < 0:
        return False
    counter = charge.counter
    counter.prefilling -= 1
    counter.prefill_tokens -= charge.prefill
    charge.prefill = -1
    held, counter.held = counter.held, False
    return held


class FairShares:
    """The counters of all pools."""

    def __init__(self, tenants: Mapping[str, TenantWeight], share: Callable[[str, int], None] | None = None) -> None:
        """`share`, if given, is called with a name for the other replicas and the tokens served under it so far."""
        self._tenants = tenants
        self._share = share
        self._pools: dict[str, PoolShares] = {}
        self._elsewhere: dict[str, dict[str, int]] = {}
        """By replica and name: the tokens it had served by its last message."""

    def pool(self, pool: str) -> PoolShares:
        """A pool's counters."""
        found = self._pools.get(pool)
        if found is None:
            found = self._pools[pool] = PoolShares(pool)
        return found

    def counter(self, pool: str, tenant: str) -> TenantCounter:
        """A tenant's counter at a pool."""
        counters = self.pool(pool).counters
        found = counters.get(tenant)
        if found is None:
            found = counters[tenant] = TenantCounter(*self._tenants.get(tenant, _EQUAL), pool + SEPARATOR + tenant)
        return found

    def begin(self, pool: str, tenant: str, prompt: int, most: int, prefill: int = -1) -> ServiceCharge:
        """A request goes to a pod: charge its prompt and the answer expected of it, `most` tokens at most if not 0.
        `prefill`: the uncached tokens of its prompt, -1 if its first token will not be seen."""
        shares = self.pool(pool)
        counter = shares.counters.get(tenant) or self.counter(pool, tenant)
        answer = int(counter.answer_tokens)
        charge = ServiceCharge(shares, counter, prompt, min(answer, most) if most else answer, prefill)
        shares.opens(counter)
        if prefill >= 0:
            counter.prefilling += 1
            counter.prefill_tokens += prefill
        self._add(charge, charge.prompt + charge.answer)
        return charge

    def settle(self, charge: ServiceCharge, answer: int | None, *, whole: bool = True) -> None:
        """The request ended. `answer`: the tokens of its answer; None if they are not known. `whole`: it shows how long
        the tenant's answers are."""
        counter = charge.counter
        charge.shares.closes(charge)
        if answer is None:
            return
        if whole:
            counter.answer_tokens += ANSWER_ALPHA * (answer - counter.answer_tokens)
        self._add(charge, answer - charge.answer)

    def refund(self, charge: ServiceCharge) -> None:
        """No pod served the request."""
        charge.shares.closes(charge)
        self._add(charge, -charge.prompt - charge.answer)

    def served_elsewhere(self, replica: str, served: Mapping[str, int]) -> None:
        """Another replica's tokens by name, those that changed: add their growth. The first number of a name is where
        counting begins; a lower one than before comes from a new process."""
        known = self._elsewhere.setdefault(replica, {})
        for name, tokens in served.items():
            before = known.get(name, tokens)
            known[name] = tokens
            grown = tokens - before if tokens >= before else tokens
            pool, _, tenant = name.partition(SEPARATOR)
            if grown and tenant in self._tenants:
                self.pool(pool).charge(self.counter(pool, tenant), grown)

    def replica_gone(self, replica: str) -> None:
        """What it served was served: only where its counting stood is forgotten."""
        self._elsewhere.pop(replica, None)

    def _add(self, charge: ServiceCharge, tokens: int) -> None:
        counter = charge.counter
        charge.shares.charge(counter, tokens)
        if self._share is None:
            return
        grown = tokens + counter.owed
        counter.owed = min(grown, 0)
        if grown > 0:
            counter.served += grown
            self._share(counter.name, counter.served)
