"""Commands as bytes: packed as hiredis packs them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from statesync.store.redis.commands import PreparedCommand, pack

PARTS = st.lists(st.one_of(st.binary(max_size=40), st.text(max_size=20), st.integers(), st.floats(allow_nan=False)))
SIZES = st.sampled_from([0, 1, 9, 10, 99, 100, 1022, 1023, 1024, 1025, 70_000])
REST = st.lists(st.one_of(st.binary(max_size=40), SIZES.map(bytes)), max_size=30)


@given(PARTS, REST)
def test_a_prepared_command_is_the_whole_command(first: list[bytes | str | int | float], rest: list[bytes]) -> None:
    assert PreparedCommand("EVALSHA", *first).pack(rest) == pack("EVALSHA", *first, *rest)


def test_a_prepared_command_may_be_reused() -> None:
    prepared = PreparedCommand("SET", "k")
    assert prepared.pack([b"v"]) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
    assert prepared.pack([b"", b"NX"]) == b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n$2\r\nNX\r\n"
    assert "2 parts" in repr(prepared)
