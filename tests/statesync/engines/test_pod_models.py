"""What is known of a pod's list of models, and lists as pages that replicas share."""

from __future__ import annotations

from statesync.engines.model_list import cards_of, ids_of
from statesync.engines.pod_models import PAGES, CardPages, Doubt, ParsedPages, PodModels


def page(*ids: str, created: int = 1) -> bytes:
    cards = ",".join(f'{{"id":"{name}","created":{created},"max_model_len":9}}' for name in ids)
    return f'{{"object":"list","data":[{cards}]}}'.encode()


def test_a_model_is_left_out_while_its_pod_is_doubted() -> None:
    known = PodModels(ids=frozenset({"m", "n"}))
    assert known.undoubted(5.0) == frozenset({"m", "n"})
    known.doubts["n"] = Doubt(3, 10.0)
    assert known.undoubted(9.9) == frozenset({"m"})
    assert known.undoubted(10.0) == frozenset({"m", "n"})
    assert PodModels().undoubted(0.0) is None


def test_equal_lists_have_one_page_whatever_the_engine_makes_up_and_it_is_read_as_the_same_list() -> None:
    pages = CardPages()
    first = pages.of(cards_of(page("m", "n", created=1)))
    assert pages.of(cards_of(page("m", "n", created=2))) is first
    assert pages.of(cards_of(page("m"))) != first
    assert ids_of(first) == {"m", "n"}
    assert cards_of(first) == cards_of(page("m", "n"))
    assert pages.of({}) not in (b"", None)
    assert pages.of(None) == b""


def test_the_pages_that_are_kept_are_bounded() -> None:
    pages = CardPages()
    first = pages.of(cards_of(page("m")))
    for number in range(PAGES):
        pages.of(cards_of(page(f"model-{number}")))
    again = pages.of(cards_of(page("m")))
    assert again == first
    assert again is not first


def test_a_page_is_parsed_once_and_one_that_cannot_be_read_is_none() -> None:
    parsed = ParsedPages()
    found = parsed.of(page("m"))
    assert found is not None
    assert found.ids == frozenset({"m"})
    assert parsed.of(page("m")) is found
    assert parsed.of(b"{") is None
    empty = parsed.of(b"")
    assert empty is not None
    assert (empty.ids, empty.cards) == (None, None)
