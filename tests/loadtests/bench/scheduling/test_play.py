"""The bench's cases run, and the same seed gives the same rows."""

from __future__ import annotations

import pytest

from loadtests.bench.scheduling.cases import GPUS, SMOKE, THROTTLED, Job, Sizes, jobs
from loadtests.bench.scheduling.play import TRACES, crowd, one, suite_row
from loadtests.bench.scheduling.suite import SuiteRun, workload
from loadtests.sim.simulate.runs import Case
from loadtests.sim.simulate.sessions import Shape

TINY = SMOKE._replace(suite_requests=20, requests=30, replica_requests=30, herd_requests=60, shape=Shape(2, 2))


def test_every_run_is_listed_once() -> None:
    every = jobs(Sizes(), 0)
    assert len({(job.part, job.label, job.policy) for job in every}) == len(every)
    assert {job.part for job in every} == {"suite", "speeds", "whole", "replicas", "herding", "closed", "restart"}


def first_of(part: str) -> Job:
    return next(job for job in jobs(TINY, 3) if job.part == part)


@pytest.mark.parametrize(
    ("part", "requests"),
    [("suite", 20), ("speeds", 30), ("whole", 30), ("replicas", 30), ("herding", 60), ("closed", 4)],
)
def test_a_run_serves_everything_and_can_be_repeated(part: str, requests: int) -> None:
    job = first_of(part)
    row = one(job, TINY, TRACES)
    assert row.requests == requests
    assert row == one(job, TINY, TRACES)


def test_a_crowd_arrives_at_the_requested_rate() -> None:
    trace = crowd(TRACES, 2000, 160.0, 0)
    assert len(trace.arrivals) == 2000
    assert trace.arrivals[-1].at_s == pytest.approx(2000 / 160.0, rel=0.1)


def test_a_batch_is_played_and_not_counted() -> None:
    run = SuiteRun("batches", "tune", "prefix_aware", Case(rate=0.1), 1000)
    trace = workload(TRACES, "batches", "tune", 0).first(1000)
    assert 0 < suite_row(run, TRACES).requests == sum(each.priority == 0 for each in trace.arrivals) < 1000


def test_only_requests_from_a_moment_on_are_counted() -> None:
    run = SuiteRun("azure_code", "tune", "prefix_aware", Case(), 200)
    at = workload(TRACES, "azure_code", "tune", 0).arrivals[150].at_s
    assert suite_row(run._replace(since_s=at), TRACES).requests == 50


def test_pods_of_unequal_speed_are_counted_once_their_speeds_can_be_known() -> None:
    since = {job.label: job.suite.since_s for job in jobs(Sizes(), 0) if job.part == "speeds" and job.suite}
    assert since == {GPUS: 300.0, THROTTLED: 600.0}
