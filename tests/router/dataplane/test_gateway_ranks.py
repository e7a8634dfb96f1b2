"""Pods with data-parallel ranks: each is a target, and requests name theirs. The rig checks at its end that nothing
is held for a request.
"""

from __future__ import annotations

import json
from collections import Counter

from router.settings import Disaggregation, PolicySpec, Pool, Retries
from tests.fakes.memory_client_and_pods import Client, PodEnd, ok
from tests.fakes.memory_gateway import Rig, one_pool

RANK = "x-data-parallel-rank"
TALKS = 8
WORDS = 2000


def target(client: Client) -> str:
    """The target that the answer names."""
    return client.answer().headers["x-turnout-pod"]


def asked_of(end: PodEnd) -> str:
    """The target that the pod's request names, by where it came and what it says."""
    return f"{end.address}@{end.request.headers[RANK]}"


def open_requests(rig: Rig) -> list[PodEnd]:
    return [end for end in rig.net.made if not end.transport.ending and len(end.requests) > end.answered]


def test_requests_are_spread_over_ranks_and_a_client_does_not_choose_one() -> None:
    with Rig(one_pool("least_load", ranks=2), pods=2) as rig:
        clients = [rig.asks(b'{"model":"m"}', f"{RANK}: 7") for _ in range(8)]
        pods = open_requests(rig)
        assert set(Counter(map(asked_of, pods)).values()) == {2}
        assert {each.pod.id: each.load.inflight for each in rig.view.statuses()} == Counter(map(asked_of, pods))
        for end in pods:
            end.sends(ok())
        assert sorted(map(target, clients)) == sorted(map(asked_of, pods))


def test_the_turns_of_a_conversation_reach_the_rank_that_has_the_turns_before() -> None:
    talks = [[{"role": "user", "content": f"{at} " + "word " * WORDS}] for at in range(TALKS)]
    homes: list[str] = []
    with Rig(one_pool("prefix_aware", ranks=2), pods=2) as rig:
        for turn in range(3):
            clients = [rig.asks(json.dumps({"model": "m", "messages": talk}).encode()) for talk in talks]
            for end in open_requests(rig):
                end.sends(ok())
            found = [target(client) for client in clients]
            homes = homes or found
            assert found == homes, f"turn {turn}"
            for at, talk in enumerate(talks):
                talk += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": f"{at} more " * 100}]
        assert set(Counter(homes).values()) == {TALKS // 4}, "each rank has as many"


def test_a_pod_with_one_target_is_sent_the_client_s_own_rank() -> None:
    with Rig(one_pool(), pods=1) as rig:
        client = rig.asks(b'{"model":"m"}', f"{RANK}: 7")
        assert rig.asked().request.headers[RANK] == "7"
        rig.asked().sends(ok())
        assert target(client) == "10.0.0.1:8000"


def test_after_a_failure_no_other_rank_of_the_process_is_tried() -> None:
    with Rig(one_pool("round_robin", ranks=4), pods=2, retries=Retries(budget_min=100)) as rig:
        client = rig.asks()
        failed = rig.asked()
        failed.sends(ok(status="502 Bad Gateway"))
        second = rig.asked()
        assert second.address != failed.address
        second.sends(ok())
        assert (client.answer().status, client.answer().headers["x-turnout-attempts"]) == (200, "2")


def test_a_process_that_fails_leaves_the_rotation_with_all_its_ranks() -> None:
    with Rig(one_pool("round_robin", ranks=2), pods=2, retries=Retries(budget_min=100)) as rig:
        for _ in range(12):
            client = rig.asks()
            while open_requests(rig):
                end = rig.asked()
                end.sends(ok(status="502 Bad Gateway" if end.address == "10.0.0.1:8000" else "200 OK"))
            assert client.answer().status == 200
        out = {status.pod.id for status in rig.view.statuses() if status.blockers}
        assert out == {"10.0.0.1:8000@0", "10.0.0.1:8000@1"}


def test_each_of_two_pods_for_one_request_gets_its_own_rank() -> None:
    split = Disaggregation(prefill="p")
    policy = PolicySpec(name="prefix_aware")
    pools = [
        Pool(name="d", models=["m"], policy=policy, disaggregation=split, ranks=2),
        Pool(name="p", models=["m"], policy=policy, ranks=4),
    ]
    with Rig(pools=pools, pods=1, retries=Retries(budget_min=100)) as rig:
        seen: set[tuple[str, str]] = set()
        for number in range(12):
            body = {"model": "m", "messages": [{"role": "user", "content": f"{number} " + "word " * WORDS}]}
            client = rig.asks(json.dumps(body).encode())
            prefill = rig.asked()
            named = asked_of(prefill)
            prefill.sends(ok(json.dumps({"id": "1", "kv_transfer_params": {"remote_port": 5600}}).encode()))
            decode = rig.asked()
            sent = asked_of(decode)
            decode.sends(ok())
            headers = client.answer().headers
            assert (headers["x-turnout-prefill-pod"], headers["x-turnout-pod"]) == (named, sent)
            seen.add((named[-2:], sent[-2:]))
        assert len(seen) > 2
