"""A pod's /metrics with vLLM's names and buckets, as text. Pure.

Times are wall-clock times, so that they are what a real engine of that speed would report.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from loadtests.sim.engine.model import Engine

_LATENCY: tuple[float, ...] = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
    480.0,
)
_LATENCY += (960.0, 1920.0, 7680.0)
_TTFT: tuple[float, ...] = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    20.0,
    40.0,
)
_TTFT += (80.0, 160.0, 640.0, 2560.0)
_ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKENS = tuple(float(digit * 10**power) for power in range(5) for digit in (1, 2, 5))
_STEP = (1.0, *(2.0**power for power in range(3, 15)))

HISTOGRAMS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "time_to_first_token_seconds": ("Histogram of time to first token in seconds.", _TTFT),
    "inter_token_latency_seconds": ("Histogram of inter-token latency in seconds.", _ITL),
    "request_time_per_output_token_seconds": ("Histogram of time_per_output_token_seconds per request.", _ITL),
    "e2e_request_latency_seconds": ("Histogram of e2e request latency in seconds.", _LATENCY),
    "request_queue_time_seconds": ("Histogram of time spent in WAITING phase for request.", _LATENCY),
    "request_inference_time_seconds": ("Histogram of time spent in RUNNING phase for request.", _LATENCY),
    "request_prefill_time_seconds": ("Histogram of time spent in PREFILL phase for request.", _LATENCY),
    "request_decode_time_seconds": ("Histogram of time spent in DECODE phase for request.", _LATENCY),
    "request_prompt_tokens": ("Number of prefill tokens processed.", _TOKENS),
    "request_generation_tokens": ("Number of generation tokens processed.", _TOKENS),
    "request_params_max_tokens": ("Histogram of the max_tokens request parameter.", _TOKENS),
    "iteration_tokens_total": ("Histogram of number of tokens per engine_step.", _STEP),
}
"""Name without `vllm:` -> help and bounds."""

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")


class Histogram:
    """Counts by upper bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


class Lifetime(NamedTuple):
    """The times of one finished request, in seconds on one clock, and its sizes."""

    arrived_at: float
    admitted_at: float
    first_at: float
    ended_at: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int | None
    finish: str


class Meters:
    """A pod's counters and histograms; gauges and token counters are read from its engine at each scrape."""

    def __init__(self, engine: Engine, models: tuple[str, ...], started_at: float, rank: int = 0) -> None:
        """`started_at`: seconds since the epoch."""
        self._engine, self._started_at, self._rank = engine, started_at, rank
        self._model = models[0]
        self.histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
        self.finished = dict.fromkeys(FINISH_REASONS, 0)

    def step(self, decoded: int, prefilled: int, itl_s: float) -> None:
        """An engine step: tokens decoded, prompt tokens computed, and the time since the step before."""
        self.histograms["iteration_tokens_total"].observe(decoded + prefilled)
        if decoded:
            self.histograms["inter_token_latency_seconds"].observe(itl_s, decoded)

    def first_token(self, ttft_s: float) -> None:
        """A request got its first token."""
        self.histograms["time_to_first_token_seconds"].observe(ttft_s)

    def request(self, life: Lifetime) -> None:
        """A request has been answered."""
        self.finished[life.finish] += 1
        seen = {
            "e2e_request_latency_seconds": life.ended_at - life.arrived_at,
            "request_queue_time_seconds": life.admitted_at - life.arrived_at,
            "request_inference_time_seconds": life.ended_at - life.admitted_at,
            "request_prefill_time_seconds": life.first_at - life.admitted_at,
            "request_decode_time_seconds": life.ended_at - life.first_at,
            "request_prompt_tokens": life.prompt_tokens,
            "request_generation_tokens": life.output_tokens,
        }
        if life.output_tokens > 1:
            per_token = (life.ended_at - life.first_at) / (life.output_tokens - 1)
            seen["request_time_per_output_token_seconds"] = per_token
        if life.max_tokens is not None:
            seen["request_params_max_tokens"] = life.max_tokens
        for name, value in seen.items():
            self.histograms[name].observe(value)

    def text(self) -> bytes:
        """The exposition."""
        lines = [*self._gauges(), *self._counters(), *self._histograms(), *self._infos()]
        return "\n".join([*lines, ""]).encode()

    def _label(self, more: str = "") -> str:
        return f'{{engine="{self._rank}",{more}model_name="{self._model}"}}'

    def _one(self, name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterator[str]:
        yield f"# HELP vllm:{name} {text}"
        yield f"# TYPE vllm:{name} {kind}"
        for more, value in values.items():
            yield f"vllm:{name}{self._label(more)} {float(value)}"

    def _gauges(self) -> Iterator[str]:
        engine = self._engine
        yield from self._one(
            "num_requests_running", "gauge", "Number of requests in model execution batches.", {"": engine.running}
        )
        waiting = engine.waiting
        yield from self._one(
            "num_requests_waiting", "gauge", "Number of requests waiting to be processed.", {"": waiting}
        )
        by_reason = {'reason="capacity",': waiting, 'reason="deferred",': 0}
        yield from self._one("num_requests_waiting_by_reason", "gauge", "Waiting requests by reason.", by_reason)
        text = "KV-cache usage. 1 means 100 percent usage."
        yield from self._one("kv_cache_usage_perc", "gauge", text, {"": engine.kv_usage})

    def _counters(self) -> Iterator[str]:
        engine = self._engine
        hits, queries = engine.prefix_hits_tokens, engine.prefix_queries_tokens
        queried = "Prefix cache queries, in terms of number of queried tokens."
        yield from self._one("prefix_cache_queries_total", "counter", queried, {"": queries})
        found = "Prefix cache hits, in terms of number of cached tokens."
        yield from self._one("prefix_cache_hits_total", "counter", found, {"": hits})
        text = "Cumulative number of preemption from the engine."
        yield from self._one("num_preemptions_total", "counter", text, {"": engine.preemptions})
        text = "Number of prefill tokens processed."
        yield from self._one("prompt_tokens_total", "counter", text, {"": engine.prompt_tokens})
        text = "Number of cached prompt tokens (local + external)."
        yield from self._one("prompt_tokens_cached_total", "counter", text, {"": hits})
        text = "Number of generation tokens processed."
        yield from self._one("generation_tokens_total", "counter", text, {"": engine.generation_tokens})
        reasons = {f'finished_reason="{reason}",': count for reason, count in self.finished.items()}
        yield from self._one("request_success_total", "counter", "Count of processed requests.", reasons)

    def _histograms(self) -> Iterator[str]:
        for name, (text, _) in HISTOGRAMS.items():
            histogram = self.histograms[name]
            yield f"# HELP vllm:{name} {text}"
            yield f"# TYPE vllm:{name} histogram"
            seen = 0
            for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
                seen += count
                label = self._label(f'le="{bound}",')
                yield f"vllm:{name}_bucket{label} {float(seen)}"
            yield f"vllm:{name}_count{self._label()} {float(seen)}"
            yield f"vllm:{name}_sum{self._label()} {histogram.total}"

    def _infos(self) -> Iterator[str]:
        profile = self._engine.profile
        yield "# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig"
        yield "# TYPE vllm:cache_config_info gauge"
        yield (
            f'vllm:cache_config_info{{block_size="{profile.block_tokens}",cache_dtype="auto",'
            f'enable_prefix_caching="True",engine="{self._rank}",kv_cache_size_tokens="{profile.kv_tokens}",'
            f'num_gpu_blocks="{profile.kv_blocks}",prefix_caching_hash_algo="xxh3"}} 1.0'
        )
        yield "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds."
        yield "# TYPE process_start_time_seconds gauge"
        yield f"process_start_time_seconds {self._started_at:.2f}"
