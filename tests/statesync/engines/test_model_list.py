"""The page /v1/models: ids, and cards with every field."""

from __future__ import annotations

import json

import pytest

from statesync.engines.model_list import ModelCard, NoModelList, cards_of, ids_of
from tests.fakes.each_case import each_case


def page(*cards: dict[str, object]) -> bytes:
    return json.dumps({"object": "list", "data": cards}).encode()


VLLM = {"id": "lora", "object": "model", "created": 1, "owned_by": "vllm", "root": "/a", "parent": "base"}


def test_ids_and_cards_are_read_with_every_field() -> None:
    base = {"id": "base", "max_model_len": 32768, "x-unknown": {"a": [1, None]}}
    assert ids_of(page(base, VLLM)) == {"base", "lora"}
    cards = cards_of(page(base, VLLM))
    assert list(cards) == ["base", "lora"]
    assert (cards["base"].fields, cards["lora"].fields) == (base, VLLM)


def test_a_page_of_other_things_has_no_cards() -> None:
    with pytest.raises(NoModelList):
        cards_of(b'{"data": [5]}')


def test_cards_differ_only_in_what_lasts() -> None:
    later = ModelCard(VLLM | {"created": 2, "permission": [{"id": "modelperm-1"}]})
    assert ModelCard(VLLM) == later
    assert hash(ModelCard(VLLM)) == hash(later)
    assert ModelCard(VLLM) != ModelCard(VLLM | {"root": "/b"})
    assert ModelCard(VLLM) != ModelCard({name: value for name, value in VLLM.items() if name != "parent"})
    assert ModelCard({"id": "m"}) != {"id": "m"}
    assert "lora" in repr(later)


@each_case(
    "body",
    [b"", b"[]", b'{"data": 5}', b'{"data": [{"name": "x"}]}', b'{"data": [{"id": 5}]}', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "array", "number", "no id", "number as id", "not utf-8", "deep"],
)
def test_anything_else_is_no_list(body: bytes) -> None:
    with pytest.raises(NoModelList, match="no list of models"):
        ids_of(body)


@each_case(
    "body",
    [
        b'{"data": [{"id": "a", "max_model_len": NaN}]}',
        b'{"data": [{"id": "a", "max_model_len": Infinity}]}',
        b'{"data": [{"id": "a", "created": 1e400}]}',
        b'\xef\xbb\xbf{"data": [{"id": "a"}]}',
        b'{"data": [{"id": "a"}, {"object": "model"}, {"id": null}, {"id": 5}, 7, null]}',
        b'{"data": [{"id": "a"}, {"id": "\\ud800"}, {"id": "b", "root": "\\ud800"}]}',
    ],
    ids=["NaN", "Infinity", "beyond a double", "byte-order mark", "entries without a name", "half a surrogate pair"],
)
def test_what_only_python_reads_hides_no_model(body: bytes) -> None:
    assert ids_of(body) == {"a"}
    assert list(cards_of(body)) == ["a"]


def test_an_engine_without_a_model_has_an_empty_list() -> None:
    """Ollama before a model is pulled."""
    assert ids_of(b'{"object":"list","data":null}') == frozenset()
    assert cards_of(b'{"object":"list","data":null}') == {}
