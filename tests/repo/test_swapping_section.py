"""The commands of the section on swapping in docs/operations.md, run in their order against a control port."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from statesync.errors import StoreUnavailable
from statesync.store.protocol import PolicyRecord
from tests.fakes.control_port import Replica, Run, commands

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
SECTION = PAGE.partition("## Swapping a policy")[2].partition("\n## ")[0]


def lines_of(text: str) -> list[list[str]]:
    """Every line of the fenced blocks, as argument lists."""
    blocks = re.findall(r"^```shell\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_page_swap_roll_back_and_swap_locally(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica()
    together, _, alone = SECTION.partition("### While the shared state is away")
    said = output(replica, lines_of(together), capsys)
    assert [line.split()[1] for line in said if line.startswith("default: ")] == [
        *("p2c", "p2c", "p2c", "session_affinity", "profile", "session_affinity", "p2c"),
    ]
    assert replica.policies.record("default").generation == 5
    assert "prefix_aware beside it for a day" in said[5]

    async def silent(_: str) -> Sequence[PolicyRecord]:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(replica.store, "policy_history", silent)
    said = output(replica, lines_of(alone), capsys)
    assert len(said) == 2
    for line in said:
        assert line.endswith("on this replica alone, until the shared state is back")


def output(replica: Replica, lines: list[list[str]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The output of each of these commands."""
    said: list[str] = []

    def script(run: Run) -> None:
        for program, *argv in lines:
            assert program == "turnout"
            assert run(*argv) == 0, capsys.readouterr().err
            said.append(capsys.readouterr().out.rstrip())

    commands(replica, script)
    return said
