"""The bench as a whole, short: real wrk, real engines, no router but nginx."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from loadtests.bench import __main__ as bench
from loadtests.bench import nginx

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None and os.environ.get("CI") != "true", reason="no wrk here")


@pytest.mark.slow
@needs_wrk
@pytest.mark.skipif(nginx.program() is None, reason="nginx is not installed")
def test_a_short_run_answers_every_request_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    status = bench.main(["smoke", "--peers", "nginx", "--rounds", "1", "--seconds", "1", "--json", str(out)])

    assert status == 0
    assert "engines and load generator alone do" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [peer["peer"] for peer in found["peers"]] == ["direct", "nginx"]
    assert all(peer["rate"] > 0 and peer["cpu_us"] > 0 and not peer["wrong"] for peer in found["peers"])


def test_without_wrk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bench.main(["smoke"]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err
