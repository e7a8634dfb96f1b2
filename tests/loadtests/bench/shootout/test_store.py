"""Runs are kept, and used again only under the same setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench.load.session_load import Sent
from loadtests.bench.shootout import store
from loadtests.bench.shootout.played import Cpu, Played, Pods
from loadtests.bench.shootout.store import Store, setting_of
from loadtests.bench.shootout.stretches import Stretch

PART = Stretch("agents", 2, 4.0, 180.0, 512, [])
RUN = Played("smg", "agents", 2, "s", [Sent(0, 0, 10, 0.5)], Pods(), Cpu())


def test_a_kept_run_is_found_again(tmp_path: Path) -> None:
    Store(tmp_path / "new").put(PART, RUN)
    assert Store(tmp_path / "new").get("smg", PART, "s") == RUN


def test_a_run_under_another_setting_or_of_another_router_is_not(tmp_path: Path) -> None:
    kept = Store(tmp_path)
    kept.put(PART, RUN)
    assert kept.get("smg", PART, "other") is None
    assert kept.get("turnout", PART, "s") is None
    assert kept.get("smg", PART._replace(number=1), "s") is None


def test_a_broken_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "agents-2-smg.json").write_text("{")
    assert Store(tmp_path).get("smg", PART, "s") is None


def test_the_setting_follows_version_requests_and_for_this_gateway_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "sources", lambda: "sources")
    one = setting_of("1.0", PART, ours=True)
    assert one.endswith(" sources")
    others = {
        setting_of("1.1", PART, True),
        setting_of("1.0", PART._replace(rate=2.0), True),
        setting_of("1.0", PART, False),
    }
    assert len({one, *others}) == 4
