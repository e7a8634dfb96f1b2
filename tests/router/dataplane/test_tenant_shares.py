"""What tenants' requests are charged, when they end in each way, and that a saturated pool is fair between tenants."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from router.dataplane.http.chunked import LAST_CHUNK
from router.settings import Limits, PolicySpec, Pool, TenantSettings
from schedulers.types import Pod, PodId
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import SSE_HEAD, Client, event, ok
from tests.fakes.memory_gateway import Rig, one_pool

POD = PodId("10.0.0.1:8000")
A, B = TenantSettings(name="a"), TenantSettings(name="b", weight=2.0)
URGENT = TenantSettings(name="urgent", priority=5)


class SharedRig(Rig):
    """A gateway with one pod of one place, and the tenants A and B."""

    def __init__(
        self, *tenants: TenantSettings, pool: Pool | None = None, pods: int = 1, limits: Limits | None = None
    ) -> None:
        every = tenants or (A, B)
        weights = {tenant.name: (tenant.weight, tenant.priority) for tenant in every}
        super().__init__(pool or one_pool(max_inflight_per_pod=1), pods=pods, limits=limits, weights=weights)
        self.rebuild(self.gateway.deps._replace(access=access_of(*every)))

    def __enter__(self) -> SharedRig:
        super().__enter__()
        return self

    def ask(self, tenant: str, prompt: str = "hi", most: int = 10, *headers: str, stream: bool = False) -> Client:
        messages = [{"role": "user", "content": prompt}]
        body: dict[str, object] = {"model": "m", "max_tokens": most, "messages": messages, "stream": stream}
        return self.asks(json.dumps(body).encode(), bearer(tenant), *headers)

    def counted(self, tenant: str) -> float:
        assert self.shares is not None
        return self.shares.counter("main", tenant).virtual

    def served(self, number: int) -> list[str]:
        """The tenants of the next requests at the pod, each of which gets an answer of ten tokens."""
        order = []
        for _ in range(number):
            end = self.asked()
            order.append(str(end.request.headers["x-tenant"]))
            end.sends(ok(usage(10)))
        return order


def usage(answer: int) -> bytes:
    return b'{"usage":{"prompt_tokens":5,"completion_tokens":%d,"total_tokens":9}}' % answer


def test_a_full_pool_serves_tenants_by_weight_whoever_asked_first() -> None:
    with SharedRig() as rig:
        rig.ask("a", "x" * 4000, 10, "x-tenant: a")
        for _ in range(30):
            rig.ask("a", "x" * 4000, 10, "x-tenant: a")
        for _ in range(30):
            rig.ask("b", "x" * 4000, 10, "x-tenant: b")
        order = Counter(rig.served(46)[1:])
        assert abs(order["b"] - 2 * order["a"]) <= 6, order
        rig.served(15)
        rig.assert_clean()


def test_a_tenant_of_a_higher_priority_goes_first_whatever_others_ask_for() -> None:
    with SharedRig(A, URGENT) as rig:
        rig.ask("a", "hi", 10, "x-tenant: a")
        rig.ask("a", "hi", 10, "x-tenant: a", "x-turnout-priority: 99")
        rig.ask("urgent", "hi", 10, "x-tenant: urgent")
        assert rig.served(3) == ["a", "urgent", "a"]


def test_within_a_tenant_the_requests_own_priority_orders() -> None:
    with SharedRig(TenantSettings(name="a", headers=("priority",))) as rig:
        for name, priority in (("0", 0), ("1", 0), ("2", 3), ("3", 0)):
            rig.ask("a", "hi", 10, f"x-tenant: {name}", f"x-turnout-priority: {priority}")
        assert rig.served(4) == ["0", "2", "1", "3"]


def test_a_request_is_charged_once_and_settled_by_its_usage() -> None:
    with SharedRig() as rig:
        rig.ask("a", "x" * 4000, 100)
        first = rig.counted("a")
        assert first > 1000
        waits = [rig.ask("a", "x" * 4000, 100), rig.ask("b", "hi", 100)]
        rig.asked().sends(ok(usage(7)))
        for _ in waits:
            rig.asked().sends(ok(usage(7)))
        rig.assert_clean()


def test_all_requests_of_tenants_wait_for_the_first_pod_of_a_pool() -> None:
    with SharedRig(pool=one_pool(scale_from_zero_s=60.0), pods=0) as rig:
        clients = [rig.ask(tenant) for tenant in "ab" * 50]
        rig.passes(59)
        assert rig.admission.queued == 100
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [Pod(POD, str(POD))]))
        for _ in clients:
            rig.asked().sends(ok(usage(1)))
        assert {client.answer().status for client in clients} == {200}
        rig.assert_clean()


def test_a_request_over_a_stale_connection_is_charged_once() -> None:
    with SharedRig() as rig:
        rig.ask("a", "x" * 4000, 10)
        rig.asked().sends(ok(usage(10)))
        before = rig.counted("a")
        rig.ask("a", "x" * 4000, 10)
        once = rig.counted("a")
        rig.asked().dies()
        assert rig.counted("a") == once > before
        rig.asked().sends(ok(usage(10)))
        assert rig.shares is not None
        assert rig.shares.counter("main", "a").open == 0
        rig.assert_clean()


@pytest.mark.parametrize("headers", [(), ("x-turnout-pool: main",)])
def test_what_a_tenant_uses_alone_is_not_held_against_it(headers: tuple[str, ...]) -> None:
    with SharedRig() as rig:
        for _ in range(20):
            rig.ask("a", "x" * 4000, 10, "x-tenant: a", *headers)
            rig.served(1)
        rig.ask("a", "x" * 4000, 10, "x-tenant: a")
        for tenant in "abab":
            rig.ask(tenant, "x" * 4000, 10, f"x-tenant: {tenant}")
        assert Counter(rig.served(4)[1:]) != {"b": 3}
        rig.served(1)


@pytest.mark.parametrize("status", [b"500 Oops", b"429 Later"])
def test_an_answer_that_is_an_error_costs_nothing(status: bytes) -> None:
    with SharedRig() as rig:
        rig.ask("a", "x" * 4000)
        rig.ask("b")
        rig.ask("a")
        charged = rig.counted("a")
        rig.asked().sends(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
        assert rig.counted("a") < charged - 1000
        while not rig.nobody_asked():
            rig.asked().sends(ok(usage(1)))
        rig.assert_clean()


def test_a_client_that_leaves_leaves_nothing_behind_whether_it_waits_or_is_served() -> None:
    with SharedRig() as rig:
        served, waiting = rig.ask("a"), rig.ask("b")
        waiting.leaves()
        assert rig.admission.queued == 0
        served.leaves()
        rig.assert_clean()


@pytest.mark.parametrize("leaves", [False, True])
def test_a_stream_without_usage_is_charged_by_its_events(leaves: bool) -> None:
    with SharedRig() as rig:
        client = rig.ask("a", "x" * 4000, 0, stream=True)
        waiting = rig.ask("b")  # so that what is charged stays to be seen
        begun = rig.counted("a")
        pod = rig.asked()
        pod.sends(SSE_HEAD, *[event("x") for _ in range(1002)])
        client.leaves() if leaves else pod.sends(LAST_CHUNK)
        assert rig.counted("a") == begun - 256 + 1000
        rig.asked().sends(ok(usage(1)))
        assert waiting.answer().status == 200
        rig.assert_clean()


def test_a_request_of_a_tenant_goes_behind_those_that_wait() -> None:
    with SharedRig() as rig:
        rig.ask("a", "hi", 10, "x-tenant: a")
        rig.ask("a", "hi", 10, "x-tenant: a")
        rig.ask("b", "hi", 10, "x-tenant: b")
        assert rig.admission.queued == 2
        assert sorted(rig.served(3)) == ["a", "a", "b"]


def test_a_tenant_with_too_many_sends_its_next_prompt_when_a_first_token_has_come() -> None:
    with SharedRig(pool=one_pool(max_inflight_per_pod=64)) as rig:
        clients = [rig.ask("b", stream=True), *(rig.ask("a", "x" * 4000, stream=True) for _ in range(3))]
        assert (len(rig.net.made), rig.admission.queued) == (3, 1), "its third prompt waits"
        rig.net.made[1].sends(SSE_HEAD, event("x"))
        assert (len(rig.net.made), rig.admission.queued) == (4, 0)
        for at, pod in enumerate(rig.net.made):
            pod.sends(*([] if at == 1 else [SSE_HEAD]), LAST_CHUNK)
        assert {client.answer().status for client in clients} == {200}
        rig.assert_clean()


def test_a_model_with_room_is_not_held_up_by_requests_for_another() -> None:
    pool = Pool(name="main", policy=PolicySpec(name="round_robin"), max_inflight_per_pod=1)
    with SharedRig(pool=pool, pods=2) as rig:
        rig.lists(1, "m")
        rig.lists(2, "n")
        rig.ask("a")
        rig.ask("a")
        assert rig.admission.queued == 1
        other = rig.asks(b'{"model":"n","prompt":"x"}', bearer("b"))
        assert rig.admission.queued == 1
        for end in list(rig.net.made):
            end.sends(ok(usage(1)))
        rig.asked().sends(ok(usage(1)))
        assert other.answer().status == 200
        rig.assert_clean()


def test_a_tenant_with_too_many_requests_at_pods_waits_while_others_find_a_place() -> None:
    with SharedRig(pool=one_pool(max_inflight_per_pod=8)) as rig:
        rig.ask("b")
        for _ in range(7):
            rig.ask("a")
        assert rig.admission.queued == 2, "a has 5 of 6 places"
        late = rig.ask("b")
        assert (rig.admission.queued, late.raw) == (2, b"")
        assert len(rig.net.made) == 7
        while not rig.nobody_asked():
            rig.asked().sends(ok(usage(1)))
        assert rig.admission.queued == 0
        rig.assert_clean()


def test_a_tenant_that_fills_the_queue_does_not_fill_it_for_others() -> None:
    with SharedRig(limits=Limits(max_queue=4)) as rig:
        many = [rig.ask("a") for _ in range(6)]
        assert many[5].answer().status == 429
        others = [rig.ask("b") for _ in range(4)]
        assert rig.admission.queued == 4 + 3
        assert others[3].answer().status == 429, "its part is 2 of 3 of the 4"
