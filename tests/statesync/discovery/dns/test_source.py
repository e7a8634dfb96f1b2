"""Discovery by DNS against a real server on loopback. Sleeps are recorded, not slept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import dns.name
import dns.rcode
import pytest

from statesync.discovery import PodTemplate, open_source
from statesync.discovery.dns.source import DnsName, DnsSource, name_of, open_resolver
from statesync.discovery.known import LookupFound
from statesync.errors import DiscoveryError
from tests.fakes.dns_server import DnsServer, serving
from tests.fakes.each_case import each_case
from tests.fakes.virtual_time import Clock
from tests.fakes.waiting import DEADLINE_S

NAME = "vllm.ns.svc."
SRV = "_http._tcp.vllm.ns.svc."


class Watch:
    """A running source: each `look` lets it look once more and returns how long it then wants to sleep."""

    def __init__(self, source: DnsSource, clock: Clock) -> None:
        self.source = source
        self.received: list[list[str]] = []
        self._clock = clock

    async def first(self) -> float:
        return await asyncio.wait_for(self._clock.until_asleep(), DEADLINE_S)

    async def look(self) -> float:
        self._clock.now += await self.first()
        return await self.first()


@asynccontextmanager
async def watching(
    server: DnsServer, url: str = "dns://vllm.ns.svc:8000", *, rng: float = 0.0, tls: bool = False, base: str = ""
) -> AsyncIterator[Watch]:
    resolver = open_resolver([("127.0.0.1", server.port)], timeout_s=DEADLINE_S)
    template = PodTemplate(labels={"zone": "a"}, tls=tls, base=base)
    clock = Clock(0.0)
    source = DnsSource(
        name_of(url),
        interval_s=5.0,
        template=template,
        resolver=resolver,
        sleep=clock.sleep,
        rng=lambda: rng,
    )
    watch = Watch(source, clock)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(source.run(lambda pods: watch.received.append([pod.id for pod in pods])))
        try:
            yield watch
        finally:
            running.cancel()


def test_a_thousand_pods_are_made_over_several_turns_and_unchanged_ones_are_kept() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (60, [f"10.0.{at // 250}.{at % 250}" for at in range(1000)])
        source = DnsSource(
            name_of("dns://vllm.ns.svc:8000"),
            resolver=open_resolver([("127.0.0.1", server.port)], timeout_s=DEADLINE_S),
        )
        first = await source.look()
        server.records[NAME, "A"] = (60, [f"10.0.{at // 250}.{at % 250}" for at in range(900, 1900)])
        second = await source.look()
        assert isinstance(first, LookupFound)
        assert isinstance(second, LookupFound)
        assert {pod.id for pod in first.pods} == {f"10.0.{at // 250}.{at % 250}:8000" for at in range(1000)}
        assert (len(first.pods), len(second.pods)) == (1000, 1000)
        assert len({id(pod) for pod in (*first.pods, *second.pods)}) == 1900

    story(scene)


def story(scene: Callable[[DnsServer], Coroutine[None, None, None]]) -> None:
    async def run() -> None:
        async with serving() as server:
            await scene(server)

    asyncio.run(run())


def test_a_records_become_pods_and_the_ttl_is_respected_within_the_interval() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (3, ["10.0.0.2", "10.0.0.1"])
        async with watching(server) as watch:
            assert await watch.first() == 3.0
            server.records[NAME, "A"] = (30, ["10.0.0.1", "10.0.0.2"])
            assert await watch.look() == 5.0
            server.records[NAME, "A"] = (0, ["10.0.0.1", "10.0.0.2"])
            assert await watch.look() == 1.0
            assert watch.received == [["10.0.0.1:8000", "10.0.0.2:8000"]], "the same set in another order is no change"

    story(scene)


def test_random_bits_delay_a_look_by_up_to_a_tenth() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (30, ["10.0.0.1"])
        async with watching(server, rng=0.5) as watch:
            assert await watch.first() == pytest.approx(5.25)

    story(scene)


def test_a_set_that_grows_or_shrinks_is_reported_at_once() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (5, ["10.0.0.1"])
        async with watching(server) as watch:
            await watch.first()
            server.records[NAME, "A"] = (5, ["10.0.0.1", "10.0.0.2"])
            await watch.look()
            server.records[NAME, "A"] = (5, ["10.0.0.2"])
            await watch.look()
        assert watch.received == [["10.0.0.1:8000"], ["10.0.0.1:8000", "10.0.0.2:8000"], ["10.0.0.2:8000"]]

    story(scene)


def test_aaaa_records_count_where_there_is_no_a() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "AAAA"] = (5, ["fd00::1", "fd00:0:0::2"])
        async with watching(server) as watch:
            await watch.first()
            server.records[NAME, "A"] = (5, ["10.0.0.1", "10.0.0.2"])
            await watch.look()
        assert watch.received == [["[fd00::1]:8000", "[fd00::2]:8000"], ["10.0.0.1:8000", "10.0.0.2:8000"]]

    story(scene)


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (5, [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)])
        async with watching(server) as watch:
            await watch.first()
            assert len(watch.received[0]) == 1000
            assert server.asked["udp", NAME, "A"] == server.asked["tcp", NAME, "A"] == 1
            server.records[NAME, "A"] = (5, [f"10.0.0.{number}" for number in range(60)])
            await watch.look()
            assert server.asked["tcp", NAME, "A"] == 1, "60 pods still fit into a datagram"

    story(scene)


def test_a_failing_server_changes_nothing_and_is_asked_again_after_growing_delays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (5, ["10.0.0.1"])
        async with watching(server) as watch:
            await watch.first()
            server.rcode[NAME] = dns.rcode.SERVFAIL
            assert [await watch.look() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
            server.rcode.clear()
            await watch.look()
        assert watch.received == [["10.0.0.1:8000"]]

    with caplog.at_level(logging.WARNING, "turnout.discovery"):
        story(scene)
    assert [record.getMessage().split(": ", 1)[1][:40] for record in caplog.records] == [
        "look failed, keeping 1 known pods: All n",
        "answers again",
    ], "once per change, not once per look"


def test_a_server_that_is_silent_changes_nothing() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (5, ["10.0.0.1"])
        async with watching(server) as watch:
            await watch.first()
            server.silent.add(NAME)
            watch.source._resolver.lifetime = 0.2
            await watch.look()
        assert watch.received == [["10.0.0.1:8000"]]

    story(scene)


@pytest.mark.parametrize("how", ["nxdomain", "no records"])
def test_an_empty_answer_drops_the_pods_when_three_looks_in_a_row_agree(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(server: DnsServer) -> None:
        server.records[NAME, "A"] = (5, ["10.0.0.1"])
        async with watching(server) as watch:
            await watch.first()

            def vanish() -> None:
                server.records.clear()
                if how == "no records":
                    server.records[NAME, "TXT"] = (5, ["here"])

            vanish()
            await watch.look()
            await watch.look()
            server.records[NAME, "A"] = (5, ["10.0.0.1"])
            await watch.look()
            vanish()
            await watch.look()
            await watch.look()
            assert watch.received == [["10.0.0.1:8000"]], "each answer resets the count"
            await watch.look()
            assert watch.received == [["10.0.0.1:8000"], []]

    with caplog.at_level(logging.WARNING, "turnout.discovery"):
        story(scene)
    assert "dropping 1 pods" in caplog.text


def test_a_name_with_no_pods_yet_is_reported_at_once_and_watched() -> None:
    async def scene(server: DnsServer) -> None:
        async with watching(server) as watch:
            await watch.first()
            assert watch.received == [[]]
            server.records[NAME, "A"] = (5, ["10.0.0.1"])
            await watch.look()
            assert watch.received == [[], ["10.0.0.1:8000"]]

    story(scene)


def test_search_domains_and_ndots_are_those_of_the_resolver() -> None:
    async def scene(server: DnsServer) -> None:
        server.records["vllm.ns.svc.cluster.local.", "A"] = (5, ["10.0.0.1"])
        async with watching(server) as watch:
            resolver = watch.source._resolver
            resolver.search = [dns.name.from_text(name) for name in ("ns.svc.cluster.local", "cluster.local")]
            resolver.ndots = 5
            await watch.first()
        assert watch.received == [["10.0.0.1:8000"]]
        assert [name for _, name, kind in server.asked if kind == "A"] == [
            "vllm.ns.svc.ns.svc.cluster.local.",
            "vllm.ns.svc.cluster.local.",
        ]

    story(scene)


def test_srv_records_give_ports_and_their_targets_the_addresses() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[SRV, "SRV"] = (5, ["0 50 8000 p0.vllm.", "0 70 8001 p1.vllm.", "0 50 8000 p2.vllm."])
        server.records["p0.vllm.", "A"] = (2, ["10.0.0.1"])
        server.records["p0.vllm.", "AAAA"] = (5, ["fd00::1"])
        server.records["p1.vllm.", "AAAA"] = (5, ["fd00::2"])
        async with watching(server, "dns+srv://_http._tcp.vllm.ns.svc") as watch:
            assert await watch.first() == 2.0, "the shortest TTL counts"
            look = await watch.source.look()
            assert watch.received == [["10.0.0.1:8000", "[fd00::2]:8001"]], "one pod a target; p2 has no address"
            labels = {pod.id: dict(pod.labels) for pod in look.pods}  # type: ignore[union-attr]
            assert labels["[fd00::2]:8001"] == {"srv_target": "p1.vllm", "srv_weight": "70", "zone": "a"}

    story(scene)


def test_only_the_lowest_srv_priority_is_used() -> None:
    async def scene(server: DnsServer) -> None:
        server.records[SRV, "SRV"] = (5, ["10 0 1 a.", "20 0 1 b.", "10 0 1 c."])
        for number, name in enumerate("abc"):
            server.records[f"{name}.", "A"] = (5, [f"10.0.0.{number}"])
        async with watching(server, "dns+srv://_http._tcp.vllm.ns.svc") as watch:
            await watch.first()
            server.records[SRV, "SRV"] = (5, ["0 0 0 ."])
            for _ in range(3):
                await watch.look()
        assert watch.received == [["10.0.0.0:1", "10.0.0.2:1"], []], "a lone root target means that there is no service"

    story(scene)


@pytest.mark.parametrize(
    ("tls", "base", "form"), [(False, "", "{}"), (True, "", "https://{}"), (True, "/base", "https://{}/base")]
)
def test_a_target_that_cannot_be_looked_up_keeps_its_address(tls: bool, base: str, form: str) -> None:
    """Case D 17: pods from DNS speak as their pool says."""

    async def scene(server: DnsServer) -> None:
        server.records[SRV, "SRV"] = (5, ["0 0 1 a.", "0 0 1 b."])
        server.records["a.", "A"] = (5, ["10.0.0.1"])
        server.records["b.", "A"] = (5, ["10.0.0.2"])
        async with watching(server, "dns+srv://_http._tcp.vllm.ns.svc", tls=tls, base=base) as watch:
            await watch.first()
            server.rcode["a."] = dns.rcode.SERVFAIL
            await watch.look()
            server.rcode[SRV] = dns.rcode.SERVFAIL
            await watch.look()
        assert watch.received == [[form.format("10.0.0.1:1"), form.format("10.0.0.2:1")]]

    story(scene)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("dns://vllm.ns.svc:8000", DnsName("vllm.ns.svc", 8000)),
        ("dns+srv://_http._tcp.vllm.ns.svc", DnsName("_http._tcp.vllm.ns.svc", None)),
    ],
)
def test_a_url_names_the_look_up(url: str, name: DnsName) -> None:
    assert name_of(url) == name


@each_case(
    ("url", "word"),
    [
        ("dns://vllm.ns.svc", "write dns://vllm.ns.svc:8000, or dns+srv://_http._tcp.vllm.ns.svc"),
        ("dns://_http._tcp.vllm", "write dns+srv://_http._tcp.vllm"),
        ("dns+srv://vllm.ns.svc", "write dns+srv://_http._tcp.vllm.ns.svc"),
        ("dns+srv://_http._tcp.vllm:8000", "SRV records carry the ports"),
        ("dns://10.0.0.1:8000", "list it under `pods`"),
        ("dns://me@vllm:8000", "only a name and a port"),
        ("dns://vllm:8000/v1", "only a name and a port"),
        ("dns://:8000", "no name"),
        ("dns://vllm:x", "could not be cast"),
        ("dns://a..b:80", "empty"),
    ],
)
def test_an_invalid_url_is_an_error_with_the_expected_form(url: str, word: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        open_source(source=url)
    assert word in str(caught.value)
