"""Chunks with events and ids have the sizes that they say."""

from __future__ import annotations

import pytest

from router.dataplane.http.chunked import LAST_CHUNK, ChunkScanner
from router.dataplane.resume.event_log import TAIL_BYTES, LogWriter
from router.dataplane.resume.id_chunks import chunk, chunk_behind


def contents(data: bytes) -> list[bytes]:
    found: list[bytes] = []
    assert ChunkScanner().feed(data + LAST_CHUNK, found) == len(data) + len(LAST_CHUNK)
    return found


@pytest.mark.parametrize("size", [1, 15, 16, 4095, 4096, 4097, 100_000])
def test_a_chunk_of_any_size_is_read_as_it_was_written(size: int) -> None:
    assert contents(chunk(b"x" * size)) == [b"x" * size]


def test_the_longest_id_has_a_chunk_in_front_of_its_event() -> None:
    log, event = LogWriter("s" * 16, 999_999_998), b"data: 1\n\n"
    log.unsaved = b"x" * (TAIL_BYTES - 2 - len(event))
    line = log.add(event)
    assert len(line) > TAIL_BYTES
    assert contents(chunk_behind(line, chunk(event))) == [line, event]
