"""Hours of a pool in which a fifth of the pods is replaced every minute, while the API server fails in every way.

The events are real and come over real HTTP through the official client; only time is virtual. At every quiet point the
view equals the truth. In between, no listed pod that still exists goes missing.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from loadtests.kubernetes.api import PODS, Change, KubeApi, Refusal
from loadtests.kubernetes.objects import pod_object
from schedulers.types import Pod
from tests.fakes.kube_pod_source import Ground, ground

BATCHES = 20
"""Batches of replacements in a minute."""
LATE_S = 3000.0
"""Virtual seconds after which a view that differs from the truth is an error."""


class Member(NamedTuple):
    """A pod that exists."""

    name: str
    ip: str
    uid: str


class Fleet:
    """The truth: pods that start, flap and end as controllers and kubelets make them."""

    def __init__(self, api: KubeApi, rng: random.Random, size: int) -> None:
        self._api = api
        self._rng = rng
        self._made = 0
        self.each = size // 5 // BATCHES
        """The number of pods that are replaced in a batch."""
        self.ready: dict[str, Member] = {}
        self.out: dict[str, str] = {}
        """UID -> why the pod is not ready."""
        self.replaced = 0
        for _ in range(size):
            self._come(self._new(f"vllm-{self._made}"))

    def truth(self) -> dict[str, str]:
        """Id -> why the pod is not ready; empty for a ready one."""
        return {f"{each.name}.{each.uid[:8]}": self.out.get(each.uid, "") for each in self.ready.values()}

    def replace(self) -> None:
        """A pod terminates and ends, and another replaces it: under its name, or under a new one."""
        old = self.ready[self._rng.choice(list(self.ready))]
        self._api.put(PODS, self._as(old, terminating=True))
        self.out[old.uid] = "terminating"
        self._api.delete(PODS, "llm", old.name)
        del self.ready[old.uid]
        del self.out[old.uid]
        keeps_its_name = self._rng.random() < 0.5
        self._come(self._new(old.name if keeps_its_name else f"vllm-{self._made}", old.ip if keeps_its_name else ""))
        self.replaced += 1

    def flap(self) -> None:
        """A pod fails its readiness probe; one that failed before is ready again."""
        back = self._rng.choice([uid for uid in self.ready if self.out.get(uid)] or [""])
        if back:
            del self.out[back]
            self._api.put(PODS, self._as(self.ready[back]))
        away = self._rng.choice(list(self.ready))
        self.out[away] = "not_ready"
        self._api.put(PODS, self._as(self.ready[away], ready=False))

    def _new(self, name: str, ip: str = "") -> Member:
        self._made += 1
        number = self._made
        return Member(name, ip or f"10.{number >> 16}.{(number >> 8) & 255}.{number & 255}", f"{number:08x}-0000")

    def _come(self, member: Member) -> None:
        self._api.put(PODS, pod_object(member.name, "", uid=member.uid, phase="Pending", ready=False))
        self._api.put(PODS, self._as(member, ready=False))
        self._api.put(PODS, self._as(member))
        self.ready[member.uid] = member

    @staticmethod
    def _as(member: Member, *, ready: bool = True, terminating: bool = False) -> dict[str, object]:
        return pod_object(member.name, member.ip, uid=member.uid, ready=ready, terminating=terminating)


class Faults:
    """Faults of the server, a minute at a time."""

    def __init__(self, api: KubeApi, rng: random.Random, each: int) -> None:
        self._api = api
        self._rng = rng
        self._each = each
        """The number of pods that are replaced in a batch; each of them is five events of some 700 bytes."""
        self.lost = 0
        self._shuffled = False

    def inject(self) -> None:
        """Starts another fault."""
        api, rng = self._api, self._rng
        status = rng.choice([401, 410, 429, 500, 503])
        kind = rng.randrange(7)
        self.lost += self._shuffled and kind in (0, 1, 2, 5)
        if kind == 0:
            api.cut_after.append(rng.randrange(2000 * self._each))
        elif kind == 1:
            api.gone_in_event = rng.random() < 0.5
            api.compact(rng.randrange(5 * self._each))
            api.cut()
        elif kind == 2:
            api.refusals.extend([Refusal(status, {"Retry-After": "2"})] * rng.randrange(1, 4))
            api.cut()
        elif kind == 3:
            api.mangles = self._mangled
        elif kind == 4:
            api.loses = self._lost
        elif kind == 5:
            api.down = True
            api.cut()
        else:
            api.mangles = list

    def clear(self) -> bool:
        """Ends all faults, and returns whether events were lost meanwhile.

        A watch that is cut while its events come out of order resumes after the last one it saw: others may be lost.
        """
        api = self._api
        api.down, api.loses, api.mangles = False, lambda change: False, list
        api.cut_after.clear()
        api.refusals.clear()
        lost, self.lost, self._shuffled = self.lost, 0, False
        return lost > 0

    def _mangled(self, events: list[bytes]) -> list[bytes]:
        self._shuffled = True
        again = [event for event in events if self._rng.random() < 0.2]
        return self._rng.sample(events, len(events)) + again

    def _lost(self, change: Change) -> bool:
        lost = change.type == "DELETED" and change.version % 3 == 0
        self.lost += lost
        return lost


def none_is_missing(fleet: Fleet, lists: Sequence[Sequence[Pod]]) -> int:
    """Asserts that no list lacks an existing pod of the list before, and returns the number of lists compared."""
    there = {f"{each.name}.{each.uid[:8]}" for each in fleet.ready.values()}
    for before, after in pairwise(lists):
        missing = ({pod.id for pod in before} & there) - {pod.id for pod in after}
        assert not missing
    return len(lists)


async def minute(cluster: Ground, fleet: Fleet, faults: Faults, rng: random.Random) -> None:
    """Replacements and flaps, with faults in between. The source follows at once, or lags behind."""
    for batch in range(BATCHES):
        if batch % 7 == 3:
            faults.inject()
        for _ in range(fleet.each):
            fleet.replace()
        fleet.flap()
        cluster.pass_(60.0 / BATCHES)
        if rng.random() < 0.7:
            await cluster.settle()


def is_truth(view: Sequence[Pod], truth: Mapping[str, str]) -> bool:
    """Whether exactly the ready pods are routable, and each other pod of the view has the right reason.

    A pod that failed its probe while no watch was open may be missing: the view has never seen it ready.
    """
    routable = {pod.id for pod in view if not pod.unready}
    out = all(truth.get(pod.id) == pod.unready for pod in view if pod.unready)
    return out and routable == {pod for pod, unready in truth.items() if not unready}


async def quiet(cluster: Ground, fleet: Fleet, faults: Faults) -> None:
    """Waits without faults or changes until the view equals the truth: soon, or at the next list if events were lost.

    The wait is not measured: the sockets are real, and virtual time does not wait for them.
    """
    each_s = 5.0 if faults.clear() else 0.5
    truth, late = fleet.truth(), cluster.clock.now + LATE_S
    await cluster.until(lambda: is_truth(cluster.received[-1], truth) or cluster.clock.now > late, each_s=each_s)
    assert is_truth(cluster.received[-1], truth)


@pytest.mark.parametrize(("pods", "minutes"), [pytest.param(200, 60, marks=pytest.mark.slow), (1000, 4)])
def test_churn_and_faults_end_in_the_truth_at_every_quiet_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pods: int, minutes: int
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seed = int(os.environ.get("TURNOUT_SEED", "7"))
    fleets: list[Fleet] = []

    async def main() -> None:
        rng = random.Random(seed)
        async with ground(tmp_path, before=lambda api: fleets.append(Fleet(api, rng, pods))) as cluster:
            fleet = fleets[0]
            faults = Faults(cluster.api, rng, fleet.each)
            await cluster.until(lambda: len(cluster.view) == pods)
            received = 0
            for _ in range(minutes):
                await minute(cluster, fleet, faults, rng)
                await quiet(cluster, fleet, faults)
                received += none_is_missing(fleet, cluster.received)
                del cluster.received[:-1]
                cluster.api.compact(keep=4 * pods)
            assert fleet.replaced == pods // 5 * minutes
            assert received > minutes * BATCHES // 3, "too few lists were received to compare"
            print(cluster.clock.now, received, cluster.api.asked)  # noqa: T201  -rP shows it

    asyncio.run(main())
