"""The process of a replica: signals start a drain, and its exit is clean."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator

import pytest

from router.lifecycle import Phase
from router.replica import process
from router.replica.build import build
from router.replica.parts import Components
from router.replica.replica import Replica
from router.settings import Control, Drain, Pool, Settings
from router.telemetry import logs
from statesync.errors import DiscoveryError
from tests.fakes.waiting import until


def settings(**fields: object) -> Settings:
    sections: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "control": Control(listen="127.0.0.1:0"),
        "pools": [Pool(name="main", pods=["http://127.0.0.1:1"], models=["m"])],
        "drain": Drain(settle_s=600, timeout_s=600),
    }
    return Settings(**(sections | fields))  # type: ignore[arg-type]


def signalled(replica: Replica, when: Phase, number: signal.Signals, times: int) -> None:
    """Raise the signal `times` times as the replica enters a phase."""

    def entered(phase: Phase) -> None:
        if phase is when:
            for _ in range(times):
                signal.raise_signal(number)

    replica.parts.core.lifecycle.listen(lambda step: entered(step.after))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_starts_the_drain_and_a_second_one_cuts_it_short(number: signal.Signals) -> None:
    replica = Replica(build(settings()))
    signalled(replica, Phase.READY, number, 2)
    asyncio.run(process.run(replica, process.SignalHost()))
    assert replica.parts.core.lifecycle.phase is Phase.CLOSED
    assert replica.hurry.is_set()


def test_after_one_signal_the_drain_may_take_its_full_time() -> None:
    replica = Replica(build(settings(drain=Drain(settle_s=0.0, timeout_s=600))))
    signalled(replica, Phase.READY, signal.SIGTERM, 1)
    asyncio.run(process.run(replica, process.SignalHost()))
    assert replica.parts.core.lifecycle.phase is Phase.CLOSED
    assert not replica.hurry.is_set()


def test_a_signal_during_warm_up_ends_it_before_it_is_ready() -> None:
    replica = Replica(build(settings(pools=[Pool(name="main", pods=["http://127.0.0.1:1"])], warmup_timeout_s=600)))
    signalled(replica, Phase.WARMING, signal.SIGTERM, 1)
    asyncio.run(process.run(replica, process.SignalHost()))
    assert Phase.READY not in replica.parts.core.lifecycle.since
    assert replica.parts.core.lifecycle.phase is Phase.CLOSED


def test_a_hangup_logs_that_one_process_cannot_be_rolled_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica(build(settings(drain=Drain(settle_s=0.0, timeout_s=600))))
    signalled(replica, Phase.READY, signal.SIGHUP, 1)

    async def run() -> None:
        running = asyncio.get_running_loop().create_task(process.run(replica, process.SignalHost()))
        await until(lambda: "SIGHUP rolls the workers" in caplog.text)
        assert replica.parts.core.lifecycle.phase is Phase.READY
        assert not replica.stop_asked.is_set()
        signal.raise_signal(signal.SIGTERM)
        await running

    asyncio.run(run())


@pytest.mark.parametrize("taken", ["listen", "control"])
def test_a_replica_that_cannot_start_reports_why_and_releases_its_resources(taken: str) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        replica = Replica(build(settings(**{taken: address if taken == "listen" else Control(listen=address)})))
        with pytest.raises(OSError, match="in use"):
            await process.run(replica, process.SignalHost())
        await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert replica.parts.network.upstream.open == 0
        server.close()

    asyncio.run(run())


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """Restore the process's logging, which `serve` sets up."""
    root, access = logging.getLogger(), logging.getLogger(logs.ACCESS)
    level, handlers, disabled = root.level, list(root.handlers), access.disabled
    levels = {name: logging.getLogger(name).level for name in logs._QUIET}
    yield
    root.handlers[:], access.disabled = handlers, disabled
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


@pytest.mark.usefixtures("logging_as_it_was")
def test_serving_with_settings_that_cannot_start_returns() -> None:
    with pytest.raises(DiscoveryError):
        process.serve(settings(pools=[Pool(name="main", models=["m"])]))


@pytest.mark.usefixtures("logging_as_it_was")
def test_serving_ends_with_status_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def replica(components: Components) -> Replica:
        made = Replica(components)
        signalled(made, Phase.READY, signal.SIGTERM, 2)
        return made

    monkeypatch.setattr(process, "Replica", replica)
    assert process.serve(settings()) == 0
