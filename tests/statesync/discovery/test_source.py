"""Which source a configuration names, and what a pool sets for all its pods."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schedulers.types import PodId
from statesync.discovery.dns.source import DnsSource
from statesync.discovery.kubernetes.source import KubernetesSource
from statesync.discovery.source import PodTemplate, open_source
from statesync.discovery.static import StaticSource
from statesync.errors import DiscoveryError
from tests.fakes.each_case import each_case


def test_a_list_of_pods_opens_a_static_source() -> None:
    assert isinstance(open_source(["http://10.0.0.1:8000"]), StaticSource)


@pytest.mark.parametrize("url", ["dns://vllm.ns.svc:8000", "dns+srv://_http._tcp.vllm.ns.svc"])
def test_a_dns_name_opens_a_dns_source(url: str) -> None:
    assert isinstance(open_source(source=url), DnsSource)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["kubernetes://llm?selector=app=vllm", "kubernetes+service://llm/vllm?port=http"])
def test_a_cluster_opens_a_kubernetes_source_without_loading_its_client(url: str) -> None:
    looks = "import sys; from statesync.discovery.source import open_source"
    script = f"{looks}; open_source(source={url!r}); print('kubernetes' in sys.modules, 'aiohttp' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout == "False False\n"
    assert isinstance(open_source(source=url), KubernetesSource)


def test_neither_and_both_are_distinct_errors() -> None:
    with pytest.raises(DiscoveryError, match=r"either `pods` or `discovery.source`$"):
        open_source()
    with pytest.raises(DiscoveryError, match="not both"):
        open_source(["http://10.0.0.1:8000"], "dns://vllm:8000")


@pytest.mark.parametrize("source", ["consul://vllm", "vllm.ns.svc:8000"])
def test_an_unknown_scheme_is_an_error_that_lists_the_known_ones(source: str) -> None:
    with pytest.raises(DiscoveryError, match=r"dns://, dns\+srv://, kubernetes://"):
        open_source(source=source)


def test_a_template_gives_every_pod_the_pools_values() -> None:
    template = PodTemplate(frozenset({"m"}), labels={"cluster": "east"}, max_inflight=4)
    made = template.pod("10.0.0.1", 8000, srv_weight="5")
    assert (made.id, made.models, made.max_inflight) == (PodId("10.0.0.1:8000"), frozenset({"m"}), 4)
    assert dict(made.labels) == {"cluster": "east", "srv_weight": "5"}


def test_the_pools_own_labels_win_over_the_sources() -> None:
    assert PodTemplate(labels={"zone": "a"}).pod("h", 1, zone="b").labels["zone"] == "a"


def test_an_ipv6_address_is_bracketed() -> None:
    assert PodTemplate().pod("fd00::1", 8000).address == "[fd00::1]:8000"


@pytest.mark.parametrize("server", ["127.0.0.1:8600", "10.0.0.10", "[::1]:53", "fd00::1"])
def test_dns_servers_are_addresses_with_or_without_a_port(server: str) -> None:
    if server == "fd00::1":
        with pytest.raises(DiscoveryError, match="DNS server"):
            open_source(source="dns://vllm:8000", nameservers=[server])
    else:
        assert isinstance(open_source(source="dns://vllm:8000", nameservers=[server]), DnsSource)


@each_case("server", ["", "dns.local", "10.0.0.10:", "10.0.0.10:x", "10.0.0.10/x", "a@10.0.0.1"])
def test_a_dns_server_that_is_no_address_is_refused(server: str) -> None:
    with pytest.raises(DiscoveryError, match=r"write its address"):
        open_source(source="dns://vllm:8000", nameservers=[server])
