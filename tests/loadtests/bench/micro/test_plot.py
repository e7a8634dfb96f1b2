"""The plot's arithmetic, and a file that a browser can read."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from loadtests.bench.micro.plot import BOTTOM, LEFT, RIGHT, TOP, axis, number, spread, svg

SVG = "{http://www.w3.org/2000/svg}"
SERIES = {"p2c": [(10.0, 2.0), (1000.0, 2.0)], "a < b & c": [(10.0, 2.0), (1000.0, 200.0)]}


def test_an_axis_is_logarithmic_and_covers_whole_decades() -> None:
    made = axis([2.0, 350.0], 0, 300)
    assert made.ticks() == [1, 10, 100, 1000]
    assert [round(made.at(value)) for value in (1, 10, 1000)] == [0, 100, 300]


def test_an_axis_of_one_value_covers_a_decade() -> None:
    assert axis([10.0], 0, 100).ticks() == [10, 100]
    assert axis([0.3, 0.4], 0, 100).ticks() == [pytest.approx(0.1), 1]


def test_an_axis_may_run_upwards() -> None:
    made = axis([1.0, 100.0], 350, 40)
    assert made.at(1) == 350
    assert made.at(100) == 40


def test_names_are_moved_apart_no_further_than_needed() -> None:
    assert spread([100, 40, 101, 300], gap=15) == [100, 40, 115, 300]
    assert spread([50, 50, 50], gap=10) == [50, 60, 70]


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), (10, "10"), (1000, "1k"), (32768, "32.8k"), (1e7, "10M")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_the_file_is_xml_with_a_line_and_a_name_for_each_series() -> None:
    root = ElementTree.fromstring(svg("cost & size", "pods", SERIES))
    assert len(root.findall(f"{SVG}polyline")) == 2
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert {"p2c", "a < b & c", "pods", "cost & size"} <= set(texts)
    assert "prefers-color-scheme: dark" in "".join(root.itertext())


def test_a_higher_cost_is_drawn_higher_and_all_points_are_inside() -> None:
    root = ElementTree.fromstring(svg("t", "pods", SERIES))
    lines = [line.attrib["points"].split() for line in root.findall(f"{SVG}polyline")]
    places = [[tuple(map(float, point.split(","))) for point in line] for line in lines]
    assert places[0][0] == places[1][0]
    assert places[1][1][1] < places[0][1][1]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for line in places for x, y in line)
