"""The section 'A policy of your own' of docs/policies.md: its file, configuration and commands, run in the order of the
text against a gateway under load.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from router.plugins.loading import digest_of
from router.settings import PolicyGuard
from statesync.store.protocol import POLICY_HISTORY
from tests.fakes.gateway_process import PATIENT_PLUGINS, config, pool, running
from tests.fakes.sim_process import SimPods
from tests.fakes.trial_load import NO_LATENCY_LIMITS, Load
from tests.fakes.waiting import wait_for
from tests.fakes.whole_run import whole_run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
SECTION = PAGE.partition("## A policy of your own\n")[2].partition("\n## ")[0]

COMMANDS_S = 220.0
"""Limit in seconds for all commands together, in case one hangs."""

SHOWS = {
    "turnout policy check": "roomiest passes, and would be offered as roomiest@{digest}",
    "turnout simulate": "roomiest",
    "until turnout policy plugins": "roomiest@{digest}",
    "turnout policy shadow": "shadow roomiest@{digest} {}",
    "turnout policy report": "roomiest@{digest}",
    "turnout policy canary": "canary roomiest@{digest} {} for 30 %",
    "until turnout policy promote": "default: roomiest@{digest} {}",
    "turnout policy get": "default: roomiest@{digest} {}",
    "turnout policy rollback": "default: least_load {}",
    "turnout policy history": "rolled back to generation",
}
"""The beginning of a command -> what its output contains."""


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """The commands, in the order of the text."""
    return "".join(blocks("bash")).splitlines()


def expected(command: str) -> str | None:
    """What the output of this command contains; None if nothing is expected."""
    (file,) = blocks("python")
    said = next((words for beginning, words in SHOWS.items() if command.startswith(beginning)), None)
    return said and said.replace("{digest}", digest_of(file.encode()))


def test_the_policy_has_fifteen_lines_and_the_digest_that_the_text_says() -> None:
    (file,) = blocks("python")
    assert len([line for line in file.splitlines() if line.strip()]) <= 15
    assert {*re.findall(r"roomiest@(\w+)", SECTION)} == {digest_of(file.encode())}


def test_every_command_but_the_copying_has_an_expected_output() -> None:
    assert [command for command in commands() if expected(command) is None] == ["cp roomiest.py plugins/"]
    for beginning in SHOWS:
        assert any(command.startswith(beginning) for command in commands()), beginning


def test_the_figures_of_the_text_are_the_defaults() -> None:
    limits = PolicyGuard()
    assert f"`policy_guard.stuck_s` ({limits.stuck_s:g} s)" in SECTION
    assert f"`policy_guard.slow_s` ({limits.slow_s:g} s)" in SECTION
    assert f"`policy_guard.failures` ({limits.failures})" in SECTION
    assert f"`policy_guard.window_s` ({limits.window_s:g} s)" in SECTION
    assert f"last {POLICY_HISTORY} records" in SECTION


@pytest.mark.realtime
def test_the_commands_work_in_the_order_they_are_given(sims: SimPods, tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (file,) = blocks("python")
    (tmp_path / "roomiest.py").write_text(file)
    (tmp_path / "plugins").mkdir()
    sections = yaml.safe_load(text)
    for section, key in (("plugins", "directory"), ("recording", "path")):
        sections[section][key] = str(tmp_path / sections[section][key])
    sections["plugins"] |= PATIENT_PLUGINS
    settings = config((), pools=[pool("default", sims.urls, policy={"name": "least_load"})], **sections)
    with running(settings, tmp_path / "gateway") as gateway, Load([gateway.port]) as load:
        wait_for("traffic is recorded", lambda: _lines(tmp_path / "traffic.jsonl") > 50)
        said = _run(commands(), str(gateway.control.base_url), tmp_path)
    assert not load.errors
    for command, output in zip(commands(), said, strict=True):
        assert (expected(command) or "") in output, f"{command}\n{output}"


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _run(run: list[str], control: str, directory: Path) -> list[str]:
    """The output of each command, run in a shell as the reader would, with another address of the control port."""
    run = [command + NO_LATENCY_LIMITS * (" policy canary " in command) for command in run]
    asks = re.compile(r"(turnout policy (?:plugins|shadow|report|canary|promote|get|rollback|history)[^|;]*)")
    steps = "\n".join("echo '@@'\n" + asks.sub(rf"\1 --control {control} ", command) for command in run)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "NO_PROXY": "127.0.0.1"}
    done = whole_run(["bash", "-c", f"set -euo pipefail\n{steps}"], COMMANDS_S, cwd=directory, env=env)
    said = [re.sub(r" {2,}", " ", output) for output in done.stdout.split("@@\n")[1:]]
    assert done.returncode == 0, f"stopped at `{run[len(said) - 1]}`\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return said
