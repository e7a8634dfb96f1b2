"""The host of one deployment's policy inside a Ray Serve router: replicas come in, decisions go out, all on its loop.

It decides by the components that a gateway is built from (`build.py`, `Decider`), none of them opened or probing. Knows
no Ray: replicas and calls are values here.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from router.dataplane.decider import Decider
from router.dataplane.exchange import Exchange
from router.errors import Overload
from router.policy.model import ChangeOptions
from router.policy.transitions import ChangeRefused
from router.ray.arguments import RouterArguments, settings_of
from router.ray.calls import ServeCall
from router.replica.build import build
from schedulers.errors import SchedulerError
from schedulers.params import fingerprint
from schedulers.types import Pod, PodId
from statesync.errors import StateError
from statesync.tasks import spawn
from statesync.types import EngineReport

BY: Final = "request_router_kwargs"
"""Who changed a policy, in its history."""

_log = logging.getLogger("turnout.ray")
_random_bits: Final = partial(random.getrandbits, 64)


class ServeReplica(NamedTuple):
    """A running replica, as Ray's router knows it."""

    id: PodId
    max_ongoing: int = 0
    """Most requests at a time; 0 is no limit."""
    report: EngineReport | None = None
    """What its `record_routing_stats` said last."""


class RouterStatus(NamedTuple):
    """What decides in this router now."""

    policy: str
    digest: str
    """Of the policy and all its parameters: equal wherever the same decides (`schedulers.params.fingerprint`)."""
    generation: int
    shadow: str
    canary: str
    """With its share; empty without one."""


class RayHost:
    """Decides for one deployment in one process."""

    def __init__(
        self,
        arguments: RouterArguments,
        deployment: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], int] = _random_bits,
    ) -> None:
        """Raises ConfigError for wrong settings, and what `build` raises. Nothing is started."""
        settings = settings_of(arguments, deployment)
        self.pool = settings.pools[0].name
        self._parts = build(settings, clock=clock, rng=rng)
        self._parts.state.view.set_pods(self.pool, ())  # known, and empty
        gateway = self._parts.dataplane.gateway
        self._decider = Decider(gateway.deps, self._parts.dataplane.listener.connect)
        self._wanted = arguments
        self._done = RouterArguments(policy=arguments.policy, params=arguments.params)
        """What of `_wanted` is in force; at start that is the policy."""
        self._changing = asyncio.Lock()
        self._replicas: dict[PodId, ServeReplica] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin what runs beside the decisions: shared state, trials, plugins. Call it on the router's loop."""
        parts = self._parts
        self._tasks = [
            spawn(parts.state.store.start(parts.core.name, parts.state_listener), "state"),
            spawn(parts.policy.trial_monitor.run(), "trials"),
            spawn(parts.policy.plugins.run(), "plugins"),
            spawn(self._change(), "policy"),
        ]
        _log.info("pool %s begins with %s", self.pool, self.status())

    async def stop(self) -> None:
        """End the tasks and give the lease back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._parts.policy.controller.stop()
        await self._parts.state.store.aclose()

    # Replicas

    def set_replicas(self, replicas: Sequence[ServeReplica]) -> None:
        """All replicas that run, with their last reports."""
        known, self._replicas = self._replicas, {each.id: each for each in replicas}
        pods = [Pod(each.id, each.id, max_inflight=each.max_ongoing or None) for each in replicas]
        self._parts.pods.registry.on_pods(self.pool, pods)
        for each in replicas:
            before = known.get(each.id)
            if each.report is not None and (before is None or before.report != each.report):
                self._parts.pods.updates.on_report(each.id, each.report, 0.0)

    def ongoing(self, replica: PodId, requests: int) -> None:
        """How many requests a replica says that it has, those of other routers included."""
        self._parts.pods.updates.on_report(replica, EngineReport(queued=0, running=requests), 0.0)

    # Requests

    def choose(self, call: ServeCall) -> Exchange:
        """Place a call. Its `placement` is None where no replica has room: choose again later. Raises GatewayError for
        a call that cannot be routed."""
        exchange = self._decider.begin(call.head, call.body)
        with suppress(Overload):
            self._decider.place(exchange)
        return exchange

    def choose_again(self, exchange: Exchange) -> None:
        """Another replica for a call whose replica had no room; `placement` as after `choose`."""
        with suppress(Overload):
            self._decider.place_again(exchange)

    def first_token(self, exchange: Exchange, *, stream: bool) -> None:
        """The answer began."""
        self._decider.first_token(exchange, stream=stream)

    def ended(self, exchange: Exchange, status: int) -> None:
        """The answer has ended, or its caller left (499)."""
        self._decider.end(exchange, status)

    # Policy

    def status(self) -> RouterStatus:
        """What decides now."""
        live = self._parts.policy.controller.live(self.pool)
        record, canary = live.record, live.record.canary
        return RouterStatus(
            record.name,
            fingerprint(record.name, live.scheduler),
            record.generation,
            record.shadow.name if record.shadow is not None else "",
            f"{canary.choice.name} {canary.percent:g} %" if canary is not None else "",
        )

    def apply(self, arguments: RouterArguments) -> None:
        """The deployment's arguments have changed: swap what differs. What was set elsewhere in between stays, unless
        it is the same argument. Settings take effect with the next router. Never raises."""
        if arguments != self._wanted:
            self._wanted = arguments
            self._tasks.append(spawn(self._change(), "policy"))

    async def _change(self) -> None:
        """Bring policy, shadow and canary to what is wanted, as the control port would."""
        controller, pool = self._parts.policy.controller, self.pool
        async with self._changing:
            done, wanted = self._done, self._wanted
            try:
                if (wanted.policy, wanted.params) != (done.policy, done.params):
                    record = controller.record(pool)
                    if (record.name, record.params) != (wanted.policy, wanted.params):  # another router was first
                        await controller.set(pool, wanted.policy, wanted.params, _HOW)
                if wanted.shadow != done.shadow and controller.record(pool).shadow != wanted.wanted_shadow:
                    await controller.set_shadow(pool, wanted.wanted_shadow, _HOW)
                if wanted.canary != done.canary:
                    await controller.set_canary(pool, wanted.wanted_canary, _HOW)
            except (SchedulerError, ChangeRefused, StateError) as error:
                _log.error("pool %s keeps %s: %s", pool, self.status(), error)
                return
            self._done = wanted
        if wanted != done:
            _log.info("pool %s now has %s", pool, self.status())


_HOW: Final = ChangeOptions(by=BY)
