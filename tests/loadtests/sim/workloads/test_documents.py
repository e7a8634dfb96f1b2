"""All questions about a document have it as their prefix."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from loadtests.sim.workloads.documents import Documents, documents

TRACE = documents(Documents(documents=60), 1)


def test_documents_are_long_and_each_is_asked_about_several_times() -> None:
    units = defaultdict(list)
    for each in TRACE.arrivals:
        units[each.session].append(each.units)
    assert all(len(set(of_one)) == 1 for of_one in units.values())
    assert len({of_one[0][0] for of_one in units.values()}) == len(units) == 60
    assert mean(map(len, units.values())) > 3
    assert all(31_000 < each.prompt_tokens < 123_000 for each in TRACE.arrivals)


def test_nothing_arrives_after_the_last_document_was_opened() -> None:
    last = TRACE.arrivals[-1]
    assert sum(each.session == last.session for each in TRACE.arrivals) == 1
