"""Paths and beginnings of paths."""

from __future__ import annotations

import pytest

from router.dataplane.request.path_table import PathTable

TABLE = PathTable([("/agents/*", "all"), ("/agents/slow/*", "slow"), ("/agents/one", "one"), ("/a", "a"), ("/a", "b")])


@pytest.mark.parametrize(
    ("path", "value", "rest"),
    [
        (b"/agents/x/run", "all", b"x/run"),
        (b"/agents", "all", b""),
        (b"/agents/", "all", b""),
        (b"/agents/slow/x", "slow", b"x"),
        (b"/agents/slow", "slow", b""),
        (b"/agents/slower", "all", b"slower"),
        (b"/agents/one", "one", b""),
        (b"/agents/one/two", "all", b"one/two"),
        (b"/a", "a", b""),
    ],
)
def test_the_longest_row_that_is_for_a_path_counts(path: bytes, value: str, rest: bytes) -> None:
    assert TABLE.find(path) == (value, rest)


@pytest.mark.parametrize("path", [b"/agentsx", b"/", b"", b"/a/b", b"/Agents/x"])
def test_a_path_without_a_row_has_no_value(path: bytes) -> None:
    assert TABLE.find(path) is None
