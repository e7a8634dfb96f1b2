"""A gateway that follows the KV events of two pods, with real processes and sockets: what it predicts of the prefix
cache is what the pods find, also after evictions that it did not cause and after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest

from loadtests.sim.ports import free_ports
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

HOSTS = ("127.0.0.1", "127.0.0.2")
TALKS = 4
EXPECTED = ("answer cut short", "no scrape", "probe")
"""What the gateway may log about the pods that the test kills."""


class Fleet:
    """Two pods with one port for events on two addresses, and a gateway."""

    def __init__(self, pods: list[SimPods], urls: list[str], gateway: GatewayProcess) -> None:
        self.pods, self.urls, self.gateway = pods, urls, gateway
        self._other = count()
        self.talks: list[list[dict[str, str]]] = [[] for _ in range(TALKS)]

    def turn(self) -> tuple[float, float]:
        """A turn of each conversation. Returns how many answers' cached tokens events predicted, and how many of these
        to the token."""
        before = self._counts()
        for at, talk in enumerate(self.talks):
            # A simulated token is four bytes: with this padding no token reaches over the end of a prompt.
            words = f"{at}.{len(talk) // 2} " + "word " * (500 + 60 * at) + "..." * bool(talk)
            talk.append({"role": "user", "content": words})
            ask(self.gateway.url, talk)
            talk.append({"role": "assistant", "content": "Yes."})
        wait_for("the answers' blocks are found", lambda: self._matched() == sum(map(len, self.talks)) / 2)
        return self._counts()[0] - before[0], self._counts()[1] - before[1]

    def in_step(self) -> bool:
        return self.gateway.metric("turnout_kv_in_step") == len(self.pods)

    def joined(self) -> None:
        """Wait until the subscriptions to both pods have arrived there: prompts of others are seen."""
        before = self._batches()
        for url in self.urls:
            ask(url, [{"role": "user", "content": "else " * 100}])

        def seen() -> bool:
            for at, now in enumerate(self._batches()):
                if now == before[at]:
                    ask(self.urls[at], [{"role": "user", "content": f"{next(self._other)} " * 100}])
            return self.in_step() and all(now > then for now, then in zip(self._batches(), before, strict=True))

        wait_for("events come from both pods", seen)

    def _batches(self) -> list[float]:
        pods = [url.removeprefix("http://") for url in self.urls]
        return [self.gateway.metric("turnout_kv_event_batches_total", pod=pod) for pod in pods]

    def found(self) -> float:
        """Cached tokens that the pods have reported."""
        return self.gateway.metric("turnout_prefix_true_tokens_total")

    def restarts(self) -> int:
        """Restarts that the scraper has found."""
        return sum("the engine has restarted" in str(line["msg"]) for line in self.gateway.lines())

    def blocks(self) -> float:
        return self.gateway.metric("turnout_kv_held_blocks")

    def _matched(self) -> float:
        return self.gateway.metric("turnout_kv_matched_answers_total")

    def _counts(self) -> tuple[float, float]:
        name = "turnout_kv_{}predictions_total"
        return self.gateway.metric(name.format("")), self.gateway.metric(name.format("exact_"))


def ask(url: str, messages: list[dict[str, str]]) -> None:
    """One request."""
    body = {"model": MODEL, "messages": messages, "max_tokens": 40}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=DEADLINE_S, trust_env=False)
    assert answer.status_code == 200, answer.text


@contextmanager
def fleet(tmp_path: Path) -> Iterator[tuple[Fleet, ExitStack, list[list[str]]]]:
    """The processes; also the options with which pods are started again."""
    live, replay = free_ports(2)
    fast = ["--host", "0.0.0.0", "--speed", "20"]
    options = [[*fast, "--kv-events", f"tcp://{host}:{live}", f"tcp://{host}:{replay}"] for host in HOSTS]
    with ExitStack() as stack:
        pods = [stack.enter_context(sim_pods(1, tmp_path / f"{at}.log", *options[at])) for at in range(2)]
        urls = [f"http://{host}:{each.addresses[0].rpartition(':')[2]}" for host, each in zip(HOSTS, pods, strict=True)]
        events = {"endpoint": f"tcp://{{host}}:{live}", "replay": f"tcp://{{host}}:{replay}", "topic": "kv"}
        settings = config((), pools=[pool("default", urls, policy={"name": "prefix_aware"}, kv_events=events)])
        gateway = stack.enter_context(running(settings, tmp_path / "gateway", EXPECTED))
        it = Fleet(pods, urls, gateway)
        wait_for("both pods' events are followed", it.in_step)
        it.joined()
        yield it, stack, options


def test_cached_tokens_are_predicted_to_the_token(tmp_path: Path) -> None:
    with fleet(tmp_path) as (it, stack, options):
        assert it.turn() == (0, 0), "nothing is known of new prompts"
        assert it.turn() == (TALKS, TALKS)
        found = it.found()
        for url in it.urls:  # prompts of others, for which there is no room without evictions
            for number in range(6):
                ask(url, [{"role": "user", "content": f"{number} " + "else " * 9000}])
        assert it.turn() == (TALKS, TALKS)
        assert it.found() - found < found / 3, "the second turn had more to find than the third"
        for at, pods in enumerate(it.pods):
            port = int(pods.addresses[0].rpartition(":")[2])
            pods.kill()
            again = SimPods(1, tmp_path / f"again{at}.log", *options[at], first=port)
            stack.callback(again.stop)
        wait_for("both restarts show in the metrics", lambda: it.restarts() == 2)
        wait_for("the gateway knows that the caches are empty", lambda: it.blocks() == 0 and it.in_step())
        wait_for("both pods are used", lambda: sum(pod["routable"] for pod in it.gateway.pods()) == 2)
        it.joined()
        assert it.turn() == (TALKS, TALKS)
