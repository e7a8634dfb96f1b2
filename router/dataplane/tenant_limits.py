"""Stage 2c: a request within its tenant's limits. Takes what a request is expected to use when it is about to be placed
or queued, settles by what it used at its end, and gives the headers that say what is left. Retries and fall-backs
change nothing: an exchange has one charge. `router/access/limits.py` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from router.access.limit_headers import anthropic_headers, openai_headers
from router.access.limits import LimitCharge, LimitRegistry
from router.dataplane.exchange import AnswerRelay, Exchange
from router.dataplane.http.responses import Headers
from router.dataplane.usage import UNKNOWN

NO_ANSWER: Final = -1
"""For `LimitCharge.take`: the answer has no tokens."""

_ANTHROPIC: Final = b"/v1/messages"


class TenantLimits:
    """Charges exchanges."""

    def __init__(self, limits: LimitRegistry, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        """`clock` is that of `limits`; `wall` gives Unix seconds."""
        self.registry = limits
        self._clock = clock
        self._wall = wall

    def admit(self, exchange: Exchange) -> None:
        """Charge the exchange, once. Raises RateLimitExceeded."""
        charge = self.registry.charge(exchange.tenant, exchange.key, exchange.model)
        if charge is None:
            return
        exchange.charge = charge
        call = exchange.routed.call
        most = call.max_tokens if _is_answered(exchange.path) else NO_ANSWER
        charge.take(call.prompt_tokens if call.prompt else 0, most, self._clock())

    def settle(self, exchange: Exchange, relay: AnswerRelay | None, charge: LimitCharge, *, left: bool) -> None:
        """The exchange ended, `relay` is that of its last attempt; `left`: its client went away. What it did not use
        goes back: all of it where no pod gave an answer, the tokens where the pod refused the request."""
        now = self._clock()
        status = 0 if relay is None else relay.status
        if relay is None or status == 429 or status >= 500 or (not status and not left):
            charge.give_back(now)
        elif status >= 400:
            charge.settle(0, now)
        elif not status:
            charge.settle(exchange.routed.call.prompt_tokens, now)  # the pod was at work on it
        else:
            self._settle_answer(exchange, relay, charge, now, left=left)

    def _settle_answer(
        self, exchange: Exchange, relay: AnswerRelay, charge: LimitCharge, now: float, *, left: bool
    ) -> None:
        """By the answer's usage. Without it an event of a stream is a token, and another answer is as was expected."""
        usage = exchange.usage(relay) if charge.limits.tokens else UNKNOWN
        meter = exchange.routed.meter
        answer = usage.answer
        if answer < 0 and _is_answered(exchange.path):
            if meter is None:
                charge.settle_as_expected(now)
                return
            answer = max(0, meter.tokens())
        prompt = usage.prompt if usage.prompt >= 0 else exchange.routed.call.prompt_tokens
        charge.settle(prompt + max(0, answer), now, NO_ANSWER if left else answer)

    def headers(self, exchange: Exchange) -> Headers:
        """The same as `lines`, for an answer that the gateway makes itself."""
        split = [line.partition(b": ") for line in self.lines(exchange).split(b"\r\n")]
        return tuple([(name, value) for name, _, value in split if name])

    def lines(self, exchange: Exchange) -> bytes:
        """What is left of the limits, as headers in the names of the API whose path this is; empty without limits."""
        charge = exchange.charge
        if charge is None:
            return b""
        if exchange.path.startswith(_ANTHROPIC):
            return anthropic_headers(charge.limits, self._clock(), self._wall())
        return openai_headers(charge.limits, self._clock())


def _is_answered(path: bytes) -> bool:
    """Whether answers on this path have tokens."""
    return (
        path.endswith(b"/completions")
        or path.endswith(b"/messages")
        or path.endswith(b"/responses")
        or path.endswith(b"/generate")
    )
