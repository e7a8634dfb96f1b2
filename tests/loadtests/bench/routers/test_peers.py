"""How peers are started."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loadtests.bench.routers import nginx, wheels
from loadtests.bench.routers.peers import PEERS, Place, start_nginx, start_rust, start_turnout
from loadtests.bench.routers.wheels import Missing


def test_only_variants_with_everything_on_are_scraped_and_each_has_its_readiness_check(tmp_path: Path) -> None:
    starts = {}
    for name in ("turnout-random", "turnout", "turnout-all", "turnout-pair"):
        starts[name] = start_turnout(name, Place(tmp_path, 8123, [7001, 7002], state="redis://127.0.0.1:1"))
    scraped = [name for name, start in starts.items() if start.scrape.endswith("/metrics")]
    assert scraped == ["turnout-all", "turnout-pair"]
    assert {start.ready for start in starts.values()} == {"http://127.0.0.1:8123/readyz"}


def test_the_pair_shares_its_state_with_each_other_and_no_other_replica(tmp_path: Path) -> None:
    state: dict[str, list[tuple[str, str]]] = {}
    for name in ("turnout-all", "turnout-pair"):
        (tmp_path / name).mkdir()
        start = start_turnout(name, Place(tmp_path / name, 8123, [7001, 7002], state="redis://127.0.0.1:1"))
        for command in [start.command, *([start.second.command] if start.second is not None else [])]:
            settings = yaml.safe_load(Path(command[-1]).read_text())
            state.setdefault(name, []).append((settings["state"], settings["listen"]))
    (alone,) = state["turnout-all"]
    (one, its_port), (two, other_port) = state["turnout-pair"]
    assert one == two != alone[0]
    assert its_port == "127.0.0.1:8123" != other_port


@pytest.mark.parametrize("wheel", ["sglang-router", "vllm-router", "smg"])
@pytest.mark.parametrize("policy", ["", "round_robin"])
def test_a_rust_router_gets_its_engines_and_logs_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: str, policy: str
) -> None:
    monkeypatch.setattr(wheels, "programs", lambda name: tmp_path / name)
    line = " ".join(start_rust(wheel, policy, Place(tmp_path, 8123, [7001, 7002])).command)
    assert line.startswith(str(tmp_path / wheel))
    assert "--port 8123 --log-level warn" in line
    assert "--worker-urls http://127.0.0.1:7001 http://127.0.0.1:7002" in line
    assert ("--policy round_robin" in line) == bool(policy)


def test_a_missing_peer_is_reported_with_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "program", lambda: None)
    with pytest.raises(wheels.Missing, match="apt-get install nginx"):
        start_nginx(Place(tmp_path, 8123, [7001]))


def test_each_rust_router_is_in_the_stream_cases_once() -> None:
    names = [name for name, peer in PEERS.items() if peer.streams]
    assert [name for name in names if name.endswith("-rr")] == ["sglang-router-rr", "vllm-router-rr", "smg-rr"]
    assert not {"sglang-router", "vllm-router", "smg"} & {*names}


def test_the_variant_with_everything_on_is_skipped_by_name_without_redis(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="redis-server"):
        start_turnout("turnout-all", Place(tmp_path, 8123, [7001]))
