"""Redirects of pods lead to the gateway and name no inner host. Every case is Case D 13."""

from __future__ import annotations

import pytest

from router.dataplane.http.location import path_of, relative
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import ok, post
from tests.fakes.memory_gateway import Rig

POD = "10.0.0.1:8000"


@each_case(
    ("location", "said"),
    [
        (b"http://10.0.0.1:8000/v1/x?a=b", b"/v1/x?a=b"),
        (b"HTTP://10.0.0.1:8000/v1/x", b"/v1/x"),
        (b"https://10.0.0.1/v1/x", b"/v1/x"),
        (b"http://10.0.0.1:8000", b"/"),
        (b"http://10.0.0.1:8000?a=b", b"/?a=b"),
        (b"//10.0.0.1:8000/v1/x", b"/v1/x"),
        (b"http:\\\\10.0.0.1:8000\\v1", b"/v1"),
        (b"http://user@10.0.0.1:8000/v1/x", b"/v1/x"),
        (b"http://192.168.1.7/v1/x", b"/v1/x"),
        (b"http://[fd00::1]:8000/v1/x", b"/v1/x"),
        (b"http://localhost:8000/v1/x", b"/v1/x"),
        (b"http://vllm-0/v1/x", b"/v1/x"),
        (b"http://vllm-0.vllm.default.svc.cluster.local:8000/v1/x", b"/v1/x"),
        (b"ws://10.0.0.1:8000/v1/realtime", b"/v1/realtime"),
        (b"/v1/x", b"/v1/x"),
        (b"x?next=http://10.0.0.1/", b"x?next=http://10.0.0.1/"),
        (b"https://cdn.example.com/file", b"https://cdn.example.com/file"),
        (b"https://93.184.216.34/file", b"https://93.184.216.34/file"),
        (b"", b""),
    ],
)
def test_a_url_with_an_inner_host_becomes_a_path(location: bytes, said: bytes) -> None:
    assert path_of(location, POD) == said


def test_the_pods_own_public_name_becomes_a_path_too() -> None:
    assert path_of(b"https://engine.example.com/v1/x", "engine.example.com:443") == b"/v1/x"


@pytest.mark.parametrize(
    "kept",
    [
        [b"a", b": ", b"1", b"\r\n", b"location", b": ", b"http://10.0.0.1:8000/x", b"\r\n"],
        [b"a: 1\r\nlocation: http://10.0.0.1:8000/x\r\n"],
    ],
)
def test_other_headers_stay_as_they_are(kept: list[bytes]) -> None:
    assert relative(kept, POD) == [b"a: 1\r\nlocation: /x\r\n"]
    assert relative([], POD) == [b""]


@each_case(
    ("said", "path"),
    [
        (b"https://vllm:8443/base/v1/x?a=b", b"/v1/x?a=b"),
        (b"/base/v1/x", b"/v1/x"),
        (b"/base?a", b"?a"),
        (b"/based/v1/x", b"/based/v1/x"),
        (b"/v1/x", b"/v1/x"),
        (b"https://cdn.example.com/base/x", b"https://cdn.example.com/base/x"),
    ],
)
def test_the_base_path_of_a_pod_is_taken_off(said: bytes, path: bytes) -> None:
    """Case D 17."""
    assert relative([b"location: " + said + b"\r\n"], "vllm:8443", b"/base") == [b"location: " + path + b"\r\n"]


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "201 Created", "308 Permanent Redirect"])
def test_a_client_is_redirected_to_the_gateway(status: str) -> None:
    with Rig() as rig:
        for _ in range(2):  # the second head comes from the cache
            client = rig.client().sends(post(path="/v1/own"))
            pod = rig.asked()
            pod.sends(ok(b"", f"location: http://{pod.address}/v1/own/?x=1", status=status))
            assert client.answer().headers["location"] == "/v1/own/?x=1"
            assert pod.address.encode() not in client.answer().body
