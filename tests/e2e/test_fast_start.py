"""Case I 51: a replica that joins others is ready without a probe of its own, however many pods there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from statesync.store.redis.keys import RedisKeys
from statesync.store.redis.messages import MessageDecoder
from statesync.store.redis.presence import read_pools
from tests.fakes.gateway_process import PATIENT_SYNC, GatewayProcess, config, running
from tests.fakes.many_pods import HEALTH, ManyPods, many_pods
from tests.fakes.redis_server import RedisServer, redis_server
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

SYNC = PATIENT_SYNC | {"lease_s": 10.0}
"""Beats every two seconds."""


def settings(pods: ManyPods, server: RedisServer, name: str) -> dict[str, Any]:
    return config(pods.urls, state=f"redis://127.0.0.1:{server.port}", replica=name, sync=SYNC)


def shared(server: RedisServer, name: str) -> int:
    """Pods of which it stands in Redis what a replica's probes say and which models they list."""
    with redis.Redis(port=server.port) as link:
        fields: dict[bytes, bytes] = link.hgetall(RedisKeys("turnout").pods(name))
    pods = read_pools(MessageDecoder(), fields).get("default", {})
    return sum(each.well is not None and each.models is not None for each in pods.values())


def routable(gateway: GatewayProcess) -> set[str]:
    return {str(pod["address"]).partition(":")[0] for pod in gateway.pods() if pod["routable"]}


def joins_without_a_probe_of_its_own(count: int, directory: Path) -> None:
    """The pods answer the first replica, and then neither probes nor readings of models. A tenth of them fail."""
    with redis_server() as server, many_pods(count) as pods:
        pods.failing = frozenset(pods.hosts[::10])
        well = set(pods.hosts) - pods.failing
        with running(settings(pods, server, "first"), directory / "first") as first:
            wait_for("the first has probed all", lambda: routable(first) == well)
            wait_for("what it knows is shared", lambda: shared(server, "first") == count)
            pods.silent = True
            with running(settings(pods, server, "second"), directory / "second") as second:
                state = second.control.get("/admin/state").raise_for_status().json()
                assert (state["cold"], state["waits_for"]) == (False, [])
                assert routable(second) == well
                listed = httpx.get(f"{second.url}/v1/models", trust_env=False).raise_for_status().json()["data"]
                assert [each["id"] for each in listed] == ["bench"]
                blocked = [pod for pod in second.pods() if not pod["routable"]]
                assert all("probe" in pod["blockers"] for pod in blocked)
                # Those that fail elsewhere are probed first.
                before = sum(pods.asked[host, HEALTH] for host in pods.failing)
                wait_for(
                    "it probes those that fail",
                    lambda: sum(pods.asked[host, HEALTH] for host in pods.failing) > before,
                )
                pods.silent = False


def test_a_replica_that_joins_is_ready_by_the_probes_of_the_others(tmp_path: Path) -> None:
    joins_without_a_probe_of_its_own(300, tmp_path)


@pytest.mark.realtime
def test_a_replica_that_joins_is_ready_by_the_probes_of_the_others_with_5_000_pods(tmp_path: Path) -> None:
    joins_without_a_probe_of_its_own(5_000, tmp_path)
