"""Splitting a stream into lines, and lists and events into objects."""

from __future__ import annotations

import pytest

from statesync.discovery.kubernetes.json_frames import (
    MAX_LINE_BYTES,
    LineSplitter,
    decode_event,
    decode_list,
    decode_marked,
)
from statesync.errors import DiscoveryError


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_lines_are_whole_however_the_bytes_arrive(size: int) -> None:
    data, lines = b'{"a":1}\n\n{"b":2}\n{"c"', LineSplitter()
    found = [line for at in range(0, len(data), size) for line in lines.feed(data[at : at + size])]
    assert found == [b'{"a":1}', b'{"b":2}']
    assert list(lines.feed(b":3}\n")) == [b'{"c":3}']


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    lines = LineSplitter()
    with pytest.raises(DiscoveryError, match="bytes"):
        for _ in range(MAX_LINE_BYTES // 65536 + 1):
            list(lines.feed(b"x" * 65536))


def test_objects_stay_raw_until_they_are_decoded() -> None:
    found = decode_list(b'{"metadata":{"resourceVersion":"7","continue":"t"},"items":[{"a":1}, {"b": [2]}]}')
    assert (found.metadata.resource_version, found.metadata.continue_) == ("7", "t")
    assert [bytes(item) for item in found.items or ()] == [b'{"a":1}', b'{"b": [2]}']
    event = decode_event(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}')
    assert event.type == "BOOKMARK"
    assert decode_marked(event.object).metadata.resource_version == "9"


def test_an_empty_list_may_say_null() -> None:
    assert decode_list(b'{"metadata":{},"items":null}').items is None
