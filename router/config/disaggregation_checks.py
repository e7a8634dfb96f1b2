"""Checks of `pools[].disaggregation`: names that refer to nothing, connectors that the engine does not speak."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.problems import Path, Problem
from router.dataplane.request.kv_transfer import CONNECTORS, SGLANG
from router.settings import Disaggregation, Pool, Settings

_LAST_PORT = 65535


def disaggregation_problems(settings: Settings) -> Iterator[Problem]:
    """Problems of every pool whose work is split."""
    by_name = {pool.name: pool for pool in settings.pools}
    for at, pool in enumerate(settings.pools):
        if pool.disaggregation is not None:
            path: Path = ("pools", at, "disaggregation")
            yield from _sides(pool, pool.disaggregation, by_name, path)
            yield from _connector(pool, pool.disaggregation, path)


def _sides(pool: Pool, split: Disaggregation, by_name: dict[str, Pool], path: Path) -> Iterator[Problem]:
    other = by_name.get(split.prefill_pool)
    if split.prefill_pool == pool.name:
        yield Problem((*path, "prefill"), "names its own pool: write a label of its prefill pods, as role=prefill")
    elif split.prefill_pool and other is None:
        there = ", ".join(name for name in by_name if name != pool.name) or "none"
        message = f"no pool {split.prefill_pool!r}, and no label=value; other pools: {there}"
        yield Problem((*path, "prefill"), message)
    elif other is not None and other.disaggregation is not None:
        yield Problem((*path, "prefill"), f"pool {other.name!r} splits its own work; name a pool that only prefills")
    for name in ("prefill", "decode"):
        value: str = getattr(split, name)
        label, equals, wanted = value.partition("=")
        if (equals and not (label and wanted)) or not value:
            yield Problem((*path, name), f"{value!r} is half a label; write it as label=value")
    if "=" not in split.decode:
        yield Problem((*path, "decode"), "is a label of pods in this pool, as role=decode: its own pods generate")
    elif split.decode == split.prefill:
        yield Problem((*path, "decode"), f"{split.decode!r} is what prefills, too: no pod would generate")
    if not split.prefill_pool and pool.pods:
        message = "pods that are listed have no roles or labels of their own: put those that prefill into another pool"
        yield Problem((*path, "prefill"), message)


def _connector(pool: Pool, split: Disaggregation, path: Path) -> Iterator[Problem]:
    if split.connector not in CONNECTORS:
        yield Problem((*path, "connector"), f"{split.connector!r} is not one of {', '.join(CONNECTORS)}")
        return
    fitting = "sglang" if split.connector == SGLANG else "vllm"
    if pool.engine not in ("auto", fitting):
        yield Problem((*path, "connector"), f"{split.connector!r} is {fitting}'s, and the engine is {pool.engine}")
    if split.bootstrap_port > _LAST_PORT:
        yield Problem((*path, "bootstrap_port"), f"must be at most {_LAST_PORT}")
