"""The commands of the section 'Shadow and canary' of docs/policies.md: each is run, in order, against a gateway under
load, and says what the text promises.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from router.cli.main import main
from tests.fakes.gateway_process import config, pool, running
from tests.fakes.sim_process import SimPods
from tests.fakes.trial_load import NO_LATENCY_LIMITS, Load
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
SECTION = PAGE.partition("## Shadow and canary\n")[2].partition("\n## ")[0]

SHOWS = {
    "turnout policy shadow default least_load": "shadow least_load {}",
    "turnout policy report default": "default: p2c",
    "turnout policy shadow default --off": "default: p2c {} (generation 2)",
    "turnout policy canary default least_load --percent 20": "canary least_load {} for 20 %",
    'turnout policy promote default --force --note "seen enough"': "default: least_load {} (generation 4); seen enough",
    "turnout policy rollback default": "default: p2c {} (generation 5)",
    "turnout policy canary default random --percent 5": "canary random {} for 5 %",
    "turnout policy canary default --off": "default: p2c {} (generation 7)",
    "turnout policy history default": "random {} 5 %",
}
"""Command -> what its output contains."""


def commands() -> list[str]:
    """The commands, in the order of the text."""
    blocks = re.findall(r"^```shell\n(.*?)^```", SECTION, re.DOTALL | re.MULTILINE)
    return "".join(blocks).splitlines()


def test_every_command_of_the_section_has_an_expected_output() -> None:
    assert {*commands()} == {*SHOWS}


def test_the_guards_of_the_section_are_the_defaults() -> None:
    from statesync.store.policy_record import CanaryGuard

    guard = CanaryGuard()
    assert f"| `error_rate` | `--max-error-rate` | {guard.error_rate} |" in SECTION
    assert f"| `ttft_p95_ratio` | `--max-ttft-ratio` | {guard.ttft_p95_ratio} |" in SECTION
    assert f"`--min-requests` ({guard.min_requests})" in SECTION
    assert f"`--confidence`\n({guard.confidence})" in SECTION


def test_the_commands_work_in_the_order_they_are_given(
    sims: SimPods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings = config((), pools=[pool("default", sims.urls, policy={"name": "p2c"})])
    with running(settings, tmp_path / "gateway") as gateway, Load([gateway.port]) as load:
        wait_for("traffic flows", lambda: load.answers > 20)
        for command in commands():
            limits = NO_LATENCY_LIMITS if "--percent" in command else ""
            status = main([*shlex.split(command + limits)[1:], "--control", str(gateway.control.base_url)])
            said = capsys.readouterr()
            assert status == 0, f"{command}\n{said.out}\n{said.err}"
            assert SHOWS[command] in re.sub(r" {2,}", " ", said.out), f"{command}\n{said.out}"
    assert not load.errors
