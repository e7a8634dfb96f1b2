"""The completion scripts: bash runs its own, all have the same words."""

from __future__ import annotations

import subprocess

import pytest

from router.cli.main import main


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("turnout ser", "serve"),
        ("turnout pod", "pods"),
        ("turnout serve --li", "--listen"),
        ("turnout serve --config ", ""),
        ("turnout policy ca", "canary"),
        ("turnout policy canary default p2c --perc", "--percent"),
        ("turnout completion f", "fish"),
        ("turnout nonesuch ", ""),
    ],
)
def test_bash_completes_commands_and_flags(line: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Case H 42."""
    words = line.split(" ")
    ask = f"COMP_WORDS=({' '.join(word or chr(34) * 2 for word in words)}); COMP_CWORD={len(words) - 1}; _turnout"
    run = ["bash", "--norc", "-c", f'{script("bash", capsys)}\n{ask}; echo "${{COMPREPLY[*]}}"']
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = script(shell, capsys)
    for word in ("serve", "policy", "canary", "--log-level", "version"):
        assert word in text
