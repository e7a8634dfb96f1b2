"""Foreign code that does not return is interrupted in the main thread, also under a running event loop."""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType

import pytest
import uvloop

from router.plugins import watchdog
from router.plugins.loading import load, unload
from router.plugins.watchdog import Watched, bounded, create_watched, watched
from router.policy.catalog import PolicyCatalog
from router.settings import PolicySpec
from schedulers import registry
from schedulers.guard import PolicyQuit, PolicyTimeout, raised
from schedulers.policies.random import Random
from schedulers.types import Candidate, Decision, LoadSnapshot, Pod, PodId, PodLoad, Rejection, RequestInfo
from tests.fakes.plugin_files import GOOD, picks

SNAPSHOT = LoadSnapshot.of([Candidate(Pod(PodId("a:1"), "a:1"), PodLoad())])
REQUEST = RequestInfo("r", "m", 1, 0, 0.0, 7, 0)


@pytest.fixture(autouse=True)
def _the_alarm_as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.signal(signal.SIGALRM, before)


def spin() -> None:
    while True:
        pass


def swallow_exceptions() -> None:
    while True:
        try:
            spin()
        except Exception:  # noqa: BLE001  what it must not get away with
            pass


def swallow_everything() -> None:
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001  the same
            sum(range(50))


def swallow_twice() -> None:
    while True:
        try:
            swallow_everything()
        except BaseException:  # noqa: BLE001  the same
            spin()


def sleep() -> None:
    time.sleep(600)


def backtrack() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


STUCK = [spin, swallow_exceptions, swallow_everything, swallow_twice, sleep, backtrack]


class Calls:
    """A policy whose pick calls a function."""

    name = "calls"

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        self._work()
        return Rejection("done")


@pytest.mark.parametrize("work", STUCK, ids=lambda work: work.__name__)
def test_a_call_that_does_not_return_is_interrupted(work: Callable[[], None]) -> None:
    with pytest.raises(PolicyTimeout, match=r"did not return within 0.02 s, it was at line \d+ of .*\.py"):
        Watched(Calls(work), 0.02).pick(REQUEST, SNAPSHOT)


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_it_works_in_a_callback_of_an_event_loop_and_the_loop_continues(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> list[str]:
        running, said = asyncio.get_running_loop(), list[str]()
        running.add_signal_handler(signal.SIGTERM, lambda: None)  # as in the gateway
        over = running.create_future()

        def called_back() -> None:
            for work in STUCK:
                try:
                    Watched(Calls(work), 0.02).pick(REQUEST, SNAPSHOT)
                except PolicyTimeout as error:
                    said.append(str(error))
            running.call_soon(over.set_result, None)

        running.call_soon(called_back)
        await over
        return said

    with asyncio.Runner(loop_factory=loop) as runner:
        assert len(runner.run(run())) == len(STUCK)


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_however_long_it_takes_no_other_signal_is_lost_and_nothing_is_written_to_stderr(
    loop: Callable[[], asyncio.AbstractEventLoop],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A socket pair holds about 300 bytes, one for each signal, until they are read."""
    monkeypatch.setattr(watchdog, "PATIENCE", 10_000)  # the only alarms are those raised here
    swallowed = 0

    def swallow_a_thousand() -> None:
        nonlocal swallowed
        while swallowed < 1000:
            if swallowed == 500:
                signal.raise_signal(signal.SIGTERM)
            try:
                signal.raise_signal(signal.SIGALRM)
            except BaseException:  # noqa: BLE001  what a stubborn policy would do
                swallowed += 1

    async def run() -> None:
        running, terminated = asyncio.get_running_loop(), asyncio.Event()
        running.add_signal_handler(signal.SIGTERM, terminated.set)
        running.call_soon(lambda: Watched(Calls(swallow_a_thousand), 600.0).pick(REQUEST, SNAPSHOT))
        await terminated.wait()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
    assert swallowed == 1000
    assert capfd.readouterr().err == ""


def test_alarms_do_not_pile_up_behind_a_slow_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tracer, a profiler or a busy machine slows the handler."""
    look = watchdog._is_foreign

    def slow_look(frame: FrameType) -> bool:
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            pass
        return look(frame)

    monkeypatch.setattr(watchdog, "_is_foreign", slow_look)
    with pytest.raises(PolicyTimeout):
        Watched(Calls(swallow_everything), 0.02).pick(REQUEST, SNAPSHOT)


def test_after_the_first_alarm_no_finalizer_can_swallow_the_next() -> None:
    """Python writes what a finalizer, or a callback of the collector, raises to standard error, and continues."""
    collected = list[str]()

    def swallow() -> None:
        try:
            signal.raise_signal(signal.SIGALRM)
        except BaseException:  # noqa: BLE001  what a stubborn policy would do
            collected.clear()
        for _ in range(100_000):
            cycle = list[object]()
            cycle.append(cycle)

    def called_back(phase: str, info: dict[str, int]) -> None:
        collected.append(phase)

    gc.callbacks.append(called_back)
    try:
        bounded(600.0, swallow)
        assert not collected
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(called_back)


def test_a_pick_that_returns_is_not_interrupted_nor_is_the_code_after_it() -> None:
    policy = Watched(Random(), 600.0)  # no pick takes that long, even on a busy machine
    for _ in range(2000):
        assert policy.pick(REQUEST, SNAPSHOT) == Random().pick(REQUEST, SNAPSHOT)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    # A late signal finds no foreign code on the stack, so its handler does not raise.
    signal.raise_signal(signal.SIGALRM)


def test_exceptions_of_a_policy_are_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        bounded(600.0, lambda: 1 // 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_a_pick_that_would_end_the_process_ends_only_itself(kind: type[BaseException]) -> None:
    def leave() -> None:
        raise kind(3)

    with pytest.raises(PolicyQuit) as caught:
        Watched(Calls(leave), 600.0).pick(REQUEST, SNAPSHOT)
    assert raised(caught.value).words == f"raised {kind.__name__}(3)"


def test_a_timeout_is_a_failure_of_the_kind_stuck() -> None:
    with pytest.raises(PolicyTimeout) as caught:
        bounded(0.01, spin)
    assert raised(caught.value).reason == "stuck"


def test_a_watched_policy_keeps_its_name_and_description() -> None:
    policy = watched(Random(), 1.0)
    assert (policy.name, repr(policy)) == ("random", "<Watched Random()>")


def test_outside_the_main_thread_a_policy_is_not_wrapped() -> None:
    policy, found = Random(), list[object]()
    thread = threading.Thread(target=lambda: found.append(watched(policy, 1.0)))
    thread.start()
    thread.join()
    assert found == [policy] and found[0] is policy


def test_built_in_policies_are_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    loaded = load(GOOD.encode(), "freest.py", "turnout_plugin_watched")
    unload("turnout_plugin_watched")
    registry.offer("freest_kv@00000001", loaded.policies["freest_kv"])
    assert not isinstance(create_watched(1.0, "p2c", {}), Watched)
    policy = create_watched(1.0, "freest_kv@00000001", {"limit": 0.5})
    assert isinstance(policy, Watched)
    ready = PolicyCatalog({"mine": PolicySpec(name="freest_kv@00000001")}, partial(create_watched, 1.0)).create("mine")
    assert (ready.name, "Watched" in repr(ready)) == ("mine", True)


def test_a_watched_plugin_that_does_not_return_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry.BUILT_IN))
    loaded = load(picks("while True:\n    pass").encode(), "mine.py", "turnout_plugin_stuck")
    unload("turnout_plugin_stuck")
    registry.offer("mine@00000001", loaded.policies["mine"])
    with pytest.raises(PolicyTimeout):
        create_watched(0.02, "mine@00000001").pick(REQUEST, SNAPSHOT)
