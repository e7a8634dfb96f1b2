"""Who may do what: tokens with roles, refusals in clear words, and addresses that guess."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from router.control.access import FAILURES_BURST, FAILURES_PER_S, AccessRefused, ControlAccess
from router.control.roles import route_of
from router.control.tokens import Caller, ControlTokens, Role
from router.settings import Control, ControlToken
from tests.router.control.test_tokens import hashed

TOKENS = [
    ControlToken(name="grafana", token_sha256=hashed("look")),
    ControlToken(name="ci", role="operate", token_sha256=hashed("change")),
]


class World:
    """Access to a control port, at a time that a test moves."""

    def __init__(self, control: Control) -> None:
        self.now = 10.0
        tokens = ControlTokens(control, {}, lambda: 0.0)
        self.access = ControlAccess(control, tokens, lambda: self.now)

    def asks(self, method: str, path: str, token: str = "", address: str = "10.0.0.1", **headers: str) -> Caller:
        given = Headers({"host": "127.0.0.1:9000", **headers} | ({"authorization": f"Bearer {token}"} if token else {}))
        return self.access.caller(route_of(method, path), given, address=address, what=f"{method} {path}")

    def refuses(self, method: str, path: str, token: str = "", **more: str) -> AccessRefused:
        with pytest.raises(AccessRefused) as refused:
            self.asks(method, path, token, **more)
        return refused.value


def test_a_role_may_do_what_it_says_and_the_refusal_names_what_is_needed() -> None:
    world = World(Control(tokens=TOKENS))
    assert world.asks("GET", "/admin/pods", "look") == Caller("grafana", Role.READ)
    assert world.asks("GET", "/admin/pods", "change").name == "ci"
    assert world.asks("POST", "/admin/drain", "change").name == "ci"
    forbidden = world.refuses("POST", "/admin/drain", "look")
    assert (forbidden.status, forbidden.code) == (403, "permission_denied")
    assert str(forbidden) == "the token 'grafana' has the role read, and POST /admin/drain needs operate"
    assert forbidden.caller == Caller("grafana", Role.READ)
    unknown = world.refuses("POST", "/admin/drain", "guess")
    assert (unknown.status, unknown.code, unknown.headers) == (401, "invalid_token", {"www-authenticate": "Bearer"})
    assert unknown.caller is None
    assert world.refuses("PATCH", "/admin/pods", "look").status == 403


def test_metrics_may_ask_for_a_token_and_probes_never_do() -> None:
    for metrics_auth in (False, True):
        world = World(Control(tokens=TOKENS, metrics_auth=metrics_auth))
        assert world.asks("GET", "/livez").role is Role.PROBE
        assert world.asks("GET", "/readyz", host="", origin="null").role is Role.PROBE
        if metrics_auth:
            assert world.refuses("GET", "/metrics").status == 401
            assert world.asks("GET", "/metrics", "look").name == "grafana"
        else:
            assert world.asks("GET", "/metrics").role is Role.OPEN


def test_a_hostile_page_reads_no_metrics_by_a_rebound_name_unless_they_are_open_to_the_network() -> None:
    assert World(Control()).refuses("GET", "/metrics", host="evil.example").code == "foreign_host"
    assert World(Control()).refuses("GET", "/docs", host="evil.example").code == "foreign_host"
    assert World(Control(tokens=TOKENS)).asks("GET", "/metrics", host="turnout.svc:9000").role is Role.OPEN


def test_an_address_that_guesses_has_to_wait_whatever_it_sends_and_others_have_not() -> None:
    world = World(Control(tokens=TOKENS))
    for _ in range(FAILURES_BURST + 1):
        assert world.refuses("GET", "/admin/pods", "guess").status == 401
    for token in ("guess", "change"):
        slow = world.refuses("GET", "/admin/pods", token)
        assert (slow.status, slow.code) == (429, "too_many_failures")
        assert slow.headers == {"retry-after": str(round(1 / FAILURES_PER_S))}
    assert world.asks("GET", "/admin/pods", "change", address="10.0.0.2").name == "ci"
    assert world.asks("GET", "/livez").role is Role.PROBE
    assert world.asks("GET", "/metrics").role is Role.OPEN
    world.now += 1 / FAILURES_PER_S
    assert world.asks("GET", "/admin/pods", "change").name == "ci"


def test_what_is_refused_for_another_reason_is_no_guess() -> None:
    world = World(Control(tokens=TOKENS))
    for _ in range(FAILURES_BURST * 2):
        assert world.refuses("POST", "/admin/drain", "look").status == 403
        assert world.refuses("POST", "/admin/drain", "change", origin="null").code == "foreign_origin"
    assert world.asks("POST", "/admin/drain", "change").name == "ci"
