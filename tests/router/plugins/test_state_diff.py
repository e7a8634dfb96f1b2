"""State that a module changes is detected wherever it is kept; unchanged state is not reported."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from router.plugins.state_diff import first_difference, state_of
from tests.fakes.each_case import each_case

HEAD = """
import collections, functools, itertools, math
LIST, SET, DICT, NUMBER = [], set(), {"a": [1]}, 0
QUEUE, COUNT = collections.deque(), itertools.count()

class Kept:
    shared = []
    def __init__(self): self.own = 0
KEPT = Kept()

def with_default(seen=[]): seen.append(1)
def with_attribute(): with_attribute.calls = getattr(with_attribute, "calls", 0) + 1
def made():
    n = 0
    def counts():
        nonlocal n
        n += 1
    return counts
COUNTS = made()

@functools.lru_cache
def pure(x): return x * 2
"""

REMEMBERS = {
    "LIST": "LIST.append(1)",
    "SET": "SET.add(1)",
    "DICT": "DICT['a'].append(2)",
    "NUMBER": "NUMBER = 1",
    "QUEUE": "QUEUE.append(1)",
    "COUNT": "next(COUNT)",
    "Kept.shared": "Kept.shared.append(1)",
    "Kept.late": "Kept.late = 1",
    "KEPT": "KEPT.own += 1",
    "NEW": "NEW = 1",
    "with_default.__defaults__": "with_default()",
    "with_attribute.__dict__": "with_attribute()",
    "n of COUNTS": "COUNTS()",
}


def module() -> tuple[ModuleType, Callable[[str], None]]:
    made = ModuleType("remembers")
    exec(HEAD, made.__dict__)
    return made, lambda source: exec(source, made.__dict__)


@each_case("place", REMEMBERS)
def test_changed_state_is_named_by_its_place(place: str) -> None:
    made, run = module()
    before = state_of(made, {})
    run(REMEMBERS[place])
    assert first_difference(before, state_of(made, {})) == place


@pytest.mark.parametrize("harmless", ["pure(3)", "math.sqrt(2)", "Kept()", "made()", "sorted(LIST)"])
def test_code_that_only_computes_changes_no_state(harmless: str) -> None:
    made, run = module()
    before = state_of(made, {})
    run(harmless)
    assert first_difference(before, state_of(made, {})) == ""


def test_a_changed_field_of_a_policy_is_reported_too() -> None:
    class Policy:
        __slots__ = ("seen",)

        def __init__(self) -> None:
            self.seen: list[int] = []

    made, _ = module()
    policy = Policy()
    before = state_of(made, {"mine": policy})
    policy.seen.append(1)
    assert first_difference(before, state_of(made, {"mine": policy})) == "a field of mine"
