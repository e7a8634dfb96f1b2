"""Policies, pools and targets as a client sees them: which pod gets a request, and that swaps under load fail none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from schedulers import registry
from schedulers.errors import InvalidParams
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Answer, Wire, chat, endless, post
from tests.fakes.sim_process import MODEL, SimPods, sim_pods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

LONG = "All work and no play makes Jack a dull boy. " * 60
"""More than 600 tokens at four bytes each: several prefix blocks."""


@pytest.fixture(scope="module")
def far_sims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    """A pod that serves another model."""
    with sim_pods(1, tmp_path_factory.mktemp("sims") / "far.log", "--model", "far-model") as pods:
        yield pods


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, far_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """`default` has three pods and lets requests choose two policies; `far` has one, in another cluster."""
    pods = all_sims.urls
    pools = [
        pool(
            "default", pods[:3], models=[MODEL], aliases={"gpt-4o": MODEL}, allowed_policies=["random", "round_robin"]
        ),
        pool("far", far_sims.urls, models=["far-model"], aliases={"distant": "far-model"}, cluster="west"),
    ]
    settings = config((), pools=pools, retries={"budget_min": 1000}, targets={"allow": ["far"]})
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def least_load_at_first(gateway: GatewayProcess) -> None:
    """Reset the policy that the previous test has set."""
    use(gateway, "least_load")


@pytest.fixture
def near(sims: SimPods) -> list[str]:
    """The pods of the pool `default`."""
    return sims.addresses[:3]


def ask(port: int, body: dict[str, object], *headers: str) -> Answer:
    with Wire("127.0.0.1", port) as wire:
        wire.send(post(body, *headers))
        return wire.answer()


def use(gateway: GatewayProcess, policy: str, **params: object) -> dict[str, object]:
    """Swap the policy of `default`."""
    answer = gateway.control.put("/admin/pools/default/policy", json={"policy": policy, "params": params})
    shown: dict[str, object] = answer.raise_for_status().json()
    return shown


def pods_of(answers: list[Answer]) -> Counter[str]:
    return Counter(answer.headers["x-turnout-pod"] for answer in answers)


def test_round_robin_spreads_evenly(gateway: GatewayProcess, near: list[str]) -> None:
    use(gateway, "round_robin")
    answers = [ask(gateway.port, chat()) for _ in range(12)]
    assert pods_of(answers) == dict.fromkeys(near, 4)
    assert {answer.headers["x-turnout-policy"] for answer in answers} == {"round_robin"}


def test_least_load_avoids_the_busy_pods(gateway: GatewayProcess, near: list[str]) -> None:
    use(gateway, "least_load")
    with Wire("127.0.0.1", gateway.port) as first, Wire("127.0.0.1", gateway.port) as second:
        for wire in (first, second):
            wire.send(post(endless()))
            wire.some()
        busy = {pod["address"] for pod in gateway.pods() if pod["inflight"]}
        assert len(busy) == 2
        free = set(near) - busy
        assert set(pods_of([ask(gateway.port, chat()) for _ in range(6)])) == free
    wait_for("nothing in flight", lambda: gateway.inflight() == 0)


def test_prefix_aware_keeps_a_conversation_on_its_pod(gateway: GatewayProcess) -> None:
    use(gateway, "prefix_aware")
    talks = [[{"role": "user", "content": f"Talk {at}. {LONG}"}] for at in range(6)]
    homes: list[str] = []
    cached = [0] * len(talks)
    for turn in range(4):
        for at, messages in enumerate(talks):
            answer = ask(gateway.port, {"model": MODEL, "messages": messages, "max_tokens": 20})
            answer_body = answer.json()
            tokens = (answer_body["usage"]["prompt_tokens_details"] or {"cached_tokens": 0})["cached_tokens"]
            if turn == 0:
                homes.append(answer.headers["x-turnout-pod"])
            else:
                assert answer.headers["x-turnout-pod"] == homes[at]
                assert tokens > cached[at]
            cached[at] = tokens
            messages += [answer_body["choices"][0]["message"], {"role": "user", "content": f"Go on, {turn}. {LONG}"}]
    assert gateway.metric("turnout_prefix_cache_hits_total", pool="default") > 0


def test_session_affinity_sticks_by_header_and_spreads_sessions(gateway: GatewayProcess, near: list[str]) -> None:
    """The probability that 60 sessions all miss one of three pods is 3 * (2/3)**60, about 1e-10."""
    use(gateway, "session_affinity")
    homes = {
        session: pods_of([ask(gateway.port, chat(f"{at}"), f"x-session-id: {session}") for at in range(2)])
        for session in map("user-{}".format, range(60))
    }
    assert all(len(home) == 1 for home in homes.values())
    assert {pod for home in homes.values() for pod in home} == set(near)


def test_session_affinity_falls_back_to_the_bodys_user(gateway: GatewayProcess) -> None:
    use(gateway, "session_affinity")
    assert len(pods_of([ask(gateway.port, chat(f"{at}", user="someone")) for at in range(5)])) == 1


def test_a_composed_policy_keeps_sessions_and_names_the_filter_that_no_pod_passes(gateway: GatewayProcess) -> None:
    scorers = [{"name": "session", "weight": 9}, {"name": "queue"}, {"name": "prefix"}]
    use(gateway, "profile", filters=[{"name": "role"}, {"name": "headroom"}], scorers=scorers)
    answers = [ask(gateway.port, chat(f"{at}"), "x-session-id: me") for at in range(6)]
    assert len(pods_of(answers)) == 1
    assert {answer.headers["x-turnout-policy"] for answer in answers} == {"profile"}
    use(gateway, "profile", filters=[{"name": "label", "label": "gpu", "equals": "h100"}])
    refused = ask(gateway.port, chat())
    assert refused.status == 503
    assert "no_pod_passes_label" in refused.json()["error"]["message"]


def test_an_invalid_composed_policy_is_refused_with_the_message_of_turnout_check(gateway: GatewayProcess) -> None:
    before = gateway.control.get("/admin/pools/default/policy").json()
    params = {"scorers": [{"name": "queue"}, {"name": "prefix", "weight": "x"}], "picker": {"name": "bset"}}
    refused = gateway.control.put("/admin/pools/default/policy", json={"policy": "profile", "params": params})
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "params")
    with pytest.raises(InvalidParams) as checked:
        registry.create("profile", params)
    assert refused.json()["error"]["message"].rstrip(".") == str(checked.value)
    assert gateway.control.get("/admin/pools/default/policy").json() == before


def test_swapping_policies_under_load_loses_no_request(gateway: GatewayProcess) -> None:
    policies = ["random", "round_robin", "least_load", "p2c", "session_affinity", "prefix_aware", "profile"]

    async def user(client: httpx.AsyncClient, at: int, seen: Counter[str]) -> None:
        turn = 0
        # On a busy machine the swaps may be slow: send requests until some swaps happened between them.
        while turn < 20 or len(seen) < 3:
            turn += 1
            answer = await client.post("/v1/chat/completions", json=chat(f"{at} {turn}", stream=turn % 2 == 0))
            assert answer.status_code == 200
            assert turn % 2 or answer.text.endswith("data: [DONE]\n\n")
            seen[answer.headers["x-turnout-policy"]] += 1

    async def swaps(client: httpx.AsyncClient, over: asyncio.Event) -> int:
        swapped = 0
        while not over.is_set() or swapped < len(policies):
            body = {"policy": policies[swapped % len(policies)]}
            (await client.put("/admin/pools/default/policy", json=body)).raise_for_status()
            swapped += 1
        return swapped

    async def load() -> tuple[Counter[str], int]:
        seen: Counter[str] = Counter()
        over = asyncio.Event()
        async with (
            httpx.AsyncClient(base_url=gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as client,
            httpx.AsyncClient(
                base_url=gateway.control.base_url, trust_env=False, verify=False, timeout=DEADLINE_S
            ) as control,
            asyncio.TaskGroup() as group,
        ):
            swapping = group.create_task(swaps(control, over))
            await asyncio.gather(*(user(client, at, seen) for at in range(8)))
            over.set()
        return seen, swapping.result()

    generation = int(str(use(gateway, "random")["generation"]))
    seen, swapped = asyncio.run(load())
    assert sum(seen.values()) >= 160
    assert swapped >= len(policies)
    assert gateway.control.get("/admin/pools/default/policy").json()["generation"] == generation + swapped


def test_a_stale_generation_swaps_nothing(gateway: GatewayProcess) -> None:
    etag = gateway.control.get("/admin/pools/default/policy").headers["etag"]
    path, body = "/admin/pools/default/policy", {"policy": "p2c"}
    assert gateway.control.put(path, json=body, headers={"if-match": etag}).status_code == 200
    assert gateway.control.put(path, json=body | {"policy": "random"}, headers={"if-match": etag}).status_code == 412
    assert ask(gateway.port, chat()).headers["x-turnout-policy"] == "p2c"


def test_an_unknown_policy_or_parameter_swaps_nothing(gateway: GatewayProcess) -> None:
    use(gateway, "p2c")
    for wrong in ({"policy": "os.system"}, {"policy": "random", "params": {"x": 1}}, {"policy": "p2c", "extra": 1}):
        assert gateway.control.put("/admin/pools/default/policy", json=wrong).status_code == 422
    assert ask(gateway.port, chat()).headers["x-turnout-policy"] == "p2c"


def test_a_request_may_choose_an_allowed_policy_and_no_other(gateway: GatewayProcess) -> None:
    use(gateway, "least_load")
    assert ask(gateway.port, chat(), "x-turnout-policy: random").headers["x-turnout-policy"] == "random"
    refused = ask(gateway.port, chat(), "x-turnout-policy: prefix_aware")
    assert (refused.status, refused.error["code"]) == (403, "policy_not_allowed")
    assert "random, round_robin" in refused.error["message"]
    assert ask(gateway.port, chat()).headers["x-turnout-policy"] == "least_load"


# Pools, models, targets


def test_an_alias_reaches_the_pod_under_its_own_name(gateway: GatewayProcess) -> None:
    answer = ask(gateway.port, chat(model="gpt-4o"))
    assert answer.status == 200
    assert answer.json()["model"] == MODEL
    assert answer.json()["choices"] == ask(gateway.port, chat()).json()["choices"]


def test_the_model_decides_the_pool(gateway: GatewayProcess, far_sims: SimPods, near: list[str]) -> None:
    (far,) = far_sims.addresses
    assert ask(gateway.port, chat()).headers["x-turnout-pod"] in near
    assert ask(gateway.port, chat(model="far-model")).headers["x-turnout-pod"] == far
    assert ask(gateway.port, chat(model="distant")).headers["x-turnout-pod"] == far


def test_all_names_are_listed_with_their_pool(gateway: GatewayProcess) -> None:
    with httpx.Client(base_url=gateway.url, trust_env=False, verify=False, timeout=DEADLINE_S) as client:
        cards = client.get("/v1/models").json()["data"]
    listed = {card["id"]: card["pool"] for card in cards}
    assert listed == {MODEL: "default", "gpt-4o": "default", "far-model": "far", "distant": "far"}


def test_a_request_goes_to_the_pool_or_cluster_that_it_names(
    gateway: GatewayProcess, far_sims: SimPods, near: list[str]
) -> None:
    (far,) = far_sims.addresses
    assert ask(gateway.port, chat(model="distant"), "x-turnout-pool: far").headers["x-turnout-pod"] == far
    assert ask(gateway.port, chat(model="distant"), "x-turnout-cluster: west").headers["x-turnout-pod"] == far
    assert ask(gateway.port, chat(), "x-turnout-pool: default").headers["x-turnout-pod"] in near


def test_an_explicit_pool_without_the_model_is_a_404(gateway: GatewayProcess) -> None:
    answer = ask(gateway.port, chat(), "x-turnout-pool: far")
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


def test_a_drained_pod_gets_nothing_new_and_finishes_what_it_has(gateway: GatewayProcess, near: list[str]) -> None:
    use(gateway, "round_robin")
    with Wire("127.0.0.1", gateway.port) as wire:
        wire.send(post(chat(stream=True, max_tokens=300, ignore_eos=True)))
        first = wire.some()
        pod = next(pod for pod in near if f"x-turnout-pod: {pod}".encode() in first)
        assert gateway.control.post(f"/admin/pods/{pod}/drain").status_code == 200
        try:
            assert pod not in pods_of([ask(gateway.port, chat()) for _ in range(6)])
            rest = first
            while not rest.endswith(b"0\r\n\r\n"):
                more = wire.some()
                assert more, rest[-200:]
                rest += more
            assert b"[DONE]" in rest
        finally:
            assert gateway.control.delete(f"/admin/pods/{pod}/drain").status_code == 200
    assert pod in pods_of([ask(gateway.port, chat()) for _ in range(3)])
