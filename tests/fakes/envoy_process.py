"""The real Envoy with endpoint pickers, as docs/endpoint-picker.md says to configure it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from loadtests.sim.ports import HOST, free_ports
from tests.fakes.waiting import DEADLINE_S, wait_for

_TYPE: Final = "type.googleapis.com/envoy."


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{_TYPE}{name}", **fields}


def _policy(name: str, **fields: Any) -> dict[str, Any]:
    """A load balancing policy of Envoy's."""
    message = "".join(word.capitalize() for word in name.split("_"))
    config = _typed(f"extensions.load_balancing_policies.{name}.v3.{message}", **fields)
    named = {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}
    return {"policies": [{"typed_extension_config": named}]}


def _cluster(name: str, addresses: Sequence[str], **fields: Any) -> dict[str, Any]:
    parts = [address.rpartition(":") for address in addresses]
    sockets = [{"socket_address": {"address": host, "port_value": int(port)}} for host, _, port in parts]
    ends = [{"endpoint": {"address": each}} for each in sockets]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": ends}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment, **fields}


def _picker_cluster(pickers: Sequence[str]) -> dict[str, Any]:
    http2 = _typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}}
    )
    check = {
        "timeout": "5s",
        "interval": "0.1s",
        "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "grpc_health_check": {"service_name": "envoy.service.ext_proc.v3.ExternalProcessor"},
    }
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2}
    return _cluster("pickers", pickers, typed_extension_protocol_options=options, health_checks=[check])


def _pod_cluster(pods: Sequence[str]) -> dict[str, Any]:
    def key(name: str) -> dict[str, Any]:
        return {"key": "envoy.lb", "path": [{"key": f"x-gateway-destination-endpoint{name}"}]}

    policy = _policy(
        "override_host",
        override_host_sources=[{"metadata": key("")}],
        selected_host_key=key("-served"),
        fallback_policy=_policy("round_robin"),
    )
    return _cluster("pods", pods, load_balancing_policy=policy)


def _filter(mode: str, allow_failure: bool) -> dict[str, Any]:
    modes = {f"{side}_{part}_mode": "SEND" for side in ("request", "response") for part in ("header", "trailer")}
    modes |= {"request_body_mode": mode, "response_body_mode": mode if mode != "BUFFERED" else "STREAMED"}
    return _typed(
        "extensions.filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service={"envoy_grpc": {"cluster_name": "pickers"}},
        failure_mode_allow=allow_failure,
        message_timeout=f"{DEADLINE_S}s",
        processing_mode=modes,
        metadata_options={
            "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
        },
    )


def envoy_config(
    port: int, admin: int, pickers: Sequence[str], pods: Sequence[str], *, mode: str, allow_failure: bool, retries: int
) -> dict[str, Any]:
    """Envoy's bootstrap."""
    retry = {"retry_policy": {"retry_on": "connect-failure,5xx", "num_retries": retries}} if retries else {}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s", **retry}}
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {"name": "envoy.filters.http.ext_proc", "typed_config": _filter(mode, allow_failure)},
            {"name": "envoy.filters.http.router", "typed_config": _typed("extensions.filters.http.router.v3.Router")},
        ],
    )

    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": HOST, "port_value": number}}

    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {
        "admin": {"address": at(admin)},
        "static_resources": {
            "listeners": [{"name": "in", "address": at(port), "filter_chains": [chain]}],
            "clusters": [_pod_cluster(pods), _picker_cluster(pickers)],
        },
    }


class EnvoyProcess(NamedTuple):
    """A running Envoy."""

    url: str
    admin: str
    pid: int

    def healthy(self) -> set[str]:
        """The pickers that it takes for healthy."""
        lines = httpx.get(f"{self.admin}/clusters", trust_env=False, timeout=DEADLINE_S).text.splitlines()
        found = [line.split("::") for line in lines if line.startswith("pickers::") and "::health_flags::" in line]
        return {address for _, address, _, flags in found if flags == "healthy"}


@contextmanager
def envoy(
    program: Path,
    directory: Path,
    pickers: Sequence[str],
    pods: Sequence[str],
    *,
    mode: str = "FULL_DUPLEX_STREAMED",
    allow_failure: bool = False,
    retries: int = 0,
) -> Iterator[EnvoyProcess]:
    """Envoy for the block, once it takes every picker for healthy."""
    port, admin = free_ports(2)
    config = envoy_config(port, admin, pickers, pods, mode=mode, allow_failure=allow_failure, retries=retries)
    directory.mkdir(parents=True, exist_ok=True)
    file, log = directory / "envoy.json", directory / "envoy.log"
    file.write_text(json.dumps(config))
    flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "-c", str(file), *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        running = EnvoyProcess(f"http://{HOST}:{port}", f"http://{HOST}:{admin}", process.pid)

        def ready() -> bool:
            assert process.poll() is None, f"envoy ended:\n{log.read_text()}"
            try:
                return running.healthy() == set(pickers)
            except httpx.TransportError:
                return False

        wait_for("Envoy knows its pickers", ready)
        yield running
    finally:
        process.kill()
        process.wait(DEADLINE_S)
