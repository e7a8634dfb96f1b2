"""A small `make bench-state`: real server, real store, real processes, and figures that must hold on any machine."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from loadtests.bench.state import __main__ as bench
from loadtests.bench.state.fleet import QUIET, ReplicaFailed, replica


@pytest.mark.realtime
@pytest.mark.needs("redis-server")
def test_a_smoke_run_measures_everything_and_writes_the_report(tmp_path: Path) -> None:
    status = bench.main(["--smoke", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "state.json").read_text())
    assert status == int(bool(found["missed"]))  # a test does not judge speed
    steady, warm, crowd = (next(iter(table.values())) for table in found["tables"].values())
    assert 0 < steady["round trips/s"] < 600
    assert steady["never seen"] == steady["placements dropped"] == 0
    assert 0 < steady["seen p50 ms"] <= steady["seen p99 ms"] <= steady["seen at most ms"]
    assert steady["scripts that Redis ran, per exchange the stores count"] == pytest.approx(1.0, abs=0.1)
    assert warm["warm after s"] > 0
    assert warm["replica: counted MB/million blocks"] > warm["Redis: checkpoint MB/million blocks"] > 8.0
    assert crowd["open requests at the end, all replicas"] > 0
    assert crowd["views that differ from the truth"] == 0
    page = (tmp_path / "state.md").read_text()
    assert all(f"### {title}" in page for title in found["tables"])


def test_without_a_server_program_it_reports_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert bench.main(["--smoke"]) == 2
    assert "redis-server" in capsys.readouterr().err


@pytest.mark.slow
def test_a_replica_that_ends_is_an_error_that_names_it() -> None:
    async def run() -> None:
        async with replica("broken", QUIET, 1) as one:
            with pytest.raises(ReplicaFailed, match="broken ended at dance"):
                await one.do("dance")

    asyncio.run(run())


@pytest.mark.slow
def test_a_single_replica_counts_the_load_in_its_view() -> None:
    async def run() -> None:
        async with replica("alone", QUIET, 3) as one:
            await one.do("start")
            loaded = await one.do("load", rate=300.0, seconds=0.3, leave_open=True, stamps=True)
            numbers = await one.do("numbers")
            assert numbers["own"] == numbers["view"]
            assert sum(numbers["own"]) == loaded["requests"] == len(loaded["sent"]) > 0
            assert loaded["received"] == []

    asyncio.run(run())
