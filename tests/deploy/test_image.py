"""The image that `make image-test` has built: its content, and that it starts, serves and drains.

It runs by buildah in a chroot with this machine's network, as it would in a container: with its own user, command and
health check.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST, free_ports
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

IMAGE = os.environ.get("TURNOUT_IMAGE", "")
CACHE = Path(__file__).resolve().parents[2] / ".cache/image"
BUILDAH_S = 240.0
"""Seconds for one command. Only a command that hangs reaches it."""
LARGEST_BYTES = 300 * 2**20
"""Limit for what the image adds to its base."""

pytestmark = pytest.mark.skipif(not IMAGE, reason="`make image-test` builds an image and runs this")


def buildah(*words: str) -> list[str]:
    """A command on the storage that scripts/image-build uses."""
    driver = os.environ.get("STORAGE_DRIVER", "")
    storage = ["--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run")]
    return ["buildah", *storage, *(["--storage-driver", driver] if driver else []), *words]


def output(*words: str) -> str:
    """The output of such a command."""
    done = subprocess.run(buildah(*words), capture_output=True, text=True, timeout=BUILDAH_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Container:
    """A container of the image."""

    def __init__(self) -> None:
        self.name = output("from", "--pull-never", IMAGE)
        self.root = Path(output("mount", self.name))

    def command(self, *words: str) -> list[str]:
        """Run `words` in it, as its user."""
        return buildah("run", "--isolation", "chroot", self.name, "--", *words)

    def run(self, *words: str) -> str:
        """The output of `words` in it."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=BUILDAH_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def remove(self) -> None:
        """Remove it completely."""
        output("umount", self.name)
        output("rm", self.name)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """One container for all tests."""
    made = Container()
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """The image's own configuration."""
    return dict(json.loads(output("inspect", "--type", "image", IMAGE))["Docker"]["config"])


def test_it_is_the_compiled_build_without_a_compiler(container: Container) -> None:
    assert container.run("python", "-c", "import router.dataplane.gateway as g; print(g.__file__)").endswith(".so")
    assert not [tool for tool in ("gcc", "cc", "ld") if (container.root / "usr/bin" / tool).exists()]


def test_its_user_is_not_root_and_cannot_write_to_the_image(container: Container) -> None:
    assert container.run("id", "-u") == "10001"
    command = container.command("touch", "/opt/turnout/bin/x")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=BUILDAH_S)
    assert "denied" in refused.stderr


def test_it_is_small(container: Container) -> None:
    size = sum(path.lstat().st_size for path in (container.root / "opt/turnout").rglob("*"))
    assert size < LARGEST_BYTES


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[SimPods]:
    """One simulated pod outside the container."""
    with sim_pods(1, tmp_path / "pods.log", "--profile", "tiny") as made:
        yield made


def test_it_starts_serves_is_healthy_and_drains(
    container: Container, settings: dict[str, Any], pods: SimPods, tmp_path: Path
) -> None:
    inference, control = free_ports(2)
    given = {
        "listen": f"{HOST}:{inference}",
        "control": {"listen": f"{HOST}:{control}"},
        "pools": [{"name": "default", "pods": pods.urls}],
        "drain": {"settle_s": 0.0, "timeout_s": 60.0},
    }
    file = container.root / "etc/turnout/turnout.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(given))
    url = f"http://{HOST}:{inference}"

    with Owned(container.command(*settings["Entrypoint"], *settings["Cmd"]), ANY_CORE, tmp_path / "image.log") as run:
        wait_for("it is ready", lambda: answers(f"{url}/readyz"))
        body = {"model": MODEL, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}]}
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, trust_env=False, timeout=DEADLINE_S)
        assert answer.json()["usage"]["completion_tokens"] == 4

        kind, *check = settings["Healthcheck"]["Test"]
        assert kind == "CMD"
        container.run(*(word.replace("127.0.0.1:8000", f"{HOST}:{inference}") for word in check))

        assert httpx.post(f"http://{HOST}:{control}/admin/drain", trust_env=False).status_code == 202
        wait_for("it has ended", run.ended)
        assert run.exit_status == 0, run.log.read_text()


def answers(url: str) -> bool:
    """Whether the URL answers with success."""
    try:
        return httpx.get(url, trust_env=False, timeout=DEADLINE_S).status_code == 200
    except httpx.TransportError:
        return False
