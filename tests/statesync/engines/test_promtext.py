"""Reading load out of Prometheus text. `metrics-vllm-0.32.txt` is cut from the page of a real, busy vLLM;
`metrics-sglang.txt` is written after SGLang's collector (labels and names), with invented values."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import Adapters
from statesync.engines.promtext import newest, parse, samples
from statesync.types import EngineReport

DATA = pathlib.Path(__file__).parents[2] / "data"
VLLM = (DATA / "metrics-vllm-0.32.txt").read_bytes()
SGLANG = (DATA / "metrics-sglang.txt").read_bytes()


def test_a_vllm_page_is_read() -> None:
    assert parse(VLLM) == EngineReport(
        queued=0,
        running=6,
        kv_usage=0.0014650225857648635,
        kv_capacity_tokens=1048576,
        prefix_queries_tokens=3918,
        prefix_hits_tokens=2304,
        started_at=1.7953328015779183e09,
    )


def test_an_sglang_page_is_read_with_ranks_counted_once_and_priorities_not_twice() -> None:
    assert parse(SGLANG) == EngineReport(
        queued=3,
        running=7,
        kv_usage=0.375,
        kv_capacity_tokens=2 * 471258 + 1000000,
        prefix_queries_tokens=8128902,
        prefix_hits_tokens=1024,
    )


def test_engines_on_one_page_are_summed_and_their_usage_averaged() -> None:
    page = b"""\
vllm:num_requests_running{engine="0",model_name="m"} 6.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_waiting{engine="0",model_name="m"} 1.0
vllm:num_requests_waiting{engine="1",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 50.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.6
vllm:prefix_cache_queries_created{engine="0"} 100.0
vllm:prefix_cache_queries_created{engine="1"} 900.0
vllm:cache_config_info{block_size="16",engine="0",num_cpu_blocks="None",num_gpu_blocks="100"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_cpu_blocks="50",num_gpu_blocks="100"} 1.0
"""
    report = parse(page)
    assert (report.running, report.queued) == (8, 5)
    assert report.kv_usage == pytest.approx(0.4)
    assert report.kv_capacity_tokens == 100 * 16 + 100 * 16 + 50 * 16
    assert report.started_at == 900.0  # the latest start: a restart of either engine shows


def test_older_vllm_names_are_read_where_the_new_ones_are_missing() -> None:
    page = b"""\
vllm:gpu_cache_usage_perc{model_name="m"} 0.5
vllm:gpu_prefix_cache_queries_total{model_name="m"} 10
vllm:gpu_prefix_cache_hits_total{model_name="m"} 4
process_start_time_seconds 1.7e9
"""
    assert parse(page) == EngineReport(kv_usage=0.5, prefix_queries_tokens=10, prefix_hits_tokens=4, started_at=1.7e9)


def test_label_values_do_not_confuse_the_reader() -> None:
    page = rb"""vllm:num_requests_running{model_name="a } 9 \" {",engine="0"} 3 1700000000000
vllm:num_requests_waiting 2
"""
    report = parse(page)
    assert (report.running, report.queued) == (3, 2)


def test_windows_line_ends_and_a_missing_last_newline_are_read() -> None:
    report = parse(b'vllm:num_requests_running{engine="0"} 3.0\r\nvllm:num_requests_waiting{engine="0"} 2.0')
    assert (report.running, report.queued) == (3, 2)


def test_a_metric_is_found_when_another_begins_with_its_name() -> None:
    page = b'\nx_total_created 5\nx_total{a="1"} 7\nx_total{a="2"} 8\nx_total_more 9\n'
    assert [sample.value for sample in samples(page, b"x_total")] == [7.0, 8.0]


def test_the_lora_adapters_are_those_of_the_newest_series() -> None:
    page = rb"""# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 0.0
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql,chat",waiting_lora_adapters="poet"} 1.7631e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7629e+09
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running 3
"""
    report = parse(page)
    assert report.adapters == Adapters(frozenset({"sql", "chat"}), frozenset({"poet"}), 4)
    assert report.running == 3


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (r'running_lora_adapters="a\"b, c\\d,",max_lora="x"', Adapters(frozenset({'a"b', "c\\d"}))),
        ('engine="0",waiting_lora_adapters="w",max_lora="2"', Adapters(frozenset(), frozenset({"w"}), 2)),
        ('engine="0"', None),
        ("", None),
    ],
)
def test_adapters_are_read_in_any_order_and_quoting(labels: str, expected: Adapters | None) -> None:
    page = f"vllm:num_requests_running 1\nvllm:lora_requests_info{{{labels}}} 1.0\r\n".encode()
    assert parse(page).adapters == expected


@pytest.mark.parametrize("line", ["{} NaN", "{}", "{", " 5", '{max_lora="4"} x', "_more{} 5"])
def test_a_series_without_a_time_reports_no_adapters(line: str) -> None:
    page = f'\nvllm:lora_requests_info{line}\nvllm:num_requests_running{{max_lora="9"}} 7'.encode()
    assert newest(page, b"vllm:lora_requests_info") == b""


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "nonsense", ""])
def test_values_that_are_not_numbers_are_not_reported(value: str) -> None:
    assert parse(f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 1\n".encode()) == EngineReport(queued=1)


def test_counts_are_never_negative_and_usage_stays_within_bounds() -> None:
    report = parse(b"vllm:num_requests_running -1\nvllm:kv_cache_usage_perc 1.5\n")
    assert (report.running, report.kv_usage) == (0, 1.0)


@pytest.mark.parametrize("page", [b"", b"<html>vllm: it works</html>", b"\x00\xff", b"node_cpu_seconds_total 5\n"])
def test_an_unrelated_page_reports_nothing(page: bytes) -> None:
    assert parse(page) == EngineReport()


@given(st.binary(max_size=300), st.integers(0, len(VLLM)))
def test_garbage_anywhere_in_a_page_never_raises(garbage: bytes, at: int) -> None:
    report = parse(VLLM[:at] + garbage + VLLM[at + len(garbage) :])
    assert report.kv_usage is None or 0 <= report.kv_usage <= 1


def test_blocks_that_vllm_found_in_an_offload_tier_are_hits_too() -> None:
    page = b"vllm:prefix_cache_queries_total{} 100\nvllm:prefix_cache_hits_total{} 30\n"
    tier = b"vllm:external_prefix_cache_queries_total{} 70\nvllm:external_prefix_cache_hits_total{} 20\n"
    assert parse(page).prefix_hits_tokens == 30
    assert parse(page + tier).prefix_hits_tokens == 50
    assert parse(page + tier).prefix_queries_tokens == 100
