"""KV events as metrics."""

from __future__ import annotations

from router.telemetry.kv_events import families
from schedulers.types import PodId
from statesync.kv_events.reader import KvEventCounts

COUNTS = KvEventCounts(
    batches=9, gaps=2, losses=1, restarts=3, in_step=1, blocks=50, matched=7, unmatched=4, predictions=6, exact=5
)


def test_each_count_is_a_metric_of_its_pod() -> None:
    shown = {}
    for family in families({PodId("a"): COUNTS}):
        (sample,) = family.samples()
        assert sample.labels == {"pod": "a"}
        assert sample.name == family.name + ("_total" if family.kind == "counter" else "")
        shown[sample.name] = sample.value
    assert sorted(shown.values()) == sorted(COUNTS)
    assert shown["turnout_kv_held_blocks"] == 50
    assert shown["turnout_kv_exact_predictions_total"] == 5


def test_without_events_there_is_nothing() -> None:
    assert list(families({})) == []
