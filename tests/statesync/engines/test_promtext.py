"""Finding metrics on Prometheus text pages; `test_metrics_page.py` reads whole pages of engines."""

from __future__ import annotations

from functools import partial

from statesync.engines.promtext import first, latest, mean, newest, samples, total
from tests.fakes.each_case import each_case


def test_a_metric_is_found_when_another_begins_with_its_name() -> None:
    page = b'\nx_total_created 5\nx_total{a="1"} 7\nx_total{a="2"} 8\nx_total_more 9\n'
    assert [sample.value for sample in samples(page, b"x_total")] == [7.0, 8.0]


@each_case("line", ["{} NaN", "{}", "{", " 5", '{max_lora="4"} x', "_more{} 5"])
def test_a_series_without_a_time_reports_no_adapters(line: str) -> None:
    page = f'\nvllm:lora_requests_info{line}\nvllm:num_requests_running{{max_lora="9"}} 7'.encode()
    assert newest(page, b"vllm:lora_requests_info") == b""


def test_the_first_name_that_the_page_has_counts() -> None:
    look = partial(samples, b"\nold 1\nnew 2\nnew 4\n")
    assert first(look, ((b"newest", total), (b"new", total), (b"old", total))) == 6.0
    assert first(look, ((b"new", mean),)) == 3.0
    assert first(look, ((b"new", latest),)) == 4.0
    assert first(look, ((b"new", lambda found: None), (b"old", total))) == 1.0
    assert first(look, ((b"none", total),)) is None
