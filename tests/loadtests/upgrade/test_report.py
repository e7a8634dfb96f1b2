import json
import math
import random
from statistics import pstdev

import pytest

from loadtests.sim.chat import Usage, _Details
from loadtests.upgrade.fleet import PodState
from loadtests.upgrade.load import LONG, STREAM, WHOLE, Record
from loadtests.upgrade.report import act, as_json, hit_rate, hit_rate_error, newcomers, spanning, summary, table
from loadtests.upgrade.roll import Roll, Story, Window


def record(
    kind: str, began: float, ended: float, *, fault: str = "", replica: str = "a", cached: int = 0, first: float = 0.0
) -> Record:
    return Record(kind, began, first or ended, ended, fault, replica, "pod", Usage(100, 4, _Details(cached)))


def roll(old: str, left_at: float, *, seen: int = 10, truth: int = 10) -> Roll:
    return Roll(old, f"{old}2", 1.0, {"pod": seen}, {"pod": truth}, left_at - 1.0, left_at)


def window(began: float, ended: float) -> Window:
    made = Window()
    made.began, made.ended = began, ended
    return made


def test_a_stream_spans_a_roll_if_its_own_replica_got_sigterm_meanwhile() -> None:
    over = record(LONG, 0.0, 70.0)
    others = [
        record(LONG, 0.0, 70.0, replica="b"),
        record(LONG, 31.0, 99.0),
        record(LONG, 0.0, 29.0),
        record(STREAM, 0.0, 70.0),
    ]
    assert spanning([over, *others], [roll("a", 30.0)]) == [over]


def test_only_streams_of_a_minute_that_ended_well_are_counted_and_lost_ones_separately() -> None:
    story = Story([record(LONG, 0.0, 60.0), record(LONG, 0.0, 59.0), record(LONG, 0.0, 40.0, fault="truncated")])
    story.rolls.append(roll("a", 30.0))
    found = summary(story)
    assert (found.spanning, found.spanning_lost) == (1, 1)


def test_a_failure_after_the_first_byte_is_truncated_and_any_other_failed() -> None:
    faults = ("", "truncated", "error_event", "http_502", "no_answer", "wrong_text")
    found = summary(Story([record(WHOLE, 0.0, 1.0, fault=fault) for fault in faults]))
    assert (found.requests, found.failed, found.truncated) == (6, 3, 2)


def test_an_act_counts_the_requests_that_began_in_it() -> None:
    story = Story(
        [
            record(STREAM, 1.0, 3.0, first=1.5, cached=50),
            record(WHOLE, 2.0, 9.0, cached=100),
            record(STREAM, 5.0, 9.0, first=8.0),
        ]
    )
    story.samples += [(1.0, [PodState("a", 6), PodState("b", 2)]), (2.0, [PodState("a", 0), PodState("b", 0)])]
    found = act(story, window(1.0, 5.0))
    assert (found.requests, found.hit_rate, found.max_over_mean) == (2, 0.75, 1.5)
    assert found.ttft_p99_s == 0.5, "a whole answer has no first token"


def test_an_answer_without_usage_is_left_out_of_the_hit_rate() -> None:
    assert hit_rate([record(WHOLE, 0, 1, cached=30), record(WHOLE, 0, 1)._replace(usage=Usage())]) == 0.3
    assert hit_rate([]) == 0.0


def sampled(rng: random.Random, sessions: int) -> list[Record]:
    """Four requests of each conversation: all of them hit completely, or none hits."""
    return [
        record(WHOLE, 0, 1, cached=100 * found)._replace(session=f"s{at}")
        for at, found in enumerate(rng.random() < 0.8 for _ in range(sessions))
        for _ in range(4)
    ]


def test_the_uncertainty_of_a_hit_rate_depends_on_conversations_not_on_requests() -> None:
    one = [record(WHOLE, 0, 1, cached=100 * (at < 8))._replace(session=f"s{at}") for at in range(10)]
    assert hit_rate_error(one) == pytest.approx(math.sqrt(0.8 * 0.2 / 9))
    assert hit_rate_error(one * 4) == pytest.approx(hit_rate_error(one))
    assert hit_rate_error(one[:1]) == hit_rate_error([]) == 0.0


def test_the_standard_error_of_a_hit_rate_is_the_scatter_of_such_rates() -> None:
    """The scatter of 400 rates is itself uncertain by 1 / sqrt(2 * 400), 3.5 %; five times that is allowed."""
    rng = random.Random(5)
    runs = [sampled(rng, 30) for _ in range(400)]
    scatter = pstdev(hit_rate(run) for run in runs)
    estimated = math.sqrt(sum(hit_rate_error(run) ** 2 for run in runs) / len(runs))
    assert estimated == pytest.approx(scatter, rel=0.18)


def test_a_new_replica_s_view_is_reported_as_a_share_of_the_truth() -> None:
    story = Story([])
    story.rolls += [roll("a", 1.0, seen=0, truth=200), roll("b", 2.0, seen=199, truth=200)]
    assert summary(story).seen_share == [0.0, pytest.approx(0.995)]
    assert summary(story).unseen == [200, 1]


def test_a_replica_that_did_not_end_well_is_counted() -> None:
    story = Story([], exits={"a": 0, "b": None, "c": -9})
    assert summary(story).cut == 2


def test_the_report_is_written_as_json_and_as_a_table() -> None:
    story = Story([record(LONG, 0.0, 61.0)], {"before": window(0.0, 10.0)}, [roll("a", 30.0)])
    found = {"shared state": summary(story), "nothing shared": summary(Story([], {"before": window(0.0, 1.0)}))}
    assert json.loads(json.dumps(as_json(found)))["shared state"]["acts"]["before"]["requests"] == 1
    lines = table(found).splitlines()
    assert "shared state | nothing shared" in lines[0]
    assert len({len(line) for line in lines}) == 1
    assert any(line.startswith("| failed ") for line in lines)


def test_the_first_seconds_of_a_new_replica_are_compared_with_the_others() -> None:
    first, resident = record(STREAM, 30.0, 31.0, replica="a2"), record(STREAM, 30.0, 31.0, replica="b")
    records = [first, resident, record(STREAM, 28.9, 31.0), record(STREAM, 33.0, 34.0, replica="a2")]
    rolls = [roll("a", 30.0)]
    assert list(newcomers(records, rolls, new=True)) == [first]
    assert list(newcomers(records, rolls, new=False)) == [resident]
