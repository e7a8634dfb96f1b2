"""Reading load out of Prometheus text. `metrics-vllm-0.32.txt` is cut from the page of a real, busy vLLM;
`metrics-sglang.txt` is written after SGLang's collector (labels and names), with invented values."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedulers.types import Adapters
from statesync.engines import metrics_page
from statesync.engines.metrics_page import engine_of, parse, parse_ranks
from statesync.engines.promtext import MetricSample, samples
from statesync.types import EngineReport
from tests.fakes.each_case import each_case

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


@each_case(
    ("page", "expected"),
    [
        (
            (
                b'ray_vllm_num_requests_waiting{ReplicaId="r",model_name="m"} 4.0\n'
                b'ray_vllm_num_requests_running{ReplicaId="r",model_name="m"} 9.0\n'
                b'ray_vllm_kv_cache_usage_perc{ReplicaId="r",model_name="m"} 0.5\n'
                b'ray_vllm_prefix_cache_queries_total{ReplicaId="r"} 100.0\n'
                b'ray_vllm_prefix_cache_hits{ReplicaId="r"} 40.0\n'
            ),
            EngineReport(4, 9, 0.5, prefix_queries_tokens=100, prefix_hits_tokens=40),
        ),
        (
            (
                b"# TYPE tgi_queue_size gauge\ntgi_queue_size 3\n# TYPE tgi_batch_current_size gauge\n"
                b"tgi_batch_current_size 5\ntgi_request_count 150\n"
            ),
            EngineReport(3, 5),
        ),
        (
            (
                b'trtllm_num_requests_running{model_name="m",engine_type="undefined"} 7.0\n'
                b'trtllm_num_requests_waiting{model_name="m",engine_type="undefined"} 2.0\n'
                b'trtllm_kv_cache_utilization{model_name="m"} 0.62\ntrtllm_kv_cache_max_blocks{model_name="m"} 1000.0\n'
                b'trtllm_kv_cache_tokens_per_block{model_name="m"} 32.0\nprocess_start_time_seconds 1.7e9\n'
            ),
            EngineReport(2, 7, 0.62, 32000, started_at=1.7e9),
        ),
        (
            (
                b"llamacpp:prompt_tokens_total 6886\nllamacpp:kv_cache_usage_ratio 0.63\n"
                b"llamacpp:requests_processing 2\nllamacpp:requests_deferred 1\n"
            ),
            EngineReport(1, 2, 0.63),
        ),
        (
            (
                b'nv_inference_pending_request_count{model="ensemble",version="1"} 50\n'
                b'nv_trt_llm_request_metrics{model="t",request_type="waiting",version="1"} 6\n'
                b'nv_trt_llm_request_metrics{model="t",request_type="scheduled",version="1"} 3\n'
                b'nv_trt_llm_request_metrics{model="t",request_type="max",version="1"} 512\n'
                b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="t",version="1"} 0.25\n'
                b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="t",version="1"} 64\n'
                b'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="t",version="1"} 6239\n'
            ),
            EngineReport(6, 3, 0.25, 64 * 6239),
        ),
        (b'nv_inference_pending_request_count{model="m",version="1"} 5\n', EngineReport(5)),
        (
            (
                b'lmdeploy:num_requests_running{engine="0",model_name="m"} 4.0\n'
                b'lmdeploy:num_requests_running{engine="1",model_name="m"} 1.0\n'
                b'lmdeploy:num_requests_waiting{engine="0",model_name="m"} 3.0\n'
                b'lmdeploy:gpu_cache_usage_perc{engine="0",model_name="m"} 0.5\n'
                b'lmdeploy:gpu_cache_usage_perc{engine="1",model_name="m"} 0.25\n'
            ),
            EngineReport(3, 5, 0.375),
        ),
        (b"sglang_num_queue_reqs 3\nsglang_num_running_reqs 4\n", EngineReport(3, 4)),
    ],
    ids=["ray", "tgi", "trtllm", "llamacpp", "triton trtllm", "triton", "lmdeploy", "sglang by OpenTelemetry"],
)
def test_each_engine_s_page_is_read_by_its_own_names(page: bytes, expected: EngineReport) -> None:
    """Case D 18."""
    assert parse(b"# HELP x y\n" + page) == expected


@each_case(
    ("page", "engine"),
    [
        (VLLM, "vllm"),
        (SGLANG, "sglang"),
        (b"ray_vllm_num_requests_waiting 1\n", "vllm"),
        (b"tgi_queue_size 3\n", "tgi"),
        (b"node_load1 3\n", ""),
        (b"[]", ""),
    ],
)
def test_the_engine_is_known_by_its_page(page: bytes, engine: str) -> None:
    assert engine_of(page) == engine


def test_a_rank_of_several_on_one_page_has_its_own_series_and_those_that_name_none() -> None:
    page = b"""\
vllm:num_requests_running{engine="0",model_name="m"} 6.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.2
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.6
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="50"} 1.0
vllm:prefix_cache_hits_total{engine="0"} 7
process_start_time_seconds 5.0
"""
    first, second = parse_ranks(page, 2)
    assert (first.running, first.kv_usage, first.kv_capacity_tokens, first.prefix_hits_tokens) == (6, 0.2, 1600, 7)
    assert (second.running, second.kv_usage, second.kv_capacity_tokens) == (2, 0.6, 800)
    assert (second.prefix_hits_tokens, first.started_at, second.started_at) == (None, 5.0, 5.0)


def test_the_ranks_of_a_node_are_counted_from_its_first() -> None:
    page = b'vllm:num_requests_running{engine="6"} 1\nvllm:num_requests_running{engine="7"} 3\n'
    assert [each.running for each in parse_ranks(page, 2)] == [1, 3]


def test_sglang_s_ranks_are_read_apart() -> None:
    assert [(each.running, each.queued) for each in parse_ranks(SGLANG, 2)] == [(5, 3), (2, 0)]


def test_a_page_of_many_ranks_is_searched_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, searched = 64, list[bytes]()

    def counted(page: bytes, name: bytes) -> list[MetricSample]:
        searched.append(name)
        return samples(page, name)

    monkeypatch.setattr(metrics_page, "samples", counted)
    lines = [f'vllm:num_requests_running{{engine="{rank}"}} {rank}' for rank in range(ranks)]
    assert [each.running for each in parse_ranks("\n".join(lines).encode(), ranks)] == [*range(ranks)]
    assert len(searched) == len(set(searched))
