"""The control port's application: the one place where the routes, their guard and their errors meet."""

from __future__ import annotations

from fastapi import FastAPI

from router.address import parse_listen
from router.control.answers import explain_errors
from router.control.guard import ControlGuard
from router.control.key_routes import key_routes
from router.control.plane import ControlPlane
from router.control.policy_routes import plugin_routes, policy_routes, trial_routes
from router.control.routes import open_routes, pod_routes, replica_routes


def create_control(plane: ControlPlane) -> FastAPI:
    """The FastAPI application of one replica's control port. Starts nothing."""
    app = FastAPI(title="Turnout control", version=plane.version, redoc_url=None)
    for routes in (open_routes, pod_routes, policy_routes, trial_routes, plugin_routes, key_routes, replica_routes):
        app.include_router(routes(plane))
    explain_errors(app)
    control = plane.settings.control
    app.add_middleware(ControlGuard, token=control.token, host=parse_listen(control.listen).host)
    return app
