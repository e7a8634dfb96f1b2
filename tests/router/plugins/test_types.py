"""The data sent to a check's process: complete requests, read-only mappings included."""

from __future__ import annotations

import pickle
from types import MappingProxyType

from router.plugins.examples import Example, examples
from router.plugins.types import CheckJob, CheckReport, packed
from schedulers.hits import Level, PrefixHits
from schedulers.types import PodId


def test_a_job_passes_the_pipe_unchanged() -> None:
    request, snapshot = examples()[7]
    hits = PrefixHits({PodId("a:1"): 3}, [Level(3, [PodId("a:1")])])
    candidates = tuple(
        each._replace(pod=each.pod._replace(labels=MappingProxyType({"zone": "a"}))) for each in snapshot.candidates
    )
    given = Example(request._replace(prefix_hits=hits), snapshot._replace(candidates=candidates))
    read: CheckJob = pickle.loads(packed(CheckJob(b"x = 1", "f.py", ("/a", "/b"), 1 << 30, 2.0, (given,))))
    (example,) = read.recorded
    assert example == given
    assert isinstance(example.request.prefix_hits, PrefixHits)
    assert example.request.prefix_hits.levels == hits.levels
    assert read._replace(recorded=()) == CheckJob(b"x = 1", "f.py", ("/a", "/b"), 1 << 30, 2.0, ())


def test_a_report_offers_each_policy_under_the_files_digest() -> None:
    assert CheckReport("f.py", "3f2a9c1d", ("a", "b")).names == ("a@3f2a9c1d", "b@3f2a9c1d")
