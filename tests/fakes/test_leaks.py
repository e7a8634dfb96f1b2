"""The search for leaks finds each kind, and does not take what is harmless for one."""

from __future__ import annotations

from pathlib import Path

from tests.fakes.each_case import each_case
from tests.fakes.leaks import CANARY, leaks, leaks_in_files, secrets_of


@each_case(
    "text",
    [
        f"the model {CANARY} is unknown",
        "authorization: Bearer abcdef-123456",
        "headers={'authorization': 'Bearer abcdef-123456'}",
        "Authorization: Basic dXNlcjpwYXNz",
        "key sk-0123456789abcdef is unknown",
        '{"messages": [{"role": "user", "content": "hi"}]}',
        r"body {\"messages\":[{\"role\":\"user\"}]}",
        "the token my-own-token",
    ],
)
def test_a_leak_is_found(text: str) -> None:
    assert list(leaks(text, ["my-own-token"]))


@each_case(
    "text",
    [
        "Send it as Authorization: Bearer <key>.",
        "bearer [removed]",
        "www-authenticate: Bearer realm",
        "The field messages must be a list.",
        "pods: 10.0.0.1:8000",
    ],
)
def test_what_is_no_secret_is_not_found(text: str) -> None:
    assert list(leaks(text)) == []


def test_the_secrets_of_a_configuration_are_its_tokens_and_passwords() -> None:
    settings = {"control": {"token": "secret-1"}, "state": "redis://:secret-2@host:1", "pools": [{"token": "short"}]}
    assert list(secrets_of(settings)) == ["secret-1", "secret-2"]


def test_files_are_searched_and_one_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"x {CANARY} y")
    assert leaks_in_files([tmp_path / "a.log", tmp_path / "b.log"]) == [f"a.log: x {CANARY} y"]
