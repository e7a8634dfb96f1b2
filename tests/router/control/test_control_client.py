"""The commands that talk to a control port, against a real one."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from control_serving import OTHER_POD, POD, Replica, talk_to

from router.cli import main
from router.control_client import ControlClient, ControlFailure


def command(replica: Replica, *argv: str) -> int:
    """`turnout ARGV --control <the replica's>`, in a thread beside its event loop."""
    codes: list[int] = []

    async def talk(client: httpx.AsyncClient) -> None:
        url = str(client.base_url)
        codes.append(await asyncio.to_thread(main, [*argv, "--control", url]))

    talk_to(replica, talk)
    return codes[0]


def test_pods_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")
    assert command(replica, "pods") == 0
    assert capsys.readouterr().out.splitlines() == [
        "POOL     POD             STATE     INFLIGHT  QUEUED  RUNNING  KV",
        f"default  {POD}  routable  1         3       4        50%",
        f"default  {OTHER_POD}  probe     0         0       0        0%",
    ]


def test_pods_as_json_are_what_the_api_answers(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    assert command(replica, "pods", "--json") == 0
    answered = httpx.Response(200, text=capsys.readouterr().out).json()
    assert [pod["id"] for pod in answered] == [POD, OTHER_POD]
    assert {"inflight", "queued", "running", "kv_usage", "routable"} <= set(answered[0])


def test_a_policy_is_shown_and_set(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    assert command(replica, "policy", "get", "default") == 0
    assert command(replica, "policy", "set", "default", "random", "--if-generation", "0") == 0
    assert capsys.readouterr().out.splitlines() == [
        "default: p2c {} (generation 0)",
        "default: random {} (generation 1)",
    ]
    assert replica.policies.current("default").name == "random"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["policy", "set", "default", "random", "--if-generation", "7"], "generation 0, not 7"),
        (["policy", "set", "default", "p3c"], "did you mean 'p2c'"),
        (["policy", "set", "default", "p2c", "--param", "wat=1"], "wat"),
        (["policy", "get", "none such?x"], "no pool named 'none such?x'"),
    ],
)
def test_a_refusal_is_one_line_and_changes_nothing(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replica = Replica()
    assert command(replica, *argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("turnout: ")
    assert told.err.count("\n") == 1
    assert words in told.err
    assert replica.policies.record("default").generation == 0


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
