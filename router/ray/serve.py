"""`TurnoutRouter`: a request router class for Ray Serve, `RequestRouterConfig(request_router_class=...)`.

Translates between Ray's router and `RayHost`, which decides. It lives in every process that calls the deployment, on
that router's event loop. The only file that imports Ray, of which it uses the public router API, and for two things
that this has no hook for, Ray's own objects: a changed deployment's arguments, and a stream's first item.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

import ray
from ray.exceptions import RayError
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE
from ray.serve.generated.serve_pb2 import DeploymentRoute
from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from router.dataplane.exchange import Exchange
from router.errors import GatewayError
from router.ray.arguments import read_arguments
from router.ray.calls import CallMetadata, request_of
from router.ray.host import RayHost, RouterStatus, ServeReplica
from schedulers.types import Adapters, PodId
from statesync.tasks import spawn
from statesync.types import EngineReport

USER_CONFIG: Final = "turnout"
"""The key of a deployment's `user_config` that has its policy."""

CLIENT_LEFT, FAILED, OK = 499, 500, 200

_log = logging.getLogger("turnout.ray")


class _Routed:
    """A call under way: kept on Ray's own object of it, so that both end together."""

    __slots__ = ("exchange", "future", "taken")

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.future: object = None
        """Ray's future of the attempt, for which its cancellation is watched."""
        self.taken = False
        """Whether a replica has accepted it."""


class TurnoutRouter(RequestRouter):  # type: ignore[misc]  # Ray is in the environment of `turnout[ray]` alone
    """Decides by a Turnout policy. `request_router_kwargs` are the fields of `RouterArguments`."""

    _host: RayHost
    _started = False

    def initialize_state(self, **kwargs: object) -> None:
        """Build the policy. Raises ValueError or ConfigError, which name the argument."""
        self._host = RayHost(read_arguments(kwargs), self._deployment_id.name)
        self._sent: dict[tuple[str, ReplicaID], _Routed] = {}
        """Attempts that were sent and not accepted yet, by call and replica."""

    def status(self) -> RouterStatus:
        """What decides in this process now."""
        return self._host.status()

    # Replicas

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Ray's list has changed, or their statistics."""
        if not self._started:
            self._started = True
            self._host.start()
            spawn(self._read_arguments(), "arguments")
        super().update_replicas(replicas)
        self._follow()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """It gets no more calls; the controller starts another one."""
        super().on_replica_actor_died(replica_id)
        self._follow()

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """A replica said how many calls it has, those of other routers included."""
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._host.ongoing(_pod(replica_id), num_ongoing_requests)

    def _follow(self) -> None:
        self._by_pod = {_pod(each): each for each in self._replicas}
        self._host.set_replicas([_replica(each) for each in self._replicas_list])

    # Calls

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The policy's replica, alone; none while no replica has room: Ray asks again after its backoff."""
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # else Ray asks again at once, for ever
        routed: _Routed | None = getattr(pending_request, "turnout", None)
        try:
            if routed is None or routed.exchange.done:
                call = request_of([*pending_request.args, *pending_request.kwargs.values()], _metadata(pending_request))
                routed = pending_request.turnout = _Routed(self._host.choose(call))
            else:
                self._host.choose_again(routed.exchange)
        except GatewayError as error:  # nothing to decide by: Ray's replicas answer what is wrong with it
            _log.warning("call %s: %s; any replica gets it", pending_request.metadata.request_id, error)
            return [candidate_replicas]
        self._watch(pending_request, routed)
        placement = routed.exchange.placement
        replica = self._by_pod.get(placement.pod.id) if placement is not None else None
        if replica is None or replica not in self._replicas:
            return []
        self._sent[pending_request.metadata.internal_request_id, replica] = routed
        return [[self._replicas[replica]]]

    def _watch(self, pending_request: PendingRequest, routed: _Routed) -> None:
        """Give the call back if its caller leaves before a replica has accepted it."""
        future = pending_request.future
        if routed.future is not future:
            routed.future = future
            future.add_done_callback(
                lambda done: self._host.ended(routed.exchange, CLIENT_LEFT) if done.cancelled() else None
            )

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """A replica has accepted the call."""
        super().on_request_routed(pending_request, replica_id, result)
        routed: _Routed | None = getattr(pending_request, "turnout", None)
        if routed is None:
            return
        routed.taken = True
        self._sent.pop((pending_request.metadata.internal_request_id, replica_id), None)
        loop, host, exchange = self._event_loop, self._host, routed.exchange
        # Ray calls back from threads of its own.
        result.add_done_callback(
            lambda value: loop.call_soon_threadsafe(host.ended, exchange, FAILED if _failed(value) else OK)
        )
        _on_first_item(result, lambda: loop.call_soon_threadsafe(self._first_item, exchange))

    def _first_item(self, exchange: Exchange) -> None:
        self._host.first_token(exchange, stream=True)

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """An attempt has ended. Of one that was accepted this is known already; any other one was refused, and its
        call may be placed again."""
        super().on_request_completed(replica_id, internal_request_id)
        routed = self._sent.pop((internal_request_id, replica_id), None)
        if routed is not None and not routed.taken:
            self._host.ended(routed.exchange, CLIENT_LEFT)

    # Arguments of a changed deployment

    def update_backoff_params(self, *args: Any, **kwargs: Any) -> None:
        """The deployment's configuration has changed: Ray passes on the backoff alone, so the rest is read."""
        super().update_backoff_params(*args, **kwargs)
        spawn(self._read_arguments(), "arguments")

    async def _read_arguments(self) -> None:
        """Follow the deployment's arguments as they are now. `user_config` goes before `request_router_kwargs`: Ray
        starts every replica anew when it finds the latter changed in a configuration file."""
        try:
            controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            found = await controller.get_deployment_info.remote(self._deployment_id.name, self._deployment_id.app_name)
            config = DeploymentConfig.from_proto(DeploymentRoute.FromString(found).deployment_info.deployment_config)
            mine = config.user_config.get(USER_CONFIG, {}) if isinstance(config.user_config, Mapping) else {}
            self._host.apply(read_arguments({**config.request_router_config.request_router_kwargs, **mine}))
        except (RayError, KeyError, TypeError, ValueError) as error:
            _log.error("%s keeps %s: %s", self._deployment_id, self.status(), error)


def _pod(replica_id: ReplicaID) -> PodId:
    return PodId(replica_id.unique_id)


def _metadata(pending_request: PendingRequest) -> CallMetadata:
    said = pending_request.metadata
    return CallMetadata(said.request_id, said.session_id, said.multiplexed_model_id, said.is_streaming)


def _replica(replica: RunningReplica) -> ServeReplica:
    return ServeReplica(
        _pod(replica.replica_id),
        replica.max_ongoing_requests,
        _report(replica.routing_stats or {}, replica.multiplexed_model_ids),
    )


def _report(stats: Mapping[str, Any], models: Iterable[str]) -> EngineReport | None:
    """What a deployment's `record_routing_stats` returned, by the names of `EngineReport`; others are left alone."""
    known = {name: stats[name] for name in EngineReport._fields if name in stats and name != "adapters"}
    if models:
        known["adapters"] = Adapters(active=frozenset(models))
    return EngineReport(**known) if known else None


def _failed(value: object) -> bool:
    return isinstance(value, BaseException)


def _on_first_item(result: Any, then: Any) -> None:
    """Call `then`, from any thread, when a stream's first item is there; not for other results, nor over gRPC."""
    stream = getattr(result, "_obj_ref_gen", None)
    if not getattr(result, "_is_streaming", False) or stream is None:
        return
    (first,) = stream._get_next_ref_n(1)
    first._on_ready(lambda _: then())
