"""A record as JSON: absent fields are not written, and fields unknown to this version are skipped."""

from __future__ import annotations

import msgspec

from statesync.store.policy_json import GuardJson, RecordJson, written
from statesync.store.policy_record import Canary, CanaryGuard, PolicyChoice
from statesync.store.protocol import PolicyRecord

CANARY = Canary(PolicyChoice("random", {"seed": 1}), 5.0, CanaryGuard(0.1, 2.0, 7, 0.9))
FULL = PolicyRecord("p2c", {"choices": 3}, 4, PolicyChoice("least_load", {}), CANARY, "why", 2)


def read(**fields: object) -> PolicyRecord:
    return msgspec.convert(
        {"generation": 4, "name": "p2c", "params": {"choices": 3}, "v": 1, **fields}, RecordJson
    ).record()


def test_a_written_record_is_read_back() -> None:
    assert msgspec.convert({"generation": 4, **written(FULL, 1)}, RecordJson).record() == FULL


def test_a_record_without_shadow_canary_and_note_has_none_of_their_fields() -> None:
    assert written(PolicyRecord("p2c", {}, 4), 1) == {"name": "p2c", "params": {}, "v": 1}


def test_a_field_of_a_later_version_is_skipped_at_every_depth() -> None:
    later = {"name": "random", "params": {}, "percent": 5, "guard": {"patience_s": 3}, "until": "friday"}
    record = read(shadow={"name": "random", "why": 1}, canary=later, tags=["x"])
    assert record.shadow == PolicyChoice("random")
    assert record.canary == Canary(PolicyChoice("random"), 5.0)


def test_every_limit_of_a_guard_is_written_and_read() -> None:
    assert GuardJson.__struct_fields__ == CanaryGuard._fields
    assert msgspec.to_builtins(GuardJson()) == CanaryGuard()._asdict()
