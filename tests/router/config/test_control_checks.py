"""Wrong tokens, an open port without one, and an audit log without a place are named with what is right."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from router.config.control_checks import control_problems
from router.config.file import read_text
from router.settings import Control, ControlToken, Settings
from tests.fakes.each_case import each_case
from tests.router.control.test_tokens import hashed

OFF_LOOPBACK = "0.0.0.0:9000"


def said(control: Control, environ: dict[str, str] | None = None) -> list[str]:
    found = control_problems(Settings(control=control), environ or {"SET": "a token", "BAD": "a\n"})
    return [f"{problem.where}: {problem.message}" for problem in found]


def one(**token: object) -> Control:
    return Control(tokens=[ControlToken(**{"name": "ci", "token_sha256": hashed("x"), **token})])  # type: ignore[arg-type]


def test_the_defaults_and_each_kind_of_token_are_right(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token\n")
    tokens = [
        ControlToken(name="a", token_sha256=hashed("x")),
        ControlToken(name="b.c", token_env="SET"),
        ControlToken(name="d_e-f", token_file=str(tmp_path / "token")),
    ]
    assert said(Control()) == []
    assert said(Control(listen=OFF_LOOPBACK, tokens=tokens, metrics_auth=True, audit_file=str(tmp_path / "a"))) == []
    assert said(Control(listen=OFF_LOOPBACK, token="x")) == []
    assert said(Control(listen="nonsense")) == []  # reported with the ports


@each_case(
    ("given", "expected"),
    [
        ({"name": "a:b"}, "control.tokens[0].name: 'a:b' is not 1 to 64 letters"),
        ({"name": ""}, "control.tokens[0].name: '' is not"),
        ({"role": "admin"}, "control.tokens[0].role: 'admin' is not one of read, operate"),
        ({"token_sha256": ""}, "control.tokens[0]: token 'ci' needs one of token_file, token_env, token_sha256"),
        ({"token_env": "SET"}, "control.tokens[0]: token 'ci' has token_env and token_sha256; keep one of them"),
        ({"token_sha256": "ABC"}, "control.tokens[0].token_sha256: is not 64 hex digits"),
        ({"token_sha256": "", "token_env": "NO"}, "token_env: the environment variable NO is not set"),
        ({"token_sha256": "", "token_env": "BAD"}, "token_env: the environment variable BAD has a blank"),
        ({"token_sha256": "", "token_file": "/nowhere/x"}, "token_file: /nowhere/x cannot be read: No such file"),
        ({"token_sha256": "", "token_file": "/dev/null"}, "token_file: /dev/null holds no token: the file is empty"),
        ({"expires": datetime(2020, 1, 1)}, "expires: the token 'ci' has expired"),
    ],
)
def test_a_wrong_token_is_named(given: dict[str, object], expected: str) -> None:
    (problem,) = said(one(**given))
    assert expected in problem


def test_names_are_unique_and_the_single_token_has_one() -> None:
    twice = [ControlToken(name=name, token_sha256=hashed(name)) for name in ("a", "b", "a", "control.token")]
    assert [line.partition(":")[0] for line in said(Control(tokens=twice))] == ["control.tokens[2].name"]
    assert len(said(Control(token="x", tokens=twice))) == 2


def test_an_open_port_needs_a_token_and_so_does_what_asks_for_one() -> None:
    assert "so the admin API needs a token; set TURNOUT_CONTROL_TOKEN" in said(Control(listen=OFF_LOOPBACK))[0]
    assert "there is no token" in said(Control(metrics_auth=True))[0]
    assert "has a blank" in said(Control(token="a\n"))[0]


def test_an_audit_log_needs_a_folder() -> None:
    assert said(Control(audit_file="/nowhere/audit.jsonl")) == [
        "control.audit_file: /nowhere is no folder in which a file can be written"
    ]
    assert said(Control(audit_file="audit.jsonl")) == []


@pytest.mark.parametrize("moment", ["2099-01-31T00:00:00Z", "'2099-01-31T00:00:00Z'", "2099-01-31 00:00:00"])
def test_the_end_of_a_token_is_a_time_of_yaml_or_text(moment: str) -> None:
    token = f"{{name: a, token_sha256: {hashed('a')}, expires: {moment}}}"
    reading = read_text(f"pools: [{{name: a, pods: ['http://h:1']}}]\ncontrol: {{tokens: [{token}]}}", {})
    assert reading.problems == []
    (read,) = reading.settings.control.tokens
    assert read.expires is not None and (read.expires.year, read.expires.day) == (2099, 31)
