"""Real replicas on a real Redis that is cut off, comes back empty or with an old snapshot: one record for each pool,
and a warning that names what is given up (case I 48). Operators at once get an answer by the contract (case I 49)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_py

from loadtests.processes.redis_server import RedisServer
from loadtests.processes.slow_link import SlowLink, slow_link
from loadtests.sim.ports import HOST
from tests.fakes.gateway_process import PATIENT_SYNC, GatewayProcess, config, starting
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

POLICY = "/admin/pools/default/policy"
KEY = "{turnout}:policy:default"
CUT_S = 1e6
"""Seconds by which a cut proxy delays what the server sends."""
OPERATORS, CHANGES = 12, 10

Start = Callable[..., GatewayProcess]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def link(redis: RedisServer) -> Iterator[SlowLink]:
    """The way to the server that can be cut."""
    with slow_link(redis.port) as made:
        yield made


@pytest.fixture
def start(sims: SimPods, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica and waits until it is ready."""
    with ExitStack() as stack:

        def started(name: str, state: str, **sync: float) -> GatewayProcess:
            settings = config(sims.urls[:2], state=state, replica=name, sync=PATIENT_SYNC | sync)
            replica = stack.enter_context(starting(settings, tmp_path / name))
            replica.wait_until_ready()
            return replica

        yield started


def put(replica: GatewayProcess, policy: str, match: str = "*") -> httpx.Response:
    return replica.control.put(POLICY, json={"policy": policy}, headers={"if-match": match})


def change(replica: GatewayProcess, *policies: str) -> None:
    for policy in policies:
        put(replica, policy).raise_for_status()


def shown(replica: GatewayProcess) -> dict[str, Any]:
    found: dict[str, Any] = replica.control.get(POLICY).raise_for_status().json()
    return found


def agree(*replicas: GatewayProcess, on: tuple[int, str]) -> None:
    def agreed() -> bool:
        records = [shown(each) for each in replicas]
        return all(each == records[0] for each in records) and (records[0]["generation"], records[0]["policy"]) == on

    wait_for(f"the replicas agree on {on}", agreed)


def numbers(*replicas: GatewayProcess) -> list[tuple[float, float]]:
    """What the alert compares, of each replica."""
    names = "turnout_policy_generation", "turnout_policy_digest"
    generations, digests = ([each.metric(name, pool="default") for each in replicas] for name in names)
    return list(zip(generations, digests, strict=True))


def warnings(replica: GatewayProcess) -> list[str]:
    return [str(line["msg"]) for line in replica.lines() if line["level"] == "warning"]


def cut(link: SlowLink, replica: GatewayProcess) -> None:
    link.delay_s = CUT_S
    wait_for("it has no link", lambda: replica.metric("turnout_state_connected") == 0)


def test_two_records_of_one_generation_end_in_that_of_redis_with_a_warning(
    redis: RedisServer, link: SlowLink, start: Start
) -> None:
    """Case I 48."""
    left = start("left", f"redis://{HOST}:{link.port}", timeout_s=2.0)
    right = start("right", redis.url)
    change(left, "random", "p2c", "round_robin")
    agree(left, right, on=(3, "round_robin"))
    lost = shown(left)["digest"]
    assert numbers(left) == numbers(right)
    cut(link, left)
    right.kill()
    redis.restart_empty()
    right = start("right-again", redis.url)
    change(right, "p2c", "random", "least_load")
    (left_generation, left_digest), (right_generation, right_digest) = numbers(left, right)
    assert (left_generation, right_generation) == (3, 3)
    assert left_digest != right_digest, "the alert sees them apart"
    link.delay_s = 0.0
    agree(left, right, on=(3, "least_load"))
    assert numbers(left) == numbers(right)
    assert any(f"generation 3 (policy round_robin, {lost})" in text for text in warnings(left))
    assert [each.metric("turnout_state_policies_given_up_total") for each in (left, right)] == [3, 0]
    assert [put(each, "p2c", f'"3-{lost}"').status_code for each in (left, right)] == [412, 412]
    assert put(left, "p2c", '"3"').status_code == 200
    agree(left, right, on=(4, "p2c"))


def test_changes_on_an_old_snapshot_are_not_overwritten_by_a_replica_that_comes_back(
    redis: RedisServer, link: SlowLink, start: Start
) -> None:
    """Case I 48: generation 4 of the replica is given up for generation 3, which does not lead to it."""
    left = start("left", f"redis://{HOST}:{link.port}", timeout_s=2.0)
    with redis_py.Redis(port=redis.port) as admin:
        change(left, "random", "p2c")
        snapshot: list[bytes] = admin.lrange(KEY, 0, -1)
        change(left, "round_robin", "session_affinity")
        cut(link, left)
        redis.restart_empty()
        admin.rpush(KEY, *snapshot)
        admin.sadd("{turnout}:pools", "default")
        right = start("right", redis.url)
        agree(right, on=(2, "p2c"))
        change(right, "least_load")
        link.delay_s = 0.0
        agree(left, right, on=(3, "least_load"))
        assert any("generation 4 (policy session_affinity, " in text for text in warnings(left))
        assert admin.llen(KEY) == 3


def test_an_old_snapshot_is_noticed_logged_and_completed(redis: RedisServer, start: Start) -> None:
    """Case I 48: every restore is logged."""
    pair = start("left", redis.url), start("right", redis.url)
    with redis_py.Redis(port=redis.port) as admin:
        change(pair[0], "random")
        snapshot: list[bytes] = admin.lrange(KEY, 0, -1)
        change(pair[1], "p2c", "round_robin")
        agree(*pair, on=(3, "round_robin"))
        with admin.pipeline() as emptied:
            emptied.flushall().rpush(KEY, *snapshot).sadd("{turnout}:pools", "default").execute()
        assert put(pair[0], "least_load").status_code == 200
        agree(*pair, on=(4, "least_load"))
        assert admin.llen(KEY) == 4
    said = [text for each in pair for text in warnings(each)]
    assert any("has generation 1, an earlier state: putting back generation 3" in text for text in said)


@pytest.mark.parametrize("mode", ["redis", "memory"])
def test_a_dozen_operators_at_once_get_120_answers_by_the_contract(
    mode: str, redis: RedisServer, link: SlowLink, start: Start
) -> None:
    """Case I 49. Every other change names the generation that its operator saw."""
    if mode == "redis":
        link.delay_s = 0.005
        states = [redis.url, f"redis://{HOST}:{link.port}", redis.url]
        replicas = [start(f"replica-{at}", state) for at, state in enumerate(states)]
    else:
        replicas = [start("alone", "memory://")]

    def operate(at: int) -> list[tuple[bool, int, str]]:
        replica, answers = replicas[at % len(replicas)], []
        for turn in range(CHANGES):
            named = turn % 2 == 1
            match = f'"{shown(replica)["generation"]}"' if named else "*"
            answer = put(replica, ("random", "p2c", "round_robin")[turn % 3], match)
            answers.append((named, answer.status_code, answer.text))
        return answers

    with ThreadPoolExecutor(OPERATORS) as operators:
        answers = [answer for each in operators.map(operate, range(OPERATORS)) for answer in each]
    assert len(answers) == OPERATORS * CHANGES
    found = Counter((named, status) for named, status, _ in answers)
    assert set(found) <= {(False, 200), (True, 200), (True, 412)}, [
        each for each in answers if each[1] not in (200, 412)
    ]
    made = found[False, 200] + found[True, 200]
    wait_for("all follow", lambda: {shown(each)["generation"] for each in replicas} == {made})
