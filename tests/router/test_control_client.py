"""The client of the control port, against a real one, none, and something else."""

from __future__ import annotations

import asyncio

import pytest

from router.control_client import ControlClient, ControlFailure
from tests.fakes.control_port import Replica, command


def test_the_token_comes_from_the_environment_and_its_lack_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNOUT_CONTROL_TOKEN", raising=False)
    assert command(Replica(token="sesame"), "pods") == 2
    assert "set TURNOUT_CONTROL_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "sesame")
    assert command(Replica(token="sesame"), "pods") == 0


def test_an_address_without_a_scheme_will_do_and_a_bad_one_is_told() -> None:
    with ControlClient("127.0.0.1:1", {}) as client, pytest.raises(ControlFailure, match=r"http://127\.0\.0\.1:1"):
        client.pods()
    for bad in ("http://[", "ftp://x", "http://"):
        with pytest.raises(ControlFailure), ControlClient(bad, {}) as client:
            client.pods()


def test_something_else_on_that_port_is_told() -> None:
    async def serve() -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with ControlClient(f"127.0.0.1:{port}", {}) as client, pytest.raises(ControlFailure) as raised:
                await asyncio.to_thread(client.pods)
        return str(raised.value)

    assert asyncio.run(serve()).startswith("this is not a turnout control port")
