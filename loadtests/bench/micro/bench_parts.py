"""The small parts of the data plane: a body by its size, a head, a chunk, a count."""

from __future__ import annotations

import itertools
import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from loadtests.bench.guard.script import PHASES, turns
from router.dataplane.http.chunked import ChunkScanner
from router.dataplane.http.head_cache import HeadCache, split
from router.dataplane.request import openai
from router.telemetry.metrics import ITL_BOUNDS_S, Histogram

BODIES = (1200, 32768, 400_000)
STREAM = next(phase for phase in PHASES if phase.chunks == 64)


def body(size: int) -> bytes:
    """A chat of that size."""
    text = "Answer briefly and cite the manual. " * (size // 36 + 1)
    messages = [{"role": "system", "content": text[: size - 150]}, {"role": "user", "content": "What follows?"}]
    return json.dumps({"model": "m", "max_tokens": 64, "messages": messages}).encode()


@pytest.mark.parametrize("size", BODIES)
def bench_read(benchmark: BenchmarkFixture, size: int) -> None:
    """Body -> Call."""
    benchmark.group = "body"
    benchmark.extra_info.update(series="openai.read", size=size)
    call = benchmark(openai.read, b"application/json", body(size))
    assert call.model == "m"


def bench_remembered_head(benchmark: BenchmarkFixture) -> None:
    """Take a head apart and look it up."""
    benchmark.group = "parts"
    benchmark.extra_info.update(series="heads.split + get, 17 headers", size=1)
    data, heads = turns(PHASES[0], 1)[0].request, HeadCache[int]()
    found = split(data)
    assert found is not None
    heads.learn(found.key, 7)

    def once() -> int | None:
        found = split(data)
        return heads.get(found.key) if found is not None else None

    assert benchmark(once) == 7


def bench_chunk(benchmark: BenchmarkFixture) -> None:
    """Follow one event of a stream."""
    benchmark.group = "parts"
    benchmark.extra_info.update(series="ChunkScanner.feed, one event", size=1)
    scanner, event = ChunkScanner(), turns(STREAM, 1)[0].pieces[0]
    assert benchmark(scanner.feed, event) == -1
    assert scanner.safe == len(event)


def bench_many_chunks(benchmark: BenchmarkFixture) -> None:
    """Follow 64 events that came in one read."""
    benchmark.group = "parts"
    benchmark.extra_info.update(series="ChunkScanner.feed, 64 events in one read", size=1)
    scanner, events = ChunkScanner(), b"".join(turns(STREAM, 1)[0].pieces[:64])
    assert benchmark(scanner.feed, events) == -1
    assert scanner.safe == len(events)


def bench_observe(benchmark: BenchmarkFixture) -> None:
    """Count one latency."""
    benchmark.group = "parts"
    benchmark.extra_info.update(series="Histogram.observe", size=1)
    histogram = Histogram(ITL_BOUNDS_S)
    values = itertools.cycle([0.004, 0.03, 0.02, 0.6, 0.021]).__next__
    benchmark(lambda: histogram.observe(values()))
    assert histogram.count
