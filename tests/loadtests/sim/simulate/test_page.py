"""The report is one self-contained file, and its curves are those of the runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from loadtests.sim.simulate.page import Axis, Curve, cdf, chart, page
from loadtests.sim.simulate.runs import Case, simulate
from loadtests.sim.simulate.summary import summarise, table
from tests.fakes.simulated_world import SMALL, arrival, trace

CASE = Case(pods=2, profile=SMALL)


def report(name: str = "t.jsonl", limit: int | None = None) -> str:
    runs = [simulate(trace(*[arrival(0.5 * n) for n in range(30)]), policy, CASE) for policy in ("p2c", "lmetric")]
    return page(table(name, CASE, [summarise(each, CASE) for each in runs], limit), runs)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_it_loads_no_other_file() -> None:
    parser = Tags()
    parser.feed(report())
    tags = [tag for tag, _ in parser.seen]
    assert not {"script", "link", "img", "iframe"} & set(tags)
    assert not [attrs for _, attrs in parser.seen if "src" in attrs or "href" in attrs]
    assert [attrs.get("class") for tag, attrs in parser.seen if tag == "svg"].count("chart") == 3
    assert tags.count("polyline") == 3 * 2


def test_it_names_the_policies_and_the_case() -> None:
    text = report()
    assert "2 pods of small" in text
    for name in ("p2c", "lmetric"):
        assert text.count(f"<title>{name}</title>") == 3


def test_each_chart_has_its_own_keys_and_names_its_axes() -> None:
    """Case H 46."""
    text = report()
    assert text.count("<p class=keys>") == text.count('role="img"') == 3
    for label in ("time to first token, seconds", "share of requests", "time, seconds"):
        assert f">{label}</text>" in text
    assert 'stroke-dasharray="none"' in text and 'stroke-dasharray="7 4"' in text


def test_it_says_that_only_the_first_requests_were_played() -> None:
    """Case H 46."""
    assert "the first 1,000 requests (--limit), 2 pods" in report(limit=1000)
    assert "--limit" not in report()


def test_a_name_is_escaped_text() -> None:
    assert "<script>" not in report("<script>alert(1)</script>.jsonl")


def test_a_distribution_ends_at_its_largest_value() -> None:
    assert cdf([4.0, 1.0, 3.0, 2.0]) == [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)]
    points = cdf(range(10_000))
    assert len(points) == 200
    assert points[-1] == (9999, 1.0)


def test_an_empty_distribution_has_no_points() -> None:
    assert cdf([]) == []


def test_points_lie_within_the_picture_and_rise() -> None:
    axis = Axis("x", 0.0, 10.0, (0, 5, 10))
    svg = chart([Curve("c", [(0.0, 0.0), (5.0, 5.0), (99.0, 99.0)])], axis, axis)
    found = re.search(r'points="([^"]*)"', svg)
    assert found is not None
    points = [tuple(map(float, pair.split(","))) for pair in found[1].split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert all(0 <= x <= 720 and 0 <= y <= 300 for x, y in points)
