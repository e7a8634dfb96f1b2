import asyncio

import pytest

from loadtests.sim.conversation import Shape
from loadtests.sim.ports import free_ports
from loadtests.sim.simpod.faults import Fault, Kind
from loadtests.sim.simpod.fleet import SimPod
from loadtests.sim.traffic import Traffic, TrafficStats, quantile
from tests.fakes.waiting import until

SHAPE = Shape(systems=2, system_tokens=100, turns=4, turn_tokens=20, max_tokens=8, think_s=0.0)


def drive(requests: int, fault: Fault | None = None) -> TrafficStats:
    async def scenario() -> TrafficStats:
        async with SimPod(speed=100, output_mean_tokens=1000, name="pod-a") as pod:
            pod.set_fault(fault)
            traffic = Traffic(pod.url, "sim-model", 3, shape=SHAPE)
            await traffic.run(requests=requests)
            assert dict(pod.received) == {"/v1/chat/completions": requests}
            return traffic.stats

    return asyncio.run(scenario())


def test_users_send_requests_and_their_results_are_counted() -> None:
    stats = drive(24)
    assert (stats.requests, stats.errors, stats.inflight) == (24, 0, 0)
    assert stats.by_pod == {"pod-a": 24}
    assert 0 < stats.output_tokens <= 24 * 8
    assert 0 < stats.ttft_p50_s <= stats.ttft_p99_s
    assert stats.cached_share > 0.5, "later turns find the earlier ones"
    assert stats.tokens_per_s > 0


@pytest.mark.parametrize(
    ("kind", "counted"),
    [
        ("http_503", "http_503"),
        ("close_before_first_byte", "connection_lost"),
        ("garbage", "bad_http"),
        ("truncated_sse", "connection_lost"),
        ("reset_midstream", "connection_lost"),
    ],
)
def test_failures_are_counted_by_kind_and_users_go_on(kind: Kind, counted: str) -> None:
    stats = drive(9, Fault(kind=kind, count=3))
    assert (stats.requests, stats.errors_by_kind) == (6, {counted: 3})


def test_a_pod_that_hangs_is_a_timeout() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod:
            pod.set_fault(Fault(kind="hang"))
            traffic = Traffic(pod.url, "sim-model", 1, shape=SHAPE, timeout_s=0.01)
            await traffic.run(requests=1)
            assert traffic.stats.errors_by_kind == {"timeout": 1}

    asyncio.run(scenario())


def test_a_connection_the_pod_closed_while_idle_is_no_failure() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100, keepalive_s=0.001) as pod:
            shape = Shape(max_tokens=2, think_s=0.01)
            traffic = Traffic(pod.url, "sim-model", 2, shape=shape)
            await traffic.run(requests=10)
            assert (traffic.stats.requests, traffic.stats.errors) == (10, 0)

    asyncio.run(scenario())


def test_without_an_end_it_runs_until_cancelled() -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod:
            traffic = Traffic(pod.url, "sim-model", 2, shape=SHAPE)
            task = asyncio.get_running_loop().create_task(traffic.run())
            await until(lambda: traffic.stats.requests >= 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert traffic.stats.inflight == 0

    asyncio.run(scenario())


def test_no_server_is_a_connect_error() -> None:
    async def scenario() -> None:
        async with SimPod(free_ports(1)[0]) as pod:
            url = pod.url
        traffic = Traffic(url, "sim-model", 1, shape=SHAPE)
        await traffic.run(requests=2)
        assert traffic.stats.errors_by_kind == {"connect": 2}

    asyncio.run(scenario())


def test_only_plain_http_urls_are_accepted() -> None:
    with pytest.raises(ValueError, match="only http"):
        Traffic("https://127.0.0.1", "m", 1)


def test_quantiles_of_no_values_and_of_a_few() -> None:
    assert quantile([], 0.5) == 0.0
    assert (quantile([1, 2, 3, 4], 0.5), quantile([1, 2, 3, 4], 0.99)) == (3, 4)
