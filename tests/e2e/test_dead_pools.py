"""Pools whose pods are all dead, or that have none: people, metrics, alerts and the log see it."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from loadtests.sim.ports import free_ports
from router.cli.main import main
from scripts.monitoring.alerts import ALERTS
from tests.fakes.gateway_process import GatewayProcess, config, pool, starting
from tests.fakes.prometheus_process import Prometheus
from tests.fakes.sim_process import sim_pods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

QUICK_PROBES = {"interval_s": 0.05, "timeout_s": 1.0}


def states(gateway: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """Pool and state of each line of `turnout pods`."""
    capsys.readouterr()
    assert main(["pods", "--control", str(gateway.control.base_url)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    at, end = head.index("STATE"), head.index("INFLIGHT")
    return sorted((line.split()[0], line[at:end].strip()) for line in lines)


@pytest.mark.parametrize(("count", "expected"), [(1, ["failing (kept)"]), (2, ["failing (kept)", "probe"])])
def test_a_pool_whose_pods_are_all_dead_is_seen_as_such(
    count: int, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case H 37."""
    dead = [f"http://127.0.0.1:{port}" for port in free_ports(count)]
    given = config((), pools=[pool("default", dead, models=["m"])], health=QUICK_PROBES)
    with starting(given, tmp_path) as gateway:
        gateway.wait_until_ready()
        seen = [("default", state) for state in expected]
        wait_for("the pods are seen as dead", lambda: states(gateway, capsys) == seen)
        pods = [url.removeprefix("http://") for url in dead]
        assert [gateway.metric("turnout_pod_routable", pod=pod) for pod in pods] == [0.0] * count
        assert sum(gateway.metric("turnout_pod_kept", pod=pod) for pod in pods) == 1
        assert httpx.get(f"{gateway.url}/readyz").status_code == 200, "the replica itself is well"
        ejected = [line["msg"] for line in gateway.lines() if " and is kept" in str(line.get("msg", ""))]
        assert len(ejected) == 1
        assert f"0 of {count} pods are well" in ejected[0]


def test_a_pool_without_pods_is_waited_for_and_then_shown_as_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Case H 38."""
    nowhere = {"discovery": {"source": "dns://nosuch.invalid:8000"}, "models": ["m"]}
    given = config((), pools=[{"name": "empty", **nowhere}], warmup_timeout_s=1.0)
    with starting(given, tmp_path) as gateway:
        gateway.wait_until_ready()
        state = gateway.control.get("/admin/state").json()
        assert (state["cold"], state["phase_seconds"]["warming"] >= 1.0) == (True, True)
        assert states(gateway, capsys) == [("empty", "no pods")]
        assert 'turnout_pool_pods{pool="empty"} 0.0' in gateway.control.get("/metrics").text
        assert gateway.metric("turnout_cold") == 1


@pytest.mark.needs("prometheus")
def test_the_alert_is_about_the_dead_and_the_empty_pool_and_no_other(tmp_path: Path) -> None:
    """Cases H 37 and H 38, by probes alone: no request is sent."""
    (alert,) = [alert.expr for alert in ALERTS if alert.name == "TurnoutNoPod"]
    dead = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    with sim_pods(1, tmp_path / "pods.log") as well:
        pools = [
            pool("well", well.urls, models=["m"]),
            pool("dead", dead, models=["n"]),
            {"name": "empty", "discovery": {"source": "dns://nosuch.invalid:8000"}, "models": ["o"]},
        ]
        with starting(config((), pools=pools, health=QUICK_PROBES, warmup_timeout_s=1.0), tmp_path / "a") as gateway:
            gateway.wait_until_ready()
            target = {"targets": [gateway.control.base_url.netloc.decode()]}
            # A scrape that takes longer counts as failed, and marks the series as gone.
            every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
            scrape = {"job_name": "turnout", "honor_labels": True, "static_configs": [target]}
            prometheus = Prometheus({"global": every, "scrape_configs": [scrape]}, tmp_path / "prometheus")
            try:
                wait_for("Prometheus is ready", prometheus.ready)

                def alerted() -> set[str]:
                    return {found["metric"]["pool"] for found in prometheus.query(alert)}

                wait_for("the alert has both pools", lambda: alerted() == {"dead", "empty"})
            finally:
                prometheus.stop()
