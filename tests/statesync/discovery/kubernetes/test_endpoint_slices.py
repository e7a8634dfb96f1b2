"""Reading a Service's engines from an EndpointSlice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from statesync.discovery.kubernetes.endpoint_slices import decode_slice, seen_in
from statesync.discovery.source import PodTemplate
from tests.fakes.each_case import each_case


def endpoint(name: str, ip: str, **conditions: bool | None) -> dict[str, Any]:
    return {
        "addresses": [ip],
        "conditions": conditions,
        "targetRef": {"kind": "Pod", "name": name, "namespace": "llm", "uid": f"{name[-1] * 8}-1"},
        "nodeName": "n1",
        "zone": "east-1",
    }


def made(*endpoints: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "vllm-abc", "namespace": "llm", "uid": "s1", "resourceVersion": "5"},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    } | fields


def seen(found: dict[str, Any], port: str = "") -> list[Any]:
    return [each.pod for each in seen_in(decode_slice(json.dumps(found)), port, PodTemplate())]


def test_an_endpoint_is_the_pod_behind_it_with_its_zone() -> None:
    (pod,) = seen(made(endpoint("vllm-0", "10.0.0.1", ready=True)))
    assert (pod.id, pod.address, pod.unready) == ("vllm-0.00000000", "10.0.0.1:8000", "")
    assert dict(pod.labels) == {"namespace": "llm", "node": "n1", "zone": "east-1"}


@each_case(
    ("conditions", "unready"),
    [
        ({}, ""),
        ({"ready": None}, ""),
        ({"ready": True, "serving": True, "terminating": False}, ""),
        ({"ready": False}, "not_ready"),
        ({"ready": True, "serving": False}, "not_ready"),
        ({"ready": False, "serving": True, "terminating": True}, "terminating"),
    ],
)
def test_conditions_decide_whether_an_endpoint_may_be_picked(conditions: dict[str, bool], unready: str) -> None:
    (pod,) = seen(made(endpoint("vllm-0", "10.0.0.1", **conditions)))
    assert pod.unready == unready


def test_case_c11_an_endpoint_with_its_pods_hostname_is_a_stateful_set_s() -> None:
    (pod,) = seen(made(endpoint("agent-0", "10.0.0.1") | {"hostname": "agent-0"}))
    assert (pod.id, pod.labels["statefulset"], pod.labels["uid"]) == ("agent-0.llm", "agent", "00000000")
    for hostname in ("other", "", None):
        (pod,) = seen(made(endpoint("agent-0", "10.0.0.1") | {"hostname": hostname}))
        assert pod.id == "agent-0.00000000"


def test_an_endpoint_without_a_pod_is_identified_by_its_address() -> None:
    (pod,) = seen(made({"addresses": ["10.9.9.9"]}))
    assert (pod.id, pod.address) == ("10.9.9.9:8000", "10.9.9.9:8000")


def test_an_ipv6_slice_has_bracketed_addresses_and_comes_after_an_ipv4_one() -> None:
    found = made(endpoint("vllm-0", "fd00::1"), addressType="IPv6")
    (six,) = seen_in(decode_slice(json.dumps(found)), "", PodTemplate())
    (four,) = seen_in(decode_slice(json.dumps(made(endpoint("vllm-0", "10.0.0.1")))), "", PodTemplate())
    assert six.pod is not None
    assert six.pod.address == "[fd00::1]:8000"
    assert (four.uid, four.rank < six.rank) == (six.uid, True)


def test_host_names_and_endpoints_without_an_address_are_skipped() -> None:
    assert seen(made(endpoint("vllm-0", "vllm.example"), addressType="FQDN")) == []
    assert seen(made({"addresses": []})) == []
    assert seen(made(endpoints=None)) == []


TWO = [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9400, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("ports", "configured", "port"),
    [
        ([{"name": "", "port": 8000}], "", "8000"),
        (TWO, "", "8000"),
        (TWO, "metrics", "9400"),
        (TWO, "8123", "8123"),
        (None, "8123", "8123"),
    ],
)
def test_the_port_is_the_configured_one_or_the_only_one_or_http(ports: Any, configured: str, port: str) -> None:
    (pod,) = seen(made(endpoint("vllm-0", "10.0.0.1"), ports=ports), configured)
    assert pod.address == f"10.0.0.1:{port}"


@pytest.mark.parametrize(("ports", "configured"), [(None, ""), (TWO, "grpc"), ([{"name": "http", "port": None}], "")])
def test_a_slice_without_a_known_port_has_a_note(ports: Any, configured: str) -> None:
    found = decode_slice(json.dumps(made(endpoint("vllm-0", "10.0.0.1"), ports=ports)))
    (answer,) = seen_in(found, configured, PodTemplate())
    assert answer.pod is None
    assert "EndpointSlice vllm-abc has no" in answer.note
