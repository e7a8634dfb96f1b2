"""Stage 7c: requests whose model is not where it was expected. A model that no list names is looked for in all lists
again before the client gets a 404. A pod's 404 for a model that it listed corrects the list, and another pod gets the
request; the client gets that 404 only where no other pod has the model. So it is with the file that a chat names.

Knows neither how lists are read nor how an error is worded. No attempt and no retry is charged: a pod that lacks the
model does no work. A request that its pod serves does not pass this file.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from router.access.tenants import EVERYTHING
from router.dataplane.attempt import Attempts
from router.dataplane.completion import Completion
from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import NO_POD, Exchange
from router.dataplane.http.response_parser import CHUNKED, LENGTH, UNTIL_CLOSE, ResponseHead
from router.dataplane.http.upstream_connection import Receiver, UpstreamConnection
from router.dataplane.queue import RequestQueue
from router.dataplane.relay import Relay
from router.dataplane.request.refusals import lacks_model
from router.dataplane.request.state_refs import in_body
from router.dataplane.routing import Routing
from router.errors import BadAnswer, GatewayError, ModelRefused, NoPodAvailable, PodFailure, PodRefused, Saturated
from schedulers.types import PodId
from statesync.engines.model_reader import LookWaiter

MAX_BODY: Final = 65536
"""Bytes of a 404 that are read; a longer one is not about a model."""
MAX_WAITING: Final = 1000
"""Requests that wait for a look at the lists; others are answered by what is known."""
MOST_ATTEMPTS: Final = 32
"""Attempts of a request after which a 404 reaches the client."""
LOOKS: Final = 4
"""Looks for a model that a pod listed lately. One look reads the pods one after the other, so that it may miss an
adapter which moves meanwhile."""


class HeldAnswer:
    """Receives a 404 in place of the relay, until its body says what was not found."""

    def __init__(self, misses: ModelMisses, relay: Relay, receiver: Receiver, head: ResponseHead) -> None:
        """`receiver` takes the answer if the client gets it."""
        self._misses = misses
        self._relay = relay
        self._receiver = receiver
        self._head = head
        self._pieces: list[bytes] = []
        self._size = 0
        self._at = 0.0

    def connected(self, connection: UpstreamConnection, /) -> None:
        """See `Receiver`; the connection was given to the relay before."""

    def head(self, head: ResponseHead, framing: int, length: int, /) -> bool:
        """See `Receiver`; there is only one head."""
        return True

    def data(self, piece: bytes, safe: int, now: float, /) -> None:
        """Keep a piece of the body."""
        self._pieces.append(piece)
        self._size += len(piece)
        self._at = now
        if self._size > MAX_BODY and self._relay.connection is not None:
            self._relay.connection.abort()
            self.failed(BadAnswer(f"Pod {self._relay.placement.pod.id} sent a 404 of more than {MAX_BODY} bytes."))

    def end(self) -> None:
        """The answer is whole: move the request on, or pass the answer on."""
        self._relay.connection = None
        self._misses.judge(self._relay, b"".join(self._pieces), self.pass_on)

    def failed(self, failure: PodFailure, /) -> None:
        """See `Receiver`."""
        self._receiver.failed(failure)

    def pass_on(self) -> None:
        """The client gets the answer, with its length in place of whatever framing it had."""
        body = b"".join(self._pieces)
        self._receiver.head(self._head, LENGTH, len(body))
        if body:
            self._receiver.data(body, 0, self._at)
        self._receiver.end()


class _Refused(NamedTuple):
    """A request that its pod refused, and for which no other pod is known."""

    relay: Relay
    pass_on: Callable[[], None]


class _Looking:
    """A request for which all lists are looked at. Bound to the method that goes on with it, it makes a waiter; a
    function that names itself would be one, too, but as a cycle of references. Only a collection of the oldest
    generation frees it, and a replica makes none (`router/replica/process.py`)."""

    __slots__ = ("exchange", "looks", "refused")

    def __init__(self, exchange: Exchange, refused: _Refused | None = None) -> None:
        self.exchange = exchange
        self.refused = refused
        self.looks = 1


class ModelMisses:
    """Finds other pods for such requests."""

    def __init__(
        self,
        deps: GatewayDeps,
        routing: Routing,
        attempts: Attempts,
        queue: RequestQueue,
        completion: Completion,
        go_on: Callable[[Exchange], None],
    ) -> None:
        """`go_on` takes an exchange through the stages from routing on, by what is known then. Never raises."""
        self._routes = deps.routes
        self._view = deps.view
        self._metrics = deps.metrics
        self._admission = deps.admission
        self._lists = deps.lists
        self._owners = deps.owners
        self._seen_by = routing.seen_by
        self._together = deps.dispatch.together
        self._attempts = attempts
        self._queue = queue
        self._completion = completion
        self._go_on = go_on
        self._waiting = 0

    # A model that no list names

    def look_for(self, exchange: Exchange) -> None:
        """Look at all lists, then go on with the exchange. Raises Shed."""
        if exchange not in self._admission.active:
            self._admission.admit(exchange)  # a drain waits for it
        # Where a pool takes any name, requests with names of their own do not wait for each other's looks.
        waiter = partial(self._looked, _Looking(exchange))
        if not self._look(waiter, patient=not self._seen_by(exchange.tenant).takes(exchange.model)):
            self._go_on(exchange)

    def _looked(self, looking: _Looking, last: bool) -> bool:
        """As `LookWaiter`, for a model that no list names."""
        exchange = looking.exchange
        if not exchange.done:
            known = self._seen_by(exchange.tenant).knows(exchange.model)
            if not known and (not last or self._once_more(looking, self._looked)):
                return False
            self._go_on(exchange)
        self._waiting -= 1
        return True

    def _look(self, waiter: LookWaiter, *, patient: bool) -> bool:
        if self._lists is None or self._waiting >= MAX_WAITING or not self._lists.look_again(waiter, patient=patient):
            return False
        self._waiting += 1
        return True

    def _once_more(self, looking: _Looking, then: Callable[[_Looking, bool], bool]) -> bool:
        """Whether another look was begun, because the model was there a moment ago."""
        exchange, lists = looking.exchange, self._lists
        model = exchange.routed.call.model or exchange.model
        looking.looks += 1
        if exchange.tenant is not None and EVERYTHING not in exchange.tenant.pools:
            return False  # it may have been there in a pool that does not exist for this tenant
        if looking.looks > LOOKS or lists is None or not lists.had(model):
            return False
        return lists.look_again(partial(then, looking), patient=True)

    # A pod that refuses a model

    def hold(self, relay: Relay, head: ResponseHead, framing: int, length: int) -> bool:
        """The head of a 404 came: whether its body is read here before the client gets any of it."""
        exchange, connection = relay.exchange, relay.connection
        readable = framing in (CHUNKED, UNTIL_CLOSE) or (framing == LENGTH and 0 < length <= MAX_BODY)
        routed = exchange.routed
        bound = routed.pins and not routed.waits  # it needs what that pod has
        if not readable or head.encoded or exchange.upgrade or bound or not routed.call.model:
            return False
        if connection is None or connection.receiver is None:
            return False
        connection.receiver = HeldAnswer(self, relay, connection.receiver, head)
        return True

    def judge(self, relay: Relay, body: bytes, pass_on: Callable[[], None]) -> None:
        """A 404 is whole: the request moves on, or the client gets it."""
        exchange = relay.exchange
        if exchange.done or exchange.relay is not relay:
            return
        try:
            model = exchange.routed.call.model
            if not lacks_model(body, model):
                if not self._ask_for_file(relay):
                    pass_on()
                return
            self._note(exchange, relay.placement.pod.id, model)
            if not self._move(relay) and not self._wait(_Refused(relay, pass_on)):
                pass_on()
        except Exception:  # noqa: BLE001  a defect ends in an answer, never in a client that waits forever
            self._completion.defect(exchange)

    def _ask_for_file(self, relay: Relay) -> bool:
        """Place a chat that names a file on the pod that has the file, or on the others in turn. To read every chat
        for files would cost more than all that is read of it, so that the first pod's 404 is the reason to."""
        exchange = relay.exchange
        ids = in_body(exchange.header_map.get(b"content-type", b""), exchange.routed.body)
        if not ids or exchange.refs is not None:
            return False
        owner = self._owners.known(ids)
        if exchange.tenant is not None:  # a pod that has it must not answer for what another tenant made
            owner = self._owners.made_by(exchange.tenant.name, ids[:1])[0]
            if owner is None:
                return False
        exchange.tried |= self._together(relay.placement.pod.id)
        own_pool = [status.pod.id for status in self._view.statuses(exchange.routed.pool)]
        if owner in own_pool and owner not in exchange.tried:
            exchange.routed.pins = (owner,)
        return self._move(relay, PodRefused.reason)

    def _note(self, exchange: Exchange, pod: PodId, model: str) -> None:
        """Correct the pod's list. A pod that listed the model is a candidate again as soon as it lists it again, even
        for this request: an adapter may move back and forth. Any other pod is not asked twice."""
        pool = exchange.routed.pool
        listed = self._routes.lists(pool, pod, model)
        if self._lists is not None:
            self._lists.refused(pod, model)
        if not (listed and self._routes.lacks(pool, pod, model)):
            exchange.tried |= self._together(pod)

    def _move(self, relay: Relay, reason: str = ModelRefused.reason) -> bool:
        """Place the exchange on another pod or queue it; False where no other pod serves the model."""
        exchange, routed = relay.exchange, relay.exchange.routed
        if exchange.attempts >= MOST_ATTEMPTS or not self._routes.may_serve(routed.pool, routed.call.model):
            return False
        try:
            if not self._attempts.place(exchange):
                self._queue.enter(exchange)
        except NoPodAvailable:
            if not self._attempts.fallbacks.take(exchange, NO_POD):
                return False
        except Saturated:
            return False
        self._view.release(relay.placement.charge)
        if exchange.queued:
            exchange.placement = exchange.relay = None
        routed.attempts -= 1
        self._metrics.count_retry(routed.pool, reason)
        return True

    def _wait(self, refused: _Refused) -> bool:
        """Look at all lists for another pod that has the model."""
        self._view.release(refused.relay.placement.charge)
        return self._look(partial(self._looked_elsewhere, _Looking(refused.relay.exchange, refused)), patient=True)

    def _looked_elsewhere(self, looking: _Looking, last: bool) -> bool:
        """As `LookWaiter`, for a model that the request's pod refused."""
        exchange, refused = looking.exchange, looking.refused
        if refused is not None and not exchange.done and exchange.relay is refused.relay:
            try:
                if not self._move(refused.relay):
                    if not last or self._once_more(looking, self._looked_elsewhere):
                        return False
                    refused.pass_on()
            except GatewayError as error:
                self._completion.refuse(exchange, error)
            except Exception:  # noqa: BLE001  as above
                self._completion.defect(exchange)
        self._waiting -= 1
        return True
