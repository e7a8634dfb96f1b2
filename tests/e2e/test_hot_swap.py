"""Swapping policies of real gateways: under load, over two replicas on Redis, and while Redis hangs or is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes.redis_server import RedisServer
from loadtests.swaps.choices import CHOICES
from loadtests.swaps.play import Gateway, Plan, play
from tests.fakes.gateway_process import PATIENT_SYNC, GatewayProcess, config, running, starting
from tests.fakes.raw_http_client import Wire, chat, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

POOL = "/admin/pools/default"
RARE_BEATS = PATIENT_SYNC | {"lease_s": 300.0}
PUSHED_S = 60.0
"""Seconds within which a pushed change must arrive; it usually takes milliseconds. Without the push it would take a
third of such a lease, 100 s."""


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty server for this test alone."""
    with RedisServer(tmp_path) as server:
        yield server


Start = Callable[[str], GatewayProcess]


@pytest.fixture
def sync() -> Mapping[str, float]:
    """The replicas' timeouts for Redis."""
    return PATIENT_SYNC


@pytest.fixture
def start(redis: RedisServer, sims: SimPods, sync: Mapping[str, float], tmp_path: Path) -> Iterator[Start]:
    """Starts replicas that share their state and waits until they are ready; ends them with the usual assertions."""
    with ExitStack() as stack:

        def started(name: str) -> GatewayProcess:
            settings = config(sims.urls[:3], state=redis.url, replica=name, sync=sync)
            return stack.enter_context(running(settings, tmp_path / name))

        yield started


@pytest.fixture
def pair(start: Start) -> tuple[GatewayProcess, GatewayProcess]:
    """Two replicas."""
    return start("left"), start("right")


@pytest.fixture
def late(redis: RedisServer, sims: SimPods, tmp_path: Path) -> Iterator[Callable[[], GatewayProcess]]:
    """Starts one more replica, which is stopped without assertions."""
    with ExitStack() as stack:
        settings = config(sims.urls[:3], state=redis.url, replica="late")
        yield lambda: stack.enter_context(starting(settings, tmp_path / "late"))


def put(gateway: GatewayProcess, part: str = "policy", *, match: str = "*", **body: Any) -> httpx.Response:
    """PUT of a policy, shadow or canary; `local` becomes a query parameter."""
    params = {"local": "true"} if body.pop("local", False) else {}
    return gateway.control.put(f"{POOL}/{part}", json=body, params=params, headers={"if-match": match})


def shown(gateway: GatewayProcess) -> dict[str, Any]:
    """The policy as the control port shows it."""
    found: dict[str, Any] = gateway.control.get(f"{POOL}/policy").raise_for_status().json()
    return found


def decided_by(gateway: GatewayProcess) -> str:
    """The policy that places a request sent now."""
    with Wire(gateway.host, gateway.port) as wire:
        wire.send(post(chat()))
        answer = wire.answer()
    assert answer.status == 200
    return answer.headers["x-turnout-policy"]


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def agree(pair: tuple[GatewayProcess, ...], policy: str) -> None:
    """Wait until all replicas serve by the same shared record, with this policy."""

    def agreed() -> bool:
        records = [shown(gateway) for gateway in pair]
        return all(each == records[0] for each in records) and not records[0]["local"]

    wait_for("the replicas agree", agreed)
    assert [decided_by(gateway) for gateway in pair] == [policy] * len(pair)


@pytest.mark.realtime
def test_swaps_in_quick_succession_lose_no_request_and_take_no_longer_to_decide(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    gateways = [Gateway(each.url, str(each.control.base_url)) for each in pair]
    outcome = asyncio.run(play(gateways, Plan(calm_s=12.0, rush_s=20.0, turns=4, users=4)))
    assert outcome.passed, outcome
    assert outcome.swaps >= 66
    assert set(outcome.policies) == {choice.policy for choice in CHOICES}
    for gateway in pair:
        assert gateway.metric("turnout_policy_failures_total") == 0


@pytest.mark.parametrize("sync", [RARE_BEATS], ids=["rare beats"])
def test_a_swap_on_one_replica_is_pushed_to_the_other_and_a_stale_one_is_refused(
    pair: tuple[GatewayProcess, GatewayProcess],
) -> None:
    left, right = pair
    for policy in ("round_robin", "random", "p2c"):
        tag = put(left, policy=policy).raise_for_status().headers["etag"]
        wait_for("the other replica uses it", lambda wanted=policy: decided_by(right) == wanted, PUSHED_S)  # type: ignore[misc]
    stale = put(right, match='"1"', policy="least_load")
    assert refused(stale)[:2] == (412, "stale_generation")
    assert [decided_by(gateway) for gateway in pair] == ["p2c", "p2c"]
    assert put(right, match=tag, policy="least_load").status_code == 200
    agree(pair, "least_load")


def test_a_replica_that_starts_later_has_policy_shadow_and_canary_before_it_is_ready(
    start: Start, late: Callable[[], GatewayProcess]
) -> None:
    first = start("first")
    put(first, policy="round_robin").raise_for_status()
    put(first, "shadow", policy="random").raise_for_status()
    put(first, "canary", policy="p2c", percent=1).raise_for_status()
    newcomer = late()
    # As soon as it is ready, the next request is placed by the shared record.
    newcomer.wait_until_ready()
    assert decided_by(newcomer) in ("round_robin", "p2c")
    assert shown(newcomer) == shown(first)
    assert shown(newcomer)["generation"] == 3


def test_a_replica_is_not_ready_before_it_has_read_the_shared_record(
    start: Start, late: Callable[[], GatewayProcess], redis: RedisServer
) -> None:
    put(start("first"), policy="round_robin").raise_for_status()
    redis.pause()
    try:
        newcomer = late()
        wait_for("it waits for the shared state alone", lambda: shared_state_is_awaited(newcomer))
        assert newcomer.control.get("/readyz").status_code == 503
        assert shown(newcomer)["policy"] == "least_load"
    finally:
        redis.resume()
    newcomer.wait_until_ready()
    assert decided_by(newcomer) == "round_robin"


def shared_state_is_awaited(gateway: GatewayProcess) -> bool:
    """Whether the shared state is all that it still waits for."""
    waits_for = gateway.control.get("/admin/state").raise_for_status().json()["waits_for"]
    return len(waits_for) == 1 and waits_for[0].startswith("the shared state")


def while_redis_is_away(pair: tuple[GatewayProcess, GatewayProcess]) -> None:
    """A swap is refused, or with `local` made on one replica alone."""
    left = pair[0]
    status, code, words = refused(put(left, policy="random"))
    assert (status, code) == (503, "store_unavailable")
    assert "nothing was changed on any replica" in words
    assert "--local-only" in words
    assert [decided_by(gateway) for gateway in pair] == ["round_robin", "round_robin"]
    local = put(left, policy="random", local=True).raise_for_status().json()
    assert (local["policy"], local["local"], local["generation"]) == ("random", True, 1)
    assert [decided_by(gateway) for gateway in pair] == ["random", "round_robin"]
    assert [shown(gateway)["local"] for gateway in pair] == [True, False]
    assert left.metric("turnout_policy_local", pool="default") == 1
    assert refused(put(left, "canary", policy="p2c", percent=5, local=True))[:2] == (409, "not_local")


@pytest.mark.parametrize("sync", [PATIENT_SYNC | {"timeout_s": 2.0}], ids=["impatient"])
def test_while_redis_hangs_a_swap_is_refused_or_local_by_choice_and_all_agree_when_it_is_back(
    pair: tuple[GatewayProcess, GatewayProcess], redis: RedisServer
) -> None:
    put(pair[0], policy="round_robin").raise_for_status()
    agree(pair, "round_robin")
    redis.pause()
    try:
        while_redis_is_away(pair)
    finally:
        redis.resume()
    agree(pair, "round_robin")
    put(pair[1], policy="p2c").raise_for_status()
    agree(pair, "p2c")
    assert shown(pair[0])["generation"] == 2


@pytest.mark.realtime
def test_while_redis_is_gone_a_swap_is_refused_or_local_and_an_empty_redis_gets_the_records_back(
    pair: tuple[GatewayProcess, GatewayProcess], redis: RedisServer
) -> None:
    put(pair[0], policy="round_robin").raise_for_status()
    agree(pair, "round_robin")
    redis.stop()
    while_redis_is_away(pair)
    redis.restart_empty()
    agree(pair, "round_robin")
    wait_for("a change is accepted again", lambda: put(pair[1], policy="p2c").status_code == 200)
    agree(pair, "p2c")
    assert shown(pair[0])["generation"] == 2
