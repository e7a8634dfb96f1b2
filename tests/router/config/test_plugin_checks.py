"""Checks of plugin settings, and of names that only a plugin file can have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from router.config.checks import problems_in
from router.config.plugin_checks import is_version
from router.config.problems import Problem
from router.plugins.loading import digest_of
from router.settings import Plugins, PolicySpec, Pool, Settings
from schedulers import registry

TEXT = b"# a policy\n"


@pytest.fixture(autouse=True)
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    yield


def found(plugins: Plugins, policy: str = "p2c", **fields: object) -> list[tuple[str, str, str]]:
    pool = Pool(name="a", pods=["http://a:1"], policy=PolicySpec(name=policy), **fields)  # type: ignore[arg-type]
    problems: list[Problem] = problems_in(Settings(pools=[pool], plugins=plugins))
    return [(problem.severity, problem.where, problem.message) for problem in problems]


def test_a_version_is_recognised_by_its_digest() -> None:
    assert is_version("freest_kv@3f2a9c1d")
    assert not is_version("p2c")


def test_a_version_of_an_existing_file_is_valid_wherever_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_bytes(TEXT)
    name = f"freest_kv@{digest_of(TEXT)}"
    assert found(Plugins(directory=str(tmp_path)), name, allowed_policies=[name]) == []


def test_a_version_without_a_file_is_reported_with_the_existing_versions(tmp_path: Path) -> None:
    (tmp_path / "freest.py").write_bytes(TEXT)
    (problem,) = found(Plugins(directory=str(tmp_path)), "freest_kv@00000000")
    assert problem == (
        "error",
        "pools[0].policy.name",
        f"'freest_kv@00000000': no file in {tmp_path} has that digest; freest.py is {digest_of(TEXT)}",
    )


def test_a_version_without_a_plugin_directory_is_an_error() -> None:
    (problem,) = found(Plugins(), allowed_policies=["freest_kv@00000000"])
    assert problem[1:] == (
        "pools[0].allowed_policies[0]",
        "'freest_kv@00000000': a version of a plugin file needs `plugins.directory`",
    )


def test_a_directory_that_does_not_exist_yet_is_a_warning(tmp_path: Path) -> None:
    ((severity, where, words),) = found(Plugins(directory=str(tmp_path / "nowhere")))
    assert (severity, where) == ("warning", "plugins.directory")
    assert "cannot be read" in words


def test_an_entry_point_that_no_package_declares_is_an_error() -> None:
    ((severity, where, words),) = found(Plugins(entry_points=["nonesuch"]))
    assert (severity, where) == ("error", "plugins.entry_points[0]")
    assert "no installed package declares the policy 'nonesuch'" in words
