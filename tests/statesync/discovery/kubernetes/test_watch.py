"""The next request after each answer, and the known objects after each event. No clock: time is a number."""

from __future__ import annotations

import random

from statesync.discovery.kubernetes.watch import (
    GIVE_UP_AT,
    MAX_DELAY_S,
    MAX_RETRY_AFTER_S,
    MOST_DELETED,
    WATCH_S,
    Follow,
    Item,
    ListRequest,
    ListWatch,
    ReceivedPage,
    WatchFailure,
    WatchStep,
)
from tests.fakes.each_case import each_case


def item(uid: str, version: int | str, value: str = "") -> Item[str]:
    return Item(uid, str(version), value or uid)


def synced(*items: Item[str], version: int | str = 100, rng: float = 0.5) -> ListWatch[str]:
    known: ListWatch[str] = ListWatch(300.0, lambda: rng)
    known.listed(ReceivedPage(items, str(version), ""), 0.0)
    return known


def values(known: ListWatch[str]) -> list[str]:
    return list(known.values())


def test_pages_make_a_list_that_takes_effect_with_the_last() -> None:
    known: ListWatch[str] = ListWatch(300.0, lambda: 0.5)
    assert known.listed(ReceivedPage([item("a", 1)], "100", "more"), 0.0) == WatchStep(ListRequest("more"))
    assert (values(known), known.synced) == ([], False)
    step = known.listed(ReceivedPage([item("b", 2)], "100", ""), 0.0)
    assert (values(known), known.synced) == (["a", "b"], True)
    assert isinstance(step.ask, Follow)
    assert (step.ask.version, step.delay_s) == ("100", 0.0)


def test_a_watch_lasts_a_random_time_and_never_beyond_the_next_list() -> None:
    low, high = (synced(rng=rng).ended(10.0).ask for rng in (0.0, 0.999))
    assert isinstance(low, Follow)
    assert isinstance(high, Follow)
    assert WATCH_S[0] <= low.timeout_s < high.timeout_s
    assert 10.0 + high.timeout_s <= 300.0 * 1.1 + 1
    assert synced().ended(301.0).ask == ListRequest()


def test_events_add_change_and_delete_and_the_watch_resumes_from_the_last() -> None:
    known = synced(item("a", 1))
    assert known.changed(item("b", 101), False)
    assert known.changed(item("a", 102, "A"), False)
    assert values(known) == ["b", "A"]
    assert known.changed(item("b", 103), True)
    assert values(known) == ["A"]
    known.bookmark("200")
    step = known.ended(50.0)
    assert isinstance(step.ask, Follow)
    assert step.ask.version == "200"


def test_an_event_that_comes_twice_late_or_out_of_order_changes_nothing() -> None:
    known = synced(item("a", 90))
    assert not known.changed(item("a", 90, "again"), False)
    assert not known.changed(item("gone-before-the-list", 99), False)
    assert known.changed(item("a", 105, "new"), False)
    assert not known.changed(item("a", 103, "old"), False)
    assert known.changed(item("a", 110), True)
    assert not known.changed(item("a", 107, "risen"), False)
    assert not known.changed(item("a", 110), True)
    assert values(known) == []


def test_an_object_that_left_the_selector_may_come_back() -> None:
    known = synced(item("a", 90))
    known.changed(item("a", 101), True)
    assert known.changed(item("a", 102), False)
    assert values(known) == ["a"]


def test_a_deletion_of_an_unknown_object_changes_nothing_and_keeps_it_away() -> None:
    known = synced()
    assert not known.changed(item("a", 102), True)
    assert not known.changed(item("a", 101), False)
    assert values(known) == []


def test_deletions_are_forgotten_eventually() -> None:
    known = synced()
    for version in range(101, 102 + MOST_DELETED):
        known.changed(item(f"u{version}", version), True)
    assert known.changed(item("u101", 50_000), False)
    assert len(known._deleted) <= MOST_DELETED  # bounded, whatever happens


def test_versions_that_are_not_numbers_are_ordered_by_arrival() -> None:
    known = synced(item("a", "x7"), version="v1")
    assert known.changed(item("a", "x3", "later"), False)
    assert not known.changed(item("a", "x3"), False)
    step = known.ended(50.0)
    assert isinstance(step.ask, Follow)
    assert step.ask.version == "x3"


def test_a_list_replaces_the_known_objects_so_a_lost_deletion_is_found() -> None:
    known = synced(item("a", 1), item("lost", 2))
    assert known.ended(400.0).ask == ListRequest()
    known.listed(ReceivedPage([item("a", 1)], "150", ""), 400.0)
    assert values(known) == ["a"]


@each_case("status", [0, 401, 403, 410, 429, 500, 504])
def test_a_failure_removes_nothing(status: int) -> None:
    known = synced(item("a", 1))
    for now in range(400, 4000, 100):
        known.failed(WatchFailure("why", status), float(now))
        assert values(known) == ["a"]


def test_before_the_first_list_there_is_nothing_to_watch() -> None:
    known: ListWatch[str] = ListWatch(300.0, lambda: 0.5)
    for _ in range(5):
        assert known.failed(WatchFailure("refused"), 0.0).ask == ListRequest()
    assert not known.synced


def test_the_delay_grows_to_its_bound_with_jitter_and_starts_over_after_success() -> None:
    known: ListWatch[str] = ListWatch(300.0, lambda: 0.0)
    delays = [known.failed(WatchFailure("refused"), 0.0).delay_s for _ in range(12)]
    assert delays[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(delays) == MAX_DELAY_S / 2
    known.listed(ReceivedPage([], "1", ""), 0.0)
    assert known.failed(WatchFailure("refused"), 0.0).delay_s == 0.5
    full: ListWatch[str] = ListWatch(300.0, lambda: 1.0)
    assert [full.failed(WatchFailure("refused"), 0.0).delay_s for _ in range(9)][-1] == MAX_DELAY_S


def test_retry_after_is_honoured_within_reason() -> None:
    known = synced()
    assert known.failed(WatchFailure("busy", 429, 17.0), 10.0).delay_s == 17.0
    assert known.failed(WatchFailure("busy", 429, 1e9), 10.0).delay_s == MAX_RETRY_AFTER_S


def test_an_expired_version_needs_a_list_at_once_without_a_note_the_first_time() -> None:
    known = synced(item("a", 1))
    assert known.failed(WatchFailure("too old", 410), 10.0) == WatchStep(ListRequest())
    again = known.failed(WatchFailure("too old", 410), 10.0)
    assert again.ask == ListRequest()


def test_a_list_whose_continuation_expired_starts_over() -> None:
    known: ListWatch[str] = ListWatch(300.0, lambda: 0.5)
    known.listed(ReceivedPage([item("a", 1)], "100", "more"), 0.0)
    assert known.failed(WatchFailure("expired", 410), 1.0) == WatchStep(ListRequest())
    known.listed(ReceivedPage([item("b", 2)], "200", ""), 2.0)
    assert values(known) == ["b"]
    assert known.failed(WatchFailure("expired", 410), 3.0).ask == ListRequest()


def test_refused_credentials_are_read_again_at_once_and_then_after_a_delay() -> None:
    known = synced()
    first, second = (known.failed(WatchFailure("who?", 401), 10.0) for _ in range(2))
    assert (first.renew, first.delay_s) == (True, 0.0)
    assert second.renew
    assert second.delay_s > 0


def test_while_lists_fail_the_watch_continues() -> None:
    known = synced(item("a", 1))
    assert known.ended(400.0).ask == ListRequest()
    step = known.failed(WatchFailure("no", 500), 400.0)
    assert isinstance(step.ask, Follow)
    assert step.ask.version == "100"
    assert known.changed(item("b", 101), False)
    assert known.ended(400.0 + 3 * step.delay_s).ask == ListRequest()


def test_a_watch_that_is_refused_repeatedly_leads_to_a_list() -> None:
    known = synced()
    steps = [known.failed(WatchFailure("no such version", 504), 10.0) for _ in range(GIVE_UP_AT)]
    assert [isinstance(step.ask, Follow) for step in steps] == [True] * (GIVE_UP_AT - 1) + [False]


def test_a_server_that_cannot_be_reached_keeps_the_version() -> None:
    known = synced()
    for _ in range(20):
        assert isinstance(known.failed(WatchFailure("refused", 0), 10.0).ask, Follow)


def test_a_watch_that_ends_immediately_is_not_restarted_at_once() -> None:
    known = synced()
    known.ended(10.0)
    assert known.ended(10.1).delay_s > 0
    known.changed(item("a", 101), False)
    assert known.ended(10.2).delay_s == 0


def test_a_failure_is_noted_once_until_a_list_is_complete_again() -> None:
    known = synced(item("a", 1))
    notes = [known.failed(WatchFailure("refused"), 10.0).note for _ in range(3)]
    assert notes == ["keeping 1 known objects: refused", "", ""]
    assert known.failed(WatchFailure("forbidden", 403), 10.0).note == "keeping 1 known objects: forbidden"
    assert known.listed(ReceivedPage([], "5", ""), 20.0).note == "answers again"
    assert known.listed(ReceivedPage([], "5", ""), 20.0).note == ""


def test_after_any_history_a_list_equals_the_truth() -> None:
    rng = random.Random(7)
    known: ListWatch[str] = ListWatch(300.0, rng.random)
    now, step = 0.0, WatchStep(ListRequest())
    for version in range(1, 3000):
        now += rng.random() * 40
        truth = [item(f"u{each}", version, f"{version}") for each in range(rng.randrange(4))]
        if isinstance(step.ask, ListRequest):
            good = rng.random() < 0.7
            step = (
                known.listed(ReceivedPage(truth, str(version), ""), now)
                if good
                else known.failed(WatchFailure("x", 500), now)
            )
            assert not good or values(known) == [each.value for each in truth]
        elif rng.random() < 0.5:
            known.changed(item(f"u{rng.randrange(6)}", rng.randrange(1, version + 2)), rng.random() < 0.5)
        elif rng.random() < 0.5:
            step = known.ended(now)
        else:
            step = known.failed(WatchFailure("x", rng.choice([0, 410, 500])), now)
        assert 0 <= step.delay_s <= MAX_DELAY_S
