"""The command as a user runs it, with a sample of real traffic."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.command import main
from schedulers import registry

ROOT = Path(__file__).resolve().parents[4]
SAMPLE = str(ROOT / "loadtests" / "traces" / "conversation.jsonl.gz")


def documented() -> list[str]:
    """Every command of docs/simulate.md."""
    shell = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / "simulate.md").read_text(), re.DOTALL | re.MULTILINE)
    return [line for block in shell for line in block.splitlines()]


def simulated(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main([SAMPLE, *argv])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_a_table_has_a_row_for_each_policy(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = simulated(capsys, "--policy", "prefix_aware", "--policy", "sglang_cache_aware", "--limit", "200")
    assert (status, err) == (0, "")
    rows, _, units = out.partition("\n\n")
    assert [line.split()[0] for line in rows.splitlines()] == ["POLICY", "prefix_aware", "sglang_cache_aware"]
    assert units.startswith("TTFT, ITL and E2E in seconds"), "Case H 46"


@pytest.mark.parametrize("command", documented())
def test_a_documented_command_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "loadtests").symlink_to(ROOT / "loadtests")
    monkeypatch.chdir(tmp_path)
    turnout, simulate, *argv = shlex.split(command)
    assert (turnout, simulate) == ("turnout", "simulate")
    few = [] if "--limit" in argv else ["--limit", "100"]
    assert main([*argv, *few]) == 0
    shown = capsys.readouterr()
    assert "prefix_aware" in shown.out
    assert not shown.err


def test_a_composed_policy_is_listed_under_its_title(capsys: pytest.CaptureFixture[str]) -> None:
    light = 'light=profile:{"scorers": [{"name": "inflight_tokens"}, {"name": "prefix", "weight": 2}]}'
    status, out, err = simulated(capsys, "--policy", light, "--policy", "random", "--limit", "400", "--json")
    assert (status, err) == (0, "")
    composed, blind = json.loads(out)["policies"]
    assert (composed["policy"], blind["policy"]) == ("light", "random")
    assert composed["hit_rate"] > blind["hit_rate"]
    assert composed["ttft_s"]["mean"] < blind["ttft_s"]["mean"]


def test_json_describes_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "p2c", "--pods", "4", "--rate", "1.5", "--replicas", "2", "--age-ms", "50", "--limit", "100")
    _, out, _ = simulated(capsys, *argv, "--json")
    shown = json.loads(out)
    assert (shown["trace"], shown["pods"], shown["rate"]) == ("conversation.jsonl.gz", 4, 1.5)
    assert (shown["replicas"], shown["age_ms"]) == (2, 50.0)
    assert [row["policy"] for row in shown["policies"]] == ["p2c"]
    assert shown["policies"][0]["requests"] == 100
    assert simulated(capsys, *argv, "--json")[1] == out


@pytest.mark.slow
def test_on_real_traffic_the_peers_have_the_known_order(capsys: pytest.CaptureFixture[str]) -> None:
    order = ["oracle", "lmetric", "dynamo_kv", "llmd_default", "sglang_cache_aware", "random"]
    _, out, _ = simulated(capsys, *[part for name in order for part in ("--policy", name)], "--rate", "2", "--json")
    means = {row["policy"]: row["ttft_s"]["mean"] for row in json.loads(out)["policies"]}
    assert sorted(means, key=means.__getitem__) == order


def test_best_is_the_best_of_all_peers_in_each_figure(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--limit", "150", "--rate", "2", "--json")
    peers = [part for name in PEERS for part in ("--policy", name)]
    status, out, err = simulated(capsys, "--policy", "best", "--policy", "lmetric", *argv)
    assert (status, err) == (0, "")
    best, lmetric = json.loads(out)["policies"]
    assert (best["policy"], lmetric["policy"]) == ("best", "lmetric")
    rows = json.loads(simulated(capsys, *peers, *argv)[1])["policies"]
    for figure in ("mean", "p99"):
        assert best["ttft_s"][figure] == min(row["ttft_s"][figure] for row in rows)


def test_production_stack_overloads_one_pod_on_real_traffic(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = simulated(capsys, "--policy", "production_stack_prefixaware", "--rate", "2", "--json")
    (row,) = json.loads(out)["policies"]
    assert row["ttft_s"]["mean"] > 100.0
    assert row["load_imbalance"] == pytest.approx(8.0)


def test_a_cold_restart_is_visible_in_the_windows(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "prefix_aware", "--restart-at", "60", "--limit", "400", "--json")
    shared, cold = (json.loads(simulated(capsys, *argv, *more)[1]) for more in ((), ("--unshared",)))
    assert cold["age_ms"] is None
    assert cold["policies"][0]["hit_rate"] < shared["policies"][0]["hit_rate"]


def test_a_report_is_written_beside_the_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    status, out, _ = simulated(capsys, "--policy", "p2c", "--limit", "100", "--report", str(file))
    assert (status, "p2c" in out) == (0, True)
    assert "<svg" in file.read_text()


def test_answers_without_cached_tokens_change_what_the_gateway_learns(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "prefix_aware", "--limit", "800", "--rate", "3", "--kv-tokens", "140000", "--json")
    with_usage, without = (simulated(capsys, *argv, *more)[1] for more in ((), ("--no-cached-tokens",)))
    assert with_usage != without


def test_a_fleet_of_two_kinds_is_described_and_its_slow_pods_are_seen(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "oracle", "--limit", "400", "--rate", "2", "--json")
    equal, mixed = (
        json.loads(simulated(capsys, *argv, "--profile", fleet)[1]) for fleet in ("h100-8b", "h100-8b:6,a100-8b:2")
    )
    assert (mixed["pods"], mixed["profile"]) == (8, "h100-8b:6,a100-8b:2")
    assert mixed["policies"][0]["ttft_s"]["mean"] > equal["policies"][0]["ttft_s"]["mean"]


def test_events_are_listed_and_failures_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    events = ["--event", "60:pod-0:fail", "--event", "70:pod-1:slow=1.5"]
    argv = ("--policy", "prefix_aware", "--policy", "oracle", "--limit", "400", "--rate", "2", *events)
    shown = json.loads(simulated(capsys, *argv, "--json")[1])
    assert shown["events"] == events[1::2]
    assert {row["requests"] + row["lost"] for row in shown["policies"]} == {400}
    assert shown["policies"][0]["retried"] > 0
    assert "retried  lost" in simulated(capsys, *argv)[1].splitlines()[0]
    assert "lost" not in simulated(capsys, "--policy", "p2c", "--limit", "50")[1]


def test_a_small_cache_has_fewer_hits(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "prefix_aware", "--limit", "400", "--json")
    whole, small = (
        json.loads(simulated(capsys, *argv, *more)[1])["policies"][0] for more in ((), ("--kv-tokens", "140000"))
    )
    assert small["hit_rate"] < whole["hit_rate"]


def test_goodput_is_reported_by_priority(capsys: pytest.CaptureFixture[str]) -> None:
    tight, loose = "share=0.4,priority=2,ttft=0.2", "share=0.6,ttft=100,tpot=10"
    argv = ("--policy", "p2c", "--limit", "200", "--slo", tight, "--slo", loose)
    assert simulated(capsys, *argv)[1].splitlines()[0].split()[-5:] == ["goodput", "of", "+2", "of", "+0"]
    (row,) = json.loads(simulated(capsys, *argv, "--json")[1])["policies"]
    urgent, rest = row["goodput_by_priority"]
    assert (urgent["priority"], rest["priority"], rest["met"]) == (2, 0, 1.0)
    assert 0 < urgent["met"] < 1
    assert urgent["requests"] + rest["requests"] == 200


@pytest.mark.slow
def test_past_saturation_slo_goodput_keeps_far_more_promises(capsys: pytest.CaptureFixture[str]) -> None:
    mix = ("--slo", "share=0.3,priority=1,ttft=1,tpot=0.05", "--slo", "share=0.7,ttft=2,tpot=0.05")
    policies = [part for name in ("slo_goodput", "prefix_aware", "lmetric") for part in ("--policy", name)]
    _, out, _ = simulated(capsys, *policies, "--rate", "2.6", *mix, "--json")
    ours, *others = json.loads(out)["policies"]
    assert ours["goodput"] > 2 * max(each["goodput"] for each in others)
    urgent, rest = ours["goodput_by_priority"]
    assert urgent["met"] > 0.5 < rest["met"]


def test_engines_that_schedule_by_priority_serve_it_first(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("--policy", "p2c", "--pods", "1", "--limit", "60", "--json", "--rate", "5")
    mix = ("--slo", "share=0.3,priority=1,ttft=2", "--slo", "share=0.7,ttft=2")
    plain, by_priority = (
        json.loads(simulated(capsys, *argv, *mix, *more)[1])["policies"][0] for more in ((), ("--engine-priority",))
    )
    assert by_priority["goodput_by_priority"][0]["met"] > plain["goodput_by_priority"][0]["met"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--policy", "unknown"], "no policy 'unknown'"),
        (["--policy", "p2c", "--profile", "h200"], "no profile 'h200'"),
        (["--policy", "p2c", "--pods", "3", "--event", "1:pod-3:fail"], "1:pod-3:fail: it has not joined"),
        (["--policy", "p2c", "--slo", "share=0.7,ttft=1", "--slo", "share=0.7,ttft=2"], "add up to more than 1"),
        (["--policy", "p2c", "--profile", "tiny", "--report", "/nowhere/r.html"], "/nowhere/r.html: No such file"),
    ],
)
def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str], argv: list[str], words: str) -> None:
    status, out, err = simulated(capsys, *argv, "--limit", "5")
    assert (status, out) == (2, "")
    assert err.startswith("turnout simulate: ")
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--policy", "p2c", "--pods", "0"],
        ["--policy", "p2c", "--rate", "0"],
        ["--policy", "p2c", "--age-ms", "-1"],
        ["--policy", "p2c", "--rate", "nan"],
        ["--policy", "p2c", "--report", "r.png"],
        ["--policy", "p2c", "--slo", "ttft=soon"],
    ],
    ids=" ".join,
)
def test_contradictory_options_are_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([SAMPLE, *argv])


def test_the_help_names_every_peer(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(name in shown for name in PEERS)


PLUGIN = """\
from dataclasses import dataclass
from typing import ClassVar
from schedulers.types import NO_UNTRIED_POD, Decision

@dataclass(frozen=True)
class FirstOne:
    name: ClassVar[str] = "first_one"

    def pick(self, request, snapshot):
        left = snapshot.without(request.tried)
        return Decision(left.candidates[0].pod.id, self.name) if left else NO_UNTRIED_POD
"""


def test_a_policy_from_a_plugin_is_listed_under_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    (tmp_path / "mine.py").write_text(PLUGIN)
    policies = ("--policy", "first_one", "--policy", "p2c")
    status, out, err = simulated(capsys, "--plugin", str(tmp_path / "mine.py"), *policies, "--limit", "100", "--json")
    assert (status, err) == (0, "")
    imbalance = {row["policy"]: row["load_imbalance"] for row in json.loads(out)["policies"]}
    assert imbalance["first_one"] > 2 * imbalance["p2c"]


def test_a_plugin_that_does_not_load_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def")
    status, out, err = simulated(capsys, "--plugin", str(tmp_path / "mine.py"), "--policy", "p2c")
    assert (status, out) == (2, "")
    assert err == f"turnout simulate: {tmp_path}/mine.py: line 1: invalid syntax\n"
