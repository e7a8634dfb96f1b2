"""The workers to start, stop and wait for, on a clock that only the test advances. No process runs here."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from router.workers.actions import Action, Exit, Kill, Log, Park, Send, Start
from router.workers.ipc import HAND_OVER, HURRY, STOP
from router.workers.roster import WorkerRoster, WorkerTiming

TIMING = WorkerTiming(warmup_s=10.0, margin_s=5.0)


def deeds(actions: Sequence[Action]) -> list[Action]:
    """The actions, without log lines."""
    return [action for action in actions if not isinstance(action, Log)]


def errors(actions: Sequence[Action]) -> list[str]:
    return [action.message for action in actions if isinstance(action, Log) and action.level >= logging.ERROR]


def due(roster: WorkerRoster) -> float | None:
    return roster.due


def begun(slots: int = 2, rng: float = 0.0) -> WorkerRoster:
    roster = WorkerRoster(slots, TIMING, lambda: rng)
    assert roster.begin(0.0) == [Start(number, number) for number in range(slots)]
    return roster


def serving(slots: int = 2, rng: float = 0.0) -> WorkerRoster:
    roster = begun(slots, rng)
    for number in range(slots):
        assert deeds(roster.ready(number, 1.0)) == []
    return roster


def test_a_roll_replaces_one_slot_after_the_other_and_waits_for_no_stream() -> None:
    roster = serving()
    assert deeds(roster.roll(2.0)) == [Start(2, 0)]
    assert deeds(roster.ready(2, 3.0)) == [Send(0, HAND_OVER), Start(3, 1)]
    assert deeds(roster.ready(3, 4.0)) == [Send(1, HAND_OVER)]
    assert deeds(roster.ended(1, 0, 5.0)) == []
    assert deeds(roster.ended(0, 0, 300.0)) == []
    assert due(roster) is None


def test_further_rolls_during_a_roll_are_one_roll() -> None:
    roster = serving(1)
    assert deeds(roster.roll(2.0)) == [Start(1, 0)]
    assert deeds(roster.roll(2.1)) == deeds(roster.roll(2.2)) == []
    assert deeds(roster.ready(1, 3.0)) == [Send(0, HAND_OVER), Start(2, 0)]
    assert deeds(roster.ready(2, 4.0)) == [Send(1, HAND_OVER)]


def test_a_successor_that_does_not_start_keeps_its_predecessor_and_ends_the_roll() -> None:
    roster = serving()
    roster.roll(2.0)
    roster.failed(2, "turnout.yaml:3: no policy 'x'")
    actions = roster.ended(2, 2, 3.0)
    assert deeds(actions) == []
    assert "turnout.yaml:3: no policy 'x'; it ended with status 2" in errors(actions)[0]
    assert "the roll stops here" in errors(actions)[1]
    assert due(roster) is None
    assert deeds(roster.roll(4.0)) == [Start(3, 0)], "the next roll begins again"


def test_a_roll_requested_during_one_that_fails_is_tried_as_well() -> None:
    """The configuration file may have been corrected in the meantime."""
    roster = serving()
    roster.roll(2.0)
    roster.roll(2.5)
    assert deeds(roster.ended(2, 2, 3.0)) == [Start(3, 0)]


def test_a_successor_that_is_not_ready_in_time_is_killed_once_and_its_predecessor_stays() -> None:
    roster = serving()
    roster.roll(2.0)
    assert due(roster) == 2.0 + 15.0
    assert deeds(roster.wake(16.9)) == []
    assert deeds(roster.wake(17.0)) == [Kill(2)]
    assert due(roster) is None
    assert deeds(roster.wake(30.0)) == []
    actions = roster.ended(2, -9, 31.0)
    assert deeds(actions) == []
    assert "not ready in time; it ended by signal 9" in errors(actions)[0]


def test_a_worker_that_announces_a_longer_warm_up_gets_it() -> None:
    roster = begun(1)
    roster.warming(0, 60.0, 1.0)
    assert due(roster) == 66.0
    assert deeds(roster.wake(65.9)) == []
    assert deeds(roster.wake(66.0)) == [Kill(0)]


def test_a_roll_during_the_start_waits_for_it() -> None:
    roster = begun()
    assert deeds(roster.roll(0.5)) == []
    assert deeds(roster.ready(1, 1.0)) == [], "slot 0 comes first"
    assert deeds(roster.ready(0, 1.5)) == [Start(2, 0)]


def test_a_worker_that_dies_is_replaced_after_growing_waits_and_its_slot_is_parked_from_the_second_on() -> None:
    roster = serving(rng=1.0)
    now, worker = 2.0, 0
    for death, delay_s in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]):
        actions = roster.ended(worker, -11, now)
        assert deeds(actions) == ([Park(0)] if death else [])
        assert "ended by signal 11" in errors(actions)[0]
        assert due(roster) == now + delay_s
        assert deeds(roster.wake(now + delay_s - 0.01)) == []
        worker, now = 2 + death, now + delay_s
        assert roster.wake(now) == [Start(worker, 0)]
        roster.ready(worker, now)


def test_the_shortest_wait_is_a_tenth_of_a_second_whatever_the_random_number_is() -> None:
    roster = serving(rng=0.0)
    roster.ended(0, 1, 2.0)
    assert due(roster) == 2.1


def test_thirty_healthy_seconds_reset_the_count_of_deaths() -> None:
    roster = serving(rng=1.0)
    roster.ended(0, 1, 2.0)
    roster.wake(3.0)
    roster.ready(2, 4.0)
    assert deeds(roster.ended(2, 1, 34.0)) == []
    assert due(roster) == 34.2


def test_as_many_failed_starts_as_slots_end_it_with_the_workers_status() -> None:
    roster = begun()
    assert deeds(roster.ended(0, 2, 0.5)) == []
    roster.failed(1, "the port is taken")
    actions = roster.ended(1, 2, 0.5)
    assert deeds(actions) == [Exit(2)]
    assert "the port is taken" in errors(actions)[0]


def test_workers_that_are_still_starting_when_it_gives_up_are_stopped_and_waited_for() -> None:
    roster = begun()
    roster.ended(0, -9, 0.5)
    roster.wake(1.0)
    assert deeds(roster.ended(2, -9, 1.1)) == [Send(1, STOP)]
    assert deeds(roster.ended(1, 0, 2.0)) == [Exit(137)]


def test_after_the_first_ready_worker_it_never_gives_up() -> None:
    roster = begun()
    roster.ready(0, 0.5)
    worker, now = 1, 1.0
    for _ in range(20):
        assert not any(isinstance(action, Exit) for action in roster.ended(worker, 2, now))
        assert roster.due is not None
        now = roster.due
        (start,) = deeds(roster.wake(now))
        assert isinstance(start, Start)
        worker = start.worker


def test_a_stop_also_reaches_draining_workers_and_it_exits_with_the_last_of_them() -> None:
    roster = serving()
    roster.roll(2.0)
    roster.ready(2, 3.0)
    assert deeds(roster.stop()) == [Send(number, STOP) for number in (0, 1, 2, 3)]
    assert deeds(roster.ready(3, 4.0)) == deeds(roster.roll(4.0)) == deeds(roster.leaves(1, 4.0)) == []
    for worker in (3, 2, 1):
        assert deeds(roster.ended(worker, 0, 5.0)) == []
    assert deeds(roster.ended(0, 0, 6.0)) == [Exit(0)]


def test_a_second_stop_hurries_the_workers_and_a_third_kills_them() -> None:
    roster = serving(1)
    roster.stop()
    assert deeds(roster.stop()) == [Send(0, HURRY)]
    assert deeds(roster.stop()) == [Kill(0)]
    assert deeds(roster.ended(0, -9, 2.0)) == [Exit(0)]


def test_a_stop_between_a_death_and_the_restart_ends_it() -> None:
    roster = serving(1)
    roster.ended(0, 1, 2.0)
    assert deeds(roster.stop()) == [Exit(0)]
    assert deeds(roster.wake(100.0)) == []


def test_a_worker_that_was_asked_to_drain_gets_a_successor_first() -> None:
    roster = serving()
    assert deeds(roster.leaves(1, 2.0)) == [Start(2, 1)]
    assert deeds(roster.leaves(1, 2.1)) == []
    assert deeds(roster.ready(2, 3.0)) == [Send(1, HAND_OVER)]
    assert deeds(roster.leaves(1, 3.1)) == [], "it is on its way"


def test_a_predecessor_that_dies_while_its_successor_starts_is_followed_by_it() -> None:
    roster = serving()
    roster.roll(2.0)
    assert deeds(roster.ended(0, -9, 2.5)) == []
    assert due(roster) == 17.0, "nothing but the successor's deadline is waited for"
    assert deeds(roster.ready(2, 3.0)) == [Start(3, 1)]


def test_a_roll_starts_a_worker_that_waits_for_its_restart_at_once() -> None:
    roster = serving()
    roster.ended(0, 1, 2.0)
    assert deeds(roster.roll(2.01)) == [Start(2, 0)]
    assert deeds(roster.wake(5.0)) == []
    assert deeds(roster.ready(2, 6.0)) == [Start(3, 1)]


def test_messages_of_an_ended_worker_change_nothing() -> None:
    roster = serving()
    roster.ended(0, 1, 2.0)
    assert roster.ready(0, 2.0) == roster.warming(0, 9.0, 2.0) == roster.failed(0, "x") == roster.leaves(0, 2.0) == []


@given(st.lists(st.tuples(st.sampled_from(["ready", "die", "roll", "leave", "wake"]), st.integers(0, 5)), max_size=60))
def test_in_any_history_a_roll_never_leaves_a_slot_without_a_worker_and_a_stop_ends_all(
    events: list[tuple[str, int]],
) -> None:
    roster, now = WorkerRoster(3, TIMING, lambda: 0.5), 0.0
    alive: dict[int, int] = {}
    ready: set[int] = set()
    leaving: set[int] = set()

    def carry_out(actions: Sequence[Action]) -> bool:
        for action in deeds(actions):
            if isinstance(action, Start):
                alive[action.worker] = action.slot
            elif isinstance(action, Send) and action.command == HAND_OVER:
                slot = alive[action.worker]
                assert any(alive[each] == slot for each in ready - leaving - {action.worker}), "no worker took over"
                leaving.add(action.worker)
            elif isinstance(action, Exit):
                assert not alive
                return True
        return False

    over = carry_out(roster.begin(now))
    for event, which in events:
        now += 1.0
        worker = sorted(alive)[which % len(alive)] if alive else None
        if event == "roll":
            over = carry_out(roster.roll(now))
        elif event == "wake":
            over = carry_out(roster.wake(now))
        elif worker is not None and event == "leave":
            over = carry_out(roster.leaves(worker, now))
        elif worker is not None and event == "ready":
            ready.add(worker)
            over = carry_out(roster.ready(worker, now))
        elif worker is not None:
            ready.discard(worker)
            del alive[worker]
            over = carry_out(roster.ended(worker, 1, now))
        if over:
            return
        serving_slots = {alive[each] for each in alive if each not in leaving}
        assert len(serving_slots) == 3 or roster.due is not None, "a slot is empty and stays so"
    over = carry_out(roster.stop())
    for worker in sorted(alive):
        assert not over
        del alive[worker]
        over = carry_out(roster.ended(worker, 0, now))
    assert over
