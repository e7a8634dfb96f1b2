"""The flags of `serve` override the file, and the result is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.cli.main import _parser
from router.cli.serve_flags import settings_for
from router.config.file import ConfigError
from router.settings import PolicySpec, Settings

GOOD = "pools:\n- {name: default, pods: [http://10.0.0.1:8000], models: [m]}\n- {name: b, pods: [http://10.0.0.2:1]}\n"


def resolved(*argv: str) -> Settings:
    return settings_for(_parser().parse_args(["serve", *argv]), {})


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


def test_the_pool_default_is_added_to_a_file_without_it(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("pools: [{name: a, pods: [http://h:1]}]")
    assert [pool.name for pool in resolved("--config", str(file), "--pod", "http://h:2").pools] == ["a", "default"]


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
