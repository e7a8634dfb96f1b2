"""The tables of a composed policy's parts, and the errors for wrong specs."""

from __future__ import annotations

import pytest

from schedulers import registry
from schedulers.errors import InvalidParams
from schedulers.profile import FILTERS, PICKERS, SCORERS
from tests.fakes.each_case import each_case

WRONG: list[tuple[dict[str, object], str]] = [
    (
        {"scorers": [{"name": "queue"}, {"name": "prefix", "weight": "x"}]},
        "profile: params.scorers[1].weight must be a number from 0 up to 1000, not 'x'",
    ),
    (
        {"scorers": [{"name": "queue-depth"}]},
        (
            "profile: params.scorers[0].name: no scorer 'queue-depth' (did you mean 'queue'?); there are: "
            "queue, kv_usage, inflight_tokens, prefix, latency, outlook, session, lora, locality"
        ),
    ),
    (
        {"filters": [{"name": "label", "label": "gpu"}]},
        "profile: params.filters[0]: needs exactly one of equals (a text), in and not_in (lists of them)",
    ),
    (
        {"filters": {"name": "role"}, "picker": "best"},
        (
            "profile: params.filters must be a list, not {'name': 'role'}; "
            "params.picker must be a mapping with a name, not 'best'"
        ),
    ),
    (
        {"scorers": [{"name": "queue", "weight": -1}], "picker": {"name": "top_k", "k": 0}},
        (
            "profile: params.scorers[0].weight must be a number from 0 up to 1000, not -1; "
            "params.picker.k must be a whole number from 1 up to 1000, not 0"
        ),
    ),
    (
        {"scorers": [{"name": "session"}], "sample": 16},
        "profile: params.sample: session must see every pod, as those it would pick may not be drawn; use no sample",
    ),
]


@each_case(("params", "words"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_wrong_spec_is_refused_when_the_policy_is_built(params: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidParams) as refused:
        registry.create("profile", params)
    assert str(refused.value) == words


def test_every_part_is_in_the_module_of_its_name_and_names_its_source() -> None:
    for table in (FILTERS, SCORERS, PICKERS):
        for name, part in table.items():
            assert part.__module__ == f"{part.__module__.rpartition('.')[0]}.{name}"
            assert "Source: " in (part.__doc__ or ""), name
