"""A source of pods that follows a stub API server through the official client, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from loadtests.kubernetes.api import KubeApi, kube_api
from loadtests.kubernetes.objects import kubeconfig
from schedulers.types import Pod
from statesync.discovery.kubernetes.client import Access
from statesync.discovery.kubernetes.source import KubernetesSource
from statesync.discovery.kubernetes.target import target_of
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import DEADLINE_S

_STILL_TURNS = 10
"""Turns of the loop in which bytes on their way through the sockets and the client arrive."""


class Passing:
    """Virtual time for an API server and its followers. It advances when all of them only wait for it.

    The sockets are real, and the client sometimes works in threads; the time that takes does not matter.
    """

    def __init__(self, api: KubeApi, followers: int) -> None:
        self.api = api
        self.clock = Clock(0.0)
        self._followers = followers

    def pass_(self, seconds: float) -> None:
        """Advance the time here and on the server."""
        self.clock.now += seconds
        self.api.tick(self.clock.now)

    @property
    def waiting(self) -> bool:
        """Whether each follower sleeps or has an open watch."""
        return self.clock.sleepers + self.api.watches >= self._followers

    async def settle(self) -> None:
        """Run everything that happens without time passing."""
        await self.until(lambda: self.waiting)
        for _ in range(_STILL_TURNS):
            await asyncio.sleep(0)

    async def until(self, met: Callable[[], bool], *, each_s: float = 0.0) -> None:
        """Run until `met` holds; whenever nothing is left to run, virtual time advances by `each_s`."""
        end = time.monotonic() + DEADLINE_S
        while not met():
            assert time.monotonic() < end, f"the condition was never met; {self}"
            if not each_s or not self.waiting:
                await asyncio.sleep(0.0005)
                continue
            self.pass_(each_s)
            for _ in range(_STILL_TURNS):
                await asyncio.sleep(0)


class Ground(Passing):
    """The server, the source, and the lists of pods that the source has sent."""

    def __init__(self, api: KubeApi, url: str, file: Path, seed: int) -> None:
        target = target_of(url)
        super().__init__(api, len(target.places))
        self.received: list[tuple[Pod, ...]] = []
        self._rng = random.Random(seed)
        self.source = KubernetesSource(
            target, access=Access(str(file)), clock=self.clock, sleep=self.clock.sleep, rng=self._rng.random
        )

    def receive(self, pods: Sequence[Pod]) -> None:
        self.received.append(tuple(pods))

    @property
    def view(self) -> Mapping[str, str]:
        """Name -> why the pod is not ready, for the last list received."""
        return {pod.id.rpartition(".")[0]: pod.unready for pod in self.received[-1]} if self.received else {}

    async def shows(self, *, each_s: float = 0.0, **names: str) -> None:
        """Wait until the last list holds exactly these pods; `_` in a name stands for `-`."""
        wanted = {name.replace("_", "-"): unready for name, unready in names.items()}
        await self.until(lambda: dict(self.view) == wanted, each_s=each_s)

    def __repr__(self) -> str:
        return f"last list: {dict(self.view)}, asked: {self.api.asked}"


def _as_it_is(api: KubeApi) -> None:
    """An empty cluster."""


@asynccontextmanager
async def ground(
    directory: Path,
    url: str = "kubernetes://llm?selector=app=vllm",
    *,
    seed: int = 1,
    before: Callable[[KubeApi], None] = _as_it_is,
) -> AsyncIterator[Ground]:
    """Run a server and a source for the block; `before` prepares the server."""
    async with kube_api() as api:
        before(api)
        file = directory / "kubeconfig"
        await asyncio.to_thread(file.write_text, json.dumps(kubeconfig(api)))
        made = Ground(api, url, file, seed)
        running = asyncio.get_running_loop().create_task(made.source.run(made.receive))
        try:
            yield made
            assert not running.done(), "the source has ended"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
