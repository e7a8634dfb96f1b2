"""What differs between engines, one row each: where they say that they are well, where their metrics are and what these
are called, and which of their paths manage the engine and are closed to clients. Pure.

`engine: auto` takes the first health and metrics path that a pod answers, and closes what any engine may have. A new
engine is a row here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from statesync.engines.promtext import MetricSample, Reading, latest, mean, total

Readings = Mapping[str, tuple[tuple[bytes, Reading], ...]]
"""By field of a report its metrics, without the engine's prefix, the newest name first."""

PROCESS_START: Final = ((b"process_start_time_seconds", latest),)
"""The start time that Prometheus' client libraries report."""

_NO_READINGS: Readings = MappingProxyType({})

AUTO: Final = "auto"
"""The name of the setting that finds the engine out."""


class EnginePreset(NamedTuple):
    """One engine."""

    health: tuple[str, ...] = ()
    """Paths that answer 2xx while the engine is well; the first that exists counts."""
    metrics: tuple[str, ...] = ()
    """Paths of its metrics, `:8002/metrics` on another port of the pod; empty for an engine that has none."""
    prefixes: tuple[bytes, ...] = ()
    """With which of these the names of its metrics begin."""
    readings: Readings = _NO_READINGS
    closed: frozenset[str] = frozenset()
    """The paths that manage it, without `/` or `/v1/` before them; what is below them is closed, too."""
    priority: int = 0
    """What the number in a body's `priority` means: 1 where a higher one goes first, -1 where a lower one does, 0 where
    the engine knows no such field."""


_PRIORITY = re.compile(rb'(?:^|,)priority="[^"]')
_DP_RANK = re.compile(rb'(?:^|,)dp_rank="([^"]*)"')
_SIZE = re.compile(rb'(?:^|,)(block_size|num_gpu_blocks|num_cpu_blocks|kv_cache_size_tokens)="(\d+)"')


def _capacity(found: list[MetricSample]) -> float | None:
    """Tokens of the KV cache, from the labels of vLLM's `cache_config_info`, one series an engine.

    CPU blocks count, as blocks swapped there are still hits. `kv_offloading_size` does not: it is in GiB over all
    tensor-parallel ranks, and the page does not give the bytes a token takes: `kv_cache_memory_bytes` is of one rank,
    if it is set at all, and the number of ranks is missing. The size of such a tier is learned from hits
    (`accuracy.py`).
    """
    tokens = 0
    for sample in found:
        sizes = {name: int(text) for name, text in _SIZE.findall(sample.labels)}
        block = sizes.get(b"block_size", 0)
        tokens += sizes.get(b"kv_cache_size_tokens") or sizes.get(b"num_gpu_blocks", 0) * block
        tokens += sizes.get(b"num_cpu_blocks", 0) * block
    return tokens or None


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
    return total(ranks) if (ranks := _ranks(found)) else None


def _rank_mean(found: list[MetricSample]) -> float | None:
    return mean(ranks) if (ranks := _ranks(found)) else None


def _where(label: bytes) -> Reading:
    """The sum of the series with this label."""

    def read(found: list[MetricSample]) -> float | None:
        chosen = [sample for sample in found if label in sample.labels.split(b",")]
        return total(chosen) if chosen else None

    return read


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_VLLM: Readings = {
    "queued": ((b"num_requests_waiting", total),),
    "running": ((b"num_requests_running", total),),
    "kv_usage": ((b"kv_cache_usage_perc", mean), (b"gpu_cache_usage_perc", mean)),
    "kv_capacity_tokens": ((b"cache_config_info", _capacity),),
    "prefix_queries_tokens": (
        (b"prefix_cache_queries_total", total),
        (b"gpu_prefix_cache_queries_total", total),
        (b"prefix_cache_queries", total),
    ),
    "prefix_hits_tokens": (
        (b"prefix_cache_hits_total", total),
        (b"gpu_prefix_cache_hits_total", total),
        (b"prefix_cache_hits", total),
    ),
    # The tier is queried only for tokens that the cache does not hold, so its queries are not counted again.
    "tier_hits": ((b"external_prefix_cache_hits_total", total),),
    # vLLM 0.32 exports no process metrics; a counter's creation time detects a restart as well.
    "started_at": ((b"prefix_cache_queries_created", latest),),
}
"""vLLM V1: a page of 0.32; before 0.10 the usage and prefix metrics had `gpu_` in their names. Ray writes `ray_vllm_`,
in older versions without `_total`."""

_SGLANG: Readings = {
    "queued": ((b"num_queue_reqs", _rank_total),),
    "running": ((b"num_running_reqs", _rank_total),),
    "kv_usage": ((b"token_usage", _rank_mean),),
    "kv_capacity_tokens": ((b"max_total_num_tokens", _rank_total),),
    "offload_tokens": ((b"hicache_host_total_tokens", _rank_total),),
    "prefix_queries_tokens": ((b"prompt_tokens_total", total),),
    "prefix_hits_tokens": ((b"cached_tokens_total", total),),
}
"""SGLang: `SchedulerMetricsCollector` and `TokenizerMetricsCollector` of srt/observability/metrics_collector.py
(srt/metrics/collector.py up to 0.5.3, same names); served only with --enable-metrics. `cache_hit_rate` is of the last
batch alone, so the counters are read instead."""

_TRTLLM: Readings = {
    "queued": ((b"num_requests_waiting", total),),
    "running": ((b"num_requests_running", total),),
    "kv_usage": ((b"kv_cache_utilization", mean),),
    "kv_blocks": ((b"kv_cache_max_blocks", total),),
    "kv_block_tokens": ((b"kv_cache_tokens_per_block", latest),),
}
"""trtllm-serve; older versions export no queue, and `/metrics` is JSON there."""

_LMDEPLOY: Readings = {
    "queued": ((b"num_requests_waiting", total),),
    "running": ((b"num_requests_running", total),),
    "kv_usage": ((b"gpu_cache_usage_perc", mean),),
}
"""LMDeploy: `loggers.py` of lmdeploy/metrics; a series for each data-parallel rank."""

_TGI: Readings = {"queued": ((b"queue_size", total),), "running": ((b"batch_current_size", total),)}

_LLAMACPP: Readings = {
    "queued": ((b"requests_deferred", total),),
    "running": ((b"requests_processing", total),),
    "kv_usage": ((b"kv_cache_usage_ratio", mean),),
}
"""llama-server --metrics; newer versions export no usage of the cache."""

_TRITON_KV: Final = b"kv_cache_block_metrics"
_TRITON: Readings = {
    "queued": (
        (b"trt_llm_request_metrics", _where(b'request_type="waiting"')),
        (b"inference_pending_request_count", total),
    ),
    "running": (
        (b"trt_llm_request_metrics", _where(b'request_type="scheduled"')),
        (b"trt_llm_request_metrics", _where(b'request_type="active"')),
    ),
    "kv_usage": ((b"trt_llm_" + _TRITON_KV, _where(b'kv_cache_block_type="fraction"')),),
    "kv_blocks": ((b"trt_llm_" + _TRITON_KV, _where(b'kv_cache_block_type="max"')),),
    "kv_block_tokens": ((b"trt_llm_" + _TRITON_KV, _where(b'kv_cache_block_type="tokens_per"')),),
}
"""Triton with the TensorRT-LLM backend, else its requests that wait for any model."""

PRESETS: Final[Mapping[str, EnginePreset]] = {
    "vllm": EnginePreset(
        ("/health",),
        ("/metrics",),
        (b"vllm:", b"ray_vllm_", b"ray_vllm:", b"vllm_"),
        _VLLM,
        _set(
            "load_lora_adapter unload_lora_adapter sleep wake_up is_sleeping reset_prefix_cache reset_mm_cache "
            "reset_encoder_cache collective_rpc server_info scale_elastic_ep is_scaling_elastic_ep start_profile "
            "stop_profile pause resume is_paused abort_requests get_world_size init_weight_transfer_engine "
            "start_weight_update update_weights finish_weight_update"
        ),
        priority=-1,
    ),
    "sglang": EnginePreset(
        ("/health",),
        ("/metrics",),
        (b"sglang:", b"sglang_"),
        _SGLANG,
        _set(
            "load_lora_adapter load_lora_adapter_from_tensors unload_lora_adapter flush_cache start_profile "
            "stop_profile release_memory_occupation resume_memory_occupation update_weights_from_disk "
            "update_weights_from_tensor update_weights_from_distributed update_weights_from_ipc "
            "init_weights_update_group destroy_weights_update_group get_weights_by_name update_weight_version "
            "init_weights_send_group_for_remote_instance send_weights_to_remote_instance abort_request "
            "pause_generation continue_generation set_internal_state get_internal_state server_info get_server_info "
            "configure_logging freeze_gc slow_down set_trace_level clear_hicache_storage_backend hicache "
            "attach_hicache_storage_backend detach_hicache_storage_backend start_expert_distribution_record "
            "stop_expert_distribution_record dump_expert_distribution_record"
        ),
        priority=1,
    ),
    "trtllm": EnginePreset(
        ("/health",),
        ("/prometheus/metrics", "/metrics"),
        (b"trtllm_", b"trtllm:"),
        _TRTLLM,
        _set("update_weights release_memory resume_memory kv_cache_events cluster_info server_info"),
    ),
    "lmdeploy": EnginePreset(
        ("/health",),
        ("/metrics",),
        (b"lmdeploy:",),
        _LMDEPLOY,
        _set(
            "terminate sleep wakeup is_sleeping update_weights abort_request distserve init_weights_update_group "
            "update_weights_from_distributed destroy_weights_update_group"
        ),
    ),
    "tgi": EnginePreset(("/health",), ("/metrics",), (b"tgi_",), _TGI),
    "llamacpp": EnginePreset(
        ("/health",),
        ("/metrics",),
        (b"llamacpp:",),
        _LLAMACPP,
        _set("slots props lora-adapters models/load models/unload"),
    ),
    "ollama": EnginePreset(
        ("/api/version",),
        closed=_set("api/pull api/push api/create api/copy api/delete api/blobs api/ps"),
    ),
    "triton": EnginePreset(
        ("/v2/health/ready",), (":8002/metrics",), (b"nv_",), _TRITON, _set("v2/repository v2/logging v2/trace")
    ),
}

_OTHER_HEALTH: Final = ("/-/healthz", "/v1/models")
"""Ray Serve, and what every server of OpenAI's API has, such as LM Studio."""


def _first_seen(paths: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


AUTOMATIC: Final = EnginePreset(
    _first_seen([path for preset in PRESETS.values() for path in preset.health] + [*_OTHER_HEALTH]),
    _first_seen(["/metrics", *(path for preset in PRESETS.values() for path in preset.metrics if path[0] == "/")]),
    closed=_set("metrics shutdown unload").union(*(preset.closed for preset in PRESETS.values())),
)
"""`engine: auto`. Metrics on another port are not looked for. What manages any engine is closed in every pool: a path
does not say whose it is."""

SERVICE: Final = "service"
_SERVICE: Final = EnginePreset(("/healthz", "/health", "/readyz"))
"""A pool that serves no models: its pods have neither metrics that are read here nor paths that are closed."""

ENGINES: Final = (AUTO, *PRESETS)
"""The values of `engine`."""


def preset_of(engine: str) -> EnginePreset:
    """The row of a value of `engine`."""
    return _SERVICE if engine == SERVICE else PRESETS.get(engine, AUTOMATIC)


def engine_with(health: str) -> str:
    """The engine that says at this path that it is well; empty for a path of several or of none."""
    named = [name for name, preset in PRESETS.items() if preset.health[0] == health]
    return named[0] if len(named) == 1 else ""
