"""`TurnoutRouter` in a running Ray; `make test-ray` installs it. The program is `tests/ray/python/compare.py`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schedulers import registry
from schedulers.params import fingerprint

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-ray" / "bin" / "python"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [PYTHON, "-m", "tests.ray.python.compare"], cwd=ROOT, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    # Ray may write on after it.
    (line,) = [each for each in done.stdout.splitlines() if each.startswith('{"ray"')]
    read: dict[str, Any] = json.loads(line)
    return read


def test_no_request_fails_under_any_router(found: dict[str, Any]) -> None:
    for name in ("ray_power_of_two", "ray_prefix", "ray_prefix_bounded", "turnout", "swaps"):
        assert found[name]["failed"] == [], name
        assert found[name]["requests"] > 20, name


def test_more_of_the_prompts_is_cached_than_under_power_of_two(found: dict[str, Any]) -> None:
    assert found["turnout"]["hit_rate"] > found["ray_power_of_two"]["hit_rate"]


def test_policies_are_swapped_under_load_and_the_replicas_stay(found: dict[str, Any]) -> None:
    swaps = found["swaps"]
    assert [each["policy"] for each in swaps["seen"]] == ["prefix_aware", "p2c", "least_load", "prefix_aware"]
    assert [each["shadow"] for each in swaps["seen"]] == ["", "", "prefix_aware", ""]
    assert swaps["seen"][-1]["canary"] == "round_robin 20 %"
    assert swaps["same_replicas"]


def test_nothing_is_counted_in_flight_when_all_have_ended(found: dict[str, Any]) -> None:
    assert found["swaps"]["inflight"] == 0


def test_the_digest_is_that_of_the_same_policy_anywhere(found: dict[str, Any]) -> None:
    assert found["digest"] == fingerprint("prefix_aware", registry.create("prefix_aware"))
