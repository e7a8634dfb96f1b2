"""What blocks are called, and which publishers hold them."""

from __future__ import annotations

import random

import pytest

from statesync.kv_events.holders import Holders
from tests.fakes.kv_publisher import BLOCK, FakeKvPublisher
from tests.statesync.kv_events.test_held import Reader, begun, stored

TOKENS = list(range(2 * BLOCK))


def test_blocks_that_differ_in_lora_or_salt_have_other_keys() -> None:
    found = set()
    for more in ({}, {"lora_name": "a"}, {"lora_name": "b"}, {"extra_keys": [["salt"], None]}):
        reader, publisher = begun()
        reader.live(publisher.publish([stored(TOKENS, [1, 2], **more)]))
        found.add(tuple(reader.held.keys()))
    assert len(found) == 4


def test_retired_bits_are_swept_and_used_again() -> None:
    reader, publisher = begun()
    reader.live(publisher.publish([stored(TOKENS, [1, 2])]))
    key, bit = next(reader.held.keys()), reader.held.bit
    reader.held.reset(True)
    assert reader.holders.of(key) == 0
    while reader.holders.sweep(1):
        pass
    assert len(reader.holders) == 0
    assert reader.holders.new_bit() == bit


def test_equal_blocks_of_two_engines_have_one_key_whatever_the_engines_call_them() -> None:
    holders = Holders()
    keys = []
    for hashes in ([1, 2], [3, 4]):
        reader, publisher = Reader(holders), FakeKvPublisher(random.Random(1))
        reader.replay(publisher)
        reader.live(publisher.publish([stored(TOKENS, hashes)]))
        keys.append(list(reader.held.keys()))
    assert keys[0] == keys[1]
    assert holders.of(keys[0][1]).bit_count() == 2


@pytest.mark.parametrize("held", range(6))
def test_a_run_of_keys_ends_where_its_holder_has_no_more(held: int) -> None:
    holders, keys = Holders(), [7, 11, 13, 17, 19]
    bit, other = holders.new_bit(), holders.new_bit()
    for key in keys[:held]:
        holders.add(key, bit)
    holders.add(keys[-1], other)
    assert [holders.run(keys, start, bit) for start in range(6)] == [max(start, held) for start in range(6)]
