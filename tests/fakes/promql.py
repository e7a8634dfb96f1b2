"""The metrics and labels that a PromQL expression names. Parses the part of the language that this project uses."""

from __future__ import annotations

import re
from typing import NamedTuple

TARGET_LABELS = frozenset({"instance", "job", "namespace"})
"""Labels that Prometheus adds to every series; the last ones only inside Kubernetes."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_METRIC = re.compile(r"\b((?:turnout|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


class Selector(NamedTuple):
    """A metric and the labels it is selected by."""

    metric: str
    labels: frozenset[str]


def selectors(expr: str) -> list[Selector]:
    """Every metric that the expression reads."""
    bare = _STRING.sub('""', expr)
    return [Selector(found[1], frozenset(_MATCHER.findall(found[2] or ""))) for found in _METRIC.finditer(bare)]


def grouping(expr: str) -> set[str]:
    """Every label that the expression groups or joins by."""
    lists = _GROUPING.findall(_STRING.sub('""', expr))
    return {label.strip() for each in lists for label in each.split(",") if label.strip()}
