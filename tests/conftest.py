"""Settings of every test: a time limit, fixed hypothesis examples, the programs it needs, slow files first."""

from __future__ import annotations

import gc
import logging
import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pytest_timeout import Settings  # type: ignore[import-untyped]

from router.telemetry.logs import JsonFormatter
from tests import stuck
from tests.fakes import programs
from tests.fakes.leaks import leaks

LIMITS_S = {"realtime": 600.0, "slow": 240.0}
"""Marker -> limit in seconds; pyproject.toml has the limit of all other tests. Only a test that hangs exceeds them."""

# The time of an example depends more on the machine than on the code: no deadline, and none on drawing examples.
settings.register_profile(
    "fixed", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# `make unit`: what is seldom seen, `make test` finds. tests/fakes/examples.py keeps the proportions.
settings.register_profile("quick", settings.get_profile("fixed"), max_examples=25)
settings.register_profile("explore", settings.get_profile("fixed"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_configure() -> None:
    stuck.install()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not import a file that `-m "not slow and ..."` excludes as a whole: each worker would do so for nothing."""
    expression = config.option.markexpr
    if collection_path.suffix != ".py" or " or " in expression:
        return None
    excluded = re.findall(r"\bnot (\w+)", expression)
    marks = re.search(r"^pytestmark = (.*)", collection_path.read_text(), re.MULTILINE) if excluded else None
    names = re.findall(r"pytest\.mark\.(\w+)", marks[1]) if marks else []
    return True if set(names) & set(excluded) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collections of garbage, and exclude what was made then from all later ones.

    What was imported and collected lives to the end; to walk it again and again took a tenth of all time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000, 10, 10)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with slow tests first, so that quick ones run beside the last slow ones."""

    def kind(item: pytest.Item) -> int:
        return next((at for at, name in enumerate(LIMITS_S) if item.get_closest_marker(name)), len(LIMITS_S))

    slowest: dict[str, int] = {}
    for item in items:
        file = item.nodeid.partition("::")[0]
        slowest[file] = min(slowest.get(file, len(LIMITS_S)), kind(item))
        limit = next((seconds for name, seconds in LIMITS_S.items() if item.get_closest_marker(name)), None)
        if limit is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(limit))
    items.sort(key=lambda item: slowest[item.nodeid.partition("::")[0]])


@contextmanager
def failing_when_stuck() -> Iterator[None]:
    try:
        yield
    except stuck.Stuck as error:
        pytest.fail(str(error), pytrace=False)


# Inside pytest's own wrappers: a skip that they do not see makes their end fail.
@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with failing_when_stuck():
        for mark in item.iter_markers("needs"):
            for name in mark.args:
                programs.need(name)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with failing_when_stuck():
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with failing_when_stuck():
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Settings) -> bool:
    stuck.watching[:] = [stuck.Watch(item.nodeid, settings.timeout)]
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    for watch in stuck.watching:
        watch.end()
    stuck.watching.clear()
    return True


class LeakWatch(logging.Handler):
    """Keeps the secrets in lines that the gateway logs, in the form in which it writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._formatter = JsonFormatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("turnout."):
            self.found += leaks(self._formatter.format(record))


@pytest.fixture(autouse=True)
def log_levels() -> Iterator[None]:
    """A test that configures logging, as the program does at its start, leaves the next test's levels alone. No test
    makes the gateway log a secret."""
    root, access = logging.getLogger(), logging.getLogger("turnout.access")
    level, disabled = root.level, access.disabled
    watch = LeakWatch()
    root.addHandler(watch)
    yield
    root.removeHandler(watch)
    root.setLevel(level)
    access.disabled = disabled
    assert watch.found == [], watch.found
