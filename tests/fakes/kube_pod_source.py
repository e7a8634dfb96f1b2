"""A source of pods that follows a stub API server through the official client, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from schedulers.types import Pod
from statesync.discovery.k8s_client import Access
from statesync.discovery.k8s_target import target_of
from statesync.discovery.kubernetes import KubernetesSource
from tests.fakes.kube_api import KubeApi, kube_api, kubeconfig

LOOKS = 20_000
"""Turns of the loop within which everything that can happen now has happened."""


class Clock:
    """Time that moves when it is told; whoever sleeps wakes when it is late enough."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        for at, woken in self._sleepers:
            if at <= self.now:
                woken.set()
        self._sleepers = [each for each in self._sleepers if each[0] > self.now]


class Ground:
    """The server, the source, and what the source has told."""

    def __init__(self, api: KubeApi, url: str, file: Path, seed: int) -> None:
        self.api = api
        self.clock = Clock()
        self.heard: list[tuple[Pod, ...]] = []
        self._dice = random.Random(seed)
        self.source = KubernetesSource(
            target_of(url),
            access=Access(str(file)),
            clock=self.clock.time,
            sleep=self.clock.sleep,
            dice=self._dice.random,
        )

    def hear(self, pods: Sequence[Pod]) -> None:
        self.heard.append(tuple(pods))

    @property
    def view(self) -> Mapping[str, str]:
        """Name -> why it is out, of the pods told last."""
        return {pod.id.rpartition(".")[0]: pod.unready for pod in self.heard[-1]} if self.heard else {}

    def pass_(self, seconds: float) -> None:
        """It is so much later, here and on the server."""
        self.clock.pass_(seconds)
        self.api.tick(self.clock.now)

    async def until(self, met: Callable[[], bool], *, each_s: float = 0.0) -> None:
        """Let things happen until `met`; virtual time goes on by `each_s` a look."""
        for _ in range(LOOKS):
            if met():
                return
            if each_s:
                self.pass_(each_s)
            await asyncio.sleep(0.0005)
        raise AssertionError(f"it never was; told last: {dict(self.view)}, asked: {self.api.asked}")

    async def shows(self, *, each_s: float = 0.0, **names: str) -> None:
        """Until exactly these pods are told; `_` in a name stands for `-`."""
        wanted = {name.replace("_", "-"): unready for name, unready in names.items()}
        await self.until(lambda: dict(self.view) == wanted, each_s=each_s)


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
    """A ground with its source running; `before` prepares the server."""
    async with kube_api() as api:
        before(api)
        file = directory / "kubeconfig"
        await asyncio.to_thread(file.write_text, json.dumps(kubeconfig(api)))
        made = Ground(api, url, file, seed)
        running = asyncio.get_running_loop().create_task(made.source.run(made.hear))
        try:
            yield made
            assert not running.done(), "the source has ended"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
