"""The live state over a real control port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec
import pytest

from router.control.live import MOST_VIEWERS, LiveState
from router.lifecycle import Phase
from schedulers.types import Pod, PodId
from tests.fakes.control_port import OTHER_POD, POD, Replica, error_of, talk_to

Frame = dict[str, object]


class Turns:
    """A pause between frames that ends when a test says so."""

    def __init__(self) -> None:
        self.next = asyncio.Event()
        self.asked: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.next.wait()
        self.next.clear()


async def frame(state: LiveState, number: int) -> Frame:
    return msgspec.json.decode(await state.after(number), type=Frame)


def sampling(replica: Replica) -> bool:
    return replica.samples is not None


def rows(of: Frame) -> list[list[object]]:
    found = of["pods"]
    assert isinstance(found, list)
    return found


def test_a_viewer_gets_every_pod_once_and_then_what_changed() -> None:
    replica, turns = Replica(), Turns()

    async def run() -> None:
        state = LiveState(replica.plane, turns)
        with state.viewer():
            first = await frame(state, 0)
            assert [row[0] for row in rows(first)] == [POD, OTHER_POD]
            assert {"fields", "ttft_bounds", "policy_names", "pools", "replica", "tenants"} <= set(first)
            replica.busy()
            turns.next.set()
            second = await frame(state, 1)
            assert [row[0] for row in rows(second)] == [POD]
            assert "fields" not in second
            replica.view.set_pods("default", [Pod(POD, str(POD))])
            turns.next.set()
            assert (await frame(state, 2))["gone"] == [OTHER_POD]
            late = await frame(state, 1)
            assert late["gone"] == [OTHER_POD], "a viewer that missed a frame gets the changes of both"

    asyncio.run(run())


def test_nothing_is_made_and_no_decision_is_kept_without_a_viewer() -> None:
    replica, turns = Replica(), Turns()

    async def run() -> None:
        state = LiveState(replica.plane, turns)
        assert not sampling(replica)
        with state.viewer():
            await state.after(0)
            assert sampling(replica)
            with state.viewer():
                assert rows(await frame(state, 0))
        assert not sampling(replica)
        assert state.number == 0
        with state.viewer():
            assert "fields" in await frame(state, 0), "the next viewer begins anew"

    asyncio.run(run())


def test_frames_are_at_least_a_hundred_times_as_far_apart_as_they_take() -> None:
    replica, turns = Replica(), Turns()
    replica.view.set_pods("default", [Pod(PodId(f"10.0.0.{n}:80"), f"10.0.0.{n}:80") for n in range(250)])

    async def run() -> None:
        state = LiveState(replica.plane, turns)
        with state.viewer():
            assert len(rows(await frame(state, 0))) == 250

    asyncio.run(run())
    assert all(1.0 <= each <= 10.0 for each in turns.asked)


def test_a_decision_is_in_one_frame() -> None:
    replica, turns = Replica(), Turns()

    async def run() -> None:
        state = LiveState(replica.plane, turns)
        with state.viewer():
            await state.after(0)
            assert replica.samples is not None
            info = replica.request()
            snapshot = replica.view.snapshot("default", "m")
            replica.samples.take(100.0, info, snapshot, replica.policies.live("default").scheduler.pick(info, snapshot))
            turns.next.set()
            decisions = (await frame(state, 1))["decisions"]
            assert isinstance(decisions, list)
            assert [each["policy"] for each in decisions] == ["p2c"]
            turns.next.set()
            assert (await frame(state, 2))["decisions"] == []

    asyncio.run(run())


def test_viewers_are_let_go_when_the_replica_ends() -> None:
    replica = Replica()

    async def run() -> None:
        state = LiveState(replica.plane, Turns())
        with state.viewer():
            await state.after(0)
            waiting = asyncio.ensure_future(state.after(1))  # noqa: TID251
            await asyncio.sleep(0)
            replica.lifecycle.enter(Phase.CLOSED)
            assert await waiting == b""

    asyncio.run(run())


def test_viewers_do_not_wait_for_a_state_that_cannot_be_made(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica()

    async def fails(_: float) -> None:
        raise RuntimeError("broken")

    async def run() -> None:
        state = LiveState(replica.plane, fails)
        with state.viewer():
            number = 0
            while await state.after(number):
                number = state.number

    asyncio.run(run())
    assert "broken" in caplog.text


@asynccontextmanager
async def events(client: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[str]]:
    async with client.stream("GET", "/admin/live") as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        yield answer.aiter_lines()


def test_the_stream_begins_with_the_caller_and_the_whole_state() -> None:
    replica = Replica(token="secret")

    async def talk(client: httpx.AsyncClient) -> None:
        async with events(client) as lines:
            assert [await anext(lines) for _ in range(2)] == [
                "event: caller",
                'data: {"role":"operate","name":"control.token"}',
            ]
            await anext(lines)
            assert await anext(lines) == "event: frame"
            assert "fields" in msgspec.json.decode((await anext(lines)).removeprefix("data: "))

    talk_to(replica, talk, authorization="Bearer secret")


def test_the_stream_needs_a_token_and_is_refused_to_a_page_of_another_site() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/admin/live")).status_code == 401
        foreign = {"authorization": "Bearer secret", "origin": "http://elsewhere.test"}
        assert error_of(await client.get("/admin/live", headers=foreign))["code"] == "foreign_origin"

    talk_to(Replica(token="secret"), talk)


def test_viewers_are_limited() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        streams = [client.stream("GET", "/admin/live") for _ in range(MOST_VIEWERS)]
        for each in streams:
            await each.__aenter__()
        assert error_of(await client.get("/admin/live"))["code"] == "too_many_viewers"
        for each in streams:
            await each.__aexit__(None, None, None)

    talk_to(replica, talk)
