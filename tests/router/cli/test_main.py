"""The command line as users run it: exit codes, and errors of one line."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from router.cli.main import main, summary
from router.cli.version import version_line
from router.settings import Auth, JwtAuth, Settings, TenantSettings

GOOD = "pools:\n- {name: default, pods: [http://10.0.0.1:8000], models: [m]}\n- {name: b, pods: [http://10.0.0.2:1]}\n"


def turnout(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "router", *argv], capture_output=True, text=True)


@pytest.mark.slow
def test_the_version_is_that_of_the_distribution() -> None:
    output = turnout("--version")
    assert (output.returncode, output.stdout) == (0, f"{version_line()}\n")


def test_the_version_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Case H 42."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"{version_line()}\n"


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("pools: [{name: größe, pods: [http://h:1]}]\n", encoding="utf-8")
    written = {"stdout": io.BytesIO(), "stderr": io.BytesIO()}
    for name, raw in written.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert (main(["check", str(config)]), main(["serve", "--config", str(config)])) == (1, 2)
    assert all(b"gr\\xf6\\xdfe" in raw.getvalue() for raw in written.values())


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "arguments are required: COMMAND"),
        (["nonesuch"], "invalid choice: 'nonesuch'"),
        (["emulate", "trace"], "invalid choice: 'emulate'"),
        (["policy", "emulate", "default", "p2c"], "invalid choice: 'emulate'"),
        (["policy", "shadow", "default"], "name a policy, or say --off"),
        (["policy", "shadow", "default", "p2c", "--off"], "name a policy, or say --off"),
        (["policy", "canary", "default", "p2c"], "--percent P"),
        (["policy", "canary", "default", "p2c", "--percent", "x"], "invalid float value: 'x'"),
        (["policy", "set", "default", "p2c", "--params", "[1]"], "not a JSON object"),
        (["policy", "rollback", "default", "--to", "x"], "invalid int value: 'x'"),
        (["serve"], "nothing to route to: give --config FILE or --pod URL"),
        (["serve", "--pod", "http://h:1", "--host", "0.0.0.0"], "in place of --host write --listen HOST:PORT"),
        (["serve", "--pod", "http://h:1", "--port=80"], "in place of --port write --listen HOST:PORT"),
        (["serve", "--config", "-", "--workers", "2"], "standard input"),
        (["serve", "--pod", "ftp://x:1"], "pools[0].pods[0]: pod 'ftp://x:1': unknown scheme 'ftp'"),
        (["serve", "--pod", "http://h:1", "--policy", "p3c"], "no policy 'p3c' (did you mean 'p2c'?)"),
        (["serve", "--pod", "http://h:1", "--control", "0.0.0.0:9000"], "TURNOUT_CONTROL_TOKEN"),
        (["serve", "--pod", "http://h:1", "--listen", "8000"], "'8000' is not host:port"),
        (["serve", "--pod", "http://h:1", "--workers", "2"], "--workers 2 needs --state redis://"),
        (["serve", "--pod", "http://h:1", "--workers", "0"], "'0' is not a number of processes"),
        (["serve", "--config", "/no/such/file"], "/no/such/file: cannot be read: No such file"),
        (["policy", "set", "default", "p2c", "--param", "x"], "'x' is not KEY=VALUE"),
        (["policy", "set", "default", "p2c", "--if-generation", "x"], "invalid int value: 'x'"),
        (["pods", "--control", "9000"], "'9000' is not a URL or host:port, such as 127.0.0.1:9000"),
        (["serve", "--version"], "in place of --version write turnout version"),
        (["pods", "--control", "http://127.0.0.1:1"], "no control port at http://127.0.0.1:1"),
        (["check"], "arguments are required: CONFIG"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("turnout: ")
    assert output.err.count("\n") == 1
    assert words in output.err


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--workers", "2", "--state", "redis://127.0.0.1:1")])
@pytest.mark.parametrize(("flag", "other", "key"), [("--listen", "--control", "listen"), ("--control", "--listen", "")])
def test_a_port_in_use_is_one_line_that_names_the_flag_and_the_setting(
    flag: str, other: str, key: str, more: tuple[str, ...]
) -> None:
    """Case H 42."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        output = turnout("serve", "--pod", "http://127.0.0.1:1", flag, f"127.0.0.1:{port}", other, "127.0.0.1:0", *more)
    assert output.returncode == 2
    assert output.stderr.splitlines()[-1] == (
        f"turnout: cannot listen on 127.0.0.1:{port}: Address already in use; "
        f"choose another with {flag} or `{key or 'control.listen'}`"
    )
    assert "Traceback" not in output.stderr


@pytest.mark.slow
def test_a_file_on_standard_input_is_checked_and_its_lines_are_named() -> None:
    """Case H 42."""
    good = subprocess.run([sys.executable, "-m", "router", "check", "-"], input=GOOD, capture_output=True, text=True)
    assert (good.returncode, good.stdout.splitlines()[1]) == (0, "pool default: 1 pod, policy prefix_aware, models: m")
    wrong = [sys.executable, "-m", "router", "serve", "--config", "-"]
    bad = subprocess.run(wrong, input=GOOD + "listen: 50000\n", capture_output=True, text=True)
    message = "standard input:4: listen: 50000 is not host:port, such as 0.0.0.0:50000"
    assert (bad.returncode, bad.stderr) == (2, f"turnout: {message}\n")


def test_check_reports_all_problems_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("listne: 1\n" + GOOD + "default_pool: c\ntimeouts: {upstream_keepalive_s: 9}\n")
    assert main(["check", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}:1: listne: unknown key; did you mean 'listen'?"
    assert lines[1] == f"{file}:5: default_pool: no pool 'c'; there are default, b"
    assert lines[2].startswith(f"{file}:6: warning: timeouts.upstream_keepalive_s")
    assert lines[3:] == ["2 errors"]


def test_the_summary_says_what_lets_clients_in() -> None:
    jwt = JwtAuth(issuer="https://id.example.com", audience="a", jwks_file="j")
    tenants = [TenantSettings(name="search"), TenantSettings(name="chat")]
    for auth, words in (
        (Auth(keys_file="keys.yaml"), "a key of keys.yaml"),
        (Auth(keys_from="state", jwt=jwt), "a key of the shared state or a token of https://id.example.com"),
        (Auth(jwt=jwt), "a token of https://id.example.com"),
    ):
        assert summary(Settings(auth=auth, tenants=tenants))[-1] == f"clients need {words}; tenants: search, chat"


def test_check_of_a_valid_file_summarises_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(GOOD + "default_pool: b\n")
    assert main(["check", str(file)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines() == [
        "inference on 0.0.0.0:8000, control on 127.0.0.1:9000, state in memory://",
        "pool default: 1 pod, policy prefix_aware, models: m",
        "pool b: 1 pod, policy prefix_aware, models: whatever its pods say they serve",
        "any other model goes to pool b",
    ]


def test_serve_reports_the_first_error_of_a_file_and_how_to_see_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("listne: 1\nstatte: 2\n" + GOOD)
    assert main(["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"turnout: {file}:1: listne: unknown key; did you mean 'listen'? (and 1 more: turnout check {file})\n"
    )


@pytest.mark.parametrize("command", ["sim", "demo", "simulate"])
def test_commands_of_loadtests_have_their_own_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert "--profile" in capsys.readouterr().out
