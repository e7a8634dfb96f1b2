"""No answer to a tenant depends on what only others may use or made. Of two gateways one has only what the tenant may
use, and no other tenant: both answer in the same words, whatever the configuration and the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from router.dataplane.request.tenant_routes import may_be_served_by, model_permission
from router.settings import Pool, TenantSettings
from tests.fakes.examples import examples
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import get, ok, post
from tests.fakes.memory_gateway import Rig

NAMES = ("p0", "p1", "p2", "p3")
MODELS = ("m-small", "m-large", "other", "other2")
ALIASES = ("gpt-4", "gpt-3")
CLUSTERS = ("", "east", "west")
POLICIES = ("p2c", "least_load", "random")
_ADDRESS = re.compile(rb"10\.0\.\d\.\d:8000")


def some(of: Sequence[str], least: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), unique=True, min_size=least)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Pool], str]:
    """Pools with models of their own or learned ones, fall-backs and clusters; and a default pool."""
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    pools = []
    for name in names:
        models = draw(st.just([]) | some(MODELS, 2))
        aliases = {alias: draw(st.sampled_from(models)) for alias in draw(some(ALIASES))} if models else {}
        others = [other for other in names if other != name]
        fallback = draw(st.just(others) | some(others)) if others else []
        cluster, policies = draw(st.sampled_from(CLUSTERS)), draw(some(POLICIES))
        pools.append(
            Pool(
                name=name,
                models=models,
                aliases=aliases,
                fallback=fallback,
                cluster=cluster,
                allowed_policies=policies,
            )
        )
    return pools, draw(st.sampled_from(("", *names)))


@st.composite
def tenants(draw: st.DrawFn) -> TenantSettings:
    every = st.just(["*"])
    return TenantSettings(
        name="a",
        models=tuple(draw(every | some((*MODELS, *ALIASES, "m-*", "other?"), 1))),
        pools=tuple(draw(some(NAMES, 1) | some(NAMES, 2) | every)),
        policies=draw(every | some(POLICIES)),
        targets=draw(every | some((*NAMES, *CLUSTERS[1:]))),
        headers=tuple(draw(some(("priority", "deadline", "slo")))),
        default_pool=draw(st.sampled_from(("", *NAMES, *CLUSTERS[1:]))),
    )


@st.composite
def questions(draw: st.DrawFn) -> bytes:
    """A request of the tenant."""
    model = draw(st.sampled_from((*MODELS, *MODELS, *MODELS, *ALIASES, "m-huge", "")))
    headers = [bearer("a"), "x-request-id: q"]
    for header, values in (
        ("x-turnout-pool", (*NAMES, "nowhere")),
        ("x-turnout-cluster", (*CLUSTERS, "nowhere")),
        ("x-turnout-policy", (*POLICIES, "nonsense")),
        ("x-turnout-priority", ("7", "-7")),
        ("x-turnout-fallback", ("false", "maybe")),
        ("x-session-id", ("s1",)),
    ):
        if draw(st.integers(0, 8)) == 0:
            headers.append(f"{header}: {draw(st.sampled_from(values))}")
    kind = draw(st.sampled_from((*("chat",) * 6, "list", "card", "responses", "upgrade", "read", "go on")))
    if kind == "list":
        return get("/v1/models", *headers)
    if kind == "card":
        return get(f"/v1/models/{model or 'x'}", *headers)
    if kind == "upgrade":
        offer = ("Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")
        return get(f"/v1/realtime?model={model}", *headers, *offer)
    id = draw(st.sampled_from(("x1", "theirs1", "theirs2")))
    if kind == "read":
        return get(f"/v1/responses/{id}", *headers)
    if kind == "go on":
        body = json.dumps({"model": model, "previous_response_id": id})
        return post(body.encode(), *headers, path="/v1/responses")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]} if model else {"input": "x"})
    return post(body.encode(), *headers, path="/v1/responses" if kind == "responses" else "/v1/chat/completions")


def without_others(pools: Sequence[Pool], tenant: TenantSettings) -> list[Pool]:
    """What is left of the pools when all is taken away that only others may use."""
    (known,) = access_of(tenant).tenants.values()
    left = [pool for pool in pools if may_be_served_by(known, pool)]
    names = {pool.name for pool in left}
    may = model_permission(tenant.models) or (lambda model: True)
    aliases = {pool.name: {alias: model for alias, model in pool.aliases.items() if may(alias)} for pool in left}
    meant = {model for each in aliases.values() for model in each.values()}
    return [
        msgspec.structs.replace(
            pool,
            fallback=[name for name in pool.fallback if name in names],
            aliases=aliases[pool.name],
            # A pool without models would learn them.
            models=[model for model in pool.models if may(model) or model in meant] or ["secret"] * bool(pool.models),
        )
        for pool in left
    ]


def makes(rig: Rig, pools: Sequence[Pool]) -> None:
    """Another tenant makes two responses and has a session, on the pods of each pool."""
    for pool in pools:
        for body in ({"input": "x"}, {"input": "y", "prompt_cache_key": "s1"}):
            name = pool.models[0] if pool.models else MODELS[NAMES.index(pool.name)]
            raw = json.dumps({**body, "model": name}).encode()
            client = rig.client().sends(post(raw, bearer("b"), f"x-turnout-pool: {pool.name}", path="/v1/responses"))
            if not client.raw:
                rig.asked().sends(ok(b'{"id":"theirs%d"}' % (1 + ("prompt_cache_key" in body))))


def answers(
    pools: Sequence[Pool], default: str, tenant: TenantSettings, asked: Sequence[bytes], down: str, *, others: bool
) -> list[bytes]:
    """What the gateway says to each request. Each pool without models learns them from its pod. `others`: another
    tenant has used all pools. The pool `down` has no pod."""
    other = TenantSettings(name="b", targets=["*"])
    said = []
    pods = {pool.name: int(pool.name != down) for pool in pools}
    with Rig(pools=list(pools), pods=pods, default_pool=default) as rig:
        rig.rebuild(rig.gateway.deps._replace(access=access_of(tenant, other)))
        for pool in pools:
            if not pool.models and pods[pool.name]:
                rig.lists(1, f"learned-by-{pool.name}", MODELS[NAMES.index(pool.name)], pool=pool.name)
        if others:
            makes(rig, pools)
        for question in asked:
            client = rig.client().sends(question)
            if not client.raw:
                rig.asked().sends(ok(b'{"id":"x1"}'))
            said.append(_ADDRESS.sub(b"POD", client.raw))
            client.leaves()
    return said


FULL = Pool(name="p0", models=["m-small"], fallback=["p1"]), Pool(name="p1", models=["m-small"])
CHAT_OF_A = post(b'{"model":"m-small","messages":[]}', bearer("a"), "x-request-id: q")


@examples(60)
@example((list(FULL), ""), TenantSettings(name="a", pools=("p0",)), [CHAT_OF_A], "p0")
@given(fleets(), tenants(), st.lists(questions(), min_size=8, max_size=12), st.sampled_from(("", *NAMES[:2])))
def test_what_only_others_may_use_makes_no_difference(
    fleet: tuple[list[Pool], str], tenant: TenantSettings, asked: list[bytes], down: str
) -> None:
    pools, default = fleet
    left = without_others(pools, tenant)
    if not left:
        left = [Pool(name="unused", models=["unused"])]
        tenant = msgspec.structs.replace(tenant, pools=tuple(name for name in tenant.pools if name != "*"))
    kept = default if default in {pool.name for pool in left} else ""
    with_others = answers(pools, default, tenant, asked, down, others=True)
    assert with_others == answers(left, kept, tenant, asked, down, others=False)
