"""gRPC through the inference port: pools of `kind: grpc`. Only this file is imported where there is none; the others
need `turnout[grpc]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from router.dataplane.deps import GatewayDeps
from router.dataplane.exchange import Exchange
from router.dataplane.http.listener import Listener
from router.settings import GRPC
from statesync.engines.access import Accesses

if TYPE_CHECKING:
    from router.dataplane.grpc.port import GrpcPort


def open_grpc(
    deps: GatewayDeps, accesses: Accesses, listener: Listener[Exchange], replica: str, rng: Callable[[], int]
) -> GrpcPort | None:
    """Have the listener take gRPC, where a pool serves it. `rng` returns 64 random bits."""
    pools = [pool for pool in deps.settings.pools if pool.kind == GRPC]
    if not pools:
        return None
    from router.dataplane.grpc.port import GrpcPort

    port = GrpcPort(deps, pools, accesses, replica, rng)
    listener.sniff = port.protocol
    return port
