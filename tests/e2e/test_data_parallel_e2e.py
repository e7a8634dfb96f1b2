"""Pods with two data-parallel ranks behind one port, with real processes: what the gateway knows of a rank is from its
own metrics and events, and the requests that it sends to a rank are computed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.sim.ports import neighbouring_ports
from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Wire, endless, post
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

HOSTS = ("127.0.0.1", "127.0.0.2")
RANKS = 2
TALKS = 6
EXPECTED = ("answer cut short", "no scrape", "probe")
"""What the gateway may log about the pod that the test kills."""


class Fleet:
    """Two pods on two addresses, and a gateway that follows their events."""

    def __init__(self, pods: list[SimPods], addresses: list[str], gateway: GatewayProcess) -> None:
        self.pods, self.addresses, self.gateway = pods, addresses, gateway

    def requests(self) -> dict[str, int]:
        """By target, the requests that the rank has got."""
        states = [pods.state(pods.addresses[0]) for pods in self.pods]
        return {
            f"{address}@{number}": rank["requests"]
            for address, state in zip(self.addresses, states, strict=True)
            for number, rank in enumerate(state["ranks"])
        }

    def ask(self, messages: list[dict[str, str]]) -> tuple[str, int]:
        """One request; the target that answered, and the tokens that it had cached."""
        answer = _ask(self.gateway.url, messages, {})
        return answer.headers["x-turnout-pod"], answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    def joined(self) -> None:
        """Wait until the subscriptions to all ranks have arrived there."""
        number = count()
        before = self._batches()

        def seen() -> bool:
            now = self._batches()
            for target in [each for each in now if now[each] == before[each]]:
                address, _, rank = target.rpartition("@")
                prompt = [{"role": "user", "content": f"{next(number)} " * 100}]
                _ask(f"http://{address}", prompt, {"x-data-parallel-rank": rank})
            return all(now[each] > before[each] for each in now)

        wait_for("events come from all ranks", seen)

    def _batches(self) -> dict[str, float]:
        name = "turnout_kv_event_batches_total"
        return {target: self.gateway.metric(name, pod=target) for target in self.targets()}

    def matched(self) -> float:
        """The answers whose blocks were found."""
        return self.gateway.metric("turnout_kv_matched_answers_total")

    def targets(self) -> dict[str, dict[str, Any]]:
        """GET /admin/pods by id."""
        return {pod["id"]: pod for pod in self.gateway.pods()}

    def predictions(self) -> tuple[float, float]:
        """The answers whose cached tokens events predicted, and how many of these to the token."""
        counts = [f"turnout_kv_{kind}predictions_total" for kind in ("", "exact_")]
        return self.gateway.metric(counts[0]), self.gateway.metric(counts[1])


def _ask(url: str, messages: list[dict[str, str]], headers: dict[str, str]) -> httpx.Response:
    body = {"model": MODEL, "messages": messages, "max_tokens": 40}
    path = f"{url}/v1/chat/completions"
    answer = httpx.post(path, json=body, headers=headers, timeout=DEADLINE_S, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer


@contextmanager
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """The processes."""
    live, replay = (neighbouring_ports(RANKS)[0] for _ in range(2))
    options = ["--host", "0.0.0.0", "--data-parallel-size", f"{RANKS}"]
    with ExitStack() as stack:
        pods = []
        for host in HOSTS:
            events = ["--kv-events", f"tcp://{host}:{live}", f"tcp://{host}:{replay}"]
            pods.append(stack.enter_context(sim_pods(1, tmp_path / f"{host}.log", *options, *events)))
        addresses = [f"{host}:{each.addresses[0].rpartition(':')[2]}" for host, each in zip(HOSTS, pods, strict=True)]
        ranked = pool(
            "default",
            addresses,
            policy={"name": "prefix_aware"},
            ranks=RANKS,
            kv_events={"endpoint": f"tcp://{{host}}:{live}", "replay": f"tcp://{{host}}:{replay}"},
        )
        settings = config((), pools=[ranked], health={**PATIENT_HEALTH, "interval_s": 0.5})
        gateway = stack.enter_context(running(settings, tmp_path / "gateway", EXPECTED))
        it = Fleet(pods, addresses, gateway)
        wait_for("all ranks are routable", lambda: sum(pod["routable"] for pod in gateway.pods()) == 2 * RANKS)
        wait_for("their events are followed", lambda: gateway.metric("turnout_kv_in_step") == 2 * RANKS)
        it.joined()
        yield it


def test_a_rank_s_cache_load_and_process_are_its_own(tmp_path: Path) -> None:
    with fleet(tmp_path) as it:
        talks: list[list[dict[str, str]]] = [[] for _ in range(TALKS)]
        homes: list[str] = []
        for turn in range(3):
            found: list[str] = []
            for at, talk in enumerate(talks):
                # A simulated token is four bytes: with this padding no token reaches over the end of a prompt.
                words = f"{at}.{turn} " + "word " * (2000 + 60 * at) + "..." * bool(turn)
                talk.append({"role": "user", "content": words})
                before = it.requests()
                home, cached = it.ask(talk)
                assert {each for each, got in it.requests().items() if got != before[each]} == {home}
                assert (cached > 1000) == (turn > 0), "the rank that answers has the turns before"
                talk.append({"role": "assistant", "content": "Yes."})
                found.append(home)
            homes = homes or found
            assert found == homes
            wait_for("the answers' blocks are found", lambda: it.matched() == sum(map(len, talks)) / 2)
        assert it.predictions() == (2 * TALKS, 2 * TALKS)

        first = it.addresses[0]
        with Wire("127.0.0.1", it.gateway.port) as wire:
            wire.send(post(endless()))
            wait_for("one rank's metrics show a request", lambda: _running(it) == [0, 0, 0, 1])
        wait_for("it is gone", lambda: _running(it) == [0, 0, 0, 0])

        drain = f"/admin/pods/{first}/drain"
        assert it.gateway.control.post(drain).json()["id"] == f"{first}@{RANKS - 1}"
        assert _out(it) == {f"{first}@0": ["draining"], f"{first}@1": ["draining"]}
        assert it.gateway.control.delete(drain).status_code == 200
        assert _out(it) == {}

        it.pods[0].kill()
        wait_for("both ranks of the process are out", lambda: _out(it).keys() == {f"{first}@0", f"{first}@1"})
        assert it.ask(talks[0])[0].startswith(it.addresses[1])


def _running(it: Fleet) -> list[int]:
    return sorted(pod["running"] for pod in it.gateway.pods())


def _out(it: Fleet) -> dict[str, list[str]]:
    return {id: pod["blockers"] for id, pod in it.targets().items() if pod["blockers"]}
