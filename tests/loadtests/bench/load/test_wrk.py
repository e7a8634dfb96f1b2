"""wrk's script and report."""

from __future__ import annotations

import pytest

from loadtests.bench.load.cases import CASES
from loadtests.bench.load.result import Load, LoadFailed
from loadtests.bench.load.wrk import parse, script

OUTPUT = """Running 4s test @ http://127.0.0.1:8000
  1 threads and 32 connections
  22931 requests in 1.00s, 6.87MB read
TURNOUT-BENCH {"requests":22931,"duration_us":2000000,"p50_us":1220,"p99_us":6000,"failed":1,"bad_status":2931}
"""


def test_the_scripts_line_is_found_among_wrks_output() -> None:
    load = parse(OUTPUT)
    assert load == Load(22931, 2.0, p50_ms=1.22, p99_ms=6.0, failed=1, bad_status=2931)


def test_answers_with_a_bad_status_do_not_count_as_throughput() -> None:
    assert parse(OUTPUT).rate == 10_000


def test_output_without_the_line_is_an_error_that_shows_it() -> None:
    with pytest.raises(LoadFailed, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_a_run_that_got_no_answer_is_an_error() -> None:
    with pytest.raises(LoadFailed, match="no answer"):
        parse(OUTPUT.replace('"requests":22931', '"requests":0'))


def test_the_script_numbers_its_prompts_from_the_given_number() -> None:
    text = script(CASES["conversations"], first=40_000_000)
    assert "local number = 40000000" in text
    assert "local active, turns = 64, 10" in text
    assert "$" not in text
