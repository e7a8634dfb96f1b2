"""The tuning half of a workload, on the command line."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.saturation import saturation
from loadtests.bench.scheduling.tune import main, options


def test_policies_are_compared_on_the_tuning_half(capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        "--traces",
        "azure_code",
        "--rates",
        "1",
        "--policies",
        "prefix_aware,oracle",
        "--limit",
        "40",
        "--processes",
        "1",
    ]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert out.startswith("azure_code, tuning half, 8 pods, rate x 1\n")
    assert "| prefix_aware |" in out and "| oracle " in out


def test_an_unknown_policy_is_reported_before_anything_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policies", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("prefix_aware,oracle", ["prefix_aware", "oracle"]),
        ("chwbl:a=1,b=2;oracle", ["chwbl:a=1,b=2", "oracle"]),
        ("chwbl:a=1,b=2", ["chwbl:a=1,b=2"]),
    ],
)
def test_a_policys_own_commas_separate_no_policies(text: str, specs: list[str]) -> None:
    assert options(["--policies", text]).policies == specs


def test_the_reporting_half_cannot_be_chosen() -> None:
    with pytest.raises(SystemExit):
        options(["--half", "report"])


def test_loads_are_of_the_rate_that_saturates_the_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--traces", "rag", "--policies", "oracle", "--loads", "0.5", "--limit", "10", "--processes", "1"]
    assert main(given) == 0
    rate = saturation("rag", "tune").rate / 2
    assert capsys.readouterr().out.startswith(f"rag, tuning half, 8 pods, rate x {rate:g}\n")
