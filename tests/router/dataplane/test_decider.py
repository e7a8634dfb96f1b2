from __future__ import annotations

from collections.abc import Iterator

import pytest

from router.dataplane.decider import Decider
from router.dataplane.http.request_head import RequestHead
from router.errors import BadRequest, NoPodAvailable, Saturated
from router.settings import Limits, Pool
from tests.fakes.memory_gateway import Rig, one_pool

HEAD = RequestHead(b"POST", b"/v1/completions", http11=True, keep_alive=True, kept=[], header_map={})
BODY = b'{"model":"m","prompt":"' + b"word " * 400 + b'"}'


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(one_pool("round_robin", max_inflight_per_pod=1), pods=2) as rig:
        yield rig


def decider(rig: Rig) -> Decider:
    return Decider(rig.gateway.deps, rig.listener.connect)


def test_a_request_is_placed_counted_and_given_back(rig: Rig) -> None:
    deciding = decider(rig)
    exchange = deciding.begin(HEAD, BODY)
    placement = deciding.place(exchange)
    load = rig.view.status(placement.pod.id).load
    assert (load.inflight, load.prefilling, rig.admission.active) == (1, 1, {exchange})
    deciding.first_token(exchange, stream=True)
    assert rig.view.status(placement.pod.id).load.prefilling == 0
    deciding.end(exchange, 200)
    assert rig.view.inflight == 0


def test_another_pod_takes_the_place_of_one_that_had_no_room(rig: Rig) -> None:
    deciding = decider(rig)
    exchange = deciding.begin(HEAD, BODY)
    first, second = deciding.place(exchange), deciding.place_again(exchange)
    assert first.pod != second.pod
    assert rig.view.inflight == 1
    deciding.end(exchange, 200)


def test_where_each_pod_was_tried_all_may_be_tried_again(rig: Rig) -> None:
    deciding = decider(rig)
    exchange = deciding.begin(HEAD, BODY)
    deciding.place(exchange)
    deciding.place_again(exchange)
    with pytest.raises(NoPodAvailable, match="no_untried_pod"):
        deciding.place_again(exchange)
    assert exchange.placement is None
    deciding.place(exchange)
    deciding.end(exchange, 200)


def test_a_full_pool_leaves_the_request_open(rig: Rig) -> None:
    deciding = decider(rig)
    held = [deciding.begin(HEAD, BODY) for _ in range(2)]
    for each in held:
        deciding.place(each)
    late = deciding.begin(HEAD, BODY)
    with pytest.raises(Saturated):
        deciding.place(late)
    deciding.end(held[0], 200)
    assert deciding.place(late).pod == rig.view.pod(held[0].placement.pod.id)  # type: ignore[union-attr]
    for each in (held[1], late):
        deciding.end(each, 499)


def test_a_body_that_cannot_be_read_holds_nothing(rig: Rig) -> None:
    with pytest.raises(BadRequest):
        decider(rig).begin(HEAD, b"{")
    assert not rig.admission.active


def test_a_failed_answer_counts_against_its_pod() -> None:
    with Rig(Pool(name="main", models=["m"]), pods=4, limits=Limits()) as rig:
        deciding = decider(rig)
        for _ in range(3):
            exchange = deciding.begin(HEAD, BODY)
            exchange.tried = frozenset(status.pod.id for status in rig.view.statuses()[1:])
            deciding.place(exchange)
            deciding.end(exchange, 500)
        assert rig.view.statuses()[0].blockers == ("ejected",)


def test_an_end_is_counted_once(rig: Rig) -> None:
    deciding = decider(rig)
    exchange = deciding.begin(HEAD, BODY)
    deciding.place(exchange)
    deciding.end(exchange, 200)
    deciding.end(exchange, 500)
    deciding.first_token(exchange, stream=True)
    assert rig.view.inflight == 0
