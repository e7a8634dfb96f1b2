"""Hours in the life of a pool, of which a fifth is replaced every minute, on a bad day of the API server.

The events are real ones over real HTTP through the official client; only time is virtual. At every quiet point the view
is the truth, and on the way no pod that is there and was listed ever goes missing.
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

from schedulers.types import Pod
from tests.fakes.kube_api import PODS, Change, KubeApi, Refusal
from tests.fakes.kube_objects import pod_object
from tests.fakes.kube_pod_source import Ground, ground

BATCHES = 20
"""In a minute."""
LATE_S = 3000.0
"""Virtual time after which a view that is not the truth never will be."""


class Member(NamedTuple):
    """A pod that there is."""

    name: str
    ip: str
    uid: str


class Fleet:
    """The truth: pods that come, flap and go, as controllers and kubelets would have it."""

    def __init__(self, api: KubeApi, rng: random.Random, size: int) -> None:
        self._api = api
        self._rng = rng
        self._made = 0
        self.each = size // 5 // BATCHES
        """Pods that are replaced in a batch."""
        self.ready: dict[str, Member] = {}
        self.out: dict[str, str] = {}
        """Why those are out that are."""
        self.replaced = 0
        for _ in range(size):
            self._come(self._new(f"vllm-{self._made}"))

    def truth(self) -> dict[str, str]:
        """Id -> why it is out."""
        return {f"{each.name}.{each.uid[:8]}": self.out.get(each.uid, "") for each in self.ready.values()}

    def replace(self) -> None:
        """One terminates and goes, and another takes its place: under its name, or under a new one."""
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
        """One fails its readiness probe; one that did is well again."""
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


class Weather:
    """What the server does wrong, a minute at a time."""

    def __init__(self, api: KubeApi, rng: random.Random, each: int) -> None:
        self._api = api
        self._rng = rng
        self._each = each
        """Pods that are replaced in a batch; each of them is five events, of some 700 bytes."""
        self.lost = 0
        self._shuffled = False

    def turns(self) -> None:
        """Something else goes wrong now."""
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

    def clears(self) -> bool:
        """All is well from now on; whether events were lost meanwhile.

        A watch that is cut while its events come out of order goes on behind the last it saw: others may be lost.
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


def none_is_missing(fleet: Fleet, heard: Sequence[Sequence[Pod]]) -> int:
    """Asserts that no list lacks a pod that the one before had and that is there still; how many were compared."""
    there = {f"{each.name}.{each.uid[:8]}" for each in fleet.ready.values()}
    for before, after in pairwise(heard):
        missing = ({pod.id for pod in before} & there) - {pod.id for pod in after}
        assert not missing
    return len(heard)


async def minute(town: Ground, fleet: Fleet, weather: Weather, rng: random.Random) -> None:
    """Replacements and flaps, with faults strewn in. The source follows at once, or lags behind."""
    for batch in range(BATCHES):
        if batch % 7 == 3:
            weather.turns()
        for _ in range(fleet.each):
            fleet.replace()
        fleet.flap()
        town.pass_(60.0 / BATCHES)
        if rng.random() < 0.7:
            await town.settle()


def is_truth(view: Sequence[Pod], truth: Mapping[str, str]) -> bool:
    """Whether exactly the ready pods are routable, and the others, where they are told, are out for the right reason.

    A pod that failed its probe while nobody could watch may be missing: the view has never seen it ready.
    """
    routable = {pod.id for pod in view if not pod.unready}
    out = all(truth.get(pod.id) == pod.unready for pod in view if pod.unready)
    return out and routable == {pod for pod, unready in truth.items() if not unready}


async def quiet(town: Ground, fleet: Fleet, weather: Weather) -> None:
    """All is well and nothing happens, until the view is the truth: soon, or, if events were lost, with the next list.

    How soon is not measured here: the sockets are real, and virtual time does not wait for them.
    """
    each_s = 5.0 if weather.clears() else 0.5
    truth, late = fleet.truth(), town.clock.now + LATE_S
    await town.until(lambda: is_truth(town.heard[-1], truth) or town.clock.now > late, each_s=each_s)
    assert is_truth(town.heard[-1], truth)


@pytest.mark.parametrize(("pods", "minutes"), [(200, 60), (1000, 4)])
def test_churn_and_faults_end_in_the_truth_at_every_quiet_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pods: int, minutes: int
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    seed = int(os.environ.get("TURNOUT_SEED", "7"))
    fleets: list[Fleet] = []

    async def main() -> None:
        rng = random.Random(seed)
        async with ground(tmp_path, before=lambda api: fleets.append(Fleet(api, rng, pods))) as town:
            fleet = fleets[0]
            weather = Weather(town.api, rng, fleet.each)
            await town.until(lambda: len(town.view) == pods)
            received = 0
            for _ in range(minutes):
                await minute(town, fleet, weather, rng)
                await quiet(town, fleet, weather)
                received += none_is_missing(fleet, town.heard)
                del town.heard[:-1]
                town.api.compact(keep=4 * pods)
            assert fleet.replaced == pods // 5 * minutes
            assert received > minutes * BATCHES // 3, "hardly anything was received on the way"
            print(town.clock.now, received, town.api.asked)  # noqa: T201  -rP shows it

    asyncio.run(main())
