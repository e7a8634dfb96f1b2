"""Which requests get two pods, where pods of both kinds stand in one pool."""

from __future__ import annotations

import json

from router.dataplane.pair_dispatch import splits_of
from router.settings import Disaggregation, PolicySpec, Pool, Retries
from schedulers.types import Pod, PodId, Role
from tests.fakes.memory_client_and_pods import ok
from tests.fakes.memory_gateway import Rig

ROLES: dict[str, Role] = {"10.9.0.1:8000": "prefill", "10.9.0.2:8000": "decode", "10.9.0.3:8000": "decode"}
LONG = json.dumps({"model": "m", "messages": [{"role": "user", "content": "word " * 2000}]}).encode()
SHORT = b'{"model":"m","messages":[]}'


def rig(*, limit: int | None = None) -> Rig:
    """One pool, in which discovery found the pods' roles."""
    split = Disaggregation()
    rig = Rig(Pool(name="main", models=["m"], policy=PolicySpec(name="prefix_aware"), disaggregation=split), pods=0)
    pods = [Pod(PodId(address), address, role=role, max_inflight=limit) for address, role in ROLES.items()]
    rig.pod_registry.on_pods("main", pods)
    return rig


def test_a_pool_without_the_section_is_not_split() -> None:
    assert splits_of([Pool(name="a"), Pool(name="b")]) == {}
    split = splits_of([Pool(name="a", disaggregation=Disaggregation(prefill="b"))])["a"]
    assert (split.prefill_pool, split.prefill, split.decode) == ("b", None, ("role", "decode"))


def test_pods_of_one_pool_do_what_their_role_says() -> None:
    with rig() as it:
        asks = it.asks(LONG)
        assert it.asked().address == "10.9.0.1:8000"
        it.asked().sends(ok())
        assert ROLES[it.asked().address] == "decode"
        it.asked().sends(ok())
        assert asks.answer().status == 200


def test_short_requests_never_reach_a_prefill_pod() -> None:
    with rig() as it:
        clients = [it.asks(SHORT) for _ in range(6)]
        asked = {end.address for end in it.net.made}
        assert asked == {"10.9.0.2:8000", "10.9.0.3:8000"}
        for _ in clients:
            it.asked().sends(ok())
        assert [client.answer().status for client in clients] == [200] * 6


def test_a_request_waits_while_every_decode_pod_is_full() -> None:
    with rig(limit=1) as it:
        clients = [it.asks(SHORT) for _ in range(3)]
        assert it.admission.queued == 1
        for _ in clients:
            it.asked().sends(ok())
        assert [client.answer().status for client in clients] == [200] * 3


def test_a_request_goes_alone_while_every_prefill_pod_is_full() -> None:
    with rig(limit=1) as it:
        first, second = it.asks(LONG), it.asks(LONG)
        assert ROLES[it.net.made[-1].address] == "decode"
        for _ in range(3):
            it.asked().sends(ok())
        assert (first.answer().status, second.answer().status) == (200, 200)


def test_without_a_decode_pod_there_is_no_answer() -> None:
    with rig() as it:
        for address, role in ROLES.items():
            if role == "decode":
                it.view.block(PodId(address), "test")
        assert it.asks(LONG).answer().status == 503


def sglang(roles: list[Role], limit: int | None = None) -> Rig:
    split = Disaggregation(connector="sglang")
    pool = Pool(name="main", models=["m"], policy=PolicySpec(name="prefix_aware"), disaggregation=split)
    rig = Rig(pool, pods=0, retries=Retries(budget_min=1000))
    addresses = [f"10.9.0.{number}:8000" for number in range(len(roles))]
    pods = [Pod(PodId(at), at, role=role, max_inflight=limit) for at, role in zip(addresses, roles, strict=True)]
    rig.pod_registry.on_pods("main", pods)
    return rig


def test_a_pair_that_fails_gives_both_charges_back_where_no_other_is_left() -> None:
    with sglang(["both", "both"]) as it:
        client = it.asks(LONG)
        it.net.made[1].dies()
        assert client.answer().status == 502
        assert [status.load.inflight for status in it.view.statuses("main")] == [0, 0]


def test_a_request_of_sglang_waits_while_every_prefill_pod_is_full() -> None:
    with sglang(["prefill", "decode", "decode"], limit=1) as it:
        first, second = it.asks(LONG), it.asks(LONG)
        assert it.admission.queued == 1
        for at in range(2):
            it.net.made[at].sends(ok())
        for end in it.net.made[2:] or it.net.made:
            end.sends(ok())
        assert (first.answer().status, second.answer().status) == (200, 200)
