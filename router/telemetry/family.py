"""One metric as a scrape shows it, and families made from tables. Knows no metric of the gateway.

A counter's samples have the suffix `_total`, which its family's name has not. Values are read when samples are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

Labels = dict[str, str]

_T = TypeVar("_T")


class Family(NamedTuple):
    """One metric: its name without the type's suffix, and the source of its samples."""

    name: str
    kind: str
    help: str
    samples: Callable[[], Iterable[Sample]]


Row = tuple[str, str, Callable[[_T], float]]
"""A metric's name and help, and its value for one object."""


def families_of(kind: str, rows: Iterable[Row[_T]], objects: Sequence[tuple[Labels, _T]]) -> Iterator[Family]:
    """A family a row, with a sample for each object."""
    for name, help_text, read in rows:
        yield Family(name, kind, help_text, partial(_read, _sample_name(name, kind), read, objects))


def family(kind: str, name: str, help_text: str, label: str, values: Iterable[tuple[str, float]]) -> Family:
    """A family with one label and a sample for each of its values."""
    samples = [Sample(_sample_name(name, kind), {label: each}, value) for each, value in values]
    return Family(name, kind, help_text, lambda: samples)


def single(kind: str, name: str, help_text: str, value: float) -> Family:
    """A family of one sample, without labels."""
    samples = [Sample(_sample_name(name, kind), {}, value)]
    return Family(name, kind, help_text, lambda: samples)


def buckets(
    name: str,
    labels: Labels,
    bounds: Sequence[float],
    totals: Sequence[int],
    sum_of_all: float,
    exemplars: Mapping[int, Exemplar | None] = {},
) -> Iterator[Sample]:
    """A histogram's samples under these labels; `totals` are cumulative, `exemplars` by bucket."""
    for at, (edge, total) in enumerate(zip([*map(floatToGoString, bounds), "+Inf"], totals, strict=True)):
        yield Sample(f"{name}_bucket", {**labels, "le": edge}, total, None, exemplars.get(at))
    # The last bucket is the count: read once, so that the two can never disagree.
    yield Sample(f"{name}_count", labels, totals[-1])
    yield Sample(f"{name}_sum", labels, sum_of_all)


def _sample_name(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def _read(name: str, read: Callable[[_T], float], objects: Sequence[tuple[Labels, _T]]) -> Iterator[Sample]:
    return (Sample(name, labels, read(each)) for labels, each in objects)
