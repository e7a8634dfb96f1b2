"""Every route has its role in the table, and what is not in the table is closed."""

from __future__ import annotations

from fastapi.routing import APIRoute
from starlette.routing import Route

from router.control.api import ROUTES as PARTS
from router.control.api import create_control
from router.control.roles import ROUTES, needed, route_of
from router.control.tokens import Role
from router.settings import Control
from tests.fakes.control_port import Replica

FILLED = {"{pod:path}": "10.0.0.1:8000", "{pod}": "10.0.0.1:8000", "{pool}": "default"}


def routes() -> set[tuple[str, str]]:
    """Method and path of everything that the application answers."""
    plane = Replica().plane
    app = create_control(plane)
    found: list[object] = [route for part in PARTS for route in part(plane).routes]
    # An included router has no path of its own; nothing else may be without one, such as a mounted application.
    assert sum(not isinstance(route, Route | APIRoute) for route in app.routes) == len(PARTS)
    found += [route for route in app.routes if isinstance(route, Route | APIRoute)]
    pairs = set()
    for route in found:
        assert isinstance(route, Route | APIRoute)
        pairs |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
    return pairs


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    rows = {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert rows == routes()


def test_what_changes_something_needs_operate_and_says_what_it_changes_and_what_reads_needs_read() -> None:
    for method, path in routes():
        row = ROUTES[path][method]
        if not path.startswith("/admin/"):
            assert row.role < Role.READ, path
        else:
            assert row.role is (Role.READ if method == "GET" else Role.OPERATE), (method, path)
        assert (row.shows is not None) == (row.role is Role.OPERATE), (method, path)


def test_a_request_finds_the_row_of_its_route() -> None:
    for method, path in routes():
        asked = path
        for name, value in FILLED.items():
            asked = asked.replace(name, value)
        found = route_of(method, asked)
        assert (found.path, found.needs) == (path, ROUTES[path][method])
        assert route_of(method, f"{asked}\n").path  # which starlette's pattern takes for the same path
    assert route_of("POST", "/admin/pods/unix:/run/a/drain").params == {"pod": "unix:/run/a"}


def test_what_the_table_does_not_have_is_closed() -> None:
    for path in ("/admin", "/admin/", "/console/", "/admin/nonesuch", "//admin/pods", "/docs/x", "/metrics/"):
        assert route_of("GET", path).needs.role is Role.READ, path
        assert route_of("POST", path).needs.role is Role.OPERATE, path
    for method in ("PATCH", "OPTIONS", "TRACE", "DELETE", "NONESUCH"):
        assert route_of(method, "/admin/pods").needs.role is Role.OPERATE, method
        assert route_of(method, "/docs").needs.role is Role.OPERATE, method
    assert route_of("HEAD", "/admin/pods").needs.role is Role.READ


def test_metrics_need_a_token_only_where_that_is_set() -> None:
    metrics = route_of("GET", "/metrics")
    assert needed(metrics, Control()) is Role.OPEN
    assert needed(metrics, Control(metrics_auth=True)) is Role.READ
    assert needed(route_of("GET", "/livez"), Control(metrics_auth=True)) is Role.PROBE
