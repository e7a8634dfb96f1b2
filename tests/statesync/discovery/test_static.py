"""Pods that the configuration lists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from schedulers.types import Pod, PodId
from statesync.discovery import PodTemplate, open_source
from statesync.discovery.static import pods_of
from statesync.errors import DiscoveryError
from tests.fakes.waiting import DEADLINE_S


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://10.0.0.1:8000", "10.0.0.1:8000"),
        ("http://10.0.0.1:8000/", "10.0.0.1:8000"),
        ("10.0.0.1:8000", "10.0.0.1:8000"),
        ("vllm-engine:8000", "vllm-engine:8000"),
        ("http://Engine_1.Local:80", "engine_1.local:80"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("[FD00:0:0::1]:8000", "[fd00::1]:8000"),
    ],
)
def test_an_address_becomes_a_pod(text: str, address: str) -> None:
    (pod,) = pods_of([text])
    assert (pod.id, pod.address) == (address, address)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("https://10.0.0.1:8000", "TLS to pods is not supported yet"),
        ("grpc://10.0.0.1:8000", "unknown scheme 'grpc'"),
        ("http://me:secret@10.0.0.1:8000", "credentials"),
        ("http://10.0.0.1:8000/v1", "no path ('/v1')"),
        ("http://10.0.0.1:8000?x=1", "no query"),
        ("http://10.0.0.1", "no port"),
        ("10.0.0.1", "no port"),
        ("http://10.0.0.1:99999", "out of range"),
        ("http://10.0.0.1:0", "port 0"),
        ("http://10.0.0.1:http", "could not be cast"),
        ("http://:8000", "no host"),
        ("", "no host"),
        ("http://a b:8000", "neither a host name"),
        ("http://::1:8000", "could not be cast"),
        ("http://[::1:8000", "Invalid IPv6 URL"),
    ],
)
def test_an_invalid_address_is_an_error_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        pods_of([text])
    assert word in str(caught.value)
    assert repr(text) in str(caught.value)


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(DiscoveryError) as caught:
        pods_of(["https://a:1", "http://b:2", "B:2", "c"])
    said = str(caught.value)
    assert "TLS" in said and "b:2 is listed twice" in said and "'c': no port" in said


def test_the_pool_s_configuration_is_on_each_pod() -> None:
    template = PodTemplate(frozenset({"m"}), "decode", {"zone": "a"}, 4)
    assert pods_of(["a:1"], template) == (Pod(PodId("a:1"), "a:1", frozenset({"m"}), "decode", {"zone": "a"}, 4),)


def test_a_static_source_calls_back_once_with_all_pods() -> None:
    received: list[Sequence[Pod]] = []
    asyncio.run(asyncio.wait_for(open_source(["a:1", "b:1"]).run(received.append), DEADLINE_S))
    assert [[pod.id for pod in pods] for pods in received] == [["a:1", "b:1"]]


@pytest.mark.parametrize(
    ("pods", "source", "word"),
    [
        ([], "", "either `pods` or `discovery.source`"),
        (["a:1"], "dns://b:1", "not both"),
        ([], "consul://b", "dns://, dns+srv://"),
        ([], "vllm.ns.svc:8000", "unknown scheme"),
    ],
)
def test_an_invalid_source_is_an_error_with_the_expected_form(pods: list[str], source: str, word: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        open_source(pods, source)
    assert word in str(caught.value)
