"""Pods as a cluster has them, through the official client over real HTTP: faults of the server cost no pod."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from statesync.discovery.kubernetes.follower import PAGE
from tests.fakes.kube_api import PODS, SLICES, Change, KubeApi, Refusal
from tests.fakes.kube_objects import pod_object
from tests.fakes.kube_pod_source import Ground, ground

NOT_READY, TERMINATING = "not_ready", "terminating"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that this machine may have does not reach 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def two(api: KubeApi) -> None:
    api.put(PODS, pod_object("a", "10.0.0.1"))
    api.put(PODS, pod_object("b", "10.0.0.2"))


async def watching(town: Ground, count: int = 1) -> None:
    await town.until(lambda: town.api.watches == count)


def test_the_life_of_a_pod(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            town.api.put(PODS, pod_object("c", ip="", phase="Pending", ready=False))
            town.api.put(PODS, pod_object("c", "10.0.0.3", ready=False))
            town.api.put(PODS, pod_object("x", "10.0.0.9", labels={"app": "redis"}))
            town.api.put(PODS, pod_object("c", "10.0.0.3"))
            await town.shows(a="", b="", c="")
            assert all("c" not in {pod.id[0] for pod in pods if pod.unready} for pods in town.heard)
            town.api.put(PODS, pod_object("c", "10.0.0.3", ready=False))
            await town.shows(a="", b="", c=NOT_READY)
            town.api.put(PODS, pod_object("c", "10.0.0.3", terminating=True))
            await town.shows(a="", b="", c=TERMINATING)
            town.api.delete(PODS, "llm", "c")
            await town.shows(a="", b="")
            town.api.put(PODS, pod_object("a", "10.0.0.1", labels={"app": "other"}))
            await town.shows(b="")
            town.api.put(PODS, pod_object("a", "10.0.0.1"))
            await town.shows(a="", b="")
            assert town.api.asked == {"list pods": 1, "watch pods": 1}

    asyncio.run(main())


def test_a_pod_that_was_replaced_under_its_name_and_address_is_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            before = town.heard[-1][0].id
            town.api.delete(PODS, "llm", "a")
            town.api.put(PODS, pod_object("a", "10.0.0.1", uid="99999999-1"))
            await town.until(lambda: town.heard[-1][0].id == "a.99999999")
            assert before != "a.99999999"

    asyncio.run(main())


def test_a_thousand_pods_come_in_pages(tmp_path: Path) -> None:
    def many(api: KubeApi) -> None:
        for at in range(1000):
            api.put(PODS, pod_object(f"v-{at}", f"10.0.{at // 250}.{at % 250}"))

    async def main() -> None:
        async with ground(tmp_path, before=many) as town:
            await town.until(lambda: len(town.view) == 1000)
            assert len(town.heard) == 1
            assert town.api.asked["list pods"] == 1000 / PAGE

    asyncio.run(main())


def test_a_page_that_expired_is_asked_for_anew_from_the_first(tmp_path: Path) -> None:
    def many(api: KubeApi) -> None:
        for at in range(250):
            api.put(PODS, pod_object(f"v-{at}"))
        api.refusals.append(Refusal(500))

    async def main() -> None:
        async with ground(tmp_path, before=many) as town:
            await town.until(lambda: town.api.asked["list pods"] == 1)
            town.api.refusals.append(Refusal(410, watch=False))
            await town.until(lambda: len(town.view) == 250, each_s=0.2)

    asyncio.run(main())


@pytest.mark.parametrize("in_event", [True, False])
def test_a_version_that_is_gone_leads_to_a_list(tmp_path: Path, in_event: bool) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            town.api.gone_in_event = in_event
            await town.shows(a="", b="")
            await watching(town)
            town.api.silent = True
            town.api.delete(PODS, "llm", "a")
            town.api.compact()
            town.api.silent = False
            town.api.cut()
            await town.shows(b="", each_s=0.2)
            assert town.api.asked["list pods"] == 2

    asyncio.run(main())


def test_what_is_cut_in_the_middle_of_an_event_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await watching(town)
            town.api.cut_after += [900, 900, 900]
            town.api.cut()
            town.api.put(PODS, pod_object("c", "10.0.0.3"))
            town.api.delete(PODS, "llm", "a")
            await town.shows(b="", c="", each_s=0.2)
            assert town.api.asked["list pods"] == 1

    asyncio.run(main())


def test_events_that_come_twice_late_and_in_pieces_change_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await watching(town)
            town.api.mangles = lambda events: [*reversed(events), *events, *events[:1]]
            town.api.trickle = True
            for ready in (False, True, False):
                town.api.put(PODS, pod_object("a", "10.0.0.1", ready=ready))
            town.api.put(PODS, pod_object("c", "10.0.0.3"))
            town.api.delete(PODS, "llm", "c")
            town.api.put(PODS, pod_object("d", "10.0.0.4"))
            await town.shows(a=NOT_READY, b="", d="")

    asyncio.run(main())


def lose_deletions(change: Change) -> bool:
    return change.type == "DELETED"


def test_a_deletion_that_the_watch_lost_is_found_by_the_next_list(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            await watching(town)
            town.api.loses = lose_deletions
            town.api.delete(PODS, "llm", "a")
            town.api.put(PODS, pod_object("c", "10.0.0.3"))
            await town.shows(a="", b="", c="")
            await town.shows(b="", c="", each_s=1.0)
            assert town.clock.now < 400

    asyncio.run(main())


def test_an_api_server_that_is_gone_for_an_hour_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            town.api.down = True
            town.api.cut()
            received = len(town.heard)
            hour = town.clock.now + 3600
            await town.until(lambda: town.clock.now > hour, each_s=10.0)
            assert len(town.heard) == received
            town.api.down = False
            town.api.delete(PODS, "llm", "a")
            await town.shows(b="", each_s=1.0)
            assert town.clock.now < hour + 60

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "keeping 2 known objects" in caplog.text
    assert len(caplog.messages) < 5


@pytest.mark.parametrize("status", [401, 429, 500, 503])
@pytest.mark.parametrize("watch", [True, False])
def test_no_answer_but_a_list_takes_a_pod_away(tmp_path: Path, status: int, watch: bool) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            town.api.refusals.extend([Refusal(status, {"Retry-After": "3"}, watch)] * 4)
            town.api.cut()
            await town.until(lambda: not town.api.refusals, each_s=2.0)
            assert len(town.heard) == 1
            town.api.put(PODS, pod_object("c"))
            await town.shows(a="", b="", c="", each_s=2.0)

    asyncio.run(main())


def test_a_token_that_was_rotated_is_read_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground(tmp_path, before=two) as town:
            await town.shows(a="", b="")
            file = tmp_path / "kubeconfig"
            found = await asyncio.to_thread(lambda: json.loads(file.read_text()))
            town.api.token = found["users"][0]["user"]["token"] = "second"
            await asyncio.to_thread(file.write_text, json.dumps(found))
            town.api.put(PODS, pod_object("c"))
            town.api.cut()
            await town.shows(a="", b="", c="", each_s=0.2)
            assert town.clock.now < 30

    asyncio.run(main())


def test_a_namespace_that_may_not_be_read_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def spread(api: KubeApi) -> None:
        two(api)
        api.put(PODS, pod_object("far", "10.1.0.1", namespace="research"))
        api.forbidden.add("secret")

    async def main() -> None:
        async with ground(tmp_path, "kubernetes://llm,secret,research?selector=app=vllm", before=spread) as town:
            await town.shows(a="", b="", far="")
            assert len(town.heard) == 1, "the first list received was not whole"
            town.api.delete(PODS, "research", "far")
            await town.shows(a="", b="")
            town.api.forbidden.clear()
            town.api.put(PODS, pod_object("hidden", namespace="secret"))
            await town.shows(a="", b="", hidden="", each_s=1.0)

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
        async with ground(tmp_path, "kubernetes://*?selector=app=vllm", before=spread) as town:
            await town.shows(a="", b="", far="")
            assert town.api.asked["list pods"] == 1

    asyncio.run(main())


def test_no_namespace_is_that_of_the_context(tmp_path: Path) -> None:
    def default(api: KubeApi) -> None:
        two(api)
        api.put(PODS, pod_object("here", namespace="default"))

    async def main() -> None:
        async with ground(tmp_path, "kubernetes://?selector=app=vllm", before=default) as town:
            await town.shows(here="")

    asyncio.run(main())


def test_an_object_that_makes_no_sense_takes_no_other_with_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def odd(api: KubeApi) -> None:
        two(api)
        found = pod_object("odd")
        found["status"]["podIP"] = 7
        api.put(PODS, found)

    async def main() -> None:
        async with ground(tmp_path, before=odd) as town:
            await town.shows(a="", b="")
            found = pod_object("odder")
            found["spec"] = "?"
            town.api.put(PODS, found)
            town.api.put(PODS, pod_object("c"))
            await town.shows(a="", b="", c="")

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
        async with ground(tmp_path, "kubernetes+service://llm/vllm", before=slices) as town:
            await town.shows(a="", b="", c="")
            assert [pod.id for pod in town.heard[-1]] == ["a.00000061", "b.00000062", "c.00000063"]
            town.api.put(SLICES, sliced("s2", ("c", up), ("b", up)))
            town.api.put(SLICES, sliced("s1", ("a", up)))
            town.api.put(SLICES, sliced("s2", ("c", going), ("b", out)))
            await town.shows(a="", b=NOT_READY, c=TERMINATING)
            town.api.put(SLICES, sliced("s3", ("d", up), ("e", out)))
            await town.shows(a="", b=NOT_READY, c=TERMINATING, d="")
            town.api.delete(SLICES, "llm", "s2")
            await town.shows(a="", d="")
            town.api.put(SLICES, sliced("s6", ("a", up), addressType="IPv6"))
            town.api.put(SLICES, sliced("s1", ("a", out)))
            await town.shows(a=NOT_READY, d="")

    asyncio.run(main())
