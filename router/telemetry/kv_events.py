"""What became of pods' KV events, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from router.telemetry.family import Family, Row, families_of
from schedulers.types import PodId

if TYPE_CHECKING:
    from statesync.kv_events.reader import KvEventCounts

_COUNTERS: Final[Sequence[Row[KvEventCounts]]] = (
    ("turnout_kv_event_batches", "Batches of KV events received.", lambda of: of.batches),
    ("turnout_kv_event_gaps", "Times that batches were missing, and asked for again.", lambda of: of.gaps),
    ("turnout_kv_event_losses", "Times that the engine did not have them any more.", lambda of: of.losses),
    ("turnout_kv_event_restarts", "Restarts of publishers.", lambda of: of.restarts),
    ("turnout_kv_matched_answers", "Answers whose prompts' blocks were found.", lambda of: of.matched),
    (
        "turnout_kv_unmatched_answers",
        "Answers whose prompts' blocks could not be distinguished from others'.",
        lambda of: of.unmatched,
    ),
    ("turnout_kv_predictions", "Answers whose cached tokens were predicted by events.", lambda of: of.predictions),
    ("turnout_kv_exact_predictions", "Of these, predicted to the token.", lambda of: of.exact),
)

_GAUGES: Final[Sequence[Row[KvEventCounts]]] = (
    ("turnout_kv_in_step", "1 while no batch is missing; otherwise its cache is estimated.", lambda of: of.in_step),
    ("turnout_kv_held_blocks", "Blocks that it holds, by its events.", lambda of: of.blocks),
)


def families(counts: Mapping[PodId, KvEventCounts]) -> Iterator[Family]:
    """By pod; nothing where no pool has `kv_events`."""
    if counts:
        pods = [({"pod": str(pod)}, of) for pod, of in counts.items()]
        yield from families_of("counter", _COUNTERS, pods)
        yield from families_of("gauge", _GAUGES, pods)
