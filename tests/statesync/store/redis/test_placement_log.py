"""Each entry of the log is folded once, and none is left out, whether it is read or received."""

from __future__ import annotations

from schedulers.types import PodId
from statesync.store.redis.messages import PlacementMessage
from statesync.store.redis.placement_log import LEAP_MS, NO_TIME_MS, START, PlacementLog, format_id, parse_id


def placed(n: int) -> list[PlacementMessage]:
    return [PlacementMessage(PodId("pod"), bytes([n]))]


def folded() -> tuple[PlacementLog, list[int]]:
    seen: list[int] = []
    return PlacementLog(lambda placements: seen.extend(placement.blocks[0] for placement in placements)), seen


def test_ids_are_ordered_as_numbers_and_read_back() -> None:
    assert parse_id("9-9") < parse_id("10-0") < parse_id("10-10")
    assert format_id(parse_id("1763816597123-4")) == "1763816597123-4"
    assert parse_id("") == parse_id("x-1") == START


def test_an_entry_is_folded_once() -> None:
    log, seen = folded()
    log.received("5-0", placed(1))
    log.received("5-0", placed(1))
    log.received("5-1", placed(2))
    assert seen == [1, 2]
    assert log.folded == (5, 1)


def test_own_entries_move_the_end_without_being_folded() -> None:
    log, seen = folded()
    log.received("5-0", [])
    assert (log.folded, seen) == ((5, 0), [])


def test_an_entry_received_while_the_log_is_read_waits_and_is_not_folded_twice() -> None:
    log, seen = folded()
    log.behind()
    log.received("7-0", placed(7))
    log.received("9-0", placed(9))
    log.read((5, 0), placed(5))
    log.read((7, 0), placed(7))
    assert seen == [5, 7]
    log.caught_up()
    assert seen == [5, 7, 9]
    log.received("10-0", placed(10))
    assert seen == [5, 7, 9, 10]


def test_falling_behind_again_keeps_waiting_entries() -> None:
    log, seen = folded()
    log.behind()
    log.received("7-0", placed(7))
    log.behind()
    log.caught_up()
    assert seen == [7]


def test_a_checkpoint_replaces_all_entries_up_to_its_own() -> None:
    log, seen = folded()
    log.restored((8, 0))
    log.read((7, 0), placed(7))
    log.read((9, 0), placed(9))
    log.restored((3, 0))
    assert (log.folded, seen) == ((9, 0), [9])


def test_the_log_starts_over_with_a_server_that_was_set_back() -> None:
    log, seen = folded()
    log.received("9-0", placed(9))
    log.server_ends_at((10, 0))
    assert log.folded == (9, 0)
    log.server_ends_at(START)
    log.received("2-0", placed(2))
    assert seen == [9, 2]


def test_an_id_that_the_server_never_gave_is_not_kept() -> None:
    """Case E 25: an entry of the channel far from the last one is read from the log instead."""
    log, seen = folded()
    log.server_ends_at((3, 0))
    log.read((2, 0), placed(2))
    assert not log.received(f"{LEAP_MS + 3}-0", placed(1))
    assert log.received("99-0", placed(99))
    assert log.received("7" * 5000 + "-0", placed(1))
    assert (log.folded, seen) == ((99, 0), [2, 99])
    log.read((NO_TIME_MS, 0), placed(1))
    assert (log.folded, seen) == ((99, 0), [2, 99])
    log.behind()
    log.received(f"{LEAP_MS * 3}-0", placed(1))
    log.server_ends_at((3, 0))
    log.read((3, 0), placed(3))
    log.caught_up()
    assert (log.folded, seen) == ((3, 0), [2, 99, 3])
