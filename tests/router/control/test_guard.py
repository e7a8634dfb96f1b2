"""Access to the control port: tokens, host names and origins."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from router.control.guard import ControlGuard
from router.settings import Control, ControlToken
from tests.fakes.control_port import Replica, error_of, talk_to
from tests.router.control.test_tokens import hashed

AUTHORIZATIONS: dict[str | None, int] = {
    None: 401,
    "": 401,
    "Bearer": 401,
    "Bearer wrong": 401,
    "Bearer sesam\xe9": 401,
    "Basic sesame": 401,
    "sesame": 401,
    "Bearer sesame": 200,
    "bearer sesame": 200,
}


def test_with_a_token_set_the_admin_api_needs_it() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for authorization, status in AUTHORIZATIONS.items():
            headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
            answer = await client.get("/admin/pods", headers=headers)  # type: ignore[arg-type]
            assert answer.status_code == status, authorization
            if status == 401:
                assert error_of(answer)["code"] == "invalid_token"
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "sesame" not in answer.text

    talk_to(Replica(token="sesame"), talk)


def test_without_the_token_existing_and_unknown_admin_paths_look_alike() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for path in ("/admin", "/admin/", "/admin/nonesuch", "/admin/pods/x:1/drain", "//admin/pods"):
            answer = await client.post(f"http://{client.base_url.netloc.decode()}{path}")
            assert answer.status_code in (401, 404), path
            assert answer.status_code == 401 or path.startswith("//"), path

    talk_to(Replica(token="sesame"), talk)


def test_probes_metrics_and_docs_need_no_token() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        answers = [(await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/docs")]
        assert answers == [200, 503, 200, 200]

    talk_to(Replica(token="sesame"), talk)


def test_a_page_of_another_site_is_refused_with_and_without_a_token_and_the_console_is_not() -> None:
    for token in ("", "sesame"):
        replica = Replica(token=token)

        async def talk(client: httpx.AsyncClient) -> None:
            for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://["):
                answer = await client.post("/admin/drain", headers={"origin": origin})
                assert (answer.status_code, error_of(answer)["code"]) == (403, "foreign_origin")
            own = await client.get("/admin/pods", headers={"origin": str(client.base_url).rstrip("/")})
            assert own.status_code == 200

        talk_to(replica, talk, authorization="Bearer sesame")
        assert replica.drains == 0


HOSTS = {
    "evil.example": 403,
    "evil.example:9000": 403,
    "127.0.0.1.evil.example": 403,
    "localhost:9000": 200,
    "127.0.0.1:9000": 200,
    "[::1]:9000": 200,
    "10.1.2.3": 200,
}


def test_without_a_token_a_host_name_that_dns_could_rebind_is_refused() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for host, status in HOSTS.items():
            answer = await client.get("/admin/pods", headers={"host": host})
            assert answer.status_code == status, host
            if status == 403:
                assert error_of(answer)["code"] == "foreign_host"

    talk_to(Replica(), talk)


def test_with_a_token_any_host_name_is_accepted() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/admin/pods", headers={"host": "turnout.svc:9000"})).status_code == 200

    talk_to(Replica(token="sesame"), talk, authorization="Bearer sesame")


def test_a_valid_request_id_is_kept_and_any_other_is_replaced() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for sent, kept in {"abc-1": True, "a b": False, "x" * 200: False}.items():
            answered = (await client.get("/livez", headers={"x-request-id": sent})).headers["x-request-id"]
            assert (answered == sent) is kept, sent
            assert answered

    talk_to(Replica(), talk)


async def raw(client: httpx.AsyncClient, head: str) -> tuple[int, bytes]:
    """The status and body of an answer to exactly these bytes, of a connection of its own."""
    host, port = client.base_url.host, client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.replace("HERE", f"{host}:{port}").encode("latin-1"))
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(answer.split(b" ")[1]), await reader.readexactly(length)
    finally:
        writer.close()


TOKEN = "authorization: Bearer sesame\r\n"
SECRET = b"127.0.0.1:8001"
"""In the list of pods, which an attack wants to read."""

ATTACKS = {
    "no host": "GET /admin/pods HTTP/1.1\r\nTOKEN\r\n",
    "no host, an older version": "GET /admin/pods HTTP/1.0\r\nTOKEN\r\n",
    "no host and an origin that is as empty": "POST /admin/drain HTTP/1.0\r\nTOKENorigin: null\r\n\r\n",
    "two hosts": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\nhost: evil.example\r\nTOKEN\r\n",
    "two hosts in one line": "GET /admin/pods HTTP/1.1\r\nhost: HERE, evil.example\r\nTOKEN\r\n",
    "a host with a user": "GET /admin/pods HTTP/1.1\r\nhost: evil.example@127.0.0.1\r\nTOKEN\r\n",
    "a target with an authority": "GET http://evil.example/admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "a target with its own authority": "GET http://HERE/admin/pods HTTP/1.1\r\nhost: evil.example\r\nTOKEN\r\n",
    "a target without a path": "OPTIONS * HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "a tunnel": "CONNECT HERE HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "an origin without a name": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\norigin: null\r\nTOKEN\r\n",
    "a second origin": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\norigin: http://HERE\r\norigin: null\r\nTOKEN\r\n",
    "an origin with a user": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\norigin: http://x@HERE\r\nTOKEN\r\n",
    "another site": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\nsec-fetch-site: cross-site\r\nTOKEN\r\n",
    "a folded header": "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\n evil\r\nTOKEN\r\n",
    "two paths": "GET //admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "a parameter of a path": "GET /admin;x/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "another case": "GET /ADMIN/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "dots": "GET /docs/../admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "escaped dots": "GET /livez/%2e%2e/admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "an escaped slash": "GET /%2Fadmin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "a backslash": "GET /\\admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "an escaped end": "GET /admin/pods%00 HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "a line in a path": "GET /admin/drain%0d%0a HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
    "another root": "GET /root/admin/pods HTTP/1.1\r\nhost: HERE\r\nx-forwarded-prefix: /root\r\nTOKEN\r\n",
    "another method": "GET /admin/drain HTTP/1.1\r\nhost: HERE\r\nx-http-method-override: POST\r\nTOKEN\r\n",
    "a method that is none": "DRAIN /admin/pods HTTP/1.1\r\nhost: HERE\r\nTOKEN\r\n",
}
"""Requests that must not get through, with the right token in place of TOKEN, as some could have it from a browser."""


@pytest.mark.parametrize("token", ["", "sesame"])
def test_no_trick_with_hosts_origins_or_paths_gets_through(token: str) -> None:
    replica = Replica(token=token)

    async def talk(client: httpx.AsyncClient) -> None:
        for trick, head in ATTACKS.items():
            status, body = await raw(client, head.replace("TOKEN", TOKEN if token else ""))
            assert 400 <= status < 500, trick
            assert SECRET not in body, trick
        assert (await client.get("/admin/pods")).status_code == 200

    talk_to(replica, talk, authorization="Bearer sesame")
    assert replica.drains == 0


WITHOUT_TOKEN = (
    *("/admin/pods", "/%61dmin/pods", "/admin/%70ods", "/%61%64%6d%69%6e/pods", "/admin/pods?x=/livez", "/admin/pods/"),
    *("/admin/pods#/livez", "/admin/pods;/livez", "/admin", "/admin/../admin/pods", "/admin/./pods", "/admin//pods"),
    *("//admin/pods", "/ADMIN/pods", "/docs/../admin/pods", "/livez/../admin/pods", "/openapi.json/../admin/pods"),
)


def test_however_a_path_is_written_it_needs_the_token() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for path in WITHOUT_TOKEN:
            for method in ("GET", "HEAD", "OPTIONS", "POST"):
                host, port = client.base_url.host, client.base_url.port
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(f"{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
                answer = await reader.read()
                writer.close()
                assert answer.split(b" ")[1] in (b"401", b"429"), (method, path)
                assert SECRET not in answer

    talk_to(Replica(token="sesame"), talk)


def test_a_preflight_of_another_site_allows_nothing() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        asked = {"origin": "https://evil.example", "access-control-request-method": "PUT"}
        for path in ("/admin/pools/default/policy", "/metrics", "/docs"):
            answer = await client.options(path, headers=asked)
            assert answer.status_code == 403, path
            assert not any(name.startswith("access-control-") for name in answer.headers), path

    talk_to(Replica(), talk)


def test_an_upgrade_is_a_request_like_any_other() -> None:
    upgrade = (
        "GET /admin/pods HTTP/1.1\r\nhost: HERE\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await raw(client, upgrade))[0] == 401
        h2c = upgrade.replace("websocket\r\n", "h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n")
        assert (await raw(client, h2c))[0] == 401

    talk_to(Replica(token="sesame"), talk)


def test_a_websocket_that_a_server_might_pass_on_is_closed() -> None:
    sent: list[Message] = []

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it reached the routes")

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard = ControlGuard(never, plane=Replica().plane)
    asyncio.run(guard({"type": "websocket", "path": "/admin/pods", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close"}]


def test_with_a_token_a_rebound_name_reaches_nothing_that_needs_it() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        rebound = {"host": "evil.example:9000", "origin": "http://evil.example:9000"}
        for path in ("/admin/pods", "/metrics"):
            assert (await client.get(path, headers=rebound)).status_code == 401, path

    talk_to(Replica(control=Control(token="sesame", metrics_auth=True)), talk)


def test_probes_answer_however_they_are_asked_and_show_the_phase_alone() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for head in ("GET /livez HTTP/1.0\r\n\r\n", "GET /livez HTTP/1.1\r\nhost: a\r\norigin: null\r\n\r\n"):
            assert await raw(client, head) == (200, b'{"status":"ok"}')
        assert set((await client.get("/readyz")).json()) == {"status", "cold"}

    talk_to(Replica(control=Control(token="sesame", metrics_auth=True)), talk)


def test_no_answer_is_kept_guessed_at_or_framed_by_a_browser() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for path in ("/livez", "/metrics", "/docs", "/openapi.json", "/admin/pods", "/nonesuch"):
            headers = (await client.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff", path
            assert headers["cache-control"] == "no-store", path
            assert headers["content-security-policy"].startswith("default-src 'none'; "), path
            assert "frame-ancestors 'none'" in headers["content-security-policy"], path

    talk_to(Replica(token="sesame"), talk)


def test_the_name_of_a_token_is_in_the_history_before_what_its_holder_says() -> None:
    known = ControlToken(name="ci", role="operate", token_sha256=hashed("sesame"))

    async def talk(client: httpx.AsyncClient) -> None:
        for author in ("ada", ""):
            said = {"x-turnout-author": author} if author else {}
            put = await client.put("/admin/pools/default/policy", json={"policy": "random"}, headers=said)
            assert put.status_code == 200
        history = (await client.get("/admin/pools/default/history")).json()
        assert [record.get("by") for record in history] == ["ci", "ci: ada", None]

    talk_to(Replica(control=Control(tokens=[known])), talk, authorization="Bearer sesame")
