"""The control port's application: the one place where the routes, their guard and their errors meet."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from router.control.answers import explain_errors
from router.control.console import console_routes
from router.control.docs_page import POLICY, docs_page
from router.control.guard import ControlGuard
from router.control.key_routes import key_routes
from router.control.live import live_routes
from router.control.plane import ControlPlane
from router.control.policy_routes import plugin_routes, policy_routes, trial_routes
from router.control.roles import needed, route_of
from router.control.routes import open_routes, pod_routes, replica_routes

ROUTES: Final = (
    *(open_routes, pod_routes, policy_routes, trial_routes, plugin_routes, key_routes, replica_routes),
    *(live_routes, console_routes),
)


def create_control(plane: ControlPlane) -> FastAPI:
    """The FastAPI application of one replica's control port. Starts nothing."""
    # FastAPI's own page loads its script and style from a CDN.
    app = FastAPI(title="Turnout control", version=plane.version, docs_url=None, redoc_url=None)
    for routes in ROUTES:
        app.include_router(routes(plane))

    pages: list[str] = []

    def role_of(method: str, path: str) -> str:
        return needed(route_of(method, path), plane.settings.control).word

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """The paths, for people."""
        if not pages:
            pages.append(docs_page(app.openapi(), role_of))
        return HTMLResponse(pages[0], headers={"content-security-policy": POLICY})

    explain_errors(app)
    app.add_middleware(ControlGuard, plane=plane)
    return app
