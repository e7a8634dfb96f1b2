"""With `auth`, every request that could reach a pod or list models needs a key; probes and preflights do not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from router.settings import PathSettings
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import KEY, access, record
from tests.fakes.memory_client_and_pods import CHAT, get, ok, post
from tests.fakes.memory_gateway import Rig

UPGRADE = ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")
BEARER = f"authorization: Bearer {KEY}"


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A gateway that knows one key and forwards every path."""
    with Rig(paths=PathSettings(forward=("/*",)), cors=["https://chat.example.com"]) as made:
        made.rebuild(made.gateway.deps._replace(access=access()))
        yield made


def test_a_request_with_a_key_reaches_a_pod_as_its_tenants(rig: Rig) -> None:
    client = rig.asks(CHAT, BEARER)
    (exchange,) = rig.admission.active
    assert exchange.tenant is not None
    assert (exchange.tenant.name, exchange.key) == ("search", "of-search")
    rig.asked().sends(ok())
    assert client.answer().status == 200


@each_case(
    "request_bytes",
    [
        post(CHAT),
        post(CHAT, "authorization: Bearer tok-other"),
        post(CHAT, BEARER, "x-api-key: tok-other"),
        post(b"{}", path="/v1/responses"),
        post(b"{}", path="/v1/audio/speech"),
        get("/v1/responses/resp_1"),
        get("/v1/responses/resp_1", method="DELETE"),
        get("/v1/models"),
        get("/v1/models/m"),
        get("/v1/files"),
        get("/generate"),
        get("/nowhere", method="PURGE"),
        get("/v1/realtime?model=m", *UPGRADE),
        get("/health", *UPGRADE),
        get("/livez", *UPGRADE),
        get("/v1/models", "origin: https://chat.example.com", method="OPTIONS"),
        get("/livez/x"),
    ],
)
def test_no_request_without_a_known_key_passes(rig: Rig, request_bytes: bytes) -> None:
    answer = rig.client().sends(request_bytes).answer(request_bytes.partition(b" ")[0].decode())
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = json.loads(answer.body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "invalid_api_key", None)
    assert "tok-" not in answer.body.decode()
    assert rig.nobody_asked()


@each_case(
    "headers",
    [("content-length: 30000000",), ("transfer-encoding: chunked",), ("content-length: 5", "expect: 100-continue")],
)
def test_a_client_without_a_key_need_not_send_its_body(rig: Rig, headers: tuple[str, ...]) -> None:
    client = rig.client().sends(post(b"", *headers, path="/v1/messages", length=False))
    answer = client.answer()
    assert (answer.status, answer.headers["connection"]) == (401, "close")
    assert json.loads(answer.body)["error"]["type"] == "authentication_error"
    assert rig.listener.budget.used == 0
    assert rig.metrics.rejections["-", "invalid_api_key"] >= 1


def test_a_client_with_a_key_is_asked_for_its_body(rig: Rig) -> None:
    client = rig.client().sends(post(b"", BEARER, f"content-length: {len(CHAT)}", "expect: 100-continue", length=False))
    assert client.raw == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sends(CHAT)
    rig.asked().sends(ok())


@each_case("path", ["/livez", "/readyz", "/health"])
def test_probes_need_no_key(rig: Rig, path: str) -> None:
    assert rig.client().sends(get(path)).answer("GET").status == 200


def test_a_preflight_needs_no_key(rig: Rig) -> None:
    asks = ("origin: https://chat.example.com", "access-control-request-method: POST")
    assert rig.client().sends(get("/v1/chat/completions", *asks, method="OPTIONS")).answer("OPTIONS").status == 204


def test_the_answer_of_a_messages_path_has_anthropics_shape(rig: Rig) -> None:
    said = json.loads(rig.client().sends(post(CHAT, path="/v1/messages")).answer().body)
    assert said["type"] == "error"
    assert (said["error"]["type"], said["error"]["code"]) == ("authentication_error", "invalid_api_key")


def test_a_key_without_a_tenant_gets_403(rig: Rig) -> None:
    rig.rebuild(rig.gateway.deps._replace(access=access(record(tenant="nowhere"))))
    answer = rig.asks(CHAT, BEARER).answer()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (403, "permission_denied")


def test_a_refused_request_leaves_its_connection_open_and_is_counted(rig: Rig) -> None:
    client = rig.asks(CHAT)
    assert client.answer().status == 401
    client.sends(post(CHAT, BEARER))
    rig.asked().sends(ok())
    assert [answer.status for answer in client.answers("POST")] == [401, 200]
    assert rig.metrics.rejections["-", "invalid_api_key"] == 1


def test_without_auth_no_request_has_a_tenant() -> None:
    with Rig() as rig:
        rig.asks()
        (exchange,) = rig.admission.active
        assert (exchange.tenant, exchange.key) == (None, "")
        rig.asked().sends(ok())
