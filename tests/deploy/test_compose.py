"""deploy/compose: the properties of the file, and its services run without containers: started in the file's order,
checked by its health checks, used through its HAProxy; a gateway stops and returns under load without a failure.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from loadtests.sim.ports import HOST
from loadtests.upgrade.load import Load, Mix
from tests.fakes.compose_stack import COMPOSE, FILE, SERVICES, Composed, depends_on, in_order, interpolated
from tests.fakes.each_case import each_case
from tests.fakes.waiting import DEADLINE_S, wait_for

HERE = [name for name in in_order() if name != "grafana"]
"""No distribution packages Grafana, so its files are checked and it is not started."""

MIX = Mix(talkers=4, askers=6, listeners=12, long_tokens=600, ramp_s=1.0)


def seconds(text: str) -> float:
    """A duration of the file; all are in seconds."""
    assert text.endswith("s")
    return float(text[:-1])


@pytest.mark.slow
@pytest.mark.needs("docker-compose")
def test_compose_accepts_the_file() -> None:
    # Debian's Compose is older than the key for the project's name, and accepts everything else.
    text = re.sub(r"^name: .*\n", "", FILE.read_text(), flags=re.MULTILINE)
    command = ["docker-compose", "--file", "-", "--project-directory", str(FILE.parent), "config"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)


@each_case("name", SERVICES)
def test_every_service_is_pinned_and_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"(docker\.io|localhost)/[\w./-]+:v?\d+\.\d+\.\d+(-\w+)?", service["image"])
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


@each_case("name", SERVICES)
def test_a_service_waits_for_existing_services_until_they_are_healthy(name: str) -> None:
    for other, how in depends_on(name).items():
        assert how == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[other]


@each_case("name", SERVICES)
def test_every_mounted_file_exists_and_is_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, *mode = volume.split(":")
        if source.startswith("."):
            assert (FILE.parent / source).is_file()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


def test_the_grace_period_is_longer_than_a_drain() -> None:
    drain = yaml.safe_load((FILE.parent / "turnout.yaml").read_text())["drain"]
    longest = drain["settle_s"] + drain["timeout_s"]
    haproxy = (FILE.parent / "haproxy.cfg").read_text()
    hard_stop = re.search(r"hard-stop-after (\w+)", haproxy)
    assert hard_stop is not None
    for name in ("gateway-a", "gateway-b", "haproxy"):
        assert seconds(SERVICES[name]["stop_grace_period"]) > longest
    assert longest < seconds(hard_stop[1]) < seconds(SERVICES["haproxy"]["stop_grace_period"])


def test_only_the_inference_port_can_be_reached_from_other_machines() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["8000:8000"]


def test_grafana_finds_its_dashboard_and_its_data_source() -> None:
    def provisioned(name: str, key: str) -> dict[str, Any]:
        (only,) = yaml.safe_load((FILE.parent / "grafana" / name).read_text())[key]
        return dict(only)

    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    board = mounts["../grafana/turnout.json"]
    assert provisioned("dashboards.yaml", "providers")["options"]["path"] == str(Path(board).parent)
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == board
    source = provisioned("datasources.yaml", "datasources")
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Composed]:
    """All services but Grafana, started one after the other, each when its dependencies are healthy."""
    made = Composed(tmp_path)
    try:
        for name in HERE:
            for other in depends_on(name):
                until_healthy(made, other)
            made.start(name)
        for name in HERE:
            until_healthy(made, name)
        yield made
    finally:
        made.stop()


def until_healthy(stack: Composed, name: str) -> None:
    """Whether the service's own health check passes."""
    wait_for(f"{name} is healthy", lambda: stack.healthy(name))


@pytest.mark.realtime
@pytest.mark.needs("haproxy", "prometheus", "redis-server", "wget")
def test_its_services_serve_and_a_gateway_stops_and_returns_under_load(stack: Composed) -> None:
    models = httpx.get(
        f"http://{HOST}:{stack.port('haproxy', 8000)}/v1/models", trust_env=False, verify=False, timeout=DEADLINE_S
    ).json()
    assert [model["id"] for model in models["data"]] == ["sim-model"]
    assert state(stack, "gateway-b")["replica"] == "gateway-b"
    wait_for("Prometheus reads all", lambda: targets(stack) == {"turnout": 2, "engines": 4})

    load = asyncio.run(under_load(stack))

    faults = Counter(record.fault for record in load.records)
    assert set(faults) == {""}, faults


async def under_load(stack: Composed) -> Load:
    """Requests through HAProxy while gateway-a drains, is stopped, and returns."""
    load = Load(HOST, stack.port("haproxy", 8000), MIX)

    def answered(*names: str) -> Callable[[], bool]:
        since = len(load.records)
        return lambda: {record.replica for record in load.records[since:]} >= set(names)

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        await asyncio.to_thread(wait_for, "both answer", answered("gateway-a", "gateway-b"))
        await asyncio.to_thread(wait_for, "long streams are open", lambda: load.open["long"] == MIX.listeners)
        stack.processes["gateway-a"].terminate()
        await asyncio.to_thread(wait_for, "gateway-a has left", stack.processes["gateway-a"].ended)
        assert stack.processes["gateway-a"].exit_status == 0
        stack.start("gateway-a")
        await asyncio.to_thread(wait_for, "it answers again", answered("gateway-a"))
        await asyncio.to_thread(wait_for, "there were many requests", lambda: len(load.records) > 100)
        load.no_more.set()
    return load


def state(stack: Composed, name: str) -> dict[str, Any]:
    """GET /admin/state of a gateway, with the token of its environment."""
    token = interpolated(SERVICES[name]["environment"]["TURNOUT_CONTROL_TOKEN"])
    url = f"http://{HOST}:{stack.port(name, 9000)}/admin/state"
    answer = httpx.get(
        url, headers={"authorization": f"Bearer {token}"}, trust_env=False, verify=False, timeout=DEADLINE_S
    )
    return dict(json.loads(answer.raise_for_status().text))


def targets(stack: Composed) -> dict[str, int]:
    """Healthy targets of Prometheus by job."""
    url = f"http://{HOST}:{stack.port('prometheus', 9090)}/api/v1/targets"
    found = httpx.get(url, trust_env=False, verify=False, timeout=DEADLINE_S).json()["data"]["activeTargets"]
    return dict(Counter(target["labels"]["job"] for target in found if target["health"] == "up"))
