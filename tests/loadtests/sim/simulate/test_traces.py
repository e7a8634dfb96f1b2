"""Every format gives the same arrivals, and the error for an unreadable file has place and reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from loadtests.sim.simulate.traces import Trace, TraceError, read_trace


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def jsonl(*lines: dict[str, object]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def at(timestamp: float, prompt: int = 1000, **more: object) -> dict[str, object]:
    return {"timestamp": timestamp, "input_length": prompt, "output_length": 5, **more}


def times(trace: Trace) -> list[float]:
    return [each.at_s for each in trace.arrivals]


def test_mooncakes_lines_become_arrivals_from_zero_on(tmp_path: Path) -> None:
    text = jsonl(at(5000, 600, hash_ids=[1, 2]), at(7500, 100, hash_ids=[1], session="s"))
    trace = read_trace(written(tmp_path, "m.jsonl", text))
    assert (trace.name, trace.unit_tokens) == ("m", 512)
    first, second = trace.arrivals
    assert (first.at_s, first.prompt_tokens, first.output_tokens, first.units) == (0.0, 600, 5, (1, 2))
    assert (second.at_s, second.units, second.session) == (2.5, (1,), "s")


def test_a_compressed_file_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(at(0), at(1000)).encode()))
    assert times(read_trace(path)) == [0.0, 1.0]


def test_azures_table_has_dates_with_seven_digits_and_no_prefixes(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )
    trace = read_trace(written(tmp_path, "azure.csv", text))
    assert times(trace) == [0.0, pytest.approx(4.314579)]
    assert [each.prompt_tokens for each in trace.arrivals] == [374, 396]
    assert trace.arrivals[0].units == ()


def test_a_table_may_count_milliseconds(tmp_path: Path) -> None:
    text = "timestamp,input_length,output_length,more\n1000,10,1,x\n3000,20,2,y\n"
    assert times(read_trace(written(tmp_path, "t.csv", text))) == [0.0, 2.0]


def test_lines_in_the_order_of_their_ends_are_sorted_by_their_starts(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "r.jsonl", jsonl(at(3000, 3), at(1000, 1), at(2000, 2))))
    assert [each.prompt_tokens for each in trace.arrivals] == [1, 2, 3]


def test_a_recordings_blocks_are_cut_into_units_of_the_first_blocks_size(tmp_path: Path) -> None:
    sized = {"block_tokens": 64, "blocks_per_size": 2}
    text = jsonl(at(0, hash_ids=[1, 2, 3, 4, 5], **sized), at(1000, hash_ids=[1, 2, 3, 9], **sized))
    trace = read_trace(written(tmp_path, "r.jsonl", text))
    assert trace.unit_tokens == 64
    long, short = (each.units for each in trace.arrivals)
    assert len(long) == 1 + 1 + 2 + 2 + 4
    assert len(set(long)) == len(long)
    assert long[:4] == short[:4]
    assert not set(long[4:]) & set(short[4:])


def test_requests_with_one_time_stamp_are_spread_up_to_the_next_in_order_and_repeatably(tmp_path: Path) -> None:
    path = written(tmp_path, "m.jsonl", jsonl(*[at(0, n + 1) for n in range(20)], at(3000, 100), at(6000, 200)))
    trace = read_trace(path, seed=3)
    clump = times(trace)[:20]
    assert clump == sorted(clump)
    assert len(set(clump)) == 20
    assert 0 <= clump[0] < clump[-1] < 3.0
    assert [each.prompt_tokens for each in trace.arrivals] == [*range(1, 21), 100, 200]
    assert times(read_trace(path, seed=3)) == times(trace) != times(read_trace(path, seed=4))


def test_requests_with_one_time_stamp_before_a_long_pause_end_within_a_usual_gap(tmp_path: Path) -> None:
    text = jsonl(at(0), at(1000), at(2000), *[at(3000) for _ in range(9)], at(100_000))
    assert times(read_trace(written(tmp_path, "m.jsonl", text)))[-2] < 4.0


def test_a_rate_compresses_the_arrivals_and_a_limit_takes_the_first(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "m.jsonl", jsonl(at(0), at(1000), at(4000))))
    assert times(trace.rated(2.0)) == [0.0, 0.5, 2.0]
    assert times(trace.first(2)) == [0.0, 1.0]


def test_think_times_are_the_traces_or_follow_from_the_ends_of_a_sessions_answers(tmp_path: Path) -> None:
    recorded = [at(0, session="a", e2e_ms=1500.0), at(4000, session="a", e2e_ms=3000.0), at(5000, session="a")]
    text = jsonl(*recorded, at(6000, session="b", think=0.0), at(9000, session="b", think=2.5), at(9500, e2e_ms=10.0))
    thought = [each.think_s for each in read_trace(written(tmp_path, "s.jsonl", text)).arrivals]
    assert thought == [None, 2.5, 0.0, 0.0, 2.5, None]


def test_a_hash_of_any_size_fits_in_a_word(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, "m.jsonl", jsonl(at(0, hash_ids=[-1, 2**63]))))
    assert trace.arrivals[0].units == (2**64 - 1, 2**63)


WRONG = {
    "an unknown ending": ("t.parquet", "", r"ends in \.jsonl or \.csv"),
    "nothing in it": ("t.jsonl", "\n", "no requests"),
    "a line without lengths": ("t.jsonl", jsonl(at(0), {"timestamp": 1}), "line 2.*input_length"),
    "no json": ("t.jsonl", "what\n", "line 1"),
    "a table without its columns": ("t.csv", "a,b\n1,2\n", "needs the columns"),
    "a row without a number": ("t.csv", "timestamp,input_length,output_length\n1,x,3\n", "line 2"),
    "a row that is too short": ("t.csv", "timestamp,input_length,output_length\n1,2\n", "line 2"),
    "two sizes of blocks": (
        "t.jsonl",
        jsonl(at(0, hash_ids=[1]), at(1, hash_ids=[1], block_tokens=64)),
        "disagree on block_tokens: 64, 512",
    ),
    "blocks of nothing": ("t.jsonl", jsonl(at(0, hash_ids=[1], block_tokens=0)), "at least one token"),
}


@pytest.mark.parametrize(("name", "text", "words"), list(WRONG.values()), ids=list(WRONG))
def test_an_invalid_trace_is_reported(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        read_trace(written(tmp_path, name, text))


def test_bytes_that_are_not_text_are_an_error_of_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TraceError, match=r"t\.jsonl"):
        read_trace(path)
