import re

from loadtests.sim.engine.model import Engine, EngineRequest
from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.simpod.metrics import HISTOGRAMS, Histogram, Lifetime, Meters


def meters() -> tuple[Engine, Meters]:
    engine = Engine(PROFILES["tiny"])
    return engine, Meters(engine, ("m",), 1000.0)


def value(text: str, name: str, label: str = "") -> float:
    found = re.search(rf"^{name}\{{[^}}]*{label}[^}}]*\}} (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_histogram_counts_a_value_on_a_bound_in_that_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for seen, times in ((1.0, 1), (1.5, 2), (9.0, 1)):
        histogram.observe(seen, times)
    assert (histogram.counts, histogram.total) == ([1, 2, 1], 13.0)


def test_gauges_and_counters_have_the_engines_values() -> None:
    engine, counted = meters()
    engine.submit(EngineRequest("a", 160, range(10), 50))
    engine.next_step(0.0)
    text = counted.text().decode()
    assert value(text, "vllm:num_requests_running") == 1
    assert value(text, "vllm:kv_cache_usage_perc") == engine.kv_usage > 0
    assert value(text, "vllm:prefix_cache_queries_total") == 160
    assert value(text, "vllm:generation_tokens_total") == 1
    assert value(text, "vllm:cache_config_info", 'kv_cache_size_tokens="65536"') == 1
    assert "\nprocess_start_time_seconds 1000.00\n" in text


def test_a_finished_request_is_in_every_histogram_that_applies_to_it() -> None:
    _, counted = meters()
    counted.first_token(0.03)
    counted.request(Lifetime(0.0, 0.01, 0.03, 1.03, 100, 11, 64, "length"))
    counted.step(4, 100, 0.02)
    text = counted.text().decode()
    assert value(text, "vllm:request_success_total", 'finished_reason="length"') == 1
    assert value(text, "vllm:request_time_per_output_token_seconds_sum") == 0.1
    assert value(text, "vllm:inter_token_latency_seconds_count") == 4
    assert value(text, "vllm:time_to_first_token_seconds_bucket", 'le="0.04"') == 1
    assert value(text, "vllm:time_to_first_token_seconds_bucket", 'le="0.02"') == 0
    assert value(text, "vllm:request_params_max_tokens_sum") == 64
    assert all(f"vllm:{name}_count" in text for name in HISTOGRAMS)


def test_every_sample_line_belongs_to_a_declared_family() -> None:
    text = meters()[1].text().decode()
    declared = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    sampled = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in sampled} <= declared
