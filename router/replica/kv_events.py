"""The prefix index of a replica, and what keeps it: with KV events where a pool has them, else without. What reads
events is imported only there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from router.dataplane.exchange import Placement
from router.dataplane.prefix_feedback import PrefixFeedback
from router.dataplane.request.openai import Call
from router.settings import Settings
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex

if TYPE_CHECKING:
    from statesync.kv_events.reader import KvEventReader


def open_index(settings: Settings) -> PrefixIndex:
    """The index that the pools need."""
    sizes = settings.prefix.max_bytes, settings.prefix.default_kv_tokens
    if not any(pool.kv_events is not None for pool in settings.pools):
        return PrefixIndex(*sizes)
    from statesync.kv_events.precise_index import PreciseIndex

    return PreciseIndex(*sizes)


def open_reader(settings: Settings, index: PrefixIndex, clock: Callable[[], float]) -> KvEventReader | None:
    """What reads the events of pods; None where no pool has them. Raises ImportError without the package of
    `turnout[kv-events]`; the checks of the configuration explain that."""
    events = {pool.name: pool.kv_events for pool in settings.pools if pool.kv_events is not None}
    if not events:
        return None
    from statesync.kv_events.precise_index import PreciseIndex
    from statesync.kv_events.reader import KvEventReader, KvEventsConfig
    from statesync.kv_events.tiers import TierSettings

    assert isinstance(index, PreciseIndex), "of these settings"
    configs = {
        name: KvEventsConfig(
            of.endpoint, of.replay, of.topic, of.ranks, TierSettings(msgspec.structs.asdict(of.load), of.shared)
        )
        for name, of in events.items()
    }
    return KvEventReader(index, configs, clock=clock)


def open_feedback(
    index: PrefixIndex, accuracy: PrefixAccuracy, reader: KvEventReader | None, clock: Callable[[], float]
) -> Callable[[Call, Placement, bytes], None]:
    """What learns from answers."""
    feedback = PrefixFeedback(accuracy)
    if reader is None:
        return feedback.learn
    from router.dataplane.kv_feedback import KvFeedback

    return KvFeedback(feedback, accuracy, reader.index, clock).learn
