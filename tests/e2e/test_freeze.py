"""A short run of the freeze bench: every disturbance really happens, and none cuts a stream. The bench itself measures
the gaps, on an idle machine.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from loadtests.bench.freeze.cases import CASES
from tests.fakes.programs import need
from tests.fakes.whole_run import whole_run

pytestmark = pytest.mark.realtime


@pytest.mark.parametrize("case", CASES)
def test_the_disturbance_happens_and_every_stream_goes_on(case: str, tmp_path: Path) -> None:
    if CASES[case].redis:
        need("redis-server")
    found = tmp_path / "freeze.json"
    python = os.environ.get("TURNOUT_TESTED_PYTHON", sys.executable)
    # A window has a hundred times as many chunks as the assertion below wants.
    small = ["--pods", "120", "--streams", "6", "--seconds", "2", "--rounds", "1"]
    command = [sys.executable, "-m", "loadtests.bench.freeze", case, *small, "--python", python, "--json", str(found)]
    done = whole_run(command, 400.0)
    assert done.returncode == 0, done.stderr
    row = json.loads(found.read_text())["cases"][case]
    quiet, disturbed = row["quiet"][0], row["disturbed"][0]
    assert quiet["happened"] == 0 < disturbed["happened"]
    assert min(quiet["chunks"], disturbed["chunks"]) > 0
    assert row["cut"] == 0
    assert case in done.stderr
