"""What an exchange says of itself."""

from __future__ import annotations

import pytest

from schedulers.types import Pod, PodId
from tests.fakes.bare_exchange import exchange


def test_the_path_is_the_target_without_its_query() -> None:
    assert exchange(target=b"/v1/x?a=/b?c").path == b"/v1/x"
    assert exchange(target=b"/v1/x").path == b"/v1/x"


@pytest.mark.parametrize(
    ("target", "anthropic"),
    [(b"/v1/messages", True), (b"/v1/messages/count_tokens", True), (b"/v1/chat/completions", False)],
)
def test_who_asks_for_messages_speaks_anthropics_dialect(target: bytes, anthropic: bool) -> None:
    assert exchange(target=target).speaks_anthropic is anthropic


def test_it_shows_where_it_is() -> None:
    made = exchange()
    made.request_id, made.pool, made.pod, made.attempts = b"id-1", "main", Pod(PodId("p1"), "a:1"), 2
    assert repr(made) == "<Exchange id-1 POST /v1/completions pool=main pod=p1 attempts=2>"
    made.done = True
    assert repr(made).endswith(" done>")


def test_bytes_that_are_no_text_do_not_hinder_showing_it() -> None:
    made = exchange(target=b"/v1/\xff")
    made.request_id = b"\xff"
    assert "Exchange" in repr(made)
