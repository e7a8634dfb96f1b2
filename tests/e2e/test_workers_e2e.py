"""Several workers on one port: what clients and probes see while workers are rolled, die or are drained, under load.

Tests that need no shared state give each worker its own in memory, which the command line refuses to do.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes.redis_server import RedisServer
from tests.fakes.gateway_process import config, pool
from tests.fakes.raw_http_client import Wire, chat, endless, events, get, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for
from tests.fakes.worker_processes import WITHOUT_STATE, Workers, alive, workers

pytestmark = pytest.mark.slow


def ended_well(gateway: Workers) -> None:
    """SIGTERM ends the gateway with status 0, and no process stays behind."""
    left = gateway.pids()
    gateway.signal()
    assert gateway.ended() == 0
    assert not any(map(alive, left))


class Load:
    """Clients that send requests all the time: over kept-alive and new connections, for streams and whole answers, and
    probes.

    Without `crowd` each client pauses between requests, so that workers start quickly.
    """

    def __init__(self, gateway: Workers, crowd: bool) -> None:
        self.gateway = gateway
        self._pause_s = 0.0 if crowd else 0.02
        self.answered = 0
        self.probed = 0
        self.spanning = 0
        """Streams that began before a hand-over and ended well after it."""
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(11)
        work: list[Callable[[], None]] = [self._kept_alive, self._kept_alive, self._kept_alive, self._new, self._new]
        work += [self._probe, self._probe_control, *[self._long_stream] * 4]
        self._users = [self._threads.submit(self._until_over, each) for each in work]

    def stop(self) -> None:
        """Stop the clients; raises the first error of any of them."""
        self._over.set()
        for user in self._users:
            user.result(2 * DEADLINE_S)
        self._threads.shutdown()

    def _until_over(self, user: Callable[[], None]) -> None:
        try:
            user()
        except BaseException:
            self._over.set()
            raise

    def _kept_alive(self) -> None:
        with httpx.Client(base_url=self.gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as client:
            while not self._over.wait(self._pause_s):
                answer = client.post("/v1/chat/completions", json=chat(stream=True, max_tokens=20))
                assert answer.status_code == 200, answer.text
                assert answer.text.endswith("data: [DONE]\n\n")
                self._count()

    def _new(self) -> None:
        while not self._over.wait(self._pause_s):
            with Wire(self.gateway.host, self.gateway.port) as wire:
                wire.send(post(chat()))
                answer = wire.answer()
                assert (answer.status, answer.complete) == (200, True), answer
            self._count()

    def _long_stream(self) -> None:
        while not self._over.is_set():
            before = self.gateway.said("hands slot")
            with streams(self.gateway, 1, 1000) as (wire,):
                whole(wire, 1000)
            with self._lock:
                self.spanning += self.gateway.said("hands slot") > before

    def _probe(self) -> None:
        """A load balancer's check, much more often than usual."""
        while not self._over.wait(max(0.002, self._pause_s)):
            with Wire(self.gateway.host, self.gateway.port) as wire:
                wire.send(get("/readyz"))
                answer = wire.answer()
                assert (answer.status, answer.json()["status"] in ("ready", "draining")) == (200, True), answer
            self.probed += 1

    def _probe_control(self) -> None:
        while not self._over.wait(max(0.01, self._pause_s)):
            answer = self.gateway.control.get("/readyz")
            assert answer.status_code == 200, answer.text

    def _count(self) -> None:
        with self._lock:
            self.answered += 1


@contextmanager
def load_on(gateway: Workers, crowd: bool = False) -> Iterator[Load]:
    """Load during the block, of which no request may fail."""
    load = Load(gateway, crowd)
    try:
        wait_for("the load is on", lambda: load.answered >= 20)
        yield load
    finally:
        load.stop()


@contextmanager
def streams(gateway: Workers, count: int, tokens: int) -> Iterator[list[Wire]]:
    """Streams that have begun, each on a connection of its own."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(gateway.host, gateway.port)) for _ in range(count)]
        for wire in wires:
            wire.send(post(endless(tokens=tokens)))
        assert all(wire.readable() for wire in wires)
        yield wires


def whole(wire: Wire, tokens: int) -> None:
    """Assert that the stream ended well with all its tokens."""
    answer = wire.answer()
    assert answer.complete
    said = events(answer.body)
    assert said[-1] == "[DONE]"
    assert len(said) > tokens


def serves(gateway: Workers) -> bool:
    """Whether the gateway answers a chat on a new connection."""
    with Wire(gateway.host, gateway.port) as wire:
        wire.send(post(chat()))
        return wire.answer().status == 200


def roll_twice_under_load(gateway: Workers) -> None:
    first = gateway.pids()
    with load_on(gateway, crowd=True) as load:
        second = gateway.roll()
        wait_for("the old ones are gone", lambda: gateway.pids() == second)
        third = gateway.roll()
        wait_for("the old ones are gone", lambda: gateway.pids() == third)
        wait_for("probes were answered all along", lambda: load.probed > 100)
    assert len(first) == len(second) == len(third) == 2
    assert not first & second
    assert not second & third
    assert load.spanning, "no stream was open while its worker was replaced"
    gateway.settle()


@pytest.mark.realtime
def test_two_rolls_under_load_fail_no_request_cut_no_stream_and_are_never_unready(
    sims: SimPods, tmp_path: Path
) -> None:
    with workers(tmp_path, settings(sims)) as gateway:
        roll_twice_under_load(gateway)
        ended_well(gateway)


@pytest.mark.realtime
@pytest.mark.needs("redis-server")
def test_two_rolls_of_workers_that_share_their_state_are_as_smooth(sims: SimPods, tmp_path: Path) -> None:
    """The new workers have the shared state: replicas that left are no longer in it, new ones are."""
    with (
        RedisServer(tmp_path) as server,
        workers(
            tmp_path,
            settings(sims, state=server.url),
            program=("-m", "router", "serve", "--config"),
            flags=("--workers", "2"),
        ) as gateway,
    ):
        wait_for("they see each other", lambda: len(replicas(gateway)) == 2)
        before = replicas(gateway)
        roll_twice_under_load(gateway)
        wait_for("the last workers see each other and no other replica", lambda: len(replicas(gateway)) == 2)
        assert not before & replicas(gateway)
        ended_well(gateway)


def replicas(gateway: Workers) -> set[str]:
    """The replicas in the state of the worker that answers."""
    return {each["id"] for each in gateway.control.get("/admin/state").raise_for_status().json()["replicas"]}


def settings(sims: SimPods, **sections: Any) -> dict[str, Any]:
    """Settings with two pods, and time for streams to end."""
    return config(sims.urls[:2], **({"drain": {"settle_s": 0.5, "timeout_s": 600.0}} | sections))


def test_a_roll_with_a_file_that_is_wrong_is_refused_and_a_mended_one_is_read(sims: SimPods, tmp_path: Path) -> None:
    expected = ("did not start", "the roll stops here")
    with workers(tmp_path, settings(sims), expected=expected) as gateway:
        file = tmp_path / "gateway" / "turnout.yaml"
        good, before = file.read_text(), gateway.pids()
        file.write_text(good.replace("least_load", "lest_load"))
        with load_on(gateway):
            gateway.signal(signal.SIGHUP)
            wait_for("it is refused", lambda: gateway.said("the roll stops here") == 1)
            assert gateway.said("no policy 'lest_load' (did you mean 'least_load'?)") == 1
            assert gateway.pids() == before
            file.write_text(good.replace("least_load", "round_robin"))
            gateway.roll()
            policy = gateway.control.get("/admin/pools/default/policy").raise_for_status().json()
            assert policy["policy"] == "round_robin"
        ended_well(gateway)


def test_a_killed_worker_is_replaced_and_connections_in_its_queue_are_served(sims: SimPods, tmp_path: Path) -> None:
    with workers(tmp_path, settings(sims), expected=("died",)) as gateway:
        before = gateway.pids()
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        wait_for("the killed worker is gone", lambda: killed not in gateway.pids())
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(gateway.host, gateway.port)) for _ in range(16)]
            for wire in wires:
                wire.send(post(chat()))
            assert [wire.answer().status for wire in wires] == [200] * 16
        wait_for("there are two again", lambda: gateway.said("serves slot") == 3)
        assert len(gateway.pids()) == 2
        assert gateway.said("died (it ended by signal 9)") == 1
        ended_well(gateway)


def test_an_operators_drain_of_one_worker_replaces_it(sims: SimPods, tmp_path: Path) -> None:
    with workers(tmp_path, settings(sims)) as gateway, load_on(gateway):
        assert gateway.control.post("/admin/drain").status_code == 202
        wait_for("the slot is handed over", lambda: gateway.said("hands slot") == 1)
        wait_for("the old worker has ended", lambda: gateway.said("ended with status 0") == 1)


def test_workers_whose_supervisor_is_killed_finish_their_streams_and_end(sims: SimPods, tmp_path: Path) -> None:
    tokens = 500
    with workers(tmp_path, settings(sims)) as gateway, streams(gateway, 8, tokens) as long:
        orphans = gateway.pids()
        gateway.signal(signal.SIGKILL)
        for wire in long:
            whole(wire, tokens)
        wait_for("the orphans end", lambda: not any(map(alive, orphans)))
        with pytest.raises(ConnectionRefusedError):
            serves(gateway)


def test_a_signal_to_every_process_at_once_cuts_no_stream(sims: SimPods, tmp_path: Path) -> None:
    """As systemd and Ctrl-C send it."""
    tokens = 500
    with workers(tmp_path, settings(sims)) as gateway, streams(gateway, 8, tokens) as long:
        for pid in (*gateway.pids(), gateway.pid):
            os.kill(pid, signal.SIGTERM)
        for wire in long:
            whole(wire, tokens)
        assert gateway.ended() == 0


def test_a_second_signal_ends_all_workers_at_once(sims: SimPods, tmp_path: Path) -> None:
    slow = {"settle_s": 600.0, "timeout_s": 600.0}
    with workers(tmp_path, settings(sims, drain=slow)) as gateway, streams(gateway, 4, 16_000) as long:
        gateway.signal()
        wait_for("the workers settle", lambda: gateway.control.get("/readyz").status_code == 503)
        gateway.signal(signal.SIGINT)
        for wire in long:
            assert events(wire.answer().body)[-1]["error"]["code"] == "gateway_draining"
        assert gateway.ended() == 0


def test_workers_that_cannot_start_end_the_supervisor_with_their_error(tmp_path: Path) -> None:
    """The supervisor has read the file before it changed."""
    nowhere = config((), pools=[pool("default", [], discovery={"source": "dns://nowhere.invalid:1"})])
    directory = tmp_path / "gateway"
    program = WITHOUT_STATE.replace('"--config", sys.argv[1]]', '"--config", sys.argv[1] + ".gone"]')
    with pytest.raises(AssertionError, match="no worker can start: giving up"):
        Workers(nowhere, directory, program=("-c", program))
    assert "turnout.yaml.gone: cannot be read: No such file" in (directory / "gateway.log").read_text()
