"""Families from tables: the names of their samples, and when values are read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prometheus_client.samples import Exemplar, Sample

from router.telemetry.family import buckets, families_of, family, single


def test_a_row_gives_a_family_with_a_sample_for_each_object() -> None:
    rows = [("met", "Times met.", lambda of: of.met), ("lost", "Times lost.", lambda of: of.lost)]
    objects = [({"pod": name}, SimpleNamespace(met=1, lost=at)) for at, name in enumerate("ab")]
    met, lost = families_of("counter", rows, objects)
    assert (met.name, met.kind, met.help) == ("met", "counter", "Times met.")
    assert list(lost.samples()) == [Sample("lost_total", {"pod": "a"}, 0), Sample("lost_total", {"pod": "b"}, 1)]


def test_values_are_read_when_samples_are_made() -> None:
    count: Any = SimpleNamespace(now=1)
    (gauge,) = families_of("gauge", [("now", "", lambda of: of.now)], [({}, count)])
    count.now = 2
    assert list(gauge.samples()) == [Sample("now", {}, 2)]
    assert list(gauge.samples()) == [Sample("now", {}, 2)]


def test_a_counters_samples_have_the_suffix() -> None:
    assert list(family("counter", "spans", "", "result", {"failed": 3}.items()).samples()) == [
        Sample("spans_total", {"result": "failed"}, 3)
    ]
    assert list(single("gauge", "open", "", 4).samples()) == [Sample("open", {}, 4)]


def test_the_last_bucket_is_the_count() -> None:
    mark = Exemplar({"trace_id": "a"}, 0.5)
    assert list(buckets("took", {"pool": "p"}, (1.0,), [2, 3], 9.5, {0: mark})) == [
        Sample("took_bucket", {"pool": "p", "le": "1.0"}, 2, None, mark),
        Sample("took_bucket", {"pool": "p", "le": "+Inf"}, 3),
        Sample("took_count", {"pool": "p"}, 3),
        Sample("took_sum", {"pool": "p"}, 9.5),
    ]
