"""Sessions in headers, cookies and paths."""

from __future__ import annotations

import pytest

from router.dataplane.request.service_session import SessionPlaces

KEPT = [b"x-agent-id: seven\r\ncookie: a=1; agent=", b'"five"', b"; b=2\r\n", b"cookie", b": ", b"late=9", b"\r\n"]


@pytest.mark.parametrize(
    ("places", "rest", "session"),
    [
        (["header:X-Agent-ID"], b"", "seven"),
        (["header:agent-id"], b"", ""),
        (["cookie:agent"], b"", "five"),
        (["cookie:late"], b"", "9"),
        (["cookie:none"], b"", ""),
        (["path:1"], b"u-1/run", "u-1"),
        (["path:2"], b"/u-1/run/", "run"),
        (["path:3"], b"u-1/run", ""),
        (["path:1"], b"", ""),
        (["path:3", "cookie:agent", "header:x-agent-id"], b"u-1/run", "five"),
        ([], b"u-1", ""),
    ],
)
def test_the_first_place_that_has_a_session_counts(places: list[str], rest: bytes, session: str) -> None:
    assert SessionPlaces(places).find(KEPT, rest) == session
