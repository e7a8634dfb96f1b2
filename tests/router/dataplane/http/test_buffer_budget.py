"""What is held for all clients together is counted, given back to the byte, and never more than the limit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dataplane.http.buffer_budget import UNCOUNTED, BufferBudget, HeldBytes
from router.errors import Shed
from router.settings import Limits
from tests.fakes.memory_client_and_pods import CHAT, Client, ok, post
from tests.fakes.memory_gateway import Rig

BUDGET = 80_000
TIGHT = Limits(buffer_budget_bytes=BUDGET)
LARGE = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 70_000}]}).encode()
HALF = len(LARGE) - 100


def overloaded(client: Client) -> None:
    answer = client.answers()[-1]
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert client.fate == "closed"


def sends_half(rig: Rig) -> Client:
    return rig.client().sends(post(LARGE)[:-100])


def test_a_body_for_which_there_is_no_room_is_refused_and_others_are_served() -> None:
    """Case E 22."""
    with Rig(limits=TIGHT) as rig:
        first, second = sends_half(rig), sends_half(rig)
        overloaded(second)
        assert HALF - UNCOUNTED <= rig.listener.budget.used <= BUDGET
        assert rig.listener.budget.refusals == 1
        assert rig.metrics.rejections == {("-", "overloaded"): 1}
        small = rig.asks()
        rig.asked().sends(ok())
        assert small.answer().status == 200
        first.sends(LARGE[-100:])
        rig.asked().sends(ok())
        assert first.answer().status == 200
        assert rig.listener.budget.used == 0


def test_a_body_that_cannot_fit_is_refused_before_it_comes() -> None:
    """Case E 22: no 100 Continue invites it."""
    with Rig(limits=TIGHT) as rig:
        sends_half(rig)
        late = rig.client().sends(post(b"", "expect: 100-continue", f"content-length: {len(LARGE)}", length=False))
        overloaded(late)
        assert len(late.answers()) == 1


def test_a_body_counts_until_its_answer_has_ended() -> None:
    """Case E 22."""
    with Rig(limits=TIGHT) as rig:
        first = rig.client().sends(post(LARGE))
        assert rig.listener.budget.used >= len(LARGE) - UNCOUNTED
        overloaded(sends_half(rig))
        rig.asked().sends(ok())
        assert first.answer().status == 200
        assert rig.listener.budget.used == 0


@pytest.mark.parametrize("leaves", ["in its head", "in its body", "in flight"])
def test_a_client_that_leaves_gives_back_what_it_held(leaves: str) -> None:
    """Case E 22."""
    long = post(LARGE, f"x-long: {'x' * 25_000}")
    sent = {"in its head": long[:24_000], "in its body": long[:-100], "in flight": long}[leaves]
    with Rig(limits=TIGHT) as rig:
        client = rig.client().sends(sent)
        assert rig.listener.budget.used > 5_000
        client.leaves()
        assert rig.listener.budget.used == 0


def test_half_read_heads_count() -> None:
    """Case E 22."""
    with Rig(limits=TIGHT) as rig:
        head = b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-slow: " + b"x" * 50_000
        clients = [rig.client().sends(head) for _ in range(3)]
        assert [bool(client.answers()) for client in clients] == [False, False, True]
        overloaded(clients[2])


def test_chunks_of_a_body_count() -> None:
    """Case E 22."""
    with Rig(limits=TIGHT) as rig:
        client = rig.client().sends(post(b"", "transfer-encoding: chunked", length=False))
        for _ in range(30):
            client.sends(b"fff\r\n" + b"x" * 0xFFF + b"\r\n")
        overloaded(client)
        assert rig.listener.budget.used == 0


def test_requests_that_are_read_ahead_count() -> None:
    """Case E 22: thousands of small ones in one read take more than their bytes."""
    with Rig(limits=TIGHT) as rig:
        client = rig.client().sends(post(CHAT) * 100)
        assert rig.listener.budget.used <= BUDGET
        assert rig.listener.budget.refusals == 1
        client.leaves()


def test_answers_that_a_slow_client_does_not_take_count() -> None:
    """Case E 22."""
    with Rig(limits=Limits(buffer_budget_bytes=BUDGET, write_buffer_bytes=1000)) as rig:
        slow = [rig.client() for _ in range(2)]
        for client in slow:
            client.stops_reading()
            client.sends(post())
            rig.asked().sends(ok(b"x" * 60_000))
        assert 50_000 <= rig.listener.budget.used <= BUDGET
        assert [client.transport.lost for client in slow] == [False, True]
        overloaded(sends_half(rig))


def test_a_usual_request_is_served_while_others_hold_all() -> None:
    """Case E 22: in one read or byte by byte, with a head that is known or new."""
    with Rig(limits=Limits(buffer_budget_bytes=1)) as rig:
        overloaded(sends_half(rig))
        for traced in range(3):
            client = rig.client()
            request = post(CHAT, f"traceparent: {traced}")
            for piece in [request] if traced else [request[at : at + 1] for at in range(len(request))]:
                client.sends(piece)
            rig.asked().sends(ok())
            assert client.answer().status == 200


def test_a_limit_of_zero_is_none() -> None:
    budget = BufferBudget(0)
    held = HeldBytes(budget)
    held.read(1 << 50)
    held.closed()
    assert (budget.used, budget.refusals) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["reading", "read", "ended", "unsent", "closed", "read_ahead"]),
            st.integers(0, 60_000),
        ),
        max_size=30,
    )
)
def test_the_sum_is_never_more_than_the_limit_and_ends_at_zero(steps: list[tuple[int, str, int]]) -> None:
    budget = BufferBudget(100_000)
    accounts = [HeldBytes(budget) for _ in range(3)]
    for who, what, size in steps:
        try:
            if what in ("ended", "closed", "read_ahead"):
                getattr(accounts[who], what)()
            else:
                getattr(accounts[who], what)(size)
        except Shed:
            pass
        assert 0 <= budget.used <= 100_000
    for account in accounts:
        account.closed()
    assert budget.used == 0
