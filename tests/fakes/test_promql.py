"""The parser of PromQL expressions."""

from __future__ import annotations

from tests.fakes.promql import Selector, grouping, selectors


def test_metrics_come_with_the_labels_they_are_selected_by() -> None:
    expr = 'sum by (pool) (rate(turnout_requests_total{status=~"5..",pool!="a}b"}[5m])) / turnout_replicas > 1'
    assert selectors(expr) == [
        Selector("turnout_requests_total", frozenset({"status", "pool"})),
        Selector("turnout_replicas", frozenset()),
    ]


def test_words_inside_strings_are_not_metrics() -> None:
    assert selectors('up{job="turnout_gateway"}') == []


def test_labels_of_groups_and_joins_are_found() -> None:
    assert grouping("sum by (pool, le) (a) and on (instance) b") == {"pool", "le", "instance"}
