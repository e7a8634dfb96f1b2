"""The flags of `serve` override the file, and the result is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from router.cli.main import _parser
from router.cli.serve_flags import UsageError, settings_for
from router.config.file import ConfigError
from router.settings import PolicySpec, Settings

GOOD = "pools:\n- {name: default, pods: [http://10.0.0.1:8000], models: [m]}\n- {name: b, pods: [http://10.0.0.2:1]}\n"


def resolved(*argv: str, **environ: str) -> Settings:
    return settings_for(_parser().parse_args(["serve", *argv]), environ)


def refused(*argv: str, **environ: str) -> list[str]:
    """The errors, as they are printed."""
    with pytest.raises(ConfigError) as error:
        resolved(*argv, **environ)
    return str(error.value).splitlines()


def test_pods_and_policy_on_the_command_line_define_the_pool_default() -> None:
    settings = resolved("--pod", "http://h:1", "--pod", "h:2", "--policy", "p2c")
    (pool,) = settings.pools
    assert (pool.name, pool.pods, pool.policy) == ("default", ["http://h:1", "h:2"], PolicySpec(name="p2c"))


def test_flags_override_the_file_and_leave_the_rest_of_it(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(GOOD + "listen: 127.0.0.1:1\ncontrol: {listen: 127.0.0.1:2, token: t}\n")
    flags = ("--listen", "127.0.0.1:5", "--control", "127.0.0.1:6", "--policy", "random", "--pod", "http://h:9")
    settings = resolved("--config", str(file), *flags)
    assert (settings.listen, settings.control.listen, settings.control.token) == ("127.0.0.1:5", "127.0.0.1:6", "t")
    first, second = settings.pools
    assert (first.pods, first.policy.name, first.models) == (["http://h:9"], "random", ["m"])
    assert (second.name, second.policy.name) == ("b", "prefix_aware")


def test_a_pod_on_the_command_line_replaces_those_of_the_only_pool_of_a_file(tmp_path: Path) -> None:
    """Case H 42: the flags win over the file."""
    file = tmp_path / "f.yaml"
    file.write_text("pools: [{name: a, models: [m], discovery: {source: 'dns://h:1'}}]")
    (pool,) = resolved("--config", str(file), "--pod", "http://h:2", "--policy", "p2c").pools
    assert (pool.name, pool.models, pool.pods) == ("a", ["m"], ["http://h:2"])
    assert (pool.discovery.source, pool.policy.name) == ("", "p2c")


def test_a_pod_for_one_of_several_pools_must_be_clear(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("pools: [{name: a, pods: [http://h:1]}, {name: b, pods: [http://h:2]}]")
    with pytest.raises(UsageError, match="--pod changes the pool `default`, and the file has a, b;"):
        resolved("--config", str(file), "--pod", "http://h:3")
    with pytest.raises(UsageError, match="TURNOUT_POLICY changes the pool `default`"):
        resolved("--config", str(file), TURNOUT_POLICY="p2c")


def test_a_file_is_checked_together_with_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("control: {listen: '0.0.0.0:9000'}\n")
    assert resolved("--config", str(file), "--pod", "http://h:1", "--control", "127.0.0.1:9000").pools
    with pytest.raises(ConfigError, match="token"):
        resolved("--config", str(file), "--pod", "http://h:1")


def test_warnings_are_printed_and_do_not_stop_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(GOOD + "timeouts: {upstream_keepalive_s: 9}\n")
    assert resolved("--config", str(file)).pools
    assert capsys.readouterr().err.startswith(f"turnout: {file}:4: warning: timeouts.upstream_keepalive_s")


BOTH = "pools: [{name: default, pods: [http://file:1], policy: {name: random}}]\nlogging: {level: error}\n"
BOTH += "listen: 1.1.1.1:1\ncontrol: {listen: 127.0.0.1:1}\nstate: redis://file:1\n"


@pytest.mark.parametrize(
    ("variable", "value", "flag", "flag_value", "read"),
    [
        ("TURNOUT_LISTEN", "2.2.2.2:2", "--listen", "3.3.3.3:3", lambda s: s.listen),
        ("TURNOUT_CONTROL", "127.0.0.1:2", "--control", "127.0.0.1:3", lambda s: s.control.listen),
        ("TURNOUT_STATE", "redis://env:2", "--state", "redis://flag:3", lambda s: s.state),
        ("TURNOUT_PODS", "http://env:2", "--pod", "http://flag:3", lambda s: s.pools[0].pods[0]),
        ("TURNOUT_POLICY", "p2c", "--policy", "least_load", lambda s: s.pools[0].policy.name),
        ("TURNOUT_LOG_LEVEL", "warning", "--log-level", "debug", lambda s: s.logging.level),
    ],
)
def test_a_flag_wins_over_its_variable_and_a_variable_over_the_file(
    tmp_path: Path, variable: str, value: str, flag: str, flag_value: str, read: Callable[[Settings], str]
) -> None:
    """Case H 42: one order of precedence."""
    file = tmp_path / "f.yaml"
    file.write_text(BOTH)
    config = ("--config", str(file))
    in_file = read(resolved(*config))
    assert in_file not in (value, flag_value)
    assert read(resolved(*config, **{variable: ""})) == in_file, "an empty variable counts as unset"
    assert read(resolved(*config, **{variable: value})) == value
    assert read(resolved(*config, flag, flag_value, **{variable: value})) == flag_value


def test_the_file_and_the_number_of_workers_come_from_the_environment_too(tmp_path: Path) -> None:
    """Case H 42."""
    file = tmp_path / "f.yaml"
    file.write_text(BOTH)
    given = _parser().parse_args(["serve"])
    settings_for(given, {"TURNOUT_CONFIG": str(file), "TURNOUT_WORKERS": "3"})
    assert (given.config, given.workers) == (str(file), 3)
    with pytest.raises(UsageError, match="TURNOUT_WORKERS: 'x' is not a number of processes"):
        resolved("--pod", "http://h:1", TURNOUT_WORKERS="x")
    for text in ("²", "9" * 5000, "-1"):
        with pytest.raises(UsageError, match="is not a number of processes"):
            resolved("--pod", "http://h:1", TURNOUT_WORKERS=text)
    pods = resolved(TURNOUT_PODS="http://h:1, http://h:2 http://h:3").pools[0].pods
    assert pods == ["http://h:1", "http://h:2", "http://h:3"]


@pytest.mark.parametrize(
    ("flag", "expected"),
    [("redis://h:1", "redis://:p%40s@h:1"), ("redis://u@h:1", "redis://u:p%40s@h:1"), ("redis://:q@h:1",) * 2],
)
def test_the_password_of_the_environment_goes_into_a_state_without_one(flag: str, expected: str) -> None:
    settings = resolved("--pod", "http://h:1", "--state", flag, TURNOUT_STATE_PASSWORD="p@s")
    assert settings.state == expected


@pytest.mark.parametrize(
    ("argv", "environ", "message"),
    [
        (["--pod", "ftp://h:1"], {}, "--pod: pools[0].pods[0]: pod 'ftp://h:1': unknown scheme"),
        ([], {"TURNOUT_PODS": "ftp://h:1"}, "TURNOUT_PODS: pools[0].pods[0]: pod 'ftp://h:1': unknown scheme"),
        (["--policy", "p3c"], {}, "--policy: pools[0].policy.name: no policy 'p3c'"),
        (["--listen", "50000"], {}, "--listen: listen: '50000' is not host:port, such as 0.0.0.0:50000"),
        ([], {"TURNOUT_LISTEN": ":50000"}, "TURNOUT_LISTEN: listen: ':50000' is not host:port, such as 0.0.0.0:50000"),
        (["--control", "0.0.0.0:9000"], {}, "--control: control.listen: 0.0.0.0:9000 can be reached"),
        (["--state", "mysql://h"], {}, "--state: state: "),
        (["--log-level", "loud"], {}, "--log-level: logging.level: 'loud' is not one of debug"),
        ([], {"TURNOUT_LABELS": "zone"}, "TURNOUT_LABELS: labels.zone: 'zone' is half a label"),
        ([], {"TURNOUT_CONTROL_TOKEN": "t\u00f6k"}, "TURNOUT_CONTROL_TOKEN: control.token: has a blank or line break"),
        ([], {"TURNOUT_CONTROL_TOKEN": "tok\n"}, "TURNOUT_CONTROL_TOKEN: control.token: has a blank or line break"),
    ],
)
def test_a_wrong_value_of_a_flag_or_variable_names_it_and_no_line(
    tmp_path: Path, argv: list[str], environ: dict[str, str], message: str
) -> None:
    """Case H 42."""
    file = tmp_path / "f.yaml"
    file.write_text(BOTH)
    (said,) = refused("--config", str(file), *argv, **environ)
    assert said.startswith(message)


def test_a_pod_that_the_file_has_elsewhere_is_said_of_the_flag(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("pools: [{name: b, pods: [http://h:1]}, {name: default, pods: [http://h:2]}]")
    said = refused("--config", str(file), "--pod", "http://h:1")
    assert said == ["--pod: pools[1].pods[0]: h:1 is in pool 'b' already; a pod stands in one place"]


def test_a_misspelled_variable_is_named_where_nothing_is_left_to_route_to(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="nothing to route to"):
        resolved(TURNOUT_CONFG="c.yaml")
    assert "TURNOUT_CONFG sets nothing; did you mean TURNOUT_CONFIG?" in capsys.readouterr().err


def test_an_unknown_variable_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    """Case H 42."""
    resolved("--pod", "http://h:1", TURNOUT_LISTN="0.0.0.0:1", TURNOUT_PORT="8000", OTHER="x")
    assert capsys.readouterr().err.splitlines() == [
        "turnout: environment: warning: TURNOUT_LISTN sets nothing; did you mean TURNOUT_LISTEN?",
        "turnout: environment: warning: TURNOUT_PORT sets nothing; did you mean TURNOUT_LISTEN?",
    ]
