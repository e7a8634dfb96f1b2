"""Fixtures of the tests with real clients: engines with an agent's context, a gateway before them, clients' homes.

Every client runs twice: against an engine, and against the gateway. What it prints must be the same.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.sim_process import SimPods, sim_pods

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
CLIENT_S = 200.0
"""Limit in seconds for one client, in case it hangs: some read hundreds of modules before they begin."""


class Clients(NamedTuple):
    """Where `make test-clients` put the clients, and a home directory for them."""

    python: Path
    node: Path
    home: Path

    def run(self, command: Sequence[str | Path], **environment: str) -> str:
        """The standard output of a client that must succeed. It sees no other variables than PATH and these."""
        done = subprocess.run(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), "NO_PROXY": "*", **environment},
            timeout=CLIENT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def seen(self, script: str, url: str, model: str, **environment: str) -> Mapping[str, Any]:
        """What the script of that name, Python or JavaScript, prints of the API at `url`."""
        runner = self.python / "python" if script.endswith(".py") else "node"
        folder = "python" if script.endswith(".py") else "node"
        output = self.run([runner, HERE / folder / script, url, model], **environment)
        seen: Mapping[str, Any] = json.loads(output.splitlines()[-1])
        return seen


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.clients)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def clients(tmp_path: Path) -> Clients:
    """The installed clients, each test with an empty home of its own."""
    found = Clients(ROOT / ".venv-clients/bin", HERE / "node/node_modules/.bin", tmp_path)
    missing = [str(path) for path in found[:2] if not path.exists()]
    if missing:
        advice = f"{' and '.join(missing)} are missing: run `make test-clients`"
        if os.environ.get("CI") == "true":
            pytest.fail(advice, pytrace=False)
        pytest.skip(advice)
    return found


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """Two simulated engines with the context that agents expect."""
    log = tmp_path_factory.mktemp("engines") / "engines.log"
    with sim_pods(2, log, "--profile", "agent", "--speed", "20") as pods:
        yield pods


@pytest.fixture(scope="session")
def gateway(engines: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway before them."""
    settings = config(engines.urls)
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        gateway.wait_until_ready()
        yield gateway
