from __future__ import annotations

import pytest

from schedulers.scorers.locality import Nearness
from schedulers.types import Candidate, PodLoad
from tests.fakes.scheduler_inputs import request_of, snapshot_of


@pytest.mark.parametrize(
    ("scorer", "home", "expected"),
    [
        (Nearness(), {"zone": "a", "cluster": "x"}, [1.0, 0.5, 0.0, 0.0]),
        (Nearness(), {"cluster": "x"}, [0.5, 0.5, 0.0, 0.0]),
        (Nearness(("cluster",)), {"zone": "a", "cluster": "x"}, [1.0, 1.0, 0.0, 0.0]),
        (Nearness(), {}, [0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_locality_scores_by_first_shared_label(scorer: Nearness, home: dict[str, str], expected: list[float]) -> None:
    labels = [{"zone": "a", "cluster": "x"}, {"zone": "b", "cluster": "x"}, {"zone": "b", "cluster": "y"}, {}]
    snapshot = snapshot_of([PodLoad()] * 4)
    candidates = [
        Candidate(pod._replace(labels=own), load) for own, (pod, load) in zip(labels, snapshot.candidates, strict=True)
    ]
    found = scorer.score(request_of(), snapshot._replace(candidates=tuple(candidates), home=home))
    assert found == (expected if home else 0.0)


def test_locality_needs_a_label() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Nearness(())
