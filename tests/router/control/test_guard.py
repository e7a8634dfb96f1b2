"""Access to the control port: tokens, host names and origins."""

from __future__ import annotations

import httpx

from tests.fakes.control_port import Replica, error_of, talk_to

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
    "[::1": 403,
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
