"""What tenants' requests use of a pool, charged to their counters as it becomes known: when the first pod gets a
request, and when it ends. `fair_share.py` counts. Retries and fall-backs change nothing: an exchange has one charge.
"""

from __future__ import annotations

from collections.abc import Callable

from router.dataplane.exchange import AnswerRelay, Exchange
from router.dataplane.fair_share import FairShares, prefilled
from router.dataplane.usage import UNKNOWN

_TOO_MANY, _FAILED = 429, 500


class TenantShares:
    """Charges exchanges."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self.on_room: Callable[[str], None] | None = None
        """Called with the pool of each one that ends, and of a first token that its tenant waited for: a tenant may
        have its share again."""

    def dispatched(self, exchange: Exchange) -> None:
        """The first pod gets the exchange."""
        tenant = exchange.tenant
        if tenant is not None:
            call = exchange.routed.call
            pool = exchange.routed.pool
            placement = exchange.placement
            prefill = placement.charge.prefill_tokens if placement is not None and call.stream else -1
            exchange.service = self._shares.begin(pool, tenant.name, call.prompt_tokens, call.max_tokens, prefill)

    def first_token(self, exchange: Exchange) -> None:
        """The first token of a stream came."""
        charge = exchange.service
        if charge is not None and prefilled(charge) and self.on_room is not None:
            self.on_room(charge.pool)

    def ended(self, exchange: Exchange, relay: AnswerRelay | None, *, left: bool) -> None:
        """The exchange ended, `relay` is that of its last attempt; `left`: its client went away, and a pod was at work
        for it. Nothing is charged where no pod gave an answer."""
        charge = exchange.service
        if charge is None:
            return
        exchange.service = None
        status = 0 if relay is None else relay.status
        if status == _TOO_MANY or status >= _FAILED or (not status and not left):
            self._shares.refund(charge)
        else:
            answer = None if relay is None else _answer_tokens(exchange, relay)
            self._shares.settle(charge, answer, whole=not left)
        if self.on_room is not None:
            self.on_room(charge.pool)


def _answer_tokens(exchange: Exchange, relay: AnswerRelay) -> int | None:
    """Tokens of the answer by its usage; without it an event of a stream is a token, and another answer is as was
    expected."""
    usage = exchange.usage(relay)
    if usage is not UNKNOWN:
        return max(0, usage.answer)
    meter = exchange.routed.meter
    return max(0, meter.tokens()) if meter is not None and relay.sse else None
