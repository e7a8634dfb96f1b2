"""Where a pool's prefill pods are."""

from __future__ import annotations

from router.upstream_settings import Disaggregation


def test_prefill_is_a_pool_unless_it_is_a_label() -> None:
    assert Disaggregation(prefill="llama-prefill").prefill_pool == "llama-prefill"
    assert Disaggregation().prefill_pool == ""
