"""What pods say of their models, merged."""

from __future__ import annotations

from router.dataplane.request.model_cards import CardCatalog
from statesync.engines.model_list import ModelCard, ModelCards


def cards(*each: dict[str, object]) -> ModelCards:
    return {str(card["id"]): ModelCard(card) for card in each}


M = {"id": "m", "root": "/m", "max_model_len": 100, "created": 1}


def test_case_a_5_a_model_s_cards_are_merged_with_all_their_fields() -> None:
    catalog = CardCatalog()
    catalog.set("p", "a", cards(M | {"parent": None}))
    catalog.set("p", "b", cards({"id": "m", "max_model_len": 50, "parent": "base", "odd": [1]}))
    assert catalog.merged("p", "m") == M | {"max_model_len": 50, "parent": "base", "odd": [1]}
    assert catalog.merged("p", "other") == catalog.merged("q", "m") == {}


def test_equal_cards_are_kept_once_and_go_with_the_last_pod() -> None:
    catalog = CardCatalog()
    for number in range(3):
        catalog.set("p", f"pod{number}", cards(M | {"created": number}))
    assert catalog.merged("p", "m")["created"] == 0
    catalog.forget("p", ["pod0", "pod1", "stranger"])
    assert catalog.merged("p", "m") == M | {"created": 0}
    catalog.set("p", "pod2", cards({"id": "n"}))
    assert (catalog.merged("p", "m"), catalog.merged("p", "n")) == ({}, {"id": "n"})
    catalog.set("p", "pod2", None)
    assert (catalog.merged("p", "n"), repr(catalog)) == ({}, "<CardCatalog: p 0>")


def test_a_card_that_changes_replaces_the_old_one() -> None:
    catalog = CardCatalog()
    catalog.set("p", "a", cards(M, {"id": "n"}))
    catalog.set("p", "a", cards(M | {"root": "/new"}, {"id": "n"}))
    assert (catalog.merged("p", "m")["root"], catalog.merged("p", "n")) == ("/new", {"id": "n"})
