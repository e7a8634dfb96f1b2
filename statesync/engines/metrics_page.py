"""Reads an engine's load from its metrics page. Pure: bytes in, `EngineReport` out.

Which engine wrote the page is found on the page itself, by the prefix of its metrics; `presets.py` has their names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial

from schedulers.types import Adapters
from statesync.engines.presets import PRESETS, PROCESS_START, Readings
from statesync.engines.promtext import Lookup, MetricSample, first, newest, samples
from statesync.types import EngineReport

_LORA = b"lora_requests_info"
_ADAPTERS = re.compile(rb'(?:^|,)(max_lora|running_lora_adapters|waiting_lora_adapters)="((?:[^"\\]|\\.)*)"')
_NO_READINGS: Readings = {}
_RANK = re.compile(rb'(?:^|,)(?:engine|dp_rank)="(\d{1,9})"')


def engine_of(page: bytes) -> str:
    """The engine that wrote this page; empty for a page of another kind."""
    return _match(b"\n" + page)[0]


def parse(page: bytes) -> EngineReport:
    """The engine's load by this page; all None if it is no metrics page of a supported engine.

    Several engines on one page (data parallel) are one pod: counts are summed, `kv_usage` is averaged.
    """
    page = b"\n" + page
    _, prefix, readings = _match(page)
    if not readings:
        return EngineReport()
    return _report(partial(samples, page), prefix, readings, _adapters(newest(page, prefix + _LORA)))


def parse_ranks(page: bytes, ranks: int) -> list[EngineReport]:
    """The load of each of an engine's ranks: of a metric its own series count, and those that name none. The page is
    searched once for all."""
    page = b"\n" + page
    _, prefix, readings = _match(page)
    if not readings:
        return [EngineReport()] * ranks
    found, adapters = cache(lambda name: _by_rank(samples(page, name), ranks)), _adapters(newest(page, prefix + _LORA))
    return [_report(partial(_of_rank, found, rank), prefix, readings, adapters) for rank in range(ranks)]


def _report(look: Lookup, prefix: bytes, readings: Readings, adapters: Adapters | None) -> EngineReport:
    values = {field: first(look, [(prefix + name, read) for name, read in row]) for field, row in readings.items()}
    hits, usage = values.get("prefix_hits_tokens"), values.get("kv_usage")
    started_at = first(look, PROCESS_START)
    return EngineReport(
        queued=_whole(values.get("queued")),
        running=_whole(values.get("running")),
        kv_usage=None if usage is None else min(max(usage, 0.0), 1.0),
        kv_capacity_tokens=_capacity(values),
        prefix_queries_tokens=_whole(values.get("prefix_queries_tokens")),
        prefix_hits_tokens=None if hits is None else _whole(hits, values.get("tier_hits")),
        started_at=values.get("started_at") if started_at is None else started_at,
        adapters=adapters,
    )


def _by_rank(found: list[MetricSample], ranks: int) -> list[list[MetricSample]]:
    """The samples of each rank. Of an engine over several nodes each numbers on where the one before ended."""
    own: list[list[MetricSample]] = [[] for _ in range(ranks)]
    for sample in found:
        if match := _RANK.search(sample.labels):
            own[int(match[1]) % ranks].append(sample)
    return own if any(own) else [found] * ranks


def _of_rank(found: Callable[[bytes], list[list[MetricSample]]], rank: int, name: bytes) -> list[MetricSample]:
    return found(name)[rank]


def _match(page: bytes) -> tuple[str, bytes, Readings]:
    """The engine, the prefix of the page's metrics and how to read them; nothing for a page of another kind."""
    for engine, preset in PRESETS.items():
        for prefix in preset.prefixes:
            if b"\n" + prefix in page:
                return engine, prefix, preset.readings
    return "", b"", _NO_READINGS


def _capacity(values: dict[str, float | None]) -> int | None:
    """Tokens of the cache and of a tier beside it; some engines give blocks and their size."""
    tokens, blocks, size = values.get("kv_capacity_tokens"), values.get("kv_blocks"), values.get("kv_block_tokens")
    if tokens is None and blocks is not None and size is not None:
        tokens = blocks * size
    return _whole(tokens, values.get("offload_tokens")) or None


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


def _whole(*values: float | None) -> int | None:
    known = [value for value in values if value is not None]
    return max(0, round(sum(known))) if known else None
