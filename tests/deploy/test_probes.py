"""The rendered probes against the rendered container at each stage of a replica's life, and the other commands that run
in a container: Redis' arguments, the engines' preStop hook.
"""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.sim.ports import HOST
from tests.fakes.gateway_container import GatewayContainer, Place, RedisContainer
from tests.fakes.programs import need
from tests.fakes.rendered_manifests import KUBERNETES, OVERLAYS, render
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

DRAIN = KUBERNETES / "components" / "engine-drain" / "drain.py"
pytestmark = pytest.mark.slow

# At ten tokens a second, longer than any test here.
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Write me a story."}],
    "max_tokens": 1000,
    "ignore_eos": True,
    "stream": True,
}
QUICK = ("quickstart",)
"""Overlays that are started in `make test`; tests/deploy/test_kustomize.py reads all overlays."""
PATIENT = {"warmup_timeout_s": 600}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    with sim_pods(2, tmp_path_factory.mktemp("sims") / "sims.log", "--profile", "paced") as pods:
        yield pods


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisContainer]:
    server = RedisContainer(render("quickstart"), tmp_path_factory.mktemp("redis"), need("redis-server"))
    try:
        yield server
    finally:
        server.end()


@contextmanager
def started(overlay: str, place: Place, name: str = "", **sections: dict[str, Any]) -> Iterator[GatewayContainer]:
    """A container for the block, after its startup probe has passed; `sections` override its configuration."""

    def change(config: dict[str, Any]) -> None:
        for section, fields in sections.items():
            config[section] = config.get(section, {}) | fields

    container = GatewayContainer(render(overlay), name or f"turnout-{overlay}-x2x4z", place, change)
    try:
        wait_for("the startup probe is content", lambda: container.content("startupProbe"))
        yield container
    finally:
        container.end()


def state(container: GatewayContainer) -> dict[str, Any]:
    """GET /admin/state."""
    url = f"http://127.0.0.1:{container.port('control')}/admin/state"
    token = {"authorization": "Bearer made-up control-token"}
    said: dict[str, Any] = (
        httpx.get(url, headers=token, trust_env=False, verify=False, timeout=DEADLINE_S).raise_for_status().json()
    )
    return said


def ask_instead(container: GatewayContainer, kind: str, **action: str) -> int:
    """The answer that a wrong probe gets."""
    right = container.spec[kind]["httpGet"]
    container.spec[kind]["httpGet"] = {**right, **action}
    try:
        return container.ask(kind)
    finally:
        container.spec[kind]["httpGet"] = right


@pytest.mark.parametrize(
    "overlay", [each if each in QUICK else pytest.param(each, marks=pytest.mark.realtime) for each in OVERLAYS]
)
def test_the_container_gets_ready_with_its_ports_and_secrets(
    overlay: str, tmp_path: Path, engines: SimPods, redis: RedisContainer
) -> None:
    with started(overlay, Place(tmp_path, redis.port, engines.urls)) as container:
        wait_for("the readiness probe is content", lambda: container.content("readinessProbe"))
        assert container.ask("livenessProbe") == 200
        said = state(container)
        assert said["state"]["connected"]
        assert said["replica"] == container.name
        control = f"http://127.0.0.1:{container.port('control')}"
        assert httpx.get(f"{control}/metrics", trust_env=False, verify=False, timeout=DEADLINE_S).status_code == 200, (
            "Prometheus has no token"
        )
        assert httpx.get(f"{control}/admin/pods", trust_env=False, verify=False, timeout=DEADLINE_S).status_code == 401


def test_readiness_ends_at_once_when_the_replica_drains_and_liveness_stays(
    tmp_path: Path, engines: SimPods, redis: RedisContainer
) -> None:
    place = Place(tmp_path, redis.port, engines.urls[:1])
    with started("base", place, "turnout-settles", drain={"settle_s": 600}) as container:
        wait_for("ready", lambda: container.content("readinessProbe"))
        container.process.terminate()
        wait_for("it settles", lambda: state(container)["phase"] == "settling")
        assert [container.ask(kind) for kind in ("readinessProbe", "livenessProbe")] == [503, 200]
        assert ask_instead(container, "readinessProbe", path="/livez") == 200, "as in charts that never unready"


def test_liveness_stays_until_the_last_stream_has_ended(
    tmp_path: Path, engines: SimPods, redis: RedisContainer
) -> None:
    place = Place(tmp_path, redis.port, engines.urls[:1])
    with started("base", place, "turnout-drains", drain={"settle_s": 0}) as container:
        wait_for("ready", lambda: container.content("readinessProbe"))
        url = f"http://127.0.0.1:{container.port('inference')}/v1/chat/completions"
        with (
            httpx.Client(trust_env=False, verify=False, timeout=DEADLINE_S) as client,
            client.stream("POST", url, json=LONG, timeout=DEADLINE_S) as stream,
        ):
            lines = stream.iter_lines()
            next(lines)
            container.process.terminate()
            wait_for("it drains", lambda: state(container)["phase"] == "draining")
            # The inference port is closed by now, the stream goes on, and the replica must not be killed.
            assert [container.ask(kind) for kind in ("readinessProbe", "livenessProbe")] == [0, 200]
            assert ask_instead(container, "livenessProbe", port="inference") == 0, "there it would be killed"
            assert any(lines)
        # The last client has disconnected, so the drain ends.
        assert container.process.wait(DEADLINE_S) == 0, container.words()


def test_a_replica_that_is_still_cold_is_alive_and_not_ready(tmp_path: Path) -> None:
    # A Redis that accepts connections and never answers.
    with socket.create_server((HOST, 0)) as mute:
        place = Place(tmp_path, mute.getsockname()[1], ["http://127.0.0.1:9"])
        container = GatewayContainer(render("base"), "turnout-x", place, lambda config: config.update(PATIENT))
        try:
            wait_for("it has started", lambda: container.content("startupProbe"))
            assert container.ask("readinessProbe") == 503
            assert container.ask("livenessProbe") == 200
        finally:
            container.end()


@pytest.mark.realtime
def test_a_killed_container_returns_under_its_name(tmp_path: Path, engines: SimPods, redis: RedisContainer) -> None:
    place = Place(tmp_path, redis.port, engines.urls)
    for _ in range(2):
        # The kubelet restarts it in the same pod, before the lease of its predecessor expires.
        with started("quickstart", place, sync={"lease_s": 2.0}) as container:
            wait_for("ready", lambda: container.content("readinessProbe"))
            assert state(container)["replica"] == container.name


def test_of_two_clusters_the_near_one_answers_unless_the_other_is_named_or_the_near_one_fails(
    tmp_path: Path, engines: SimPods, redis: RedisContainer
) -> None:
    east, west = engines.addresses

    def pod_for(**headers: str) -> str:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi."}], "max_tokens": 1}
        url = f"http://127.0.0.1:{container.port('inference')}/v1/chat/completions"
        answer = httpx.post(
            url, json=body, headers=headers, trust_env=False, verify=False, timeout=DEADLINE_S
        ).raise_for_status()
        return str(answer.headers["x-turnout-pod"])

    with started("multi-cluster", Place(tmp_path, redis.port, engines.urls)) as container:
        wait_for("ready", lambda: container.content("readinessProbe"))
        assert pod_for() == east
        assert pod_for(**{"x-turnout-cluster": "west"}) == west
        engines.fault(east, "refuse")
        try:
            assert pod_for() == west
        finally:
            engines.well()


def test_the_probe_of_redis_passes_with_the_redis_that_is_started(redis: RedisContainer) -> None:
    (spec,) = render("quickstart").workload("turnout-redis").containers
    for kind in ("startupProbe", "readinessProbe"):
        command = [each.replace("redis-cli", f"redis-cli -p {redis.port}") for each in spec[kind]["exec"]["command"]]
        asked = subprocess.run(command, env=redis.environment, capture_output=True, text=True, timeout=DEADLINE_S)
        assert asked.returncode == 0, asked.stdout + asked.stderr
        bare = {"PATH": redis.environment["PATH"]}
        locked_out = subprocess.run(command, env=bare, capture_output=True, timeout=DEADLINE_S)
        assert locked_out.returncode != 0


@pytest.mark.parametrize("password", ["plain", 'with "quotes", \\ and spaces', "$(id) `id` $HOME %s"])
def test_redis_gets_its_password_whole_and_no_process_shows_it(password: str, tmp_path: Path) -> None:
    """Case H 41."""
    server = RedisContainer(render("quickstart"), tmp_path, need("redis-server"), password)
    try:
        arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode()
        assert password not in arguments and "requirepass" not in arguments
        ask = ["redis-cli", "-p", str(server.port), "ping"]
        assert subprocess.run(ask, env=server.environment, capture_output=True, text=True).stdout == "PONG\n"
        without = {"PATH": server.environment["PATH"]}
        assert "NOAUTH" in subprocess.run(ask, env=without, capture_output=True, text=True).stdout
    finally:
        server.end()


def test_an_engine_s_hook_waits_for_its_last_stream(engines: SimPods) -> None:
    hook = [sys.executable, str(DRAIN)]
    address = engines.addresses[1]
    url = f"http://{address}/v1/chat/completions"
    with (
        httpx.Client(trust_env=False, verify=False, timeout=DEADLINE_S) as client,
        client.stream("POST", url, json=LONG, timeout=DEADLINE_S) as stream,
    ):
        lines = stream.iter_lines()  # kept, because a garbage-collected generator closes the stream
        next(lines)
        waiting = subprocess.Popen([*hook, f"http://{address}/metrics", "0"])
        try:
            seen = engines.state(address)["requests"]
            # The hook polls and does not return.
            wait_for("it has looked three times", lambda: engines.state(address)["requests"] >= seen + 3)
            assert waiting.poll() is None
            stream.close()
            assert waiting.wait(DEADLINE_S) == 0
        finally:
            waiting.kill()
            waiting.wait(DEADLINE_S)


def test_an_engine_s_hook_counts_running_and_waiting_requests_of_vllm_and_sglang() -> None:
    count = runpy.run_path(str(DRAIN))["open_requests"]
    vllm = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_waiting{engine="0"} 1.0\n'
    by_reason = 'vllm:num_requests_waiting_by_reason{reason="capacity"} 1.0\n'
    sglang = (
        '# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs{tp_rank="0"} 3.0\nsglang:num_queue_reqs 1e1\n'
    )
    assert [count(text) for text in (vllm, vllm + by_reason, sglang, "")] == [3.0, 3.0, 13.0, 0.0]


def test_an_engine_s_hook_ends_when_the_engine_has_ended() -> None:
    hook = [sys.executable, str(DRAIN)]
    assert (
        subprocess.run([*hook, "http://127.0.0.1:9/metrics", "0"], capture_output=True, timeout=DEADLINE_S).returncode
        == 0
    )
