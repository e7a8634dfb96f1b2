"""`turnout policy ...`, against a real control port."""

from __future__ import annotations

import shlex

import msgspec
import pytest

from router.cli.policy import _param, policy_line
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord
from tests.fakes.control_port import Replica, Run, command, commands
from tests.fakes.each_case import each_case


def test_a_policy_is_shown_and_set(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()

    def script(run: Run) -> None:
        assert run("policy", "get", "default") == 0
        assert run("policy", "set", "default", "random", "--if-generation", "0") == 0

    commands(replica, script)
    assert capsys.readouterr().out.splitlines() == [
        "default: p2c {} (generation 0)",
        "default: random {} (generation 1)",
    ]
    assert replica.policies.live("default").scheduler.name == "random"


REFUSED = {
    "set default random --if-generation 7": "generation 0, not 7",
    "set default p3c": "did you mean 'p2c'",
    "set default p2c --param wat=1": "wat",
    "get 'none such?x'": "no pool named 'none such?x'",
    "set default random --local-only": "leave out `local`",
    "promote default": "no canary runs in this pool",
    "rollback default": "no policy other than p2c is known",
    "rollback default --to 7": "generation 7 is not in this pool's history",
    "canary default random --percent 100": "percent: a canary of 100 % leaves no requests to compare it with",
    "canary default random --percent 50 --switchback 1": "switchback_s: spans are at least 5 s",
    "canary default random --percent 200": "percent: Input should be less than or equal to 100",
    "shadow default p3c": "shadow: no policy 'p3c'",
    "shadow default random --if-generation 4": "generation 0, not 4",
}
"""Arguments, and a part of the error."""


def test_a_refusal_is_one_line_with_its_reason_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()

    def script(run: Run) -> None:
        for words, why in REFUSED.items():
            assert run("policy", *shlex.split(words)) == 2, words
            output = capsys.readouterr()
            assert output.out == ""
            assert output.err.startswith("turnout: ")
            assert output.err.count("\n") == 1
            assert why in output.err
            assert replica.policies.record("default") == PolicyRecord("p2c", {}, 0)

    commands(replica, script)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_policy_goes_from_shadow_through_canary_to_all_requests_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()

    def script(run: Run) -> None:
        for words in (
            "shadow default random",
            "shadow default --off",
            "canary default session_affinity --param balance_factor=2 --percent 12.5 --note half",
            "promote default --force",
            "rollback default",
            "rollback default --to 4",
            "history default",
        ):
            assert run("policy", *words.split()) == 0

    commands(replica, script)
    affinity = 'session_affinity {"balance_factor":2}'
    changes, table = (output := lines(capsys))[:6], output[6:]
    assert changes == [
        "default: p2c {} (generation 1), shadow random {}",
        "default: p2c {} (generation 2)",
        f"default: p2c {{}} (generation 3), canary {affinity} for 12.5 %; half",
        f"default: {affinity} (generation 4); promoted from a canary of 12.5 %",
        "default: p2c {} (generation 5); rolled back to generation 3",
        f"default: {affinity} (generation 6); rolled back to generation 4",
    ]
    assert table[0].split() == ["GENERATION", "POLICY", "SHADOW", "CANARY", "NOTE"]
    assert [row.split()[0] for row in table[1:]] == ["6", "5", "4", "3", "2", "1", "0"]
    assert table[4].split() == ["3", "p2c", "{}", "-", *affinity.split(), "12.5", "%", "half"]


def test_the_guard_of_a_canary_has_the_given_limits_and_defaults_for_the_others() -> None:
    replica = Replica()
    limits = "--max-error-rate 0.5 --max-ttft-ratio 3 --min-requests 9 --confidence 0.9"
    steps = {
        f"random --percent 5 {limits}": Canary(PolicyChoice("random"), 5.0, CanaryGuard(0.5, 3, 9, 0.9)),
        "p2c --percent 5 --min-requests 9": Canary(PolicyChoice("p2c"), 5.0, CanaryGuard(min_requests=9)),
        "--off": None,
    }

    def script(run: Run) -> None:
        for words, canary in steps.items():
            assert run(*f"policy canary default {words}".split()) == 0
            assert replica.policies.record("default").canary == canary

    commands(replica, script)


def test_parameters_are_given_as_json_or_one_by_one_and_the_single_one_wins() -> None:
    replica = Replica()
    argv = ["policy", "set", "default", "session_affinity", "--params", '{"balance_factor": 3}']

    def script(run: Run) -> None:
        assert run(*argv) == 0
        assert replica.policies.record("default").params == {"balance_factor": 3}
        assert run(*argv, "--param", "balance_factor=4") == 0
        assert replica.policies.record("default").params == {"balance_factor": 4}

    commands(replica, script)


def test_a_dry_run_shows_the_change_and_makes_none(capsys: pytest.CaptureFixture[str]) -> None:
    replica = Replica()
    assert command(replica, "policy", "set", "default", "random", "--dry-run", "--if-generation", "0") == 0
    assert lines(capsys) == ["default: random {} (generation 0); nothing was changed"]
    assert replica.policies.record("default").name == "p2c"


def test_json_output_equals_the_answer_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    def script(run: Run) -> None:
        assert run("policy", "set", "default", "random", "--json") == 0
        assert msgspec.json.decode(capsys.readouterr().out)["generation"] == 1
        assert run("policy", "history", "default", "--json") == 0
        assert [each["policy"] for each in msgspec.json.decode(capsys.readouterr().out)] == ["random", "p2c"]
        assert run("policy", "report", "default", "--json") == 0
        assert msgspec.json.decode(capsys.readouterr().out) == {"pool": "default", "running": False}

    commands(Replica(), script)


def test_a_report_without_a_trial_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(Replica(), "policy", "report", "default") == 0
    assert lines(capsys) == ["default: nothing is tried, and nothing was since this replica started"]


def test_the_line_has_every_field_of_the_policy() -> None:
    answer = {"policy": "p2c", "params": {}, "generation": 3, "local": True, "waits_for": "x", "taken_out": "y"}
    assert policy_line("a", answer) == (
        "a: p2c {} (generation 3); on this replica alone, until the shared state is back; waits for x; taken out: y"
    )


@each_case(
    ("text", "value"),
    [("k=3", 3), ("k=0.5", 0.5), ("k=true", True), ("k=[1]", [1]), ("k=word", "word"), ("k=a=b", "a=b"), ("k=", "")],
)
def test_a_param_is_parsed_as_json_if_possible_and_is_text_otherwise(text: str, value: object) -> None:
    assert _param(text) == ("k", value)
