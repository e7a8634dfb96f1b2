"""Reads an engine's load from its Prometheus text page. Pure: bytes in, `EngineReport` out; knows no network.

A vLLM page is 44 KB, of which nine lines are needed, so only those are parsed: each metric is searched for by name (the
text format keeps the samples of one metric together) and only its lines are read: 115 us for that page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import NamedTuple

from schedulers.types import Adapters
from statesync.types import EngineReport


class MetricSample(NamedTuple):
    """One line: the text between the braces, and the value."""

    labels: bytes
    value: float


Reading = Callable[[list[MetricSample]], float | None]

_SAMPLE = re.compile(rb'(?:\{((?:[^"}\n]+|"(?:[^"\\\n]|\\.)*")*+)\})?[ \t]+([^\s]+)')
_PRIORITY = re.compile(rb'(?:^|,)priority="[^"]')
_DP_RANK = re.compile(rb'(?:^|,)dp_rank="([^"]*)"')
_LORA = b"vllm:lora_requests_info"
_ADAPTERS = re.compile(rb'(?:^|,)(max_lora|running_lora_adapters|waiting_lora_adapters)="((?:[^"\\]|\\.)*)"')
_SIZE = re.compile(rb'(?:^|,)(block_size|num_gpu_blocks|num_cpu_blocks|kv_cache_size_tokens)="(\d+)"')


def parse(page: bytes) -> EngineReport:
    """The engine's load by this page; all None if it is no metrics page of a supported engine.

    Several engines on one page (data parallel) are one pod: counts are summed, `kv_usage` is averaged.
    """
    page = b"\n" + page
    names = next((names for mark, names in _ENGINES.items() if mark in page), None)
    if names is None:
        return EngineReport()
    values = {field: _first(page, metrics) for field, metrics in names.items()}
    capacity = _whole(values["kv_capacity_tokens"], values["offload_tokens"])
    hits = values["prefix_hits_tokens"]
    return EngineReport(
        queued=_whole(values["queued"]),
        running=_whole(values["running"]),
        kv_usage=None if (usage := values["kv_usage"]) is None else min(max(usage, 0.0), 1.0),
        kv_capacity_tokens=capacity or None,
        prefix_queries_tokens=_whole(values["prefix_queries_tokens"]),
        prefix_hits_tokens=None if hits is None else _whole(hits, values["tier_hits"]),
        started_at=values["started_at"],
        adapters=_adapters(newest(page, _LORA)),
    )


def samples(page: bytes, name: bytes) -> list[MetricSample]:
    """The samples of this metric with finite values. The page starts with a newline."""
    found: list[MetricSample] = []
    at = page.find(b"\n" + name)
    while at >= 0:
        start = at + 1 + len(name)
        match = _SAMPLE.match(page, start)
        # `name_by_reason{...}` is another metric: a brace or a blank must follow the name.
        if match is not None and page[start : start + 1] in b"{ \t":
            labels, text = match.groups()
            value = _number(text)
            if value is not None:
                found.append(MetricSample(labels or b"", value))
            start = match.end()
        elif found:
            break
        at = _next_line_of(page, name, start) if found else page.find(b"\n" + name, start)
    return found


def newest(page: bytes, name: bytes) -> bytes:
    """The labels of this metric's series with the highest value, if there is one. The page starts with a newline.

    For a gauge with information in its labels, and the time of it as its value. Every combination of labels that ever
    was stays on the page, so only the values of most are read: 0.7 us each.
    """
    mark = b"\n" + name + b"{"
    start = page.find(mark)
    if start < 0:
        return b""
    best, labels = -1.0, b""
    for line in page[start:].split(mark)[1:]:
        found, _, text = line.partition(b"\n")[0].rpartition(b"}")
        value = _number(text.split(maxsplit=1)[0]) if text.strip() else None
        if value is not None and value > best:
            best, labels = value, found
    return labels


def _adapters(labels: bytes) -> Adapters | None:
    """The LoRA adapters in use, from the labels of vLLM's `lora_requests_info`; None if there are none."""
    values: dict[bytes, bytes] = dict(_ADAPTERS.findall(labels))
    if not values:
        return None
    limit = values.get(b"max_lora", b"")
    return Adapters(
        _names(values.get(b"running_lora_adapters", b"")),
        _names(values.get(b"waiting_lora_adapters", b"")),
        int(limit) if limit.isdigit() else 0,
    )


def _names(listed: bytes) -> frozenset[str]:
    plain = re.sub(rb"\\(.)", rb"\1", listed).decode("utf-8", "replace")
    return frozenset(name for part in plain.split(",") if (name := part.strip()))


def _next_line_of(page: bytes, name: bytes, start: int) -> int:
    """The index of the next line if it is of the same metric, else -1."""
    at = page.find(b"\n", start)
    return at if at >= 0 and page.startswith(name, at + 1) else -1


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _first(page: bytes, metrics: Iterable[tuple[bytes, Reading]]) -> float | None:
    """The first of a field's metrics on the page: newer names come before older ones."""
    for name, read in metrics:
        if (found := samples(page, name)) and (value := read(found)) is not None:
            return value
    return None


def _whole(*values: float | None) -> int | None:
    known = [value for value in values if value is not None]
    return max(0, round(sum(known))) if known else None


def _total(found: list[MetricSample]) -> float:
    return sum(sample.value for sample in found)


def _mean(found: list[MetricSample]) -> float:
    return _total(found) / len(found)


def _latest(found: list[MetricSample]) -> float:
    # With several engines the youngest counts, so that the restart of one is detected.
    return max(sample.value for sample in found)


def _capacity(found: list[MetricSample]) -> float | None:
    """Tokens of the KV cache, from the labels of vLLM's `cache_config_info`, one series an engine.

    CPU blocks count, as blocks swapped there are still hits. `kv_offloading_size` does not: it is in GiB over all
    tensor-parallel ranks, and the page does not give the bytes a token takes: `kv_cache_memory_bytes` is of one rank,
    if it is set at all, and the number of ranks is missing. The size of such a tier is learned from hits
    (`accuracy.py`).
    """
    total = 0
    for sample in found:
        sizes = {name: int(text) for name, text in _SIZE.findall(sample.labels)}
        block = sizes.get(b"block_size", 0)
        total += sizes.get(b"kv_cache_size_tokens") or sizes.get(b"num_gpu_blocks", 0) * block
        total += sizes.get(b"num_cpu_blocks", 0) * block
    return total or None


def _ranks(found: list[MetricSample]) -> list[MetricSample]:
    """One sample a data-parallel rank of SGLang.

    Tensor- and pipeline-parallel ranks of one group may each report the same requests, and with priority scheduling
    `priority=""` is the total of all priorities.
    """
    ranks: dict[bytes, MetricSample] = {}
    for sample in found:
        if _PRIORITY.search(sample.labels):
            continue
        match = _DP_RANK.search(sample.labels)
        rank = match.group(1) if match else b""
        if rank not in ranks or ranks[rank].value < sample.value:
            ranks[rank] = sample
    return list(ranks.values())


def _rank_total(found: list[MetricSample]) -> float | None:
    return _total(ranks) if (ranks := _ranks(found)) else None


def _rank_mean(found: list[MetricSample]) -> float | None:
    return _mean(ranks) if (ranks := _ranks(found)) else None


_PROCESS_START = (b"process_start_time_seconds", _latest)

_VLLM: Mapping[str, tuple[tuple[bytes, Reading], ...]] = {
    "queued": ((b"vllm:num_requests_waiting", _total),),
    "running": ((b"vllm:num_requests_running", _total),),
    "kv_usage": ((b"vllm:kv_cache_usage_perc", _mean), (b"vllm:gpu_cache_usage_perc", _mean)),
    "kv_capacity_tokens": ((b"vllm:cache_config_info", _capacity),),
    "offload_tokens": (),
    "prefix_queries_tokens": (
        (b"vllm:prefix_cache_queries_total", _total),
        (b"vllm:gpu_prefix_cache_queries_total", _total),
    ),
    "prefix_hits_tokens": (
        (b"vllm:prefix_cache_hits_total", _total),
        (b"vllm:gpu_prefix_cache_hits_total", _total),
    ),
    # vLLM 0.32 exports no process metrics; a counter's creation time detects a restart as well.
    # The tier is queried only for tokens that the cache does not hold, so its queries are not counted again.
    "tier_hits": ((b"vllm:external_prefix_cache_hits_total", _total),),
    "started_at": (_PROCESS_START, (b"vllm:prefix_cache_queries_created", _latest)),
}
"""vLLM V1: a page of 0.32; before 0.10 the usage and prefix metrics had `gpu_` in their names."""

_SGLANG: Mapping[str, tuple[tuple[bytes, Reading], ...]] = {
    "queued": ((b"sglang:num_queue_reqs", _rank_total),),
    "running": ((b"sglang:num_running_reqs", _rank_total),),
    "kv_usage": ((b"sglang:token_usage", _rank_mean),),
    "kv_capacity_tokens": ((b"sglang:max_total_num_tokens", _rank_total),),
    "offload_tokens": ((b"sglang:hicache_host_total_tokens", _rank_total),),
    "prefix_queries_tokens": ((b"sglang:prompt_tokens_total", _total),),
    "prefix_hits_tokens": ((b"sglang:cached_tokens_total", _total),),
    "tier_hits": (),
    "started_at": (_PROCESS_START,),
}
"""SGLang: `SchedulerMetricsCollector` and `TokenizerMetricsCollector` of srt/observability/metrics_collector.py
(srt/metrics/collector.py up to 0.5.3, same names); served only with --enable-metrics. `cache_hit_rate` is of the last
batch alone, so the counters are read instead."""

_ENGINES: Mapping[bytes, Mapping[str, tuple[tuple[bytes, Reading], ...]]] = {b"\nvllm:": _VLLM, b"\nsglang:": _SGLANG}
"""By a text that only this engine's page contains: its metric names for each field, the newest first."""
