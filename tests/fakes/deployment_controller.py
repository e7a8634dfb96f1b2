"""A Deployment as Kubernetes runs it, with gateways that are processes of this machine.

`Threshold` is the prober's rule and `next_step` the rolling update's, both pure. `Pod` is the kubelet (probes, preStop,
SIGTERM, SIGKILL after the grace period), `Deployment` the controller, and `Service` the endpoints as a node sees them:
a balancer that receives each change some seconds late. All fields of the manifest that affect a roll are applied.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from loadtests.sim.ports import HOST
from statesync.tasks import spawn
from tests.fakes.gateway_container import GatewayContainer
from tests.fakes.l4_balancer import Balancer
from tests.fakes.rendered_manifests import Manifest

LOOK_S = 0.02
DEFAULTS = {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
"""Kubernetes' defaults for a probe; successThreshold is 1."""
PATIENCE_S = 30.0
"""Lower bound for a probe's timeout: the manifest's value does not allow for a busy test machine."""


class Threshold:
    """A probe's result, which changes only after enough consecutive answers of the other kind."""

    def __init__(self, probe: Manifest, result: bool) -> None:
        fields = DEFAULTS | probe
        self.result = result
        self._needed = {True: int(fields.get("successThreshold", 1)), False: int(fields["failureThreshold"])}
        self._last, self._run = result, 0

    def observe(self, answer: bool) -> bool:
        """Add an answer; returns the current result."""
        self._run = self._run + 1 if answer is self._last else 1
        self._last = answer
        if self._run >= self._needed[answer]:
            self.result = answer
        return self.result


class Counts(NamedTuple):
    """Pods that are not terminating."""

    old: int
    new: int
    available_old: int
    available_new: int


def next_step(replicas: int, max_surge: int, max_unavailable: int, counts: Counts) -> Literal["start", "stop", "wait"]:
    """The next step of a rolling update: surge within the limit, or delete an old pod if enough are available."""
    if counts.new < replicas and counts.old + counts.new < replicas + max_surge:
        return "start"
    if counts.old and counts.available_old + counts.available_new > replicas - max_unavailable:
        # Old pods that are not available go first: deleting them costs no capacity.
        return "stop"
    return "wait"


async def status_of(port: int, path: str, timeout_s: float) -> int:
    """The status that an httpGet probe gets on a new connection; 0 if no answer arrives in time."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nhost: {HOST}:{port}\r\nconnection: close\r\n\r\n".encode())
                words = (await reader.readline()).split()
                return int(words[1]) if len(words) > 1 else 0
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0


class Pod:
    """A pod on its node. `changed` is called whenever it becomes an endpoint or stops being one."""

    def __init__(self, container: GatewayContainer, pod_spec: Manifest, changed: Callable[[Pod], None]) -> None:
        self.container = container
        self.name = container.name
        self.terminating = False
        self.killed = ""
        """Why the kubelet killed it; empty if it was not killed."""
        self.available_at: float | None = None
        self._grace_s = float(pod_spec["terminationGracePeriodSeconds"])
        self._changed = changed
        self._ready = False
        self._probing = spawn(self._probe(), f"probes of {self.name}")

    @property
    def endpoint(self) -> bool:
        """Whether it should get new connections."""
        return self._ready and not self.terminating

    @property
    def address(self) -> int:
        """Its inference port on this machine."""
        return self.container.port("inference")

    def available(self, min_ready_s: float, now: float) -> bool:
        """Whether it has been ready for minReadySeconds."""
        return self.endpoint and self.available_at is not None and now >= self.available_at + min_ready_s

    async def _probe(self) -> None:
        spec = self.container.spec
        started = Threshold(spec["startupProbe"], False)
        failures = 0
        await asyncio.sleep(spec["startupProbe"].get("initialDelaySeconds", 0))
        while not started.result:
            answer = await self._ask("startupProbe")
            failures = 0 if answer else failures + 1
            if not started.observe(answer) and failures >= spec["startupProbe"]["failureThreshold"]:
                return self._kill("startup probe")
            await asyncio.sleep(0 if started.result else spec["startupProbe"]["periodSeconds"])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow("readinessProbe", False, self._set_ready))
            group.create_task(self._follow("livenessProbe", True, self._set_alive))

    async def _follow(self, kind: str, result: bool, report: Callable[[bool], None]) -> None:
        probe = DEFAULTS | self.container.spec[kind]
        threshold = Threshold(probe, result)
        await asyncio.sleep(probe["initialDelaySeconds"])
        while self.container.process.poll() is None:
            # A terminating pod is not restarted, so only its readiness is probed.
            if not (self.terminating and kind == "livenessProbe"):
                report(threshold.observe(await self._ask(kind)))
            await asyncio.sleep(probe["periodSeconds"])

    async def _ask(self, kind: str) -> bool:
        probe = DEFAULTS | self.container.spec[kind]
        action = probe["httpGet"]
        timeout_s = max(PATIENCE_S, probe["timeoutSeconds"])
        status = await status_of(self.container.port(action["port"]), action["path"], timeout_s)
        return 200 <= status < 400

    def _set_ready(self, ready: bool) -> None:
        if ready is not self._ready:
            self._ready = ready
            self.available_at = asyncio.get_running_loop().time() if ready else None
            self._changed(self)

    def _set_alive(self, alive: bool) -> None:
        if not alive and not self.terminating:
            self._kill("liveness probe")

    def _kill(self, why: str) -> None:
        self.killed = why
        self.container.process.kill()

    async def terminate(self) -> None:
        """Delete it: endpoints and the kubelet see that at the same time. Returns when its process has ended."""
        self.terminating = True
        self._changed(self)
        try:
            async with asyncio.timeout(self._grace_s):
                await self._pre_stop()
                self.container.process.send_signal(signal.SIGTERM)
                while self.container.process.poll() is None:  # noqa: ASYNC110  a process has no event
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            self._kill("grace period")
        self._probing.cancel()

    async def _pre_stop(self) -> None:
        hook = self.container.spec.get("lifecycle", {}).get("preStop", {})
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif hook:
            running = await asyncio.create_subprocess_exec(*hook["exec"]["command"])
            await running.wait()

    def end(self) -> None:
        """End its process at the end of a test."""
        self._probing.cancel()
        self.container.end()


class Service:
    """The endpoints as nodes see them: each node's balancer receives each change after its own delay."""

    def __init__(self, nodes: Sequence[Balancer], delay_s: Callable[[], float]) -> None:
        self._nodes = nodes
        self._delay_s = delay_s
        self._due: dict[tuple[Balancer, int], float] = {}

    def changed(self, pod: Pod) -> None:
        """Send the pod's new state to every node."""
        loop = asyncio.get_running_loop()
        apply = Balancer.add if pod.endpoint else Balancer.remove
        for node in self._nodes:
            # Changes of one pod arrive in order.
            due = max(loop.time() + self._delay_s(), self._due.get((node, pod.address), 0.0))
            self._due[node, pod.address] = due
            loop.call_at(due, partial(apply, node, pod.address))


class Deployment:
    """The controller. `start_container` makes the container of a new pod from the pod's name."""

    def __init__(
        self, manifest: Manifest, service: Service, start_container: Callable[[str], GatewayContainer]
    ) -> None:
        spec = manifest["spec"]
        assert spec["strategy"]["type"] == "RollingUpdate"
        self._limits = spec["strategy"]["rollingUpdate"]
        self.replicas = int(spec["replicas"])
        self._min_ready_s = float(spec.get("minReadySeconds", 0))
        self._pod_spec = spec["template"]["spec"]
        self._service, self._start_container = service, start_container
        self.pods: list[Pod] = []
        """All pods of this Deployment, deleted ones included, oldest first."""
        self._revision = 0
        self._of_revision: dict[Pod, int] = {}
        self._leaving: list[asyncio.Task[None]] = []

    async def scale_up(self) -> None:
        """Start all pods of the first revision and wait until they are available."""
        for _ in range(self.replicas):
            self._start()
        while self._counts().available_new < self.replicas:
            self._check()
            await asyncio.sleep(LOOK_S)

    async def rollout_restart(self) -> None:
        """`kubectl rollout restart`, until `kubectl rollout status` would return; the last pod may still drain then."""
        self._revision += 1
        surge, unavailable = int(self._limits["maxSurge"]), int(self._limits["maxUnavailable"])
        while (counts := self._counts()).old or counts.available_new < self.replicas:
            self._check()
            step = next_step(self.replicas, surge, unavailable, counts)
            if step == "start":
                self._start()
            elif step == "stop":
                self.stop(self._next_to_go())
            await asyncio.sleep(LOOK_S)

    async def gone(self) -> None:
        """Wait until all terminating pods have ended."""
        await asyncio.gather(*self._leaving)

    def stop(self, pod: Pod) -> None:
        """Delete a pod."""
        self._leaving.append(spawn(pod.terminate(), f"termination of {pod.name}"))
        pod.terminating = True

    def _start(self) -> None:
        container = self._start_container(f"turnout-{self._revision}-{len(self.pods)}")
        pod = Pod(container, self._pod_spec, self._service.changed)
        self.pods.append(pod)
        self._of_revision[pod] = self._revision

    def _next_to_go(self) -> Pod:
        old = [pod for pod in self._staying() if self._of_revision[pod] < self._revision]
        return min(old, key=lambda pod: pod.endpoint)

    def _staying(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.terminating]

    def _counts(self) -> Counts:
        now = asyncio.get_running_loop().time()
        old: list[bool] = []
        new: list[bool] = []
        for pod in self._staying():
            (new if self._of_revision[pod] == self._revision else old).append(pod.available(self._min_ready_s, now))
        return Counts(len(old), len(new), sum(old), sum(new))

    def _check(self) -> None:
        for pod in self._staying():
            assert pod.container.process.poll() is None, f"{pod.name} {pod.killed}:\n{pod.container.words()}"
