"""How the pods of a pool are reached: sockets, ports, headers. `test_tls.py` has TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from loadtests.processes.stream_server import stream_server
from loadtests.sim.ports import HOST
from statesync.engines.access import NO_ACCESSES, PLAIN, Accesses, PoolAccess, fixed_key, followed_key
from statesync.engines.http_get import HttpGetter
from statesync.engines.presets import AUTOMATIC, PRESETS
from tests.fakes.engine_pages import Engine, Page, engine
from tests.fakes.waiting import DEADLINE_S


def test_a_pod_behind_a_unix_socket_is_reached(tmp_path: Path) -> None:
    """Case D 17."""

    async def story() -> None:
        served = Engine()
        served.pages["/base/metrics"] = Page(body=b"page")
        path = tmp_path / "vllm.sock"
        pages = HttpGetter()
        async with stream_server(served.handle, socket=path), asyncio.timeout(DEADLINE_S):
            assert await pages.get(f"unix:{path}:/base", "/metrics") == b"page"
            pages.close()
        assert served.headers["host"] == "localhost"

    asyncio.run(story())


@pytest.mark.parametrize("host", ["[::1]", "localhost"])
def test_hosts_are_reached_by_name_and_by_ipv6(host: str) -> None:
    """Case D 17."""

    async def story() -> None:
        served = Engine()
        served.pages["/metrics"] = Page(body=b"page")
        pages = HttpGetter()
        async with stream_server(served.handle, host=host.strip("[]")) as port, asyncio.timeout(DEADLINE_S):
            assert await pages.get(f"{host}:{port}", "/metrics") == b"page"
            pages.close()
        assert served.headers["host"] == f"{host}:{port}"

    asyncio.run(story())


def test_an_address_that_is_none_is_an_error_of_the_value() -> None:
    with pytest.raises(ValueError, match="no port"):
        asyncio.run(PLAIN.connect(asyncio.Protocol, "somewhere"))


def test_the_gateway_s_own_requests_get_key_and_headers_and_clients_the_headers() -> None:
    """Case A 3."""
    access = PoolAccess(key=fixed_key("k"), headers={"X-Tenant": "t"}, strip=["Cookie"])
    assert access.own() == "x-tenant: t\r\nauthorization: Bearer k\r\n"
    assert access.added() == "x-tenant: t\r\n"
    assert access.strip == {b"cookie", b"x-tenant"}


def test_with_send_key_the_key_takes_the_place_of_the_client_s() -> None:
    access = PoolAccess(key=fixed_key("k"), send_key=True)
    assert access.added() == access.own() == "authorization: Bearer k\r\n"
    assert access.strip == {b"authorization", b"x-api-key", b"api-key"}
    assert access.changes_requests
    assert not PoolAccess(send_key=True).changes_requests
    own = PoolAccess(key=fixed_key("k"), headers={"Authorization": "Basic x"})
    assert own.own() == "authorization: Basic x\r\n", "what is written counts"


@pytest.mark.parametrize(("engine", "sign"), [("vllm", -1), ("sglang", 1), ("auto", 0)])
def test_a_priority_has_the_sign_of_the_engine(engine: str, sign: int) -> None:
    access = PoolAccess(engine, send_priority=True)
    assert (access.priority, access.changes_requests) == (sign, bool(sign))
    assert PoolAccess(engine).priority == 0


def test_a_key_in_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one\n")
    access = PoolAccess(key=followed_key(str(file)))
    assert "Bearer one\r\n" in access.own()
    file.write_text("another\n")
    assert "Bearer another\r\n" in access.own()


def test_the_engine_s_paths_count_where_no_setting_does() -> None:
    assert PLAIN.preset is AUTOMATIC or PLAIN.preset == AUTOMATIC
    assert PoolAccess("ollama").preset.health == PRESETS["ollama"].health
    own = PoolAccess("ollama", health="/up", metrics=":9/m").preset
    assert (own.health, own.metrics) == (("/up",), (":9/m",))
    assert own.closed == PRESETS["ollama"].closed


def test_a_page_is_below_the_base_path_but_not_on_another_port() -> None:
    assert PLAIN.page("https://h:1/b", "/metrics") == ("https://h:1/b", "/b/metrics")
    assert PLAIN.page("https://h:1/b", ":8002/metrics") == ("https://h:8002", "/metrics")
    assert PLAIN.page("h:1", "/metrics") == ("h:1", "/metrics")


def test_each_pool_has_its_own_access() -> None:
    accesses = Accesses({"a": PoolAccess("tgi"), "b": PoolAccess("ollama")})
    assert accesses.of("b").engine == "ollama"
    assert accesses.of("c") is PLAIN


def test_a_client_s_connection_is_made_by_its_pool_s_access() -> None:
    async def story() -> None:
        async with engine() as a:
            made = asyncio.Event()

            class Connected(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    transport.close()
                    made.set()

            await NO_ACCESSES.dial(Connected, a.pod.address, "pool")
            async with asyncio.timeout(DEADLINE_S):
                await made.wait()
            assert a.pod.address.startswith(HOST)

    asyncio.run(story())
