"""Codes, messages and time-outs."""

from __future__ import annotations

import pytest

from router.dataplane.grpc.status import HTTP, Status, code_in, seconds, timeout_of, trailers


@pytest.mark.parametrize(
    ("text", "found"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"3S", 3.0), (b"250m", 0.25), (b"7u", 7e-6), (b"99999999n", 0.099999999)],
)
def test_a_timeout_is_read_in_every_unit(text: bytes, found: float) -> None:
    assert seconds(text) == pytest.approx(found)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789S", b"1 S"])
def test_what_is_no_timeout_is_none(text: bytes) -> None:
    assert seconds(text) is None


@pytest.mark.parametrize(("left_s", "text"), [(0.25, b"250m"), (0.0, b"1m"), (-3.0, b"1m"), (1e6, b"1000000S")])
def test_a_timeout_is_written_with_at_most_eight_digits(left_s: float, text: bytes) -> None:
    assert timeout_of(left_s) == text


def test_a_message_is_percent_encoded_where_it_is_not_plain() -> None:
    assert trailers(Status.UNAVAILABLE, "100 % für\n") == [
        (b"grpc-status", b"14"),
        (b"grpc-message", b"100 %25 f%C3%BCr%0A"),
    ]


def test_a_code_is_found_where_there_is_one() -> None:
    assert code_in([(b"x", b"1"), (b"grpc-status", b"5")]) == 5
    assert [code_in(headers) for headers in ([], [(b"grpc-status", b"x")], [(b"grpc-status", b"12345")])] == [None] * 3


def test_every_code_is_counted_under_a_status_of_http() -> None:
    assert set(HTTP) == set(range(17)) >= {int(each) for each in Status}
