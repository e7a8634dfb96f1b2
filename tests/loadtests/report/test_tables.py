import pytest

from loadtests.report.tables import between, facts, grid


def test_a_grid_is_aligned() -> None:
    assert grid(["", "n"], [["a", "10"], ["bb", "2"]]) == "|    |  n |\n|----|---:|\n| a  | 10 |\n| bb |  2 |"


def test_facts_are_a_grid_of_names_and_values() -> None:
    assert facts("machine", {"cores": "2"}) == "| machine |   |\n|---------|--:|\n| cores   | 2 |"


def test_only_what_is_between_the_marks_is_replaced() -> None:
    page = "before\n<!-- a -->\nold\n<!-- b -->\nafter\n"
    once = between(page, "<!-- a -->", "<!-- b -->", "new")
    assert once == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"
    assert between(once, "<!-- a -->", "<!-- b -->", "new") == once


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks"):
        between("a page without marks", "<!-- a -->", "<!-- b -->", "new")
