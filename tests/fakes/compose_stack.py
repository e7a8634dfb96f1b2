"""deploy/compose/compose.yaml run without containers: each service's own command, environment and mounted files, with
host names and ports moved to free ports of this machine. All properties of a service come from the file.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST, free_ports, neighbouring_ports
from tests.fakes.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/compose/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

PORTS: Mapping[str, tuple[int, ...]] = {
    "redis": (6379,),
    "engines": (8100, 8101, 8102, 8103),
    "gateway-a": (8000, 9000),
    "gateway-b": (8000, 9000),
    "haproxy": (8000, 8404),
    "prometheus": (9090,),
    "grafana": (3000,),
}
"""The port on which each service listens inside its container."""

ENTRY_POINTS: Mapping[str, list[str]] = {
    "localhost/turnout": [sys.executable, "-P", "-m", "router"],
    "docker.io/prom/prometheus": ["prometheus"],
}
"""The entry point of each image that has one."""

_ADDRESS = re.compile(r"\b([a-z][a-z-]*|0\.0\.0\.0|127\.0\.0\.1):(\d{4})\b")


def in_order() -> list[str]:
    """The services, ordered so that each comes after those it depends on."""
    done: list[str] = []
    while len(done) < len(SERVICES):
        ready = [name for name in SERVICES if name not in done and set(depends_on(name)) <= set(done)]
        assert ready, "services wait for each other"
        done += ready
    return done


def depends_on(name: str) -> dict[str, dict[str, str]]:
    """The services it depends on, and the condition each must have reached."""
    return dict(SERVICES[name].get("depends_on", {}))


def interpolated(text: str) -> str:
    """`${NAME:-default}` as Compose fills it in where NAME is not set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


class Composed:
    """The services of the file as processes. `start` them in any order that their dependencies allow."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = {name: dict(zip(ports, _free(len(ports)), strict=True)) for name, ports in PORTS.items()}
        self._mounted: dict[str, dict[str, Path]] = {}
        self.processes: dict[str, Owned] = {}

    def port(self, name: str, inside: int) -> int:
        """The port of this machine that replaces the service's port."""
        return self._ports[name][inside]

    def moved(self, name: str, text: str) -> str:
        """`text` of that service with every address replaced; 0.0.0.0 and 127.0.0.1 mean the service itself."""

        def moved(found: re.Match[str]) -> str:
            host, port = found[1], int(found[2])
            owner = host if host in self._ports else name
            known = self._ports[owner].get(port)
            return f"{HOST}:{known}" if known else found[0]

        return _ADDRESS.sub(moved, text)

    def _mount(self, name: str) -> dict[str, Path]:
        """Path inside the container -> its replacement: a copy of the file with addresses replaced, or a directory."""
        found = {}
        for volume in SERVICES[name].get("volumes", []):
            source, inside, *_ = volume.split(":")
            found[inside] = self._directory / name / inside.lstrip("/")
            if source.startswith("."):
                found[inside].parent.mkdir(parents=True, exist_ok=True)
                found[inside].write_text(self.moved(name, (FILE.parent / source).read_text()))
            else:
                found[inside].mkdir(parents=True, exist_ok=True)
        for target in filter(Path.is_file, found.values()):
            # A file may name another by its path in the container, as prometheus.yml names its rules.
            target.write_text(_in_place_of(found, target.read_text()))
        return found

    def words(self, name: str, command: list[str]) -> list[str]:
        """A command line of that service, changed so that it runs on this machine."""
        if name not in self._mounted:
            self._mounted[name] = self._mount(name)
        mounted = self._mounted[name]
        numbers = {str(inside): str(here) for inside, here in self._ports[name].items()} | {"0.0.0.0": HOST}
        words = [_in_place_of(mounted, self.moved(name, str(word))) for word in command]
        return [numbers.get(word, word) for word in words]

    def start(self, name: str) -> Owned:
        """Start the service's process; the file's environment is added to that of this process."""
        service = SERVICES[name]
        env = {key: interpolated(str(value)) for key, value in service.get("environment", {}).items()}
        entry = ENTRY_POINTS.get(service["image"].partition(":")[0], [])
        command = [*entry, *self.words(name, service["command"])]
        words = ["env", *(f"{key}={value}" for key, value in env.items()), found(command[0]), *command[1:]]
        self.processes[name] = Owned(words, ANY_CORE, self._directory / f"{name}.log")
        return self.processes[name]

    def healthy(self, name: str) -> bool:
        """Run the service's health check once. Raises AssertionError with the log's end if the service has ended."""
        process = self.processes[name]
        assert not process.ended(), f"{name} ended:\n{process.log.read_text()[-2000:]}"
        kind, *words = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        words = self.words(name, words)
        return subprocess.run([found(words[0]), *words[1:]], capture_output=True, timeout=DEADLINE_S).returncode == 0

    def stop(self) -> None:
        """Stop all services, the last started first."""
        for process in reversed(self.processes.values()):
            process.stop()


def _free(count: int) -> Iterator[int]:
    return iter(free_ports(count) if count == 1 else neighbouring_ports(count))


def _in_place_of(mounted: Mapping[str, Path], text: str) -> str:
    """`text` with mounted paths replaced where a whole path matches."""
    for inside, target in mounted.items():
        text = re.sub(rf"(?<![\w./-]){re.escape(inside)}(?![\w/-])", str(target), text)
    return text


def found(program: str) -> str:
    """The path of the program on this machine, or its bare name; `python` is the running interpreter."""
    if program == "python":
        return sys.executable
    return shutil.which(program) or shutil.which(program, path="/usr/sbin") or program
