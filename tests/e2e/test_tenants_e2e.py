"""Two tenants over real processes: two replicas, Redis, two pools of engines that keep responses. Each kind of request
is sent as each tenant to each replica, and gets what its tenant may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, pool, starting
from tests.fakes.known_keys import bearer, record
from tests.fakes.raw_http_client import Answer, Wire, get, post
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

OFFER = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: a2V5", "Sec-WebSocket-Version: 13")
TENANTS = [
    {"name": "a", "models": ["chat-*"], "pools": ["open"], "policies": ["p2c", "session_affinity"]},
    {"name": "b", "targets": ["*"], "policies": ["*"], "default_pool": "closed"},
]


class Replicas(NamedTuple):
    """Two gateways that share their state, and the pods of each pool."""

    gateways: tuple[GatewayProcess, GatewayProcess]
    open: list[str]
    closed: list[str]

    def ask(self, tenant: str, at: int, raw: bytes) -> Answer:
        """The answer of one replica; `raw` has the mark `KEY` where the tenant's key belongs."""
        method = raw.partition(b" ")[0].decode()
        with Wire("127.0.0.1", self.gateways[at].port) as wire:
            wire.send(raw.replace(b"x-key: 1", bearer(tenant).encode()))
            return wire.answer(head_only=method == "HEAD")


@pytest.fixture(scope="module")
def replicas(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    sims, tmp_path = all_sims, tmp_path_factory.mktemp("tenants")
    keys = tmp_path / "keys.yaml"
    lines = [f"  - {{name: {name}, tenant: {name}, sha256: {record(f'tok-{name}').sha256}}}" for name in ("a", "b")]
    keys.write_text("\n".join(["keys:", *lines]))
    pools = [
        pool("open", sims.urls[:2], models=[MODEL], aliases={"chat-1": MODEL}, fallback=["closed"]),
        pool("closed", sims.urls[2:4], models=[MODEL], aliases={"big": MODEL}, allowed_policies=["*"]),
    ]
    pools[0]["allowed_policies"] = ["*"]
    with redis_server() as server, ExitStack() as stack:
        state = f"redis://127.0.0.1:{server.port}"
        gateways = []
        for name in ("one", "two"):
            settings = config(
                (), pools=pools, state=state, replica=name, tenants=TENANTS, auth={"keys_file": str(keys)},
                paths={"forward": ["/v1/*", "/v1/files*"]},
            )  # fmt: skip
            gateways.append(stack.enter_context(starting(settings, tmp_path / name)))
        for gateway in gateways:
            gateway.wait_until_ready()
        yield Replicas((gateways[0], gateways[1]), sims.addresses[:2], sims.addresses[2:4])


def chat(model: str, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    return post(body, "x-key: 1", *headers, path=path)


def in_pool(name: str) -> bytes:
    return chat("chat-1", f"x-turnout-pool: {name}")


def respond(model: str, **fields: object) -> bytes:
    return post({"model": model, "input": "hi", "max_output_tokens": 4, **fields}, "x-key: 1", path="/v1/responses")


def things(id: str) -> dict[str, bytes]:
    """Requests about a response, the reading ones first."""
    return {
        "read": get(f"/v1/responses/{id}", "x-key: 1"),
        "head": get(f"/v1/responses/{id}", "x-key: 1", method="HEAD"),
        "go on": respond("chat-1", previous_response_id=id),
        "escaped": post(
            b'{"model":"chat-1","input":"hi","previous\\u005fresponse_id":"%b"}' % id.encode(),
            "x-key: 1",
            path="/v1/responses",
        ),
        "cancel": post(b"", "x-key: 1", path=f"/v1/responses/{id}/cancel"),
        "delete": get(f"/v1/responses/{id}", "x-key: 1", method="DELETE"),
    }


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, "" if answer.status < 400 or not answer.body else str(answer.error["code"])


OK = (200, "")
DENIED = (403, "permission_denied")
NOT_FOUND = (404, "model_not_found")


def to(path: str, **body: object) -> bytes:
    return post(body, "x-key: 1", path=path)


def read(path: str, *headers: str) -> bytes:
    return get(path, "x-key: 1", *headers)


MATRIX = {
    "own model": (chat("chat-1"), OK, OK),
    "a model of others": (chat("big"), NOT_FOUND, OK),
    "the pods' own name": (chat(MODEL), NOT_FOUND, OK),
    "an unknown model": (chat("no-such-model"), NOT_FOUND, (404, None)),
    "completions": (to("/v1/completions", model="big", prompt="x"), NOT_FOUND, OK),
    "embeddings": (to("/v1/embeddings", model="big", input="x"), NOT_FOUND, OK),
    "messages": (chat("big", path="/v1/messages"), (404, None), OK),
    "responses": (respond("big"), NOT_FOUND, OK),
    "tokenize": (to("/tokenize", model="big", prompt="x"), NOT_FOUND, OK),
    "no model": (to("/v1/completions", prompt="x"), (400, "missing_model"), OK),
    "a pool of others": (chat(MODEL, "x-turnout-pool: closed"), DENIED, OK),
    "an unknown pool": (chat(MODEL, "x-turnout-pool: none"), DENIED, DENIED),
    "a policy": (chat("chat-1", "x-turnout-policy: p2c"), OK, OK),
    "a policy of others": (chat("chat-1", "x-turnout-policy: random"), DENIED, OK),
    "a card": (read("/v1/models/chat-1"), OK, OK),
    "a card of others": (read("/v1/models/big"), NOT_FOUND, OK),
    "a list of pods": (read("/v1/files"), DENIED, DENIED),
    "responses by websocket": (read("/v1/responses?model=chat-1", *OFFER), DENIED, DENIED),
    "an unknown key": (post({"model": "chat-1"}, "x-api-key: tok-c"), (401, None), (401, None)),
}
"""Request -> status and code that A and B get; None: whatever the API calls it."""


def test_each_kind_of_request_gets_what_its_tenant_may_have_on_both_replicas(replicas: Replicas) -> None:
    for kind, (raw, for_a, for_b) in MATRIX.items():
        for at in (0, 1):
            for tenant, (status, reason) in (("a", for_a), ("b", for_b)):
                answer = replicas.ask(tenant, at, raw)
                assert answer.status == status, (kind, tenant, answer.body)
                assert reason is None or code(answer)[1] == reason, (kind, tenant, answer.body)
                if tenant == "a" and status == 200 and "x-turnout-pod" in answer.headers:
                    assert answer.headers["x-turnout-pod"] in replicas.open, kind


def test_a_tenant_cannot_tell_what_others_may_use_from_what_does_not_exist(replicas: Replicas) -> None:
    for at in (0, 1):
        listed = replicas.ask("a", at, get("/v1/models", "x-key: 1")).json()["data"]
        assert [(card["id"], card.get("fallback")) for card in listed] == [("chat-1", None)]
        every = replicas.ask("b", at, get("/v1/models", "x-key: 1")).json()["data"]
        assert {card["id"] for card in every} == {"chat-1", "big", MODEL}
        for there, nowhere in ((chat("big"), chat("xyz")), (in_pool("closed"), in_pool("nowhere"))):
            said = [replicas.ask("a", at, raw).error["message"] for raw in (there, nowhere)]
            assert said[0] == said[1].replace("xyz", "big").replace("nowhere", "closed")


def test_a_fall_back_stays_in_the_tenants_pools(replicas: Replicas, sims: SimPods) -> None:
    for address in replicas.open:
        sims.fault(address, "http_503")
    for at in (0, 1):
        assert code(replicas.ask("a", at, chat("chat-1")))[0] == 503
        answer = replicas.ask("b", at, chat(MODEL, "x-turnout-pool: open"))
        assert (answer.status, answer.headers["x-turnout-pool"]) == (200, "closed")
    sims.well()
    for gateway in replicas.gateways:
        wait_for("all pods are well again", lambda gateway=gateway: all(pod["routable"] for pod in gateway.pods()))  # type: ignore[misc]


@pytest.mark.parametrize("made_at", [0, 1])
def test_what_one_tenant_made_does_not_exist_for_the_other_on_either_replica(replicas: Replicas, made_at: int) -> None:
    made = replicas.ask("a", made_at, respond("chat-1"))
    assert made.status == 200, made.body
    id, unknown = str(made.json()["id"]), "resp_00000000000000000000000000000000"
    for at in (0, 1):
        for kind, raw in things(id).items():
            answer, nothing = replicas.ask("b", at, raw), replicas.ask("b", at, things(unknown)[kind])
            assert code(answer) == code(nothing), kind
            assert answer.status == 404
            assert answer.body == nothing.body.replace(unknown.encode(), id.encode())
    for at in (1 - made_at, made_at):
        for kind in ("read", "go on", "escaped"):
            answer = replicas.ask("a", at, things(id)[kind])
            assert answer.status == 200, (kind, answer.body)
            assert answer.headers["x-turnout-pod"] == made.headers["x-turnout-pod"]
    assert replicas.ask("a", 1 - made_at, things(id)["delete"]).status == 200


def test_usage_is_counted_by_tenant_on_the_control_port_only(replicas: Replicas) -> None:
    gateway = replicas.gateways[0]
    series = (
        'turnout_tenant_requests_total{status_class="2xx",tenant="a"}',
        'turnout_tenant_tokens_total{kind="completion",tenant="b"}',
        'turnout_tenant_rejections_total{reason="model_not_found",tenant="a"}',
    )

    def counted() -> list[float]:
        lines = dict(line.rsplit(" ", 1) for line in gateway.control.get("/metrics").text.splitlines())
        return [float(lines.get(each, 0.0)) for each in series]

    before = counted()
    for tenant, model in (("a", "chat-1"), ("b", "big"), ("a", "big")):
        replicas.ask(tenant, 0, chat(model))
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1.0, 2.0, 1.0]


def test_nothing_of_the_control_port_is_on_the_inference_port_whoever_asks(replicas: Replicas) -> None:
    described = replicas.gateways[0].control.get("/openapi.json").raise_for_status().json()
    paths = {path.replace("{", "").replace("}", "") for path in described["paths"]} | {"/metrics", "/docs"}
    assert {"/admin/pods", "/admin/keys", "/admin/state"} <= paths
    for path in paths - {"/livez", "/readyz"}:
        for tenant in ("a", "b"):
            answer = replicas.ask(tenant, 0, get(path, "x-key: 1"))
            assert answer.status == 404, path
            assert b"tenant" not in answer.body


def test_a_session_of_one_tenant_is_not_that_of_the_other(replicas: Replicas) -> None:
    def pods(tenant: str, at: int, *headers: str) -> list[str]:
        raw = [
            chat("chat-1", "x-turnout-policy: session_affinity", f"x-session-id: {number}", *headers)
            for number in range(12)
        ]
        return [replicas.ask(tenant, at, each).headers["x-turnout-pod"] for each in raw]

    of_a, of_b = (pods(tenant, 0, "x-turnout-pool: open") for tenant in ("a", "b"))
    assert set(of_a) == set(of_b) == set(replicas.open)
    assert of_a != of_b
    assert (pods("a", 1), pods("b", 1, "x-turnout-pool: open")) == (of_a, of_b)
