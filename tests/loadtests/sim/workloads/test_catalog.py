"""Workloads by name, with another shape or seed where one is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.sim.simulate.traces import TraceError
from loadtests.sim.workloads.catalog import WORKLOADS, trace_of


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_seed_decides_everything(name: str) -> None:
    one, same, other = (trace_of(name, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert one.name == name
    assert len(one.arrivals) > 1000


def test_a_shape_and_a_seed_can_be_given_with_the_name() -> None:
    trace = trace_of("rag:requests=10,seed=3", seed=1)
    assert len(trace.arrivals) == 10
    assert trace == trace_of("rag:requests=10", seed=3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("rag:requests", "rag:requests: 'requests' is not key=value"),
        ("rag:requests=0", "rag takes requests, rate, documents, .*, seed"),
        ("rag:pages=3", "unknown field `pages`"),
        ("rag:seed=x", "rag:seed=x: "),
        ("nothing", "nothing: a trace ends in .jsonl or .csv"),
    ],
)
def test_what_cannot_be_made_is_an_error_that_says_what_can(source: str, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        trace_of(source)


def test_any_other_name_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rag.csv"
    file.write_text("timestamp,input_length,output_length\n0,10,2\n")
    assert trace_of(str(file)).arrivals[0].prompt_tokens == 10
