"""A gateway's container as the manifests define it (args, environment, mounted file, probes), run as a
process of this machine. Ports are replaced by free ones of 127.0.0.1, files go under a directory, and Redis' address
and the pools' source are the test's; nothing else is changed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from loadtests.sim.ports import HOST, free_ports
from tests.fakes.leaks import leaks_in_files
from tests.fakes.rendered_manifests import Manifest, Render
from tests.fakes.waiting import DEADLINE_S, wait_for

Configuration = dict[str, Any]


class Place(NamedTuple):
    """The directory, Redis and engines that a container uses on this machine."""

    directory: Path
    redis_port: int
    pods: Sequence[str]
    """Engines, as `http://host:port`, in place of discovery."""


def _as_rendered(config: Configuration) -> None:
    """No change."""


class GatewayContainer:
    """One container of one pod; started by its constructor."""

    def __init__(
        self, render: Render, pod_name: str, place: Place, change: Callable[[Configuration], None] = _as_rendered
    ) -> None:
        """`change` edits the configuration last, for example to shorten the drain."""
        self.name = pod_name
        self.spec: Manifest = render.container
        wanted = sorted(port["containerPort"] for port in self.spec["ports"])
        self.ports: Mapping[int, int] = dict(zip(wanted, free_ports(len(wanted)), strict=True))
        """The container's port -> this machine's port."""
        self._render = render
        file = place.directory / f"{pod_name}.yaml"
        config = self._moved(render, place)
        change(config)
        file.write_text(yaml.safe_dump(config))
        args = [str(file) if each == render.config_path() else each for each in self.spec["args"]]
        self.log = place.directory / f"{pod_name}.log"
        # A container gets the image's environment and not the caller's.
        environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        given = render.environment(pod_name)
        self._secrets = [value for name, value in given.items() if name.endswith(("TOKEN", "PASSWORD"))]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "router", *args],
                env=environment | given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _moved(self, render: Render, place: Place) -> Configuration:
        config: Configuration = yaml.safe_load(render.mounted(self.spec, render.config_path()))
        config["listen"] = self._moved_listen(config["listen"])
        config["control"]["listen"] = self._moved_listen(config["control"]["listen"])
        config["state"] = config["state"].replace("turnout-redis:6379", f"{HOST}:{place.redis_port}")
        assert str(place.redis_port) in config["state"]
        for at, pool in enumerate(config["pools"]):
            del pool["discovery"]
            # The engines are dealt to the pools in turn: a pod belongs to one pool.
            pool["pods"] = list(place.pods[at :: len(config["pools"])])
        return config

    def _moved_listen(self, listen: str) -> str:
        return f"{HOST}:{self.ports[int(listen.rpartition(':')[2])]}"

    def url(self, action: Manifest) -> str:
        """The URL on this machine for a probe's httpGet."""
        return f"http://{HOST}:{self.port(action['port'])}{action['path']}"

    def port(self, port: int | str) -> int:
        """The port on this machine for a port of the container, by number or name."""
        return self.ports[self._render.port_of(self.spec, port)]

    def ask(self, kind: str) -> int:
        """The status that a probe (`readinessProbe`, ...) gets with a long timeout; 0 if it gets no answer."""
        try:
            return httpx.get(
                self.url(self.spec[kind]["httpGet"]), trust_env=False, verify=False, timeout=DEADLINE_S
            ).status_code
        except httpx.TransportError:
            return 0

    def content(self, kind: str) -> bool:
        """Whether a probe succeeds. Fails with the end of the log if the process has ended."""
        assert self.process.poll() is None, self.words()
        return self.ask(kind) == 200

    def words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def end(self) -> None:
        """Make sure that the process and its children have ended. Asserts that its log has no secret."""
        if self.process.poll() is None:
            # It leads its own session, so its process group holds only the process and its children.
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(DEADLINE_S)
        found = leaks_in_files([self.log], self._secrets)
        assert found == [], found[:5]


class RedisContainer:
    """The Redis that a render starts, with its command and password. It listens once constructed; `end` stops it."""

    def __init__(self, render: Render, directory: Path, program: str, password: str = "made-up redis-password") -> None:
        workload = render.workload("turnout-redis")
        (spec,) = workload.containers
        self.port = free_ports(1)[0]
        shell, flag, script = spec["command"]
        started = f"{program} - --bind {HOST}"
        moved = {"redis-server -": started, "--port 6379": f"--port {self.port}", "/data": str(directory)}
        for there, here in moved.items():
            assert there in script
            script = script.replace(there, here)
        self.environment = {"PATH": os.environ["PATH"], "REDISCLI_AUTH": password}
        self.log = directory / "redis.log"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [shell, flag, script],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
            )
        wait_for(f"Redis listens on port {self.port}", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), DEADLINE_S):
            return True
        return False

    def end(self) -> None:
        """Make sure that the process has ended."""
        self.process.kill()
        self.process.wait(DEADLINE_S)
