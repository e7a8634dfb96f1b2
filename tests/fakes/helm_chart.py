"""The chart in deploy/helm/turnout, rendered, linted, packed and installed (dry) by Helm in a child process."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.fakes.rendered_manifests import ROOT, Manifest, Render

CHART = ROOT / "deploy" / "helm" / "turnout"
NOTES = "NOTES.txt"
Values = Mapping[str, Any]


class Refused(Exception):
    """What Helm says of values or templates that it does not take."""


class Helm:
    """A child process; one question at a time."""

    def __init__(self) -> None:
        command: list[str | Path] = [sys.executable, Path(__file__).with_name("helm_library.py"), CHART]
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, what: str, *given: object) -> Any:
        """The result of one of the questions of helm_library.py. Raises Refused."""
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps([what, *given]) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Ends the child."""
        self._child.communicate()


class Release(NamedTuple):
    """The name of a release and where it is."""

    name: str = "turnout"
    namespace: str = "turnout"


USUAL = Release()


@functools.cache
def helm() -> Helm:
    """The child of this test process. The running test is skipped on machines for which Helm's library is not made."""
    if importlib.util.find_spec("helm_python") is None:
        advice = "helm-python-sdk has no wheel for this machine"
        pytest.fail(advice) if os.environ.get("CI") == "true" else pytest.skip(advice)
    made = Helm()
    atexit.register(made.close)
    return made


def text_of(values: Values | None = None, release: Release = USUAL) -> dict[str, str]:
    """Every template's output, by its path below templates/. Raises Refused."""
    found: dict[str, str] = helm().ask("render", values or {}, *release)
    return {path.partition("/templates/")[2]: text for path, text in found.items()}


def render_chart(values: Values | None = None, release: Release = USUAL) -> Render:
    """The chart's objects with these values. Raises Refused."""
    texts = text_of(values, release)
    return Render(f"chart {release.name}", list(parsed("\n---\n".join(texts[path] for path in texts if path != NOTES))))


def parsed(text: str) -> Iterator[Manifest]:
    """The objects of a text of manifests."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return (each for each in yaml.load_all(text, loader) if each)
