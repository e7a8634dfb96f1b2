"""Envoy's configuration with endpoint pickers, as docs/endpoint-picker.md says it has to be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from loadtests.sim.ports import HOST

FLUSH_MS: Final = 50
"""Between two writes of Envoy's log."""

FLAGS: Final = (
    *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
    *("--file-flush-interval-msec", str(FLUSH_MS)),
)

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


def _picker_cluster(pickers: Sequence[str], trusted: Path | None) -> dict[str, Any]:
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
    more = {}
    if trusted is not None:
        common = {"alpn_protocols": ["h2"], "validation_context": {"trusted_ca": {"filename": str(trusted)}}}
        tls = _typed("extensions.transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=common)
        more["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    return _cluster("pickers", pickers, typed_extension_protocol_options=options, health_checks=[check], **more)


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
        message_timeout="30s",
        processing_mode=modes,
        metadata_options={
            "forwarding_namespaces": {"untyped": ["envoy.lb", "envoy.lb.subset_hint"]},
            "receiving_namespaces": {"untyped": ["envoy.lb"]},
        },
    )


def _picks_log(path: Path) -> dict[str, Any]:
    # The head's reply is the pick, and comes once the picker has the body.
    text = {"inline_string": "%FILTER_STATE(envoy.filters.http.ext_proc:FIELD:request_header_latency_us)%\n"}
    file = _typed(
        "extensions.access_loggers.file.v3.FileAccessLog", path=str(path), log_format={"text_format_source": text}
    )
    return {"name": "envoy.access_loggers.file", "typed_config": file}


def envoy_config(
    port: int,
    admin: int,
    pickers: Sequence[str],
    pods: Sequence[str],
    *,
    mode: str = "FULL_DUPLEX_STREAMED",
    allow_failure: bool = False,
    retries: int = 0,
    picks: Path | None = None,
    trusted: Path | None = None,
) -> dict[str, Any]:
    """Envoy's bootstrap. `picks`: a file to which Envoy writes how long each pick took, in us. `trusted`: the authority
    of pickers that speak TLS."""
    log = [] if picks is None else [_picks_log(picks)]
    retry = {"retry_policy": {"retry_on": "connect-failure,5xx", "num_retries": retries}} if retries else {}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "pods", "timeout": "0s", **retry}}
    manager = _typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        access_log=log,
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
            "clusters": [_pod_cluster(pods), _picker_cluster(pickers, trusted)],
        },
    }
