"""What a file changed in modules of others, found by comparing what every place holds (Case J 53)."""

from __future__ import annotations

import colorsys
import json
import random
import sys
from collections.abc import Callable

import pytest

from router.plugins.patches import PatchWatch, first_patch, places


def default(*_: object) -> str:
    return "x"


MODULES: dict[str, object] = {
    name: sys.modules[name] for name in ("builtins", "colorsys", "json", "json.encoder", "random", "time")
}
"""Those that are looked at, for a test process has thousands. The gateway looks at all of them."""

CHANGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "json.dumps": lambda patch: patch.setattr(json, "dumps", default),
    "json.dumps.__code__": lambda patch: patch.setattr(json.dumps, "__code__", default.__code__),
    "json.encoder.JSONEncoder.default": lambda patch: patch.setattr(json.JSONEncoder, "default", default),
    "json.encoder.JSONEncoder.__call__": lambda patch: patch.setattr(
        json.JSONEncoder, "__call__", default, raising=False
    ),
    "random": lambda patch: patch.setitem(MODULES, "random", json),
    "random.extra": lambda patch: patch.setattr(random, "extra", 3, raising=False),
    "colorsys.ONE_THIRD": lambda patch: patch.delattr(colorsys, "ONE_THIRD"),
}
"""Place -> a change there."""


@pytest.mark.parametrize("place", CHANGES)
def test_a_change_is_found_at_its_place(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = places(MODULES)
    CHANGES[place](monkeypatch)
    found = first_patch(before, places(MODULES))
    monkeypatch.undo()
    assert found == place
    assert first_patch(before, places(MODULES)) == ""


def test_what_a_library_keeps_for_itself_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = PatchWatch(MODULES)
    random.random()
    json.dumps({})
    monkeypatch.setattr(colorsys, "_cache", {}, raising=False)
    assert watch.problem() == ""


def test_a_module_that_came_later_is_looked_after_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = PatchWatch(MODULES)
    monkeypatch.setattr(colorsys, "rgb_to_hls", default)
    assert watch.problem().startswith("it replaces colorsys.rgb_to_hls, which all of the gateway uses")
    watch.look_again()
    assert watch.problem() == ""
