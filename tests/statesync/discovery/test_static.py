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


def test_an_address_becomes_a_pod_and_its_stored_form_is_its_name() -> None:
    """Case D 17; `test_address.py` has all forms."""
    pods = pods_of(["http://Engine_1.Local:80", "https://b/base", "unix:/run/c.sock", "d:1"])
    stored = ["engine_1.local:80", "https://b:443/base", "unix:/run/c.sock", "d:1"]
    assert [pod.address for pod in pods] == [pod.id for pod in pods] == stored


def test_the_pool_says_how_pods_without_a_scheme_or_a_path_speak() -> None:
    template = PodTemplate(tls=True, base="/base")
    stored = ["https://a:1/base", "http://b:2/base", "http://c:3/own"]
    assert [pod.address for pod in pods_of(["a:1", "http://b:2", "http://c:3/own"], template)] == stored
    assert template.pod("::1", 5).address == "https://[::1]:5/base"


def test_all_errors_are_reported_at_once() -> None:
    with pytest.raises(DiscoveryError) as caught:
        pods_of(["ftp://a:1", "http://b:2", "B:2", "c"])
    said = str(caught.value)
    assert "'ftp'" in said and "b:2 is listed twice" in said and "'c': no port" in said


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
