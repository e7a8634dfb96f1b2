"""Pools that serve no models: paths, sessions, deadlines, WebSockets and what may be sent twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from router.settings import PolicySpec, Pool, PoolService, Retries, TenantSettings
from tests.fakes.known_keys import bearer
from tests.fakes.memory_client_and_pods import CHAT, SSE_HEAD, Client, get, ok, post
from tests.fakes.memory_gateway import Rig, one_pool
from tests.router.dataplane.test_gateway_tenants import TenantRig
from tests.router.dataplane.test_upgrade import ACCEPTED, HELLO, MASKED, OFFER, sent

SESSION = ("header:x-agent-id", "cookie:agent", "path:1")


def agents(*paths: str, session: Sequence[str] = SESSION, within: dict[str, float] | None = None, **more: Any) -> Pool:
    service = PoolService(paths=list(paths) or ["/agents/*"], session=list(session), deadlines_s=within or {})
    fields: dict[str, Any] = {"name": "agents", "policy": PolicySpec(name="session_affinity")} | more
    return Pool(kind="http", service=service, **fields)


def rig_of(*pools: Pool, **more: Any) -> Rig:
    return Rig(pools=[*(pools or (agents(),)), one_pool()], pods={"agents": 3, "tools": 1, "main": 1}, **more)


def served(rig: Rig, request: bytes) -> str:
    """The pod that gets this request, which is answered."""
    client = rig.client().sends(request)
    pod = rig.asked()
    pod.sends(ok(b"" if request.startswith(b"HEAD") else b"done"))
    assert client.answer(request.split(b" ")[0].decode()).body in (b"done", b"")
    return pod.address


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND"])
def test_any_method_reaches_a_pod_of_the_path(method: str) -> None:
    with rig_of() as rig:
        assert served(rig, get("/agents/seven/state?x=1", method=method)).startswith("10.0.0.")
        assert rig.asked_before().request.target == "/agents/seven/state?x=1"
        rig.assert_clean()


def test_a_body_is_passed_on_unread_and_other_paths_go_where_they_went() -> None:
    with rig_of() as rig:
        assert served(rig, post(b"\x00 no json", path="/agents/1")) != "10.0.1.1:8000"
        assert rig.asked_before().request.body == b"\x00 no json"
        assert served(rig, post(CHAT)) == "10.0.1.1:8000"
        assert rig.client().sends(get("/agentsx")).answer("GET").status == 404
        assert rig.client().sends(get("/health")).answer("GET").status == 200
        models = json.loads(rig.client().sends(get("/v1/models")).answer("GET").body)
        assert [(card["id"], card["pool"]) for card in models["data"]] == [("m", "main")]


def test_the_longest_path_over_all_pools_counts() -> None:
    with rig_of(agents(), agents("/agents/tools/*", name="tools")) as rig:
        assert served(rig, get("/agents/tools/x")) == "10.0.1.1:8000"
        assert served(rig, get("/agents/toolsmith")).startswith("10.0.0.")


def test_a_session_by_header_cookie_or_path_stays_on_its_pod() -> None:
    with rig_of() as rig:
        sessions = [f"s{number}" for number in range(12)]
        homes = {session: served(rig, get(f"/agents/{session}")) for session in sessions}
        assert len(set(homes.values())) == 3
        for session, home in homes.items():
            assert served(rig, get("/agents/x", f"x-agent-id: {session}")) == home
            assert served(rig, get("/agents/x", f"cookie: a=b; agent={session}")) == home
            assert served(rig, get("/agents/x", f"x-agent-id: {session}", "x-session-id: other")) == home


@pytest.mark.parametrize("path", ["/agents/../v1/models", "/agents/%2e%2E/x", "/agents/a%2F..%2Fb", "/agents/a/.;x/b"])
def test_a_path_that_servers_read_in_different_ways_is_refused(path: str) -> None:
    with rig_of() as rig:
        answer = rig.client().sends(get(path)).answer("GET")
        assert answer.status == 400
        assert rig.nobody_asked()


def test_a_path_s_own_deadline_ends_a_request_and_the_client_s_may_be_earlier() -> None:
    with rig_of(agents(within={"/agents/*": 60.0, "/agents/quick/*": 5.0})) as rig:
        slow, quick = (rig.client().sends(get(f"/agents/{name}/x")) for name in ("slow", "quick"))
        own = rig.client().sends(get("/agents/slow/y", "x-turnout-deadline-ms: 2000"))
        rig.passes(3)
        assert (own.answer("GET").status, quick.raw, slow.raw) == (504, b"", b"")
        rig.passes(3)
        assert (quick.answer("GET").status, slow.raw) == (504, b"")
        rig.passes(60)
        assert slow.answer("GET").status == 504


def test_a_websocket_passes_to_the_session_s_pod_and_its_time_is_not_limited() -> None:
    with rig_of(agents(within={"/agents/*": 5.0})) as rig:
        home = served(rig, get("/agents/seven"))
        client = rig.client().sends(get("/agents/seven/live", *OFFER))
        pod = rig.net.made[-1].sends(ACCEPTED, HELLO)
        assert (pod.address, sent(client)) == (home, HELLO)
        client.sends(MASKED)
        rig.passes(600)
        assert sent(pod) == MASKED
        assert client.fate == ""
        client.leaves()


def test_a_stream_of_events_passes_event_by_event() -> None:
    with rig_of() as rig:
        client = rig.client().sends(get("/agents/seven/events"))
        pod = rig.asked().sends(SSE_HEAD, b"7\r\ndata: 1\r\n")
        assert client.raw.endswith(b"data: 1\r\n")
        pod.dies()


def dies_after(rig: Rig, request: bytes, *answer: bytes) -> Client:
    client = rig.client().sends(request)
    pod = rig.asked()
    if answer:
        pod.sends(*answer)
    else:
        pod.dies()
    return client


@pytest.mark.parametrize("answer", [(), (ok(status="502 Bad Gateway"),), (ok(status="504 Gateway Timeout"),)])
def test_what_may_be_done_already_is_not_sent_again(answer: tuple[bytes, ...]) -> None:
    with rig_of() as rig:
        served(rig, get("/agents/seven"))  # leaves a connection open, on which a failure would say less
        client = dies_after(rig, post(b"x", path="/agents/seven"), *answer)
        assert client.answer().status in (502, 504)
        assert rig.nobody_asked()
        rig.assert_clean()


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (get("/agents/seven"), ()),
        (get("/agents/seven", method="DELETE"), (ok(status="502 Bad Gateway"),)),
        (post(b"x", path="/agents/seven"), (ok(status="503 Service Unavailable"),)),
    ],
)
def test_what_is_safe_to_repeat_goes_to_another_pod(request_bytes: bytes, answer: tuple[bytes, ...]) -> None:
    with rig_of() as rig:
        client = dies_after(rig, request_bytes, *answer)
        rig.asked().sends(ok(b"done"))
        assert client.answer(request_bytes.split(b" ")[0].decode()).status == 200


def test_an_own_pod_that_dies_over_a_post_does_not_get_it_again() -> None:
    with rig_of(agents(affinity="hold"), retries=Retries(attempts=2)) as rig:
        client = dies_after(rig, post(b"x", path="/agents/seven"))
        assert client.answer().status == 502
        rig.passes(5)
        assert rig.nobody_asked()


def test_requests_that_only_one_pod_may_get_stay_with_a_pod_that_fails_its_probes() -> None:
    with rig_of() as rig:
        client = rig.client().sends(post(b"x", path="/agents/seven"))
        pod = rig.asked()
        rig.wire.do(lambda: rig.gateway.pods_gone({rig.view.statuses("agents")[0].pod.id, pod.address}))  # type: ignore[arg-type]
        assert rig.asked() is pod
        pod.sends(ok())
        assert client.answer().status == 200


def test_a_fall_back_serves_what_the_pool_cannot() -> None:
    with rig_of(agents(fallback=["tools"]), agents("/tools/*", name="tools")) as rig:
        for status in rig.view.statuses("agents"):
            rig.wire.do(partial(rig.view.block, status.pod.id, "probe"))
        assert served(rig, get("/agents/seven", "x-turnout-cluster: nowhere")) == "10.0.1.1:8000"


def test_a_pool_is_not_found_by_model_or_header_and_state_is_not_asked_for_there() -> None:
    with rig_of() as rig:
        for header in ("x-turnout-pool: agents", "x-turnout-pool: none"):
            assert rig.client().sends(post(CHAT, header)).answer().status == 404
        client = rig.client().sends(get("/v1/responses/resp_1"))
        assert rig.asked().address == "10.0.1.1:8000"
        rig.asked().sends(ok(status="404 Not Found"))
        assert client.answer("GET").status == 404


def test_a_gateway_of_services_alone_has_no_models() -> None:
    with Rig(pools=[agents()], pods={"agents": 1}) as rig:
        assert served(rig, get("/agents/1")) == "10.0.0.1:8000"
        assert rig.client().sends(post(CHAT)).answer().status == 404
        assert rig.client().sends(post(b'{"input": "x"}', path="/v1/responses")).answer().status in (400, 404)
        assert rig.client().sends(get("/v1/responses/resp_1")).answer("GET").status == 404


def test_the_pods_are_ready_without_a_list_of_models() -> None:
    with Rig(pools=[agents()], pods={"agents": 2}) as rig:
        assert rig.pod_registry.complete()


def test_a_tenant_sees_the_paths_of_its_pools_only() -> None:
    tenants = TenantSettings(name="a", pools=("main",)), TenantSettings(name="b", pools=("agents",))
    with TenantRig(*tenants, pools=[agents(allowed_policies=["*"]), one_pool()]) as rig:
        hidden = rig.client().sends(get("/agents/seven", bearer("a"))).answer("GET")
        assert (hidden.status, b"Nothing is served under /agents/seven" in hidden.body) == (404, True)
        assert rig.client().sends(get("/agents/seven")).answer("GET").status == 401
        chooses = rig.client().sends(get("/agents/seven", bearer("b"), "x-turnout-policy: p2c"))
        assert chooses.answer("GET").status == 403
        client = rig.client().sends(get("/agents/seven", bearer("b")))
        rig.asked().sends(ok())
        assert client.answer("GET").status == 200
