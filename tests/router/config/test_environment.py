"""Variables that set something, and those that look as if they did."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config.environment import SETTINGS, attributed, unknown_variables, with_login
from router.config.problems import Problem
from router.settings import Pool, Settings
from tests.fakes.each_case import each_case

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def warnings(environ: dict[str, str], settings: Settings | None = None) -> list[str]:
    return [problem.message for problem in unknown_variables(environ, settings or Settings())]


@each_case("name", sorted(SETTINGS))
def test_every_variable_is_documented_and_known(name: str) -> None:
    assert f"`{name}`" in PAGE.read_text()
    assert warnings({name: "x"}) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("TURNOUT_CONFG", "did you mean TURNOUT_CONFIG?"),
        ("TURNOUT_HOST", "did you mean TURNOUT_LISTEN?"),
        ("TURNOUT_PORT", "did you mean TURNOUT_LISTEN?"),
        ("TURNOUT_POD", "did you mean TURNOUT_PODS?"),
        ("TURNOUT_ZZZZZZZZZZZZZZZZZZZ", "there are TURNOUT_CONFIG, TURNOUT_CONTROL, "),
    ],
)
def test_a_variable_that_sets_nothing_is_warned_of_with_a_hint(name: str, hint: str) -> None:
    """Case H 42."""
    (message,) = warnings({name: "8000"})
    assert message.startswith(f"{name} sets nothing; {hint}")


@each_case(
    "name",
    [
        "TURNOUT_SERVICE_HOST",
        "TURNOUT_SERVICE_PORT_INFERENCE",
        "TURNOUT_CONTROL_SERVICE_PORT",
        "TURNOUT_PORT",
        "TURNOUT_CONTROL_PORT",
        "TURNOUT_PORT_8000_TCP",
        "TURNOUT_REDIS_PORT_6379_TCP_ADDR",
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_not_warned_of(name: str) -> None:
    assert warnings({name: "tcp://10.0.0.1:8000"}) == []


def test_a_variable_that_a_setting_names_is_known() -> None:
    settings = Settings(pools=[Pool(name="a", labels={"key_env": "TURNOUT_ENGINE_KEY"})])
    assert warnings({"TURNOUT_ENGINE_KEY": "x"}, settings) == []
    assert len(warnings({"TURNOUT_ENGINE_KEY": "x"})) == 1


@pytest.mark.parametrize("url", ["memory://", "redis://:own@h", "redis+sentinel://u:own@a,b/main"])
def test_a_state_that_needs_no_password_stays_as_it_is(url: str) -> None:
    assert with_login(url, {"TURNOUT_STATE_PASSWORD": "x"}) == url


@each_case(
    ("path", "environ", "origin"),
    [
        (("labels", "c"), {"TURNOUT_LABELS": "a=b,c"}, "TURNOUT_LABELS"),
        (("labels", "d"), {"TURNOUT_LABELS": "a=b,c"}, ""),
        (("control", "token"), {"TURNOUT_CONTROL_TOKEN": "x\n"}, "TURNOUT_CONTROL_TOKEN"),
        (("control", "token"), {"TURNOUT_CONTROL_TOKEN": ""}, ""),
        (("control", "listen"), {"TURNOUT_CONTROL_TOKEN": "x"}, ""),
        ((), {"TURNOUT_LABELS": "c"}, ""),
    ],
)
def test_a_problem_of_a_variable_s_value_names_the_variable(
    path: tuple[str, ...], environ: dict[str, str], origin: str
) -> None:
    found = attributed(Problem(path, "is wrong", line=3), environ)
    assert (found.origin, found.line) == (origin, None if origin else 3)
