"""The client of the control port, against a real control port, a closed port and another server."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from loadtests.processes.stream_server import stream_server
from router.cli.client import ControlClient, ControlFailure
from router.settings import Control, ControlToken
from tests.fakes.control_port import Replica, command
from tests.fakes.redis_server import certificates


def test_the_token_comes_from_the_environment_and_a_missing_one_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TURNOUT_CONTROL_TOKEN", raising=False)
    assert command(Replica(token="sesame"), "pods") == 2
    assert "set TURNOUT_CONTROL_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "sesame")
    assert command(Replica(token="sesame"), "pods") == 0


def test_the_token_may_come_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "another")
    file = tmp_path / "token"
    file.write_text("sesame\n")
    assert command(Replica(token="sesame"), "pods", "--token-file", str(file)) == 0
    capsys.readouterr()
    assert command(Replica(token="sesame"), "pods", "--token-file", str(tmp_path / "none")) == 2
    assert f"--token-file {tmp_path / 'none'}: No such file or directory" in capsys.readouterr().err
    file.write_bytes(b"\xff")
    assert command(Replica(token="sesame"), "pods", "--token-file", str(file)) == 2
    assert "is not UTF-8 text" in capsys.readouterr().err


def test_what_a_token_may_not_do_is_reported_as_the_port_says_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", "from the environment")
    grafana = ControlToken(name="grafana", token_env="TOKEN")
    replica = Replica(control=Control(tokens=[grafana]))
    assert command(replica, "pods") == 0
    capsys.readouterr()
    assert command(replica, "policy", "set", "default", "random") == 2
    why = "the token 'grafana' has the role read, and PUT /admin/pools/default/policy needs operate"
    assert capsys.readouterr().err == f"turnout: {why}\n"


@pytest.mark.parametrize("token", ["t\u00f6k", "tok\n"])
def test_a_token_that_no_header_can_have_is_reported_and_not_repeated(token: str) -> None:
    with pytest.raises(ControlFailure, match="TURNOUT_CONTROL_TOKEN has a line break") as caught:
        ControlClient("127.0.0.1:1", {"TURNOUT_CONTROL_TOKEN": token})
    assert token not in str(caught.value)


def test_an_address_needs_no_scheme_and_a_bad_one_is_reported() -> None:
    with ControlClient("127.0.0.1:1", {}) as client, pytest.raises(ControlFailure, match=r"http://127\.0\.0\.1:1"):
        client.pods()
    for bad in ("http://[", "ftp://x", "http://"):
        with pytest.raises(ControlFailure), ControlClient(bad, {}) as client:
            client.pods()


def test_another_server_on_that_port_is_reported() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")

    async def serve() -> str:
        async with stream_server(answer) as port:
            with ControlClient(f"127.0.0.1:{port}", {}) as client, pytest.raises(ControlFailure) as raised:
                await asyncio.to_thread(client.pods)
        return str(raised.value)

    assert asyncio.run(serve()).startswith("this is not a turnout control port")


def test_the_inference_port_is_no_control_port() -> None:
    refusal = b'{"error": {"message": "Nothing is served under /admin/pods", "code": "unknown_path"}}'

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(404, content=refusal)

    with ControlClient("127.0.0.1:8000", {}) as client:
        client._http = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1:8000")
        with pytest.raises(ControlFailure, match=r"http://127\.0\.0\.1:8000 is an inference port; .*TURNOUT_CONTROL"):
            client.pods()


@pytest.mark.needs("openssl")
def test_over_https_no_request_is_sent_to_a_server_with_an_untrusted_certificate(tmp_path: Path) -> None:
    made = certificates(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(made.cert, made.key)
    asked: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1))

    async def serve() -> str:
        async with stream_server(listen, tls=tls) as port:
            with ControlClient(f"https://127.0.0.1:{port}", {}) as client, pytest.raises(ControlFailure) as raised:
                await asyncio.to_thread(client.pods)
        return str(raised.value)

    assert "certificate verify failed" in asyncio.run(serve())
    assert asked == []


def test_an_author_may_have_letters_that_are_not_ascii_and_line_breaks_become_spaces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica()
    monkeypatch.setenv("TURNOUT_AUTHOR", "J\u00f6rg\n\u5c71")
    assert command(replica, "policy", "set", "default", "random") == 0
    assert replica.policies.record("default").by == "J\u00f6rg \u5c71"
    assert capsys.readouterr().err == ""
