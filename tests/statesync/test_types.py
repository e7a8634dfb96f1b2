"""The one mutable value of this package: a charge."""

from __future__ import annotations

from schedulers.types import PodId
from statesync.load.pod_state import Charge


def test_a_charge_holds_one_request_until_it_is_released() -> None:
    charge = Charge(PodId("a:1"), 300, 100)
    assert (charge.pod, charge.requests, charge.tokens, charge.prefill_tokens) == (PodId("a:1"), 1, 300, 100)


def test_a_charge_shows_whether_it_is_open() -> None:
    charge = Charge(PodId("a:1"), 300, 100)
    assert repr(charge) == "<Charge open on a:1: 300 tokens, 100 to prefill>"
    charge.requests = charge.tokens = charge.prefill_tokens = 0
    assert repr(charge) == "<Charge released on a:1: 0 tokens, 0 to prefill>"
