"""Swapping a policy: it is built first, agreed through the store, and changes nothing if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from router.policy.controller import PolicyController
from router.policy.model import ChangeOptions, LivePolicy, Unbuildable
from router.policy.transitions import LocalRefused, NoCanary, NotPromoted
from router.settings import PolicySpec
from schedulers.errors import InvalidParams, SchedulerError, UnknownPolicy
from schedulers.protocols import Scheduler
from schedulers.registry import create
from statesync.errors import StaleGeneration, StoreUnavailable, UnknownPool
from statesync.store.memory import MemoryStore
from statesync.store.policy_record import Canary, PolicyChoice
from statesync.store.protocol import PolicyRecord

CANARY = Canary(PolicyChoice("least_load"), 20.0)
SHADOW = PolicyChoice("round_robin")


class FlakyStore(MemoryStore):
    """A store that answers no request while it is `away`, or no write."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.mute = False

    async def policy_history(self, pool: str, /) -> Sequence[PolicyRecord]:
        if self.away:
            raise StoreUnavailable("gone")
        return await super().policy_history(pool)

    async def put_policy(self, *args: Any, **named: Any) -> PolicyRecord:
        if self.away or self.mute:
            raise StoreUnavailable("gone")
        return await super().put_policy(*args, **named)


class Trials:
    """Makes trials that record how they ended."""

    def __init__(self) -> None:
        self.objections = ""
        self.made: list[tuple[int, str, str | None, str | None]] = []
        self.ended: list[int] = []
        self.notes: list[str] = []

    def make(
        self, pool: str, record: PolicyRecord, live: Scheduler, shadow: Scheduler | None, candidate: Scheduler | None
    ) -> Trial | None:
        if shadow is None and candidate is None:
            return None
        names = (shadow.name if shadow else None, candidate.name if candidate else None)
        self.made.append((record.generation, live.name, *names))
        return Trial(self, record.generation)


class Trial:
    def __init__(self, trials: Trials, generation: int) -> None:
        self.trials = trials
        self.generation = generation

    def objection(self) -> str:
        return self.trials.objections

    def end(self, note: str) -> None:
        self.trials.ended.append(self.generation)
        self.trials.notes.append(note)


def switch(store: MemoryStore | None = None, trials: Trials | None = None, **more: Any) -> PolicyController:
    configured = {"a": PolicySpec(name="p2c"), "b": PolicySpec(name="random")}
    if trials is not None:
        more["make_trial"] = trials.make
    return PolicyController(store or MemoryStore(), configured, more.pop("create", create), **more)


def test_it_starts_with_the_settings_policy_as_generation_zero() -> None:
    policies = switch()
    assert policies.live("a").scheduler.name == "p2c"
    assert policies.record("b") == PolicyRecord("random", {}, 0)
    assert policies.live("b") == LivePolicy(policies.live("b").scheduler, PolicyRecord("random", {}, 0))


def test_settings_with_an_unknown_policy_are_refused_at_once() -> None:
    with pytest.raises(UnknownPolicy, match="nonesuch"):
        PolicyController(MemoryStore(), {"a": PolicySpec(name="nonesuch")}, create)


def test_set_replaces_the_reference_of_that_pool_only() -> None:
    policies = switch()
    before = policies.live("a").scheduler
    record = asyncio.run(policies.set("a", "round_robin", {}, ChangeOptions(note="why not")))
    assert record == PolicyRecord("round_robin", {}, 1, note="why not")
    assert policies.live("a").scheduler.name == "round_robin"
    assert before.name == "p2c"
    assert policies.live("b").scheduler.name == "random"
    assert policies.records == {"a": record, "b": PolicyRecord("random", {}, 0)}


@pytest.mark.parametrize(
    ("name", "params", "error"), [("nonesuch", {}, UnknownPolicy), ("p2c", {"nonesuch": 1}, InvalidParams)]
)
def test_a_policy_that_cannot_be_built_changes_nothing_not_even_the_store(
    name: str, params: dict[str, object], error: type[SchedulerError]
) -> None:
    store = MemoryStore()
    policies = switch(store)
    before = policies.live("a")
    choice = PolicyChoice(name, params)

    async def run() -> None:
        with pytest.raises(error):
            await policies.set("a", name, params)
        with pytest.raises(Unbuildable, match="shadow: ") as shadow:
            await policies.set_shadow("a", choice)
        with pytest.raises(Unbuildable, match="canary: "):
            await policies.set_canary("a", Canary(choice, 5.0))
        assert shadow.value.part == ("policy" if error is UnknownPolicy else "params")
        assert await store.policy("a") is None

    asyncio.run(run())
    assert policies.live("a") is before


def test_an_old_generation_is_refused_and_the_current_one_accepted() -> None:
    policies = switch()

    async def run() -> None:
        await policies.set("a", "random", {}, ChangeOptions(if_generation=0))
        for stale in (0, 2):
            with pytest.raises(StaleGeneration, match="generation 1"):
                await policies.set("a", "round_robin", {}, ChangeOptions(if_generation=stale))
        assert policies.live("a").scheduler.name == "random"
        await policies.set("a", "round_robin", {}, ChangeOptions(if_generation=1))

    asyncio.run(run())
    assert policies.record("a").generation == 2


def test_shadow_and_canary_start_and_end_beside_the_policy_and_a_new_policy_ends_only_the_canary() -> None:
    policies = switch()

    async def run() -> None:
        await policies.set_shadow("a", SHADOW)
        assert await policies.set_canary("a", CANARY) == PolicyRecord("p2c", {}, 2, SHADOW, CANARY)
        assert await policies.set("a", "random", {}) == PolicyRecord("random", {}, 3, SHADOW)
        await policies.set_canary("a", CANARY)
        assert await policies.cancel("a", ChangeOptions(note="enough")) == PolicyRecord("random", {}, 5, note="enough")
        unchanged = policies.live("a")
        assert [await policies.cancel("a"), await policies.set_shadow("a", None)] == [unchanged.record] * 2
        assert policies.live("a") is unchanged

    asyncio.run(run())


def test_a_promoted_candidate_is_the_policy_and_a_rollback_restores_the_one_before() -> None:
    policies = switch()

    async def run() -> None:
        with pytest.raises(NoCanary):
            await policies.promote("a")
        await policies.set_canary("a", CANARY)
        promoted = await policies.promote("a")
        assert (promoted.name, promoted.canary, promoted.generation) == ("least_load", None, 2)
        assert policies.live("a").scheduler.name == "least_load"
        back = await policies.rollback("a")
        assert (back.name, back.generation, back.restores) == ("p2c", 3, 1)
        assert [record.generation for record in await policies.history("a")] == [3, 2, 1, 0]

    asyncio.run(run())


def test_rolling_back_the_first_change_restores_the_settings_policy() -> None:
    policies = switch()

    async def run() -> None:
        await policies.set("b", "session_affinity", {"balance_factor": 3.0})
        back = await policies.rollback("b")
        assert (back.name, back.params, back.generation, back.restores) == ("random", {}, 2, 0)

    asyncio.run(run())


def test_a_promotion_that_the_trial_objects_to_is_refused_unless_forced() -> None:
    trials = Trials()
    policies = switch(trials=trials)

    async def run() -> None:
        await policies.set_canary("a", CANARY)
        trials.objections = "broken: error_rate"
        with pytest.raises(NotPromoted, match="broken: error_rate"):
            await policies.promote("a")
        assert policies.record("a").generation == 1
        assert (await policies.promote("a", force=True)).name == "least_load"

    asyncio.run(run())


def test_the_trial_of_a_record_uses_its_schedulers_and_ends_with_it() -> None:
    trials = Trials()
    policies = switch(trials=trials)

    async def run() -> None:
        await policies.set("a", "random", {})
        assert policies.live("a").trial is None
        await policies.set_shadow("a", SHADOW)
        trial = policies.live("a").trial
        assert isinstance(trial, Trial)
        await policies.set_canary("a", CANARY)
        await policies.cancel("a", ChangeOptions(note="enough seen"))

    asyncio.run(run())
    assert trials.notes == ["", "enough seen"]
    assert trials.made == [(2, "random", "round_robin", None), (3, "random", "round_robin", "least_load")]
    assert trials.ended == [2, 3]


def test_a_dry_run_builds_and_returns_the_record_and_changes_nothing() -> None:
    store = MemoryStore()
    policies = switch(store)

    async def run() -> None:
        await policies.set("a", "random", {})
        assert await policies.check("a", "p2c", {}) == PolicyRecord("p2c", {}, 1)
        assert (await policies.set_canary("a", CANARY, ChangeOptions(dry_run=True))).canary == CANARY
        with pytest.raises(InvalidParams):
            await policies.check("a", "session_affinity", {"balance_factor": "x"})
        with pytest.raises(StaleGeneration):
            await policies.set("a", "p2c", {}, ChangeOptions(if_generation=0, dry_run=True))
        assert await store.policy("a") == policies.record("a") == PolicyRecord("random", {}, 1)

    asyncio.run(run())


def test_two_concurrent_changes_are_both_made_and_neither_is_lost() -> None:
    left, right = MemoryStore("both"), MemoryStore("both")

    async def run() -> None:
        one, two = switch(left), switch(right)
        await asyncio.gather(one.set_shadow("a", SHADOW), two.set_canary("a", CANARY))
        present = await left.policy("a")
        assert present == PolicyRecord("p2c", {}, 2, SHADOW, CANARY)

    asyncio.run(run())


def test_operators_on_one_replica_wait_for_each_other_and_every_change_is_made() -> None:
    """Case I 49."""

    async def run() -> None:
        policies = switch()
        records = await asyncio.gather(*(policies.set("a", "random", {}) for _ in range(120)))
        assert sorted(record.generation for record in records) == list(range(1, 121))

    asyncio.run(run())


def test_a_change_of_a_named_generation_that_another_overtook_is_stale_and_nothing_else() -> None:
    """Case I 49: a lost race says what to do about it only after the record was read again."""
    left, right = MemoryStore("raced"), MemoryStore("raced")

    class Overtaken(MemoryStore):
        async def put_policy(self, *args: Any, **named: Any) -> PolicyRecord:
            await right.put_policy("a", PolicyRecord("round_robin", {}), if_generation=None)
            return await left.put_policy(*args, **named)

    with pytest.raises(StaleGeneration, match="at generation 1, not 0"):
        asyncio.run(switch(Overtaken("raced")).set("a", "random", {}, ChangeOptions(if_generation=0)))


def test_a_change_that_always_loses_the_race_is_refused() -> None:
    class Contended(MemoryStore):
        async def put_policy(self, *args: Any, **named: Any) -> PolicyRecord:
            raise StaleGeneration("another was first")

    with pytest.raises(StaleGeneration, match="20 times"):
        asyncio.run(switch(Contended()).set("a", "random", {}))


def test_a_silent_store_leaves_the_old_policy_and_the_message_has_advice() -> None:
    store = FlakyStore()
    policies = switch(store)
    store.away = True
    with pytest.raises(StoreUnavailable, match=r"nothing was changed .*--local-only"):
        asyncio.run(policies.set("a", "random", {}))
    store.away, store.mute = False, True
    with pytest.raises(StoreUnavailable, match="did not confirm"):
        asyncio.run(policies.set("a", "random", {}))
    assert policies.live("a").scheduler.name == "p2c"


def test_a_change_is_derived_from_what_the_store_has_whatever_this_replica_had() -> None:
    """Case I 48: the store puts back what descends from its record; what it then has is in force."""
    policies = switch()
    policies.policy_changed("a", PolicyRecord("round_robin", {}, 5))
    assert asyncio.run(policies.set("a", "random", {})) == PolicyRecord("random", {}, 1)
    assert policies.record("a") == PolicyRecord("random", {}, 1)


def test_an_unknown_pool_is_reported_by_name() -> None:
    with pytest.raises(UnknownPool, match="nonesuch"):
        asyncio.run(switch().set("nonesuch", "p2c", {}))


def test_a_change_on_another_replica_is_followed_completely_and_so_is_an_earlier_record() -> None:
    """Case I 48: after a loss the record in force may have any generation, also the one that is live here."""
    trials = Trials()
    policies = switch(trials=trials)
    record = PolicyRecord("round_robin", {}, 5, SHADOW, CANARY)
    policies.policy_changed("a", record)
    policies.policy_changed("a", record)
    policies.policy_changed("not here", PolicyRecord("random", {}, 9))
    assert policies.record("a") == record
    assert trials.made == [(5, "round_robin", "round_robin", "least_load")]
    for other in (PolicyRecord("random", {}, 5), PolicyRecord("p2c", {}, 4)):
        policies.policy_changed("a", other)
        assert policies.record("a") == other
    assert trials.ended == [5]


@pytest.mark.parametrize(
    "record",
    [
        PolicyRecord("later", {}, 5),
        PolicyRecord("random", {}, 5, PolicyChoice("later")),
        PolicyRecord("random", {}, 5, None, Canary(PolicyChoice("later"), 5.0)),
    ],
)
def test_a_record_that_cannot_be_built_yet_waits_as_a_whole_until_it_can(
    record: PolicyRecord, caplog: pytest.LogCaptureFixture
) -> None:
    offered: set[str] = set()

    def growing(name: str, params: Mapping[str, object]) -> Scheduler:
        return create("random" if name in offered else name, params)

    policies = switch(create=growing)
    policies.policy_changed("a", record)
    policies.policy_changed("a", record)
    policies.retry()
    assert policies.live("a").scheduler.name == "p2c"
    assert policies.waits_for("a").startswith("generation 5: ")
    assert "no policy 'later'" in policies.waits_for("a")
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == [
        f"pool a keeps policy p2c: {policies.waits_for('a')}"
    ]
    offered.add("later")
    policies.retry()
    assert policies.record("a") == record
    assert policies.waits_for("a") == ""


def test_a_waiting_record_is_dropped_when_a_newer_one_is_live() -> None:
    policies = switch()
    policies.policy_changed("a", PolicyRecord("from_a_newer_version", {}, 5))
    policies.policy_changed("a", PolicyRecord("random", {}, 6))
    assert policies.live("a").scheduler.name == "random"
    assert policies.waits_for("a") == ""


def test_the_echo_of_a_replicas_own_change_builds_no_second_scheduler() -> None:
    built: list[str] = []

    def counting(name: str, params: Mapping[str, object]) -> Scheduler:
        built.append(name)
        return create(name, params)

    policies = PolicyController(MemoryStore(), {"a": PolicySpec(name="p2c")}, counting)
    record = asyncio.run(policies.set("a", "random", {}))
    policies.policy_changed("a", record)
    assert built == ["p2c", "random"]


def test_a_policy_that_is_taken_out_is_replaced_until_the_next_record() -> None:
    policies = switch()
    out, safe = policies.live("a").scheduler, create("least_load", {})
    policies.take_out("a", policies.live("b").scheduler, safe, "not this one")
    policies.take_out("not here", out, safe, "nor this")
    assert policies.live("a").taken_out == ""
    policies.take_out("a", out, safe, "it raised")
    assert (policies.live("a").scheduler, policies.live("a").taken_out) == (safe, "it raised")
    assert policies.record("a").name == "p2c"
    asyncio.run(policies.set("a", "p2c", {}))
    assert (policies.live("a").scheduler.name, policies.live("a").taken_out) == ("p2c", "")


# Changes on this replica only


class Pauses:
    """The pauses between two looks for the shared state; each ends when the test lets it."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(0)
        self.asleep = asyncio.Event()

    async def __call__(self, _: float) -> None:
        self.asleep.set()
        await self._turns.acquire()

    async def pass_once(self) -> None:
        """End a pause; returns when the task sleeps again or is done."""
        self.asleep.clear()
        self._turns.release()
        for _ in range(10):
            await asyncio.sleep(0)


def test_without_the_shared_state_a_change_can_be_made_on_this_replica_only_until_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, trials = FlakyStore(), Trials()

    async def run() -> None:
        pauses = Pauses()
        policies = switch(store, trials, pause=pauses)
        await policies.set_canary("a", CANARY)
        store.away = True
        local = await policies.set("a", "random", {}, ChangeOptions(local=True))
        assert local == PolicyRecord("random", {}, 1)
        assert (policies.live("a").scheduler.name, policies.live("a").local, policies.live("b").local) == (
            "random",
            True,
            False,
        )
        assert trials.ended == [1]
        await pauses.pass_once()
        assert policies.live("a").local
        store.away = False
        await pauses.pass_once()
        assert policies.record("a") == PolicyRecord("p2c", {}, 1, None, CANARY)
        assert not policies.live("a").local
        assert policies.live("a").trial is not None

    asyncio.run(run())
    assert "on this replica alone" in caplog.text


def test_a_local_record_is_replaced_by_a_newer_shared_one_at_once() -> None:
    store = FlakyStore()

    async def run() -> None:
        policies = switch(store, pause=Pauses())
        store.away = True
        await policies.set("a", "random", {}, ChangeOptions(local=True))
        policies.policy_changed("a", PolicyRecord("round_robin", {}, 1))
        assert (policies.live("a").scheduler.name, policies.live("a").local) == ("round_robin", False)
        policies.stop()

    asyncio.run(run())


def test_a_rollback_of_a_local_change_restores_the_shared_policy_and_the_next_the_one_before_it() -> None:
    store = FlakyStore()

    async def run() -> None:
        policies = switch(store, pause=Pauses())
        await policies.set("a", "round_robin", {})
        store.away = True
        here = ChangeOptions(local=True)
        await policies.set("a", "random", {}, here)
        assert (await policies.rollback("a", here)).name == "round_robin"
        assert (await policies.rollback("a", here)).name == "p2c"
        assert policies.record("a").generation == 1
        policies.stop()

    asyncio.run(run())


def test_no_change_is_local_while_the_shared_state_answers_and_a_trial_never_is() -> None:
    store = FlakyStore()
    policies = switch(store)

    async def run() -> None:
        with pytest.raises(LocalRefused, match="answers"):
            await policies.set("a", "random", {}, ChangeOptions(local=True))
        store.away = True
        for begin in (
            policies.set_shadow("a", SHADOW, ChangeOptions(local=True)),
            policies.set_canary("a", CANARY, ChangeOptions(local=True)),
        ):
            with pytest.raises(LocalRefused, match="on all replicas or on none"):
                await begin
        with pytest.raises(StaleGeneration):
            await policies.set("a", "random", {}, ChangeOptions(if_generation=3, local=True))
        assert (await policies.set("a", "random", {}, ChangeOptions(local=True, dry_run=True))).name == "random"
        assert (await policies.cancel("a", ChangeOptions(local=True))) == policies.record("a")
        assert not policies.live("a").local

    asyncio.run(run())


def test_a_record_has_the_time_of_its_change_and_who_made_it() -> None:
    """Case J 59."""

    async def run() -> None:
        configured = {"a": PolicySpec(name="p2c")}
        policies = PolicyController(MemoryStore(), configured, create, wall=lambda: 1700000000.25)
        record = await policies.set("a", "random", {}, ChangeOptions(by="ada"))
        assert (record.at, record.by) == (1700000000.25, "ada")
        later = await policies.set_shadow("a", PolicyChoice("p2c"))
        assert (later.at, later.by) == (1700000000.25, "")
        assert [each.by for each in await policies.history("a")][:2] == ["", "ada"]

    asyncio.run(run())
