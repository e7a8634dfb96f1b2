"""Clips of base64 are counted wherever they lie, and text of many short runs costs no more than any other."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.request.inline_data import DATA_BYTES, inline_data, may_hold_data

RUN = re.compile(rb"[A-Za-z0-9+/=]+")

pieces = st.lists(
    st.tuples(
        st.integers(0, 9000) | st.sampled_from([1, DATA_BYTES - 1, DATA_BYTES, DATA_BYTES + 1, 2 * DATA_BYTES]),
        st.integers(0, 3) | st.just(DATA_BYTES),
    ),
    max_size=8,
)


@given(pieces)
def test_the_runs_are_those_that_a_search_for_all_of_them_finds(lengths: list[tuple[int, int]]) -> None:
    text = b"".join(b"Ab9/+="[run % 6 :][:1] * run + b"-" * gap for run, gap in lengths)
    runs = [len(run) for run in RUN.findall(text) if len(run) >= DATA_BYTES]
    assert inline_data(memoryview(text)) == (len(runs), sum(runs))


@pytest.mark.parametrize("mark", [b"base64,", b"input_audio"])
def test_data_needs_a_mark_and_a_long_word(mark: bytes) -> None:
    assert may_hold_data(mark + b"A" * DATA_BYTES)
    assert not may_hold_data(mark + b"A A" * DATA_BYTES)
    assert not may_hold_data(b"A" * 2 * DATA_BYTES)
