"""The chart's values: each has an effect, a description and a schema, and wrong ones are refused in clear words."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from scripts.chart_schema import SCHEMA, VALUES, comments
from tests.fakes.chart_cases import CASES
from tests.fakes.each_case import each_case
from tests.fakes.helm_chart import Refused, text_of

pytestmark = pytest.mark.slow

Place = tuple[str | int, ...]
WHOLE = json.loads(SCHEMA.read_text())
EACH = "*"
"""In a path: every item of a list."""

PLAIN = {"annotations", "className", "global", "image", "resources", "size"}
"""Keys that say enough without a description."""

REFUSED: list[tuple[Mapping[str, Any], str]] = [
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"replicas": "two"}, "at '/replicas': got string, want integer"),
    ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    ({"config": {"drain": {"settle": 1}}}, "at '/config/drain': additional properties 'settle' not allowed"),
    ({"config": {"pools": [{"pods": ["a:1"]}]}}, "at '/config/pools/0': missing property 'name'"),
    ({"config": {"limits": {"max_queue": "many"}}}, "at '/config/limits/max_queue': got string, want integer"),
    ({"config": {"control": None}}, "at '/config': missing property 'control'"),
    ({"monitoring": {"monitor": "yes"}}, "must be one of 'none', 'ServiceMonitor', 'PodMonitor'"),
    ({"image": {"tag": 1.5}}, "at '/image/tag': got number, want string"),
    (
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        "at '/podDisruptionBudget/maxUnavailable': minimum: got 0, want 1",
    ),
    ({"service": {"type": "clusterip"}}, "must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
    ({"engineScaling": {"engines": [{"pool": "a", "name": "b"}]}}, "missing properties 'kind', 'maxReplicas'"),
    ({"image": {"repository": "example.com/turnout:1.0"}}, "has a tag. Put it into image.tag."),
    ({"image": {"repository": f"example.com/turnout@sha256:{'0' * 64}"}}, "Put it into image.digest."),
    ({"redis": {"enabled": False}}, "set config.state to the URL of your Redis"),
    ({"config": {"state": "redis://redis.data:6379/0"}}, "Set redis.enabled to false, or leave config.state out."),
    ({"config": {"control": {"tls": {"cert_file": "a", "key_file": "b", "client_ca_file": "c"}}}}, "Leave it out."),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: name at least one Gateway"),
    ({"autoscaling": {"enabled": True, "minReplicas": 11}}, "minReplicas is more than autoscaling.maxReplicas"),
    ({"autoscaling": {"enabled": True, "cpuPercent": 0, "activeRequests": 0}}, "are both 0"),
    ({"priorityClass": {"value": 5}}, "set priorityClass.name, too"),
]


@each_case("values, words", REFUSED)
def test_wrong_values_are_refused_and_the_message_says_where_and_why(values: Mapping[str, Any], words: str) -> None:
    with pytest.raises(Refused) as refusal:
        text_of(values)
    assert words in str(refusal.value)


def leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Each value that is no section, with its path."""
    if isinstance(value, dict | list) and value:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))
    else:
        yield path, value


def properties(schema: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of each value that the chart's own part of the schema knows."""
    for key, each in schema.get("properties", {}).items():
        items = each.get("items", {})
        if each.get("properties"):
            yield from properties(each, (*path, key))
        elif items.get("properties"):
            yield from properties(items, (*path, key, EACH))
        else:
            yield (*path, key)


def test_the_schema_has_the_values_of_the_file() -> None:
    known = {path for path in properties(WHOLE) if EACH not in path} - {("global",)}
    given = {path for path, _ in leaves(yaml.safe_load(VALUES.read_text()))}
    assert {path for path in known if not any(each[: len(path)] == path for each in given)} == set()
    lists = {path[: path.index(EACH)] for path in properties(WHOLE) if EACH in path}
    assert {path for path in given if not any(path[: len(each)] == each for each in known | lists)} == set()


def test_every_value_is_described() -> None:
    texts = dict(comments(VALUES.read_text()))
    known = [path for path in properties(WHOLE) if EACH not in path]
    bare = [path for path in known if not texts.get(path) and path[-1] not in PLAIN]
    assert [".".join(path) for path in bare] == []


def test_every_value_is_in_a_case() -> None:
    found = {path for values in CASES.values() for path, _ in leaves(values)}
    used = {tuple(EACH if isinstance(key, int) else key for key in path) for path in found}
    known = set(properties(WHOLE)) - {("global",)}
    assert {path for path in known if not any(each[: len(path)] == path for each in used)} == set()


def without(values: Mapping[str, Any], path: Place) -> dict[str, Any]:
    """The values without that one."""
    made = copy.deepcopy(dict(values))
    where: Any = made
    for key in path[:-1]:
        where = where[key]
    del where[path[-1]]
    return made


@each_case("name", CASES)
def test_every_value_has_an_effect(name: str) -> None:
    """Without one of its values, a case renders something else or is refused."""
    whole = text_of(CASES[name])
    for path, _ in leaves(CASES[name]):
        if path:
            try:
                assert text_of(without(CASES[name], path)) != whole, path
            except Refused:
                continue
