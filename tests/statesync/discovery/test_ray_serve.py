"""The proxies of a Ray Serve application, from the answers of Ray's dashboard. Sleeps are recorded, not slept."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from statesync.discovery import PodTemplate
from statesync.discovery.known import LookupEmpty, LookupFailed, LookupFound
from statesync.discovery.ray_serve import PATH, RayServeSource, RayTarget, target_of
from statesync.errors import DiscoveryError
from tests.fakes.each_case import each_case
from tests.fakes.ray_dashboard import RayDashboard
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import DEADLINE_S

ROOT = Path(__file__).resolve().parents[3]
URL = "ray+http://head:8265/llm"


def look(dashboard: RayDashboard, template: PodTemplate | None = None) -> LookupFound | LookupEmpty | LookupFailed:
    return asyncio.run(RayServeSource(target_of(URL), dashboard.read, template=template).look())


def shown(dashboard: RayDashboard, template: PodTemplate | None = None) -> dict[str, str]:
    """Address -> why the pod is not ready."""
    found = look(dashboard, template)
    assert isinstance(found, LookupFound), found
    return {pod.address: pod.unready for pod in found.pods}


def test_what_ray_answers_gives_the_proxy_with_the_applications_prefix() -> None:
    dashboard = RayDashboard()
    assert shown(dashboard) == {"http://192.0.2.2:18123/llm": ""}
    assert dashboard.asked == [("head:8265", PATH, "")]


def test_an_application_at_the_root_has_no_prefix_and_pods_have_the_pools_values() -> None:
    dashboard = RayDashboard()
    dashboard.application["route_prefix"] = "/"
    assert shown(dashboard) == {"192.0.2.2:18123": ""}
    found = look(dashboard, PodTemplate(frozenset({"m"}), labels={"cluster": "west"}, tls=True, base="/v2"))
    assert isinstance(found, LookupFound)
    (pod,) = found.pods
    assert (pod.address, pod.models) == ("https://192.0.2.2:18123/v2", frozenset({"m"}))
    assert dict(pod.labels) == {"cluster": "west", "node": next(iter(dashboard.details["proxies"]))}


def test_a_proxy_that_drains_or_is_ill_keeps_its_streams_and_gets_no_more() -> None:
    dashboard = RayDashboard()
    dashboard.application["route_prefix"] = "/"
    dashboard.proxies(
        ip_10_0_0_1="HEALTHY", ip_10_0_0_2="DRAINING", ip_10_0_0_3="UNHEALTHY", ip_10_0_0_4="STARTING", ip_10_0_0_5="X"
    )
    assert shown(dashboard) == {
        "10.0.0.1:18123": "",
        "10.0.0.2:18123": "terminating",
        "10.0.0.3:18123": "not_ready",
    }


def test_an_ipv6_node_is_bracketed_and_the_port_is_rays_default_if_none_is_set() -> None:
    dashboard = RayDashboard()
    dashboard.application["route_prefix"] = "/"
    dashboard.details["http_options"] = {}
    dashboard.details["proxies"] = {"n": {"node_ip": "fd00::1", "status": "HEALTHY"}}
    assert shown(dashboard) == {"[fd00::1]:8000": ""}


@each_case("status", ["DEPLOYING", "UNHEALTHY", "DEPLOY_FAILED"])
def test_an_application_that_changes_stays_while_its_earlier_replicas_run(status: str) -> None:
    dashboard = RayDashboard()
    dashboard.application["status"] = status
    assert shown(dashboard)
    dashboard.application["deployments"]["F"] = {"replicas": [{"state": "STARTING"}]}
    assert isinstance(look(dashboard), LookupEmpty)


def test_an_application_that_served_stays_while_any_of_its_deployments_has_a_running_replica() -> None:
    dashboard = RayDashboard()
    source = RayServeSource(target_of(URL), dashboard.read)
    kinds = []
    for status, replicas in (
        ("DEPLOYING", []),
        ("RUNNING", []),
        ("DEPLOYING", []),
        ("UNHEALTHY", []),
        ("DELETING", []),
        ("DEPLOYING", []),
        ("DEPLOYING", [{"state": "RUNNING"}]),
    ):
        dashboard.application["status"] = status
        dashboard.application["deployments"]["added"] = {"replicas": replicas}
        kinds.append(isinstance(asyncio.run(source.look()), LookupFound))
    assert kinds == [False, True, True, True, False, False, True]
    dashboard.application["deployments"] = {}
    dashboard.application["status"] = "DEPLOY_FAILED"
    assert isinstance(asyncio.run(source.look()), LookupEmpty)


@each_case("earlier", ["DRAINING", "UNHEALTHY"])
def test_of_two_proxies_at_one_address_the_one_that_is_ready_counts(earlier: str) -> None:
    dashboard = RayDashboard()
    dashboard.application["route_prefix"] = "/"
    for states in ((earlier, "HEALTHY"), ("HEALTHY", earlier)):
        dashboard.details["proxies"] = {
            f"n{at}": {"node_ip": "10.0.0.1", "status": state} for at, state in enumerate(states)
        }
        found = look(dashboard)
        assert isinstance(found, LookupFound)
        assert [(pod.address, pod.unready) for pod in found.pods] == [("10.0.0.1:18123", "")]


def test_a_running_application_may_have_scaled_to_zero() -> None:
    dashboard = RayDashboard()
    dashboard.application["deployments"]["E"]["replicas"] = []
    assert shown(dashboard)


def no_application(dashboard: RayDashboard) -> None:
    dashboard.details["applications"] = {}


def no_serve(dashboard: RayDashboard) -> None:
    dashboard.details = {"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": None}


def renamed(dashboard: RayDashboard) -> None:
    dashboard.details["applications"] = {"chat": {}, "embed": {}}


def deleting(dashboard: RayDashboard) -> None:
    dashboard.application["status"] = "DELETING"


def failed(dashboard: RayDashboard) -> None:
    dashboard.application.update(status="DEPLOY_FAILED", message="no GPU", deployments={})


def unexposed(dashboard: RayDashboard) -> None:
    dashboard.application["route_prefix"] = None


def odd_prefix(dashboard: RayDashboard) -> None:
    dashboard.application["route_prefix"] = "/{tenant}"


def on_loopback(dashboard: RayDashboard) -> None:
    dashboard.details["http_options"] = {"host": "127.0.0.1"}


def no_proxies(dashboard: RayDashboard) -> None:
    dashboard.details["proxies"] = {}


@each_case(
    "change, why",
    [
        (no_application, "no application 'llm'; there are: none"),
        (no_serve, "no application 'llm'; there are: none"),
        (renamed, "no application 'llm'; there are: chat, embed"),
        (deleting, "application 'llm' is DELETING: "),
        (failed, "application 'llm' is DEPLOY_FAILED: no GPU"),
        (unexposed, "application 'llm' has route_prefix None; give it /"),
        (odd_prefix, "application 'llm' has route_prefix '/{tenant}'; give it /"),
        (on_loopback, "the proxies listen on 127.0.0.1; set Serve's http_options.host to 0.0.0.0"),
        (no_proxies, "Serve has no proxy: see its proxy_location"),
    ],
)
def test_an_answer_without_proxies_to_ask_says_why(change: Callable[[RayDashboard], None], why: str) -> None:
    dashboard = RayDashboard()
    change(dashboard)
    assert look(dashboard) == LookupEmpty(why)


@each_case(
    "page, error, why",
    [
        (b"<html>", None, "no answer of Ray Serve's: JSON is malformed"),
        (b"[]", None, "no answer of Ray Serve's: Expected `object`, got `array`"),
        (b'{"applications": {}}', None, "no answer of Ray Serve's: Object missing required field `proxies`"),
        (b'{"a":' * 100_000, None, "no answer of Ray Serve's: "),
        (b'{"proxies": {}, "applications": {"\xff": {}}}', None, "no answer of Ray Serve's: "),
        (None, DiscoveryError("status 503"), "status 503"),
        (None, TimeoutError(), "no answer within 5 s"),
        (None, ConnectionRefusedError("refused"), "refused"),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_information(page: bytes | None, error: Exception | None, why: str) -> None:
    dashboard = RayDashboard()
    dashboard.page, dashboard.error = page, error
    found = look(dashboard)
    assert isinstance(found, LookupFailed)
    assert found.why.startswith(f"dashboard head:8265: {why}"), found.why


def test_an_address_that_is_none_is_no_information() -> None:
    dashboard = RayDashboard()
    dashboard.details["proxies"] = {"n": {"node_ip": None, "status": "HEALTHY"}}
    found = look(dashboard)
    assert isinstance(found, LookupFailed)
    assert "no host" in found.why


@asynccontextmanager
async def running(dashboard: RayDashboard) -> AsyncIterator[tuple[Callable[[], Awaitable[float]], list[list[str]]]]:
    """A running source: a function that lets it look once more, and the lists that it sent."""
    clock, received = Clock(0.0), list[list[str]]()
    source = RayServeSource(target_of(URL), dashboard.read, sleep=clock.sleep, rng=lambda: 0.0)

    async def again() -> float:
        clock.now += await asyncio.wait_for(clock.until_asleep(), DEADLINE_S)
        return await asyncio.wait_for(clock.until_asleep(), DEADLINE_S)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(source.run(lambda pods: received.append([pod.address for pod in pods])))
        try:
            await clock.until_asleep()
            yield again, received
        finally:
            task.cancel()


def test_a_dashboard_that_is_gone_keeps_the_pods_and_an_application_that_is_gone_drops_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene() -> None:
        dashboard = RayDashboard()
        dashboard.application["route_prefix"] = "/"
        async with running(dashboard) as (again, received):
            dashboard.error = ConnectionRefusedError("refused")
            assert [await again() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
            dashboard.error = None
            dashboard.proxies(ip_10_0_0_1="HEALTHY", ip_10_0_0_2="HEALTHY")
            await again()
            dashboard.details["applications"] = {}
            assert [await again() for _ in range(2)] == [5.0, 5.0]
            assert received == [["192.0.2.2:18123"], ["10.0.0.1:18123", "10.0.0.2:18123"]]
            await again()
            assert received[2:] == [[]]

    with caplog.at_level(logging.WARNING, "turnout.discovery"):
        asyncio.run(scene())
    assert caplog.messages[0] == (
        "discovery of llm in Ray Serve: look failed, keeping 1 known pods: dashboard head:8265: refused"
    )


@each_case(
    "url, target",
    [
        (URL, RayTarget("head:8265", "llm")),
        ("ray+http://head/llm", RayTarget("head:8265", "llm")),
        ("ray+http://[fd00::1]:80/llm", RayTarget("[fd00::1]:80", "llm")),
        ("ray+http://[fd00::1]/llm", RayTarget("[fd00::1]:8265", "llm")),
        ("ray+https://ray.example/west/a%2Fb", RayTarget("https://ray.example:443/west", "a/b")),
        (f"{URL}?token_file=/run/ray%20token", RayTarget("head:8265", "llm", "/run/ray token")),
    ],
)
def test_a_url_names_dashboard_application_and_token(url: str, target: RayTarget) -> None:
    assert target_of(url) == target


@each_case(
    "url, why",
    [
        ("ray+http://head:8265", "which application"),
        ("ray+http://head:8265/", "which application"),
        ("ray+http:///llm", "which application"),
        (f"{URL}?token=a", "unknown parameter 'token'"),
        (f"{URL}#x", "write %23 for #"),
        ("ray+http://head:x/llm", "Port could not be cast"),
        ("ray+http://[fd/llm", "Invalid IPv6"),
        ("ray+http://he ad/llm", "neither a host name nor an IP address"),
    ],
)
def test_a_url_that_names_none_says_what_to_write(url: str, why: str) -> None:
    with pytest.raises(DiscoveryError) as raised:
        target_of(url)
    assert why in str(raised.value)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(DiscoveryError, match=r"token_file") as raised:
        target_of("ray+http://user:secret@head/llm")
    assert "secret@" not in str(raised.value)


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_running_ray_is_discovered(tmp_path: Path) -> None:
    (token := tmp_path / "token").write_text("a1b2" * 16)
    environ = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    done = subprocess.run(
        [ROOT / ".venv-ray" / "bin" / "python", "-m", "tests.ray.python.discover"],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    # Ray may write on after it.
    (line,) = [each for each in done.stdout.splitlines() if each.startswith('{"port"')]
    found = json.loads(line)
    (prefixed,), (plain,) = found["/llm"]["pods"], found["/"]["pods"]
    assert prefixed == f"http://{plain}/llm"
    assert plain.endswith(f":{found['port']}")
    assert (found["/llm"]["answer"], found["/"]["answer"]) == ("here is /llm/v1/x", "here is /v1/x")
    assert found["stranger"]["why"].endswith("status 401; write ?token_file=FILE")
    assert found["before"]["why"] == found["after"]["why"] == "no application 'llm'; there are: none"
