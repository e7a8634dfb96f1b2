"""The control port's paths, except those of policies. Each reads or calls the plane; no decision is made here."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder

from router.control.answers import in_slices
from router.control.plane import DRAINING, ControlPlane, describe_pod, describe_state, named_pods
from router.control.shared_answers import SharedAnswers
from schedulers.types import PodId


def open_routes(plane: ControlPlane) -> APIRouter:
    """Probes and metrics: no token."""
    router = APIRouter()
    rendered: SharedAnswers[tuple[bytes, str]] = SharedAnswers(plane.clock)

    @router.get("/metrics", tags=["open"])
    async def metrics(request: Request) -> Response:
        """Prometheus text, or OpenMetrics if the Accept header asks for it."""
        accept = request.headers.get("accept", "")
        format_asked = choose_encoder(accept)[1].partition(";")[0]
        text, content_type = await rendered.get(format_asked, lambda: plane.render_metrics(accept))
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
    """Pods, and the drain of one."""
    router = APIRouter(prefix="/admin", tags=["pods"])
    listed: SharedAnswers[bytes] = SharedAnswers(plane.clock)

    @router.get("/pods", response_model=list[dict[str, object]])
    async def pods() -> Response:
        """Every pod: load over all replicas, and whether it may be sent requests."""
        text = await listed.get("", lambda: in_slices(plane.view.statuses(), describe_pod))
        return Response(text, media_type="application/json")

    @router.get("/pods/{pod:path}")
    async def pod(pod: str) -> dict[str, object]:
        """One pod."""
        return describe_pod(plane.view.status(PodId(pod)))

    @router.post("/pods/{pod:path}/drain")
    async def drain_pod(pod: str) -> dict[str, object]:
        """Send no new requests to the pod; those in flight on it go on. A pod's id without a rank: to all of them."""
        for each in named_pods(plane.view, pod):
            plane.view.block(each, DRAINING)
        return describe_pod(plane.view.status(each))

    @router.delete("/pods/{pod:path}/drain")
    async def undrain_pod(pod: str) -> dict[str, object]:
        """Undo a drain."""
        for each in named_pods(plane.view, pod):
            plane.view.status(each)
            plane.view.unblock(each, DRAINING)
        return describe_pod(plane.view.status(each))

    return router


def replica_routes(plane: ControlPlane) -> APIRouter:
    """This replica itself."""
    router = APIRouter(prefix="/admin", tags=["replica"])

    @router.get("/state")
    async def state() -> dict[str, object]:
        """Phase, age of the view, the other replicas."""
        return describe_state(plane)

    @router.post("/drain", status_code=202)
    async def drain() -> dict[str, object]:
        """Leave service as on SIGTERM: settle, finish what is in flight, exit."""
        # A second call does not hurry the drain: only a second signal cuts streams off.
        if not plane.lifecycle.closing:
            plane.drain()
        return {"phase": plane.lifecycle.phase.value}

    return router
