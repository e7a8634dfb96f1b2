"""The control port's paths. Each reads or calls the plane and says so; no decision is made here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from router.control.answers import ControlError, in_slices
from router.control.plane import DRAINING, ControlPlane, pod_shown, policy_shown, pools_shown, state_shown
from router.policy_parts import How
from schedulers.types import PodId
from statesync.store import PolicyRecord


class PolicyBody(BaseModel):
    """A policy by name, with its parameters."""

    model_config = ConfigDict(extra="forbid")

    policy: str
    params: dict[str, object] = Field(default_factory=dict)


def open_routes(plane: ControlPlane) -> APIRouter:
    """Probes and metrics: no token."""
    router = APIRouter()

    @router.get("/metrics", tags=["open"])
    async def metrics(request: Request) -> Response:
        """Prometheus text, or OpenMetrics if the Accept header asks for it."""
        text, content_type = await plane.render_metrics(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    @router.get("/livez", tags=["open"])
    async def livez() -> dict[str, str]:
        """The process runs and its event loop turns."""
        return {"status": "ok"}

    @router.get("/readyz", tags=["open"])
    async def readyz() -> JSONResponse:
        """200 while new traffic is welcome; 503 with the phase otherwise."""
        life = plane.lifecycle
        return JSONResponse({"status": life.phase.value, "cold": life.cold}, 200 if life.ready else 503)

    return router


def pod_routes(plane: ControlPlane) -> APIRouter:
    """What can be seen of pods and done to one."""
    router = APIRouter(prefix="/admin", tags=["pods"])

    @router.get("/pods", response_model=list[dict[str, object]])
    async def pods() -> Response:
        """Every pod: load over all replicas, and whether it may be sent requests."""
        return await in_slices(plane.view.statuses(), pod_shown)

    @router.get("/pods/{pod:path}")
    async def pod(pod: str) -> dict[str, object]:
        """One pod."""
        return pod_shown(plane.view.status(PodId(pod)))

    @router.post("/pods/{pod:path}/drain")
    async def drain_pod(pod: str) -> dict[str, object]:
        """Send the pod nothing new; what is in flight on it goes on."""
        plane.view.block(PodId(pod), DRAINING)
        return pod_shown(plane.view.status(PodId(pod)))

    @router.delete("/pods/{pod:path}/drain")
    async def undrain_pod(pod: str) -> dict[str, object]:
        """Undo a drain."""
        plane.view.status(PodId(pod))
        plane.view.unblock(PodId(pod), DRAINING)
        return pod_shown(plane.view.status(PodId(pod)))

    return router


def policy_routes(plane: ControlPlane) -> APIRouter:
    """Pools, and the policy of each."""
    router = APIRouter(prefix="/admin/pools", tags=["policies"])

    @router.get("")
    async def pools() -> list[dict[str, object]]:
        """Every pool: models, pods, policy."""
        return pools_shown(plane)

    @router.get("/{pool}/policy")
    async def policy(pool: str, response: Response) -> dict[str, object]:
        """The pool's policy; its generation is the ETag."""
        return _tagged(plane.policies.record(pool), response)

    @router.put("/{pool}/policy")
    async def put_policy(
        pool: str, body: PolicyBody, response: Response, if_match: Annotated[str | None, Header()] = None
    ) -> dict[str, object]:
        """Replace the pool's policy on every replica, if If-Match (when given) is its present generation."""
        how = How(if_generation=_generation(if_match))
        return _tagged(await plane.policies.set(pool, body.policy, body.params, how), response)

    return router


def replica_routes(plane: ControlPlane) -> APIRouter:
    """This replica itself."""
    router = APIRouter(prefix="/admin", tags=["replica"])

    @router.get("/state")
    async def state() -> dict[str, object]:
        """Phase, age of the view, the other replicas."""
        return state_shown(plane)

    @router.post("/drain", status_code=202)
    async def drain() -> dict[str, object]:
        """Leave service as on SIGTERM: settle, finish what is in flight, exit."""
        # To ask twice is not to insist: only a second signal cuts streams off.
        if not plane.lifecycle.closing:
            plane.drain()
        return {"phase": plane.lifecycle.phase.value}

    return router


def _tagged(record: PolicyRecord, response: Response) -> dict[str, object]:
    response.headers["etag"] = f'"{record.generation}"'
    return policy_shown(record)


def _generation(if_match: str | None) -> int | None:
    """`"3"`, `3` or `*`; anything else is the client's mistake rather than a silent overwrite."""
    if if_match is None or if_match.strip() == "*":
        return None
    bare = if_match.strip().removeprefix("W/").strip('"')
    if not (bare.isascii() and bare.isdigit() and len(bare) < 20):
        raise ControlError(400, "invalid_if_match", f"If-Match holds a generation, not {if_match!r}", "If-Match")
    return int(bare)
