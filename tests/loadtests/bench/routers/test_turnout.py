"""The settings with which this gateway is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loadtests.bench.routers import turnout
from router.config.checks import problems_in
from router.config.file import load


@pytest.mark.parametrize("name", turnout.VARIANTS)
def test_every_variant_is_a_valid_settings_file(name: str, tmp_path: Path) -> None:
    command = turnout.command(name, "/usr/bin/python3", tmp_path, 8123, 9123, [7001, 7002])
    assert command[:5] == ["/usr/bin/python3", "-P", "-m", "router", "serve"]
    path = Path(command[-1])
    settings = load(path)
    assert [problem for problem in problems_in(settings) if problem.severity == "error"] == []
    assert settings.pools[0].pods == ["http://127.0.0.1:7001", "http://127.0.0.1:7002"]
    assert yaml.safe_load(path.read_text())["drain"]["settle_s"] == 0


def test_the_variant_with_everything_on_has_every_limit_and_timeout() -> None:
    found = turnout.settings("turnout-all", 1, 2, [3])
    assert found["timeouts"]["total_s"] > 0
    assert found["limits"]["max_inflight"] > 5_000
    assert found["pools"][0]["max_inflight_per_pod"] * 4 > 5_000


def test_only_variants_with_everything_on_share_state() -> None:
    with_state = {name: turnout.settings(name, 1, 2, [3], "redis://127.0.0.1:4") for name in turnout.VARIANTS}
    assert [name for name, found in with_state.items() if "state" in found] == ["turnout-all", "turnout-pair"]
    assert with_state["turnout-all"]["state"] == "redis://127.0.0.1:4"
