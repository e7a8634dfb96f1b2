from __future__ import annotations

import pytest

from schedulers.filters.label import HasLabel
from schedulers.types import Candidate, LoadSnapshot, Pod, PodLoad
from tests.fakes.scheduler_inputs import pod_ids, request_of

LABELS = [{"gpu": "h100"}, {"gpu": "l4"}, {}]
PODS = [Pod(pod, pod, labels=labels) for pod, labels in zip(pod_ids(3), LABELS, strict=True)]
SNAPSHOT = LoadSnapshot.of([Candidate(pod, PodLoad()) for pod in PODS])


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (HasLabel("gpu", equals="h100"), [0]),
        (HasLabel("gpu", in_=("h100", "l4")), [0, 1]),
        (HasLabel("gpu", not_in=("l4",)), [0, 2]),
        (HasLabel("zone", equals="a"), []),
    ],
)
def test_a_pod_without_the_label_passes_only_not_in(each: HasLabel, expected: list[int]) -> None:
    assert each.passes(request_of(), SNAPSHOT) == expected


@pytest.mark.parametrize("given", [{}, {"equals": "a", "in_": ("b",)}, {"in_": ("a",), "not_in": ("b",)}])
def test_label_needs_one_condition(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="exactly one of equals"):
        HasLabel("gpu", **given)  # type: ignore[arg-type]


def test_label_needs_the_name_of_a_label() -> None:
    with pytest.raises(ValueError, match="label is missing"):
        HasLabel(equals="h100")
