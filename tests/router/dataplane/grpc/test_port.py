"""Which pool a call goes to, who may make it, and what pods get of its headers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from router.settings import Limits, PolicySpec, TenantSettings
from statesync.engines.access import PoolAccess
from tests.fakes.grpc_rig import GrpcRig, echo
from tests.fakes.known_keys import access_of


def served(rig: GrpcRig, **given: Any) -> str:
    """The pod that gets a call."""
    client = rig.caller()
    stream = client.call(b"x", **given)
    for number in range(len(rig.net.made)):
        pod = rig.pod(number)
        for asked in pod.asked():
            if asked in pod.h2.streams and pod.h2.streams[asked].open:
                pod.answers(asked)
    return client.head(stream)[b"x-turnout-pod"].decode()


def test_the_longest_path_leads_to_the_pool() -> None:
    other = echo(service={"paths": ["/other.Service/*"]})
    with GrpcRig(echo(), replace(other, name="other"), pods=1) as rig:
        assert served(rig) == "10.0.0.1:8000"
        assert served(rig, path=b"/other.Service/Do") == "10.0.1.1:8000"


def test_a_session_in_metadata_stays_on_its_pod() -> None:
    pool = echo(service={"session": ["header:x-agent"]})
    with GrpcRig(replace(pool, policy=PolicySpec(name="session_affinity")), pods=3) as rig:
        homes = {name: {served(rig, x_agent=name) for _ in range(3)} for name in ("a", "b", "c", "d", "e", "f")}
        assert {len(pods) for pods in homes.values()} == {1}
        assert len(set.union(*homes.values())) > 1


def test_what_is_no_grpc_and_what_has_no_pool_is_refused() -> None:
    with GrpcRig(echo(service={"paths": ["/test.Echo/*"]})) as rig:
        client = rig.caller()
        assert client.head(client.call(b"x", content_type="application/json"))[b":status"] == b"415"
        assert client.status(client.call(b"x", path=b"/other.Service/X")) == (
            "12 No pool serves the method /other.Service/X."
        )
        assert rig.net.made == []


def test_calls_count_for_the_limit_of_the_replica() -> None:
    with GrpcRig(limits=Limits(max_inflight=1)) as rig:
        client = rig.caller()
        client.call(b"x")
        assert client.status(client.call(b"x")).startswith("8 ")


def test_a_call_needs_a_key_and_a_pool_that_its_tenant_may_use() -> None:
    tenants = TenantSettings(name="a"), TenantSettings(name="b", pools=("none",))
    with GrpcRig() as rig:
        rig.rebuild(rig.gateway.deps._replace(access=access_of(*tenants)))
        rig.open_port()
        assert served(rig, authorization="Bearer tok-a").startswith("10.0.0.")
        client = rig.caller()
        assert client.status(client.call(b"x")).startswith("16 ")
        assert client.status(client.call(b"x", authorization="Bearer wrong")).startswith("16 ")
        assert client.status(client.call(b"x", authorization="Bearer tok-b")).startswith("12 ")


@pytest.mark.parametrize("send", [True, False])
def test_the_pool_s_own_headers_and_key_reach_the_pods(send: bool) -> None:
    access = PoolAccess(
        key=lambda: "own",
        send_key=send,
        send_credentials=False,
        headers={"X-Env": "test", "host": "echo.example"},
        strip=["x-secret"],
    )
    with GrpcRig(accesses={"echo": access}, pods=1) as rig:
        client = rig.caller()
        client.call(b"x", x_secret="s", authorization="Bearer client", connection="")
        pod = rig.pod()
        head = pod.request(pod.asked()[0])
        assert (head[b":authority"], head[b"x-env"], head.get(b"x-secret")) == (b"echo.example", b"test", None)
        assert head.get(b"authorization") == (b"Bearer own" if send else None)
