from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from schedulers import registry
from schedulers.errors import DuplicatePolicy, InvalidParams, InvalidPolicy, SchedulerError, UnknownPolicy
from schedulers.policies.session_affinity import SessionAffinity
from schedulers.types import Decision, LoadSnapshot, PodLoad, Rejection, RequestInfo
from tests.fakes.scheduler_inputs import pod_ids, request_of, snapshot_of


@dataclass(frozen=True, slots=True)
class Firstborn:
    """A policy of another package: picks the first pod."""

    name: ClassVar[str] = "firstborn"

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The first pod."""
        return Decision(snapshot.candidates[0].pod.id, self.name)


@dataclass(frozen=True, slots=True)
class Usurper(Firstborn):
    """Another class under a name that is in use."""

    name: ClassVar[str] = "random"


@pytest.fixture(autouse=True)
def _a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    yield


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=registry.ENTRY_POINT_GROUP)


def test_the_built_in_policies_are_these() -> None:
    names = "random round_robin least_load p2c session_affinity prefix_aware slo_goodput profile"
    assert registry.names() == tuple(names.split())


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_name_is_its_module_and_its_class_attribute(name: str) -> None:
    policy = registry.BUILT_IN[name]
    assert policy.__module__ == f"schedulers.policies.{name}"
    assert registry.create(name).name == name


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_policys_docstring_has_the_required_headings(name: str) -> None:
    said = registry.BUILT_IN[name].__doc__ or ""
    for word in ("Formula:", "Inputs:", "Parameters:", "When:", "Source:"):
        assert word in said, word


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_the_readme_has_a_section_on_each_policy(name: str) -> None:
    readme = Path(registry.__file__).with_name("README.md").read_text()
    assert f"### `{name}`" in readme


def test_the_readmes_policy_of_your_own_works_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = Path(registry.__file__).with_name("README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    module = ModuleType("my_package")
    monkeypatch.setitem(sys.modules, "my_package", module)
    exec(program, module.__dict__)
    registry.load_entry_points(found=[entry("freest_kv", "my_package:FreestKv")])
    snapshot = snapshot_of([PodLoad(kv_usage=0.9), PodLoad(kv_usage=0.4)])
    answer = registry.create("freest_kv").pick(request_of(), snapshot)
    assert answer == Decision(pod_ids(2)[1], "freest_kv", 0.4, "most_kv_free")
    assert registry.create("freest_kv", {"limit": 0.3}).pick(request_of(), snapshot) == Rejection("kv_full")


def test_a_policy_is_built_with_its_parameters() -> None:
    assert registry.create("session_affinity", {"balance_factor": 2}) == SessionAffinity(balance_factor=2)
    assert registry.create("session_affinity", {}) == registry.create("session_affinity") == SessionAffinity()


def test_the_error_says_that_a_policy_takes_no_parameters() -> None:
    with pytest.raises(InvalidParams, match="p2c: no parameter 'choices'; it takes no parameters"):
        registry.create("p2c", {"choices": 3})


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("round-robin", "round_robin"),
        ("RoundRobin", "round_robin"),
        ("prefix_awre", "prefix_aware"),
        ("cache_aware", "prefix_aware"),
        ("power_of_two", "p2c"),
        ("least-request", "least_load"),
    ],
)
def test_an_unknown_name_lists_the_names_and_the_nearest(asked: str, meant: str) -> None:
    with pytest.raises(UnknownPolicy) as refused:
        registry.create(asked)
    assert str(refused.value) == (
        f"no policy {asked!r} (did you mean {meant!r}?); there are: "
        "random, round_robin, least_load, p2c, session_affinity, prefix_aware, slo_goodput, profile"
    )


def test_a_name_without_a_close_match_gets_no_hint() -> None:
    with pytest.raises(UnknownPolicy, match=r"^no policy 'zzz'; there are"):
        registry.create("zzz")


def test_an_import_string_is_an_unknown_name_and_imports_nothing() -> None:
    name = "wsgiref.simple_server:make_server"
    before = set(sys.modules)
    with pytest.raises(UnknownPolicy):
        registry.create(name)
    assert set(sys.modules) == before


def test_a_registered_policy_can_be_created() -> None:
    registry.register(Firstborn)
    assert registry.names()[-1] == "firstborn"
    assert registry.create("firstborn") == Firstborn()


def test_the_same_class_twice_is_harmless_and_another_is_refused() -> None:
    registry.register(Firstborn)
    registry.register(Firstborn)
    with pytest.raises(DuplicatePolicy, match=r"Usurper calls itself 'random', but so does .*\.Random"):
        registry.register(Usurper)
    assert registry.create("random").name == "random"
    assert type(registry.create("random")) is registry.BUILT_IN["random"]


class Loose:
    """No dataclass, a bad name, no pick."""

    name = "Not A Name"


@dataclass(frozen=True)
class Demanding(Firstborn):
    """A policy with a parameter that has no default."""

    name: ClassVar[str] = "demanding"
    url: str


def test_a_class_that_is_no_policy_is_refused_with_everything_it_lacks() -> None:
    no_policy: Any = Loose
    with pytest.raises(
        InvalidPolicy, match="frozen dataclass, a class attribute `name` in snake_case, a method `pick`"
    ):
        registry.register(no_policy)


def test_a_policy_with_a_parameter_that_has_no_default_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="every parameter needs a default; these have none: url"):
        registry.register(Demanding)


def test_entry_points_are_loaded_when_asked_and_again_is_harmless() -> None:
    found = [entry("firstborn", f"{__name__}:Firstborn")]
    registry.load_entry_points(found=found)
    registry.load_entry_points(found=found)
    assert registry.create("firstborn") == Firstborn()


def test_installed_entry_points_load() -> None:
    registry.load_entry_points()
    assert set(registry.BUILT_IN) <= set(registry.names())


@pytest.mark.parametrize(
    ("name", "value", "error", "said"),
    [
        ("x", "no_such_module_here:X", InvalidPolicy, "entry point 'x' .*cannot be loaded"),
        ("x", f"{__name__}:Missing", InvalidPolicy, "cannot be loaded"),
        ("other", f"{__name__}:Firstborn", InvalidPolicy, "the class must have name = 'other'"),
        ("random", f"{__name__}:Usurper", DuplicatePolicy, "calls itself 'random'"),
    ],
)
def test_a_bad_entry_point_is_named(name: str, value: str, error: type[SchedulerError], said: str) -> None:
    with pytest.raises(error, match=said):
        registry.load_entry_points(found=[entry(name, value)])
    assert registry.names() == tuple(registry.BUILT_IN)


@pytest.mark.slow
def test_importing_the_registry_looks_for_no_entry_points() -> None:
    spy = (
        "import importlib.metadata as m\n"
        "def refuse(**_): raise SystemExit('entry points were looked for')\n"
        "m.entry_points = refuse\n"
        "import schedulers.registry\n"
    )
    subprocess.run([sys.executable, "-c", spy], check=True, timeout=60)


# Policies that come and go


def test_an_offered_policy_is_created_under_its_name_and_digest_only() -> None:
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    assert registry.names()[-1] == "firstborn@3f2a9c1d"
    assert isinstance(registry.create("firstborn@3f2a9c1d"), Firstborn)
    with pytest.raises(UnknownPolicy, match="'firstborn' of a plugin file is offered as firstborn@3f2a9c1d"):
        registry.create("firstborn")


def test_the_hint_names_every_offered_version() -> None:
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    registry.offer("firstborn@00000000", Firstborn)
    with pytest.raises(UnknownPolicy, match="offered as firstborn@3f2a9c1d and firstborn@00000000"):
        registry.create("firstborn@99999999")


def test_a_withdrawn_policy_is_unknown_and_its_instances_still_work() -> None:
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    policy = registry.create("firstborn@3f2a9c1d")
    registry.withdraw("firstborn@3f2a9c1d")
    registry.withdraw("firstborn@3f2a9c1d")
    assert "firstborn@3f2a9c1d" not in registry.names()
    assert isinstance(policy.pick(request_of(), snapshot_of([PodLoad()])), Decision)


def test_a_built_in_policy_cannot_be_withdrawn() -> None:
    registry.withdraw("random")
    assert "random" in registry.names()


@pytest.mark.parametrize("name", ["firstborn", "firstborn@", "firstborn@3F2A9C1D", "firstborn@3f2a9c1d0", "@3f2a9c1d"])
def test_an_offer_needs_a_name_and_a_digest(name: str) -> None:
    with pytest.raises(InvalidPolicy, match="is not NAME@DIGEST"):
        registry.offer(name, Firstborn)


def test_one_name_is_one_class() -> None:
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    with pytest.raises(DuplicatePolicy, match="offered already"):
        registry.offer("firstborn@3f2a9c1d", Usurper)


def test_only_the_named_entry_points_are_loaded() -> None:
    found = [entry("firstborn", f"{__name__}:Firstborn"), entry("broken", "no_such_module_anywhere:X")]
    registry.load_entry_points(["firstborn"], found)
    assert "firstborn" in registry.names()
    registry.load_entry_points([], found)
    with pytest.raises(InvalidPolicy, match="cannot be loaded"):
        registry.load_entry_points(["*"], found)


def test_an_undeclared_entry_point_is_named() -> None:
    with pytest.raises(UnknownPolicy, match="'nonesuch'; declared: firstborn"):
        registry.load_entry_points(["nonesuch"], [entry("firstborn", f"{__name__}:Firstborn")])


def test_only_built_in_policies_need_no_watching() -> None:
    registry.offer("firstborn@3f2a9c1d", Firstborn)
    assert registry.is_built_in("random")
    assert not registry.is_built_in("firstborn@3f2a9c1d")
