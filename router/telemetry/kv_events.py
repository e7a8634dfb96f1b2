"""What became of pods' KV events, as metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client.samples import Sample

from router.telemetry.collector import Family
from schedulers.types import PodId

if TYPE_CHECKING:
    from statesync.kv_events.reader import KvEventCounts

_FAMILIES: Final[tuple[tuple[str, str, str, Callable[[KvEventCounts], int]], ...]] = (
    ("turnout_kv_event_batches", "counter", "Batches of KV events received.", lambda of: of.batches),
    ("turnout_kv_event_gaps", "counter", "Times that batches were missing, and asked for again.", lambda of: of.gaps),
    ("turnout_kv_event_losses", "counter", "Times that the engine did not have them any more.", lambda of: of.losses),
    ("turnout_kv_event_restarts", "counter", "Restarts of publishers.", lambda of: of.restarts),
    (
        "turnout_kv_in_step",
        "gauge",
        "1 while no batch is missing; otherwise its cache is estimated.",
        lambda of: of.in_step,
    ),
    ("turnout_kv_held_blocks", "gauge", "Blocks that it holds, by its events.", lambda of: of.blocks),
    ("turnout_kv_matched_answers", "counter", "Answers whose prompts' blocks were found.", lambda of: of.matched),
    (
        "turnout_kv_unmatched_answers",
        "counter",
        "Answers whose prompts' blocks could not be distinguished from others'.",
        lambda of: of.unmatched,
    ),
    (
        "turnout_kv_predictions",
        "counter",
        "Answers whose cached tokens were predicted by events.",
        lambda of: of.predictions,
    ),
    (
        "turnout_kv_exact_predictions",
        "counter",
        "Of these, predicted to the token.",
        lambda of: of.exact,
    ),
)


def families(counts: Mapping[PodId, KvEventCounts]) -> Iterator[Family]:
    """By pod; nothing where no pool has `kv_events`."""
    if not counts:
        return
    for name, kind, text, read in _FAMILIES:
        sample = name + "_total" * (kind == "counter")
        samples = [Sample(sample, {"pod": str(pod)}, read(of)) for pod, of in counts.items()]
        yield Family(name, kind, text, samples.__iter__)
