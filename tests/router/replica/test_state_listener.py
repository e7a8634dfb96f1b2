"""The state of one replica reaches the components of another: two whole replicas in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

from router.replica.build import build
from router.replica.replica import Replica
from router.settings import Auth, TenantSettings
from schedulers.types import PodId, RequestInfo
from statesync.types import EngineReport
from tests.fakes.local_replica import engine, settings
from tests.fakes.waiting import until

_hubs = count()
Story = Callable[[Replica, Replica, PodId], Awaitable[None]]


def play(story: Story) -> None:
    """Two started replicas that share state, with one engine."""

    async def run() -> None:
        server, url = await engine()
        state = f"memory://others-{next(_hubs)}"
        auth, tenants = Auth(keys_from="state"), [TenantSettings(name="a"), TenantSettings(name="b")]
        shared = {"state": state, "auth": auth, "tenants": tenants}
        one, two = (Replica(build(settings(url, replica=name, **shared))) for name in ("one", "two"))
        await one.start()
        await two.start()
        try:
            await story(one, two, PodId(url.removeprefix("http://")))
        finally:
            await one.close()
            await two.close()
            server.close()

    asyncio.run(run())


def test_changes_of_load_are_received() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        charge = one.parts.state.view.reserve(pod, RequestInfo("r", "m", 100, 50, 0.0, 1, 1))
        await until(lambda: two.parts.state.view.status(pod).load[3:6] == (1, 150, 100))
        one.parts.state.view.prefill_done(charge)
        await until(lambda: two.parts.state.view.status(pod).load[3:6] == (1, 150, 0))
        one.parts.state.view.release(charge)
        await until(lambda: two.parts.state.view.status(pod).load[3:6] == (0, 0, 0))

    play(story)


def test_what_a_tenant_got_of_one_replica_counts_on_the_other() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        here, there = one.parts.network.shares, two.parts.network.shares
        assert here is not None and there is not None
        for tenant in "ab":
            there.pool("default").begins(there.counter("default", tenant))

        def counted() -> bool:  # the first number of a replica is where counting begins
            here.begin("default", "a", 500, 10)
            return there.counter("default", "a").virtual >= 510

        await until(counted)
        assert there.counter("default", "b").virtual == 0

    play(story)


def test_placements_and_restarts_reach_the_other_s_index_in_their_order() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        before, after = (one.parts.state.prefix.chain("m", [letter * 4096]) for letter in (b"a", b"b"))
        one.parts.state.store.placed(pod, before)
        await until(lambda: two.parts.state.prefix.match(before) == {pod: 16})
        one.parts.state.store.forgot(pod)
        one.parts.state.store.placed(pod, after)
        await until(lambda: two.parts.state.prefix.match(after) == {pod: 16})
        assert two.parts.state.prefix.match(before) == {}

    play(story)


def test_an_engine_s_report_is_shown_by_the_other_replica_and_sets_the_capacity() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        one.parts.state.store.report(pod, EngineReport(queued=3, running=4, kv_usage=0.5, kv_capacity_tokens=640))
        await until(lambda: two.parts.state.view.status(pod).load.running == 4)
        chain = two.parts.state.prefix.chain("m", [b"x" * 4096])
        two.parts.state.prefix.place(pod, chain)
        assert two.parts.state.prefix.match(chain).get(pod, 0) <= 10

    play(story)


def test_case_a_2_models_that_one_replica_found_changed_are_read_by_the_other() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        reads = two.parts.pods.models.reads_total
        one.parts.state.store.models_changed(pod)
        await until(lambda: two.parts.pods.models.reads_total > reads)

    play(story)


def test_a_policy_set_on_one_replica_decides_on_both_and_on_a_later_one() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        await one.parts.policy.controller.set("main", "random", {})
        await until(lambda: two.parts.policy.controller.live("main").scheduler.name == "random")
        late = Replica(build(settings(f"http://{pod}", replica="late", state=one.parts.core.settings.state)))
        await late.start()
        assert late.parts.policy.controller.record("main") == one.parts.policy.controller.record("main")
        await late.close()

    play(story)


def test_a_replica_that_starts_later_decides_with_the_others_state() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        chain = one.parts.state.prefix.chain("m", [b"x" * 4096])
        one.parts.state.store.placed(pod, chain)
        one.parts.state.view.reserve(pod, RequestInfo("r", "m", 100, 50, 0.0, 1, 1))
        one.parts.state.store.report(pod, EngineReport(queued=7))
        await until(lambda: two.parts.state.view.status(pod).load.queued == 7)
        late = Replica(build(settings(f"http://{pod}", replica="late", state=one.parts.core.settings.state)))
        await late.start()
        load = late.parts.state.view.snapshot("main").candidates[0].load
        assert (load.inflight, load.inflight_tokens, load.queued) == (1, 150, 7)
        assert late.parts.state.prefix.match(chain) == {pod: 16}
        assert not late.parts.core.lifecycle.cold
        await late.close()

    play(story)


def test_one_s_checkpoint_is_the_other_s_index() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        chain = one.parts.state.prefix.chain("m", [b"x" * 4096])
        one.parts.state.prefix.place(pod, chain)
        for page in one.parts.state_listener.checkpoint():
            two.parts.state_listener.restored(page)
        assert two.parts.state.prefix.match(chain) == {pod: 16}

    play(story)


def test_placements_on_an_unknown_pod_are_kept_for_a_while() -> None:
    async def story(one: Replica, two: Replica, pod: PodId) -> None:
        chain = one.parts.state.prefix.chain("m", [b"x" * 4096])
        one.parts.state.store.placed(PodId("10.0.0.9:80"), chain)
        await until(lambda: bool(two.parts.state.prefix.match(chain)))
        assert [page.pod for page in two.parts.state_listener.checkpoint()] == ["10.0.0.9:80"]
        two.parts.pods.updates.forget_unknown()
        two.parts.pods.updates.forget_unknown()
        assert two.parts.state.prefix.match(chain) == {}

    play(story)
