"""Pods of a cluster, read through the official client over real HTTP: no fault of the server removes a pod."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from loadtests.kubernetes.api import PODS, SLICES, Change, KubeApi, Refusal
from loadtests.kubernetes.objects import pod_object
from statesync.discovery.kubernetes.follower import PAGE
from tests.fakes.kube_pod_source import Ground, ground

NOT_READY, TERMINATING = "not_ready", "terminating"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps requests to 127.0.0.1 away from a proxy in the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def two(api: KubeApi) -> None:
    api.put(PODS, pod_object("a", "10.0.0.1"))
    api.put(PODS, pod_object("b", "10.0.0.2"))


async def watching(cluster: Ground, count: int = 1) -> None:
    await cluster.until(lambda: cluster.api.watches == count)


def test_the_life_of_a_pod(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            cluster.api.put(PODS, pod_object("c", ip="", phase="Pending", ready=False))
            cluster.api.put(PODS, pod_object("c", "10.0.0.3", ready=False))
            cluster.api.put(PODS, pod_object("x", "10.0.0.9", labels={"app": "redis"}))
            cluster.api.put(PODS, pod_object("c", "10.0.0.3"))
            await cluster.shows(a="", b="", c="")
            assert all("c" not in {pod.id[0] for pod in pods if pod.unready} for pods in cluster.received)
            cluster.api.put(PODS, pod_object("c", "10.0.0.3", ready=False))
            await cluster.shows(a="", b="", c=NOT_READY)
            cluster.api.put(PODS, pod_object("c", "10.0.0.3", terminating=True))
            await cluster.shows(a="", b="", c=TERMINATING)
            cluster.api.delete(PODS, "llm", "c")
            await cluster.shows(a="", b="")
            cluster.api.put(PODS, pod_object("a", "10.0.0.1", labels={"app": "other"}))
            await cluster.shows(b="")
            cluster.api.put(PODS, pod_object("a", "10.0.0.1"))
            await cluster.shows(a="", b="")
            assert cluster.api.asked == {"list pods": 1, "watch pods": 1}

    asyncio.run(main())


def test_a_replacement_with_the_same_name_and_address_is_another_pod(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            before = cluster.received[-1][0].id
            cluster.api.delete(PODS, "llm", "a")
            cluster.api.put(PODS, pod_object("a", "10.0.0.1", uid="99999999-1"))
            await cluster.until(lambda: cluster.received[-1][0].id == "a.99999999")
            assert before != "a.99999999"

    asyncio.run(main())


def test_a_thousand_pods_come_in_pages(tmp_path: Path) -> None:
    def many(api: KubeApi) -> None:
        for at in range(1000):
            api.put(PODS, pod_object(f"v-{at}", f"10.0.{at // 250}.{at % 250}"))

    async def main() -> None:
        async with ground(tmp_path, before=many) as cluster:
            await cluster.until(lambda: len(cluster.view) == 1000)
            assert len(cluster.received) == 1
            assert cluster.api.asked["list pods"] == 1000 / PAGE

    asyncio.run(main())


def test_after_an_expired_page_the_list_starts_over(tmp_path: Path) -> None:
    def many(api: KubeApi) -> None:
        for at in range(250):
            api.put(PODS, pod_object(f"v-{at}"))
        api.refusals.append(Refusal(500))

    async def main() -> None:
        async with ground(tmp_path, before=many) as cluster:
            await cluster.until(lambda: cluster.api.asked["list pods"] == 1)
            cluster.api.refusals.append(Refusal(410, watch=False))
            await cluster.until(lambda: len(cluster.view) == 250, each_s=0.2)

    asyncio.run(main())


@pytest.mark.parametrize("in_event", [True, False])
def test_a_version_that_is_gone_leads_to_a_list(tmp_path: Path, in_event: bool) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            cluster.api.gone_in_event = in_event
            await cluster.shows(a="", b="")
            await watching(cluster)
            cluster.api.silent = True
            cluster.api.delete(PODS, "llm", "a")
            cluster.api.compact()
            cluster.api.silent = False
            cluster.api.cut()
            await cluster.shows(b="", each_s=0.2)
            assert cluster.api.asked["list pods"] == 2

    asyncio.run(main())


def test_a_watch_cut_in_the_middle_of_an_event_resumes_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await watching(cluster)
            cluster.api.cut_after += [900, 900, 900]
            cluster.api.cut()
            cluster.api.put(PODS, pod_object("c", "10.0.0.3"))
            cluster.api.delete(PODS, "llm", "a")
            await cluster.shows(b="", c="", each_s=0.2)
            assert cluster.api.asked["list pods"] == 1

    asyncio.run(main())


def test_events_that_come_twice_late_and_in_pieces_change_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await watching(cluster)
            cluster.api.mangles = lambda events: [*reversed(events), *events, *events[:1]]
            cluster.api.trickle = True
            for ready in (False, True, False):
                cluster.api.put(PODS, pod_object("a", "10.0.0.1", ready=ready))
            cluster.api.put(PODS, pod_object("c", "10.0.0.3"))
            cluster.api.delete(PODS, "llm", "c")
            cluster.api.put(PODS, pod_object("d", "10.0.0.4"))
            await cluster.shows(a=NOT_READY, b="", d="")

    asyncio.run(main())


def lose_deletions(change: Change) -> bool:
    return change.type == "DELETED"


def test_a_deletion_that_the_watch_lost_is_found_by_the_next_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            await watching(cluster)
            cluster.api.loses = lose_deletions
            cluster.api.delete(PODS, "llm", "a")
            cluster.api.put(PODS, pod_object("c", "10.0.0.3"))
            await cluster.shows(a="", b="", c="")
            await cluster.shows(b="", c="", each_s=1.0)
            assert cluster.clock.now < 400

    asyncio.run(main())


def test_an_api_server_that_is_gone_for_an_hour_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            cluster.api.down = True
            cluster.api.cut()
            received = len(cluster.received)
            hour = cluster.clock.now + 3600
            await cluster.until(lambda: cluster.clock.now > hour, each_s=10.0)
            assert len(cluster.received) == received
            cluster.api.down = False
            cluster.api.delete(PODS, "llm", "a")
            await cluster.shows(b="", each_s=1.0)
            assert cluster.clock.now < hour + 60

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "keeping 2 known objects" in caplog.text
    assert len(caplog.messages) < 5


@pytest.mark.parametrize("status", [401, 429, 500, 503])
@pytest.mark.parametrize("watch", [True, False])
def test_no_answer_but_a_list_removes_a_pod(tmp_path: Path, status: int, watch: bool) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            cluster.api.refusals.extend([Refusal(status, {"Retry-After": "3"}, watch)] * 4)
            cluster.api.cut()
            await cluster.until(lambda: not cluster.api.refusals, each_s=2.0)
            assert len(cluster.received) == 1
            cluster.api.put(PODS, pod_object("c"))
            await cluster.shows(a="", b="", c="", each_s=2.0)

    asyncio.run(main())


def test_a_token_that_was_rotated_is_read_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as cluster:
            await cluster.shows(a="", b="")
            file = tmp_path / "kubeconfig"
            found = await asyncio.to_thread(lambda: json.loads(file.read_text()))
            cluster.api.token = found["users"][0]["user"]["token"] = "second"
            await asyncio.to_thread(file.write_text, json.dumps(found))
            cluster.api.put(PODS, pod_object("c"))
            cluster.api.cut()
            await cluster.shows(a="", b="", c="", each_s=0.2)
            assert cluster.clock.now < 30

    asyncio.run(main())


def test_a_namespace_that_may_not_be_read_delays_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def spread(api: KubeApi) -> None:
        two(api)
        api.put(PODS, pod_object("far", "10.1.0.1", namespace="research"))
        api.forbidden.add("secret")

    async def main() -> None:
        async with ground(tmp_path, "kubernetes://llm,secret,research?selector=app=vllm", before=spread) as cluster:
            await cluster.shows(a="", b="", far="")
            assert len(cluster.received) == 1, "the first list received was not whole"
            cluster.api.delete(PODS, "research", "far")
            await cluster.shows(a="", b="")
            cluster.api.forbidden.clear()
            cluster.api.put(PODS, pod_object("hidden", namespace="secret"))
            await cluster.shows(a="", b="", hidden="", each_s=1.0)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    (said,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "namespaces/secret/pods: 403" in said.message
    assert "verbs list and watch on pods" in said.message


def test_all_namespaces_are_one_watch(tmp_path: Path) -> None:
    def spread(api: KubeApi) -> None:
        two(api)
        api.put(PODS, pod_object("far", "10.1.0.1", namespace="research"))

    async def main() -> None:
        async with ground(tmp_path, "kubernetes://*?selector=app=vllm", before=spread) as cluster:
            await cluster.shows(a="", b="", far="")
            assert cluster.api.asked["list pods"] == 1

    asyncio.run(main())


def test_without_a_namespace_the_contexts_namespace_is_read(tmp_path: Path) -> None:
    def default(api: KubeApi) -> None:
        two(api)
        api.put(PODS, pod_object("here", namespace="default"))

    async def main() -> None:
        async with ground(tmp_path, "kubernetes://?selector=app=vllm", before=default) as cluster:
            await cluster.shows(here="")

    asyncio.run(main())


def test_an_invalid_object_does_not_affect_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def odd(api: KubeApi) -> None:
        two(api)
        found = pod_object("odd")
        found["status"]["podIP"] = 7
        api.put(PODS, found)

    async def main() -> None:
        async with ground(tmp_path, before=odd) as cluster:
            await cluster.shows(a="", b="")
            found = pod_object("odder")
            found["spec"] = "?"
            cluster.api.put(PODS, found)
            cluster.api.put(PODS, pod_object("c"))
            await cluster.shows(a="", b="", c="")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.text.count("passed over an object") == 2


def sliced(name: str, *endpoints: tuple[str, dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "llm",
            "uid": f"uid-{name}",
            "labels": {"kubernetes.io/service-name": "vllm"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [f"10.0.0.{ord(pod)}"],
                "conditions": conditions,
                "targetRef": {"kind": "Pod", "name": pod, "uid": f"{ord(pod):08x}-1"},
            }
            for pod, conditions in endpoints
        ],
    } | fields


def test_a_services_endpoints_come_from_all_its_slices_and_move_between_them(tmp_path: Path) -> None:
    up, out, going = {"ready": True}, {"ready": False}, {"ready": False, "serving": True, "terminating": True}

    def slices(api: KubeApi) -> None:
        api.put(SLICES, sliced("s1", ("a", up), ("b", up)))
        api.put(SLICES, sliced("s2", ("c", up)))
        other = sliced("s9", ("z", up))
        other["metadata"]["labels"] = {"kubernetes.io/service-name": "redis"}
        api.put(SLICES, other)

    async def main() -> None:
        async with ground(tmp_path, "kubernetes+service://llm/vllm", before=slices) as cluster:
            await cluster.shows(a="", b="", c="")
            assert [pod.id for pod in cluster.received[-1]] == ["a.00000061", "b.00000062", "c.00000063"]
            cluster.api.put(SLICES, sliced("s2", ("c", up), ("b", up)))
            cluster.api.put(SLICES, sliced("s1", ("a", up)))
            cluster.api.put(SLICES, sliced("s2", ("c", going), ("b", out)))
            await cluster.shows(a="", b=NOT_READY, c=TERMINATING)
            cluster.api.put(SLICES, sliced("s3", ("d", up), ("e", out)))
            await cluster.shows(a="", b=NOT_READY, c=TERMINATING, d="")
            cluster.api.delete(SLICES, "llm", "s2")
            await cluster.shows(a="", d="")
            cluster.api.put(SLICES, sliced("s6", ("a", up), addressType="IPv6"))
            cluster.api.put(SLICES, sliced("s1", ("a", out)))
            await cluster.shows(a=NOT_READY, d="")

    asyncio.run(main())
