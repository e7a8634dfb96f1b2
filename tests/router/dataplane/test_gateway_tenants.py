"""What a tenant may not choose is refused, and what only other tenants may use does not exist for it."""

from __future__ import annotations

import json

import pytest

from router.settings import HOLD, Pool, TenantSettings
from router.settings import Targets as TargetSettings
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import Client, get, ok, post
from tests.fakes.memory_gateway import Rig

POOLS = [
    Pool(name="open", models=["small", "both"], cluster="east", fallback=["secret"], allowed_policies=["*"]),
    Pool(name="second", models=["small", "both"], cluster="east"),
    Pool(name="secret", models=["big", "both", "small"], cluster="west"),
]
A = TenantSettings(name="a", models=("small", "other*"), pools=("open", "second"), policies=["p2c"], targets=["east"])
B = TenantSettings(name="b", policies=["*"], targets=["*"], headers=("*",), default_pool="secret")
UPGRADE = ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")


class TenantRig(Rig):
    """A gateway of these pools with the tenants A and B."""

    def __init__(self, *tenants: TenantSettings, pods: int = 1, pools: list[Pool] | None = None) -> None:
        super().__init__(pools=pools or POOLS, pods=pods, targets=TargetSettings(allow=["*"]))
        self.rebuild(self.gateway.deps._replace(access=access_of(*(tenants or (A, B)))))


def chat(model: str, **fields: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


def refusal(client: Client, method: str = "POST") -> tuple[int, str, str]:
    said = json.loads(client.answer(method).body)["error"]
    return client.answer(method).status, said["code"], said["message"]


def test_a_model_that_a_tenant_may_not_use_is_answered_as_one_that_does_not_exist() -> None:
    with TenantRig() as rig:
        answers = {}
        for model in ("big", "both", "xyzzy", "otherwise"):
            status, code, message = refusal(rig.asks(chat(model), bearer("a")))
            answers[model] = (status, code, message.replace(model, "MODEL"))
        assert answers["big"][:2] == (404, "model_not_found")
        assert len(set(answers.values())) == 1
        assert rig.net.made == []
        rig.asks(chat("big"), bearer("b"))
        assert rig.asked().address == "10.0.2.1:8000"
        rig.asked().sends(ok())


def test_a_tenant_of_some_models_cannot_choose_an_adapter_beside_them() -> None:
    with TenantRig() as rig:
        for fields in ({"lora_path": "big"}, {"lora": [{"id": 0, "scale": 1}]}):
            assert refusal(rig.asks(chat("small", **fields), bearer("a")))[:2] == (403, "permission_denied")
            rig.asks(chat("small", **fields), bearer("b"))
            rig.asked().sends(ok())


def test_a_tenant_lists_and_reads_only_the_models_that_it_may_use() -> None:
    with TenantRig() as rig:
        listed = rig.client().sends(get("/v1/models", bearer("a")))
        (card,) = json.loads(listed.answer("GET").body)["data"]
        assert (card["id"], card["pool"]) == ("small", "open")
        assert "fallback" not in card
        status, code, message = refusal(rig.client().sends(get("/v1/models/big", bearer("a"))), "GET")
        assert (status, code) == (404, "model_not_found")
        assert refusal(rig.client().sends(get("/v1/models/xyz", bearer("a"))), "GET")[2] == message.replace(
            "big", "xyz"
        )
        everything = json.loads(rig.client().sends(get("/v1/models", bearer("b"))).answer("GET").body)["data"]
        assert {each["id"] for each in everything} == {"small", "both", "big"}


@each_case(
    ("header", "named"),
    [
        ("x-turnout-pool: secret", "secret"),
        ("x-turnout-pool: nowhere", "nowhere"),
        ("x-turnout-cluster: west", "west"),
        ("x-turnout-cluster: nowhere", "nowhere"),
        ("x-turnout-policy: least_load", "least_load"),
        ("x-turnout-policy: nowhere", "nowhere"),
    ],
)
def test_what_is_named_without_permission_is_refused_whether_it_exists_or_not(header: str, named: str) -> None:
    with TenantRig() as rig:
        status, code, message = refusal(rig.asks(chat("small"), bearer("a"), header))
        assert (status, code) == (403, "permission_denied")
        assert named in message
        assert "secret" not in message.replace(named, "")
        assert rig.net.made == []


@each_case(
    ("header", "address"),
    [
        ("x-turnout-pool: second", "10.0.1.1:8000"),
        ("x-turnout-cluster: east", "10.0.0.1:8000"),
        ("x-turnout-policy: p2c", "10.0.0.1:8000"),
    ],
)
def test_what_is_named_with_permission_is_done(header: str, address: str) -> None:
    with TenantRig() as rig:
        client = rig.asks(chat("small"), bearer("a"), header)
        assert rig.asked().address == address
        rig.asked().sends(ok())
        assert client.answer().status == 200


def test_a_tenants_default_pool_gets_its_requests() -> None:
    with TenantRig() as rig:
        rig.asks(chat("both"), bearer("b"))
        assert rig.asked().address == "10.0.2.1:8000"
        rig.asked().sends(ok())


def test_a_fall_back_never_leads_into_a_pool_that_the_tenant_may_not_use() -> None:
    with TenantRig(A, TenantSettings(name="b"), pools=[POOLS[0], POOLS[2]]) as rig:
        rig.pod_registry.on_pods("open", [])
        status, code, message = refusal(rig.asks(chat("small"), bearer("a")))
        assert (status, code) == (503, "no_pod_available")
        assert "secret" not in message
        client = rig.asks(chat("small"), bearer("b"))
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "secret"


def test_a_tenant_of_some_models_gets_no_pod_without_naming_one() -> None:
    with TenantRig(pools=[POOLS[0]]) as rig:
        assert refusal(rig.asks(b'{"messages":[]}', bearer("a")))[:2] == (400, "missing_model")
        rig.asks(b'{"messages":[]}', bearer("b"))
        rig.asked().sends(ok())


def test_a_websocket_is_refused_where_its_messages_may_name_what_the_tenant_may_not_use() -> None:
    with TenantRig() as rig:
        for tenant, path in (("a", "/v1/realtime?model=small"), ("b", "/v1/responses?model=small")):
            client = rig.client().sends(get(path, bearer(tenant), *UPGRADE))
            assert refusal(client, "GET")[:2] == (403, "permission_denied")
        assert rig.net.made == []


def test_only_headers_with_a_right_count() -> None:
    with TenantRig() as rig:
        client = rig.asks(chat("small"), bearer("a"), "x-turnout-priority: 9", "x-turnout-slo-ttft-ms: 50")
        (exchange,) = rig.admission.active
        assert exchange.routed.info is not None
        assert (exchange.routed.info.priority, exchange.routed.slo) == (0, None)
        rig.asked().sends(ok())
        assert client.answer().status == 200
        rig.asks(chat("small"), bearer("b"), "x-turnout-priority: 9", "x-turnout-slo-ttft-ms: 50")
        (exchange,) = rig.admission.active
        assert exchange.routed.info is not None
        assert exchange.routed.info.priority == 9
        assert exchange.routed.slo is not None
        rig.asked().sends(ok())


@pytest.mark.parametrize("session", [("x-session-id: s1", {}), ("x-other: 1", {"prompt_cache_key": "s1"})])
def test_two_tenants_with_the_same_session_do_not_meet(session: tuple[str, dict[str, object]]) -> None:
    header, fields = session
    every = TenantSettings(name="a"), TenantSettings(name="b")
    with TenantRig(*every, pools=[Pool(name="main", models=["m"], affinity=HOLD)], pods=8) as rig:
        homes: dict[str, set[str]] = {}
        for name in "abab":
            client = rig.asks(chat("m", **fields), bearer(name), header)
            (exchange,) = rig.admission.active
            assert exchange.routed.info is not None
            assert exchange.routed.info.session_key == f"{name}\ns1"
            homes.setdefault(name, set()).add(rig.asked().address)
            rig.asked().sends(ok())
            assert client.answer().status == 200
        assert [len(pods) for pods in homes.values()] == [1, 1]


def test_without_a_session_the_key_stays_empty() -> None:
    with TenantRig(pools=[Pool(name="main", models=["small"])]) as rig:
        rig.client().sends(post(chat("small"), bearer("b")))
        (exchange,) = rig.admission.active
        assert exchange.routed.info is not None
        assert exchange.routed.info.session_key == ""
        rig.asked().sends(ok())


def test_what_a_tenant_used_is_counted_as_its_own() -> None:
    with TenantRig() as rig:
        rig.asks(chat("big"), bearer("a"))
        rig.asks(chat("small"), bearer("a"))
        rig.asked().sends(ok(b'{"id":"%b","usage":{"prompt_tokens":7,"completion_tokens":2}}' % (b"1" * 200)))
        rig.asks(chat("small"), "authorization: Bearer tok-unknown")
        counts = rig.metrics.tenants
        assert counts.requests == {("a", "4xx"): 1, ("a", "2xx"): 1}
        assert counts.tokens == {("a", "prompt"): 7, ("a", "completion"): 2}
        assert counts.rejections == {("a", "model_not_found"): 1}


def test_an_isolated_tenant_shares_no_prefix_with_another() -> None:
    every = TenantSettings(name="a", isolate_cache=True), TenantSettings(name="b")
    prompt = {"messages": [{"role": "user", "content": "word " * 1000}]}
    with TenantRig(*every, pools=[Pool(name="main", models=["m"])]) as rig:
        hits: dict[str, list[bool]] = {}
        for name in "abab":
            client = rig.asks(json.dumps({"model": "m", **prompt}).encode(), bearer(name))
            (exchange,) = rig.admission.active
            assert exchange.routed.info is not None
            hits.setdefault(name, []).append(bool(exchange.routed.info.prefix_hits))
            assert json.loads(rig.asked().request.body).get("cache_salt") == {"a": "a:", "b": None}[name]
            rig.asked().sends(ok())
            assert client.answer().status == 200
        assert hits == {"a": [False, True], "b": [False, True]}
