"""Which prefix index a replica gets, and what keeps it."""

from __future__ import annotations

import subprocess
import sys

from router.dataplane.kv_feedback import KvFeedback
from router.dataplane.prefix_feedback import PrefixFeedback
from router.replica.kv_events import open_feedback, open_index, open_reader
from router.settings import KvEvents, Pool, Settings
from statesync.kv_events.precise_index import PreciseIndex
from statesync.prefix.accuracy import PrefixAccuracy
from statesync.prefix.index import PrefixIndex


def settings(events: KvEvents | None) -> Settings:
    return Settings(pools=[Pool(name="p", pods=["a:1"], kv_events=events), Pool(name="q", pods=["b:1"])])


def test_without_events_it_is_the_learned_index_and_nothing_else() -> None:
    plain = settings(None)
    index = open_index(plain)
    accuracy = PrefixAccuracy(index.set_trust)
    assert type(index) is PrefixIndex
    assert open_reader(plain, index, float) is None
    feedback = open_feedback(index, accuracy, None, float)
    assert isinstance(getattr(feedback, "__self__", None), PrefixFeedback)


def test_with_events_it_is_the_precise_one_and_follows_their_pool() -> None:
    events = settings(KvEvents())
    index = open_index(events)
    assert isinstance(index, PreciseIndex)
    reader = open_reader(events, index, float)
    assert reader is not None
    assert reader.index is index
    feedback = open_feedback(index, PrefixAccuracy(index.set_trust), reader, float)
    assert isinstance(getattr(feedback, "__self__", None), KvFeedback)


def test_what_reads_events_is_imported_only_for_them() -> None:
    code = (
        "import sys, router.replica.build as build; from router.settings import Pool, Settings; "
        "build.build(Settings(pools=[Pool(name='p', pods=['a:1'])])); "
        "print([name for name in sys.modules if name == 'zmq' or 'kv_events.' in name or 'kv_feedback' in name])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
