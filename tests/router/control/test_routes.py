"""The control API over a real uvicorn on loopback."""

from __future__ import annotations

import httpx
import pytest

from router.lifecycle import Phase
from schedulers.ttft import PRIOR, pace
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import ranks_of
from statesync.store.protocol import StoreHealth
from tests.fakes.control_port import OTHER_POD, POD, Replica, error_of, talk_to


def test_probes_follow_the_phase_and_name_it() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/livez")).status_code == 200
        warming = await client.get("/readyz")
        assert (warming.status_code, warming.json()) == (503, {"status": "starting", "cold": False})
        replica.ready()
        replica.lifecycle.cold = True
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "cold": True})
        replica.lifecycle.enter(Phase.SETTLING)
        settling = await client.get("/readyz")
        assert (settling.status_code, settling.json()["status"]) == (503, "settling")
        assert (await client.get("/livez")).status_code == 200

    talk_to(replica, talk)


def test_metrics_are_served_as_text_or_openmetrics() -> None:
    replica = Replica()
    replica.metrics.count_request("default", "p2c", POD, 200)
    replica.busy()

    async def talk(client: httpx.AsyncClient) -> None:
        text = await client.get("/metrics")
        assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        row = f'turnout_requests_total{{pod="{POD}",policy="p2c",pool="default",status="200"}} 1.0\n'
        assert row in text.text
        assert f'turnout_inflight_requests{{pod="{POD}",pool="default"}} 1.0\n' in text.text
        openmetrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert openmetrics.text.endswith("# EOF\n")

    talk_to(replica, talk)


def test_a_list_of_pods_longer_than_one_encoding_step_is_complete_and_in_order() -> None:
    replica = Replica()
    many = [Pod(PodId(f"10.0.0.{number}:80"), f"10.0.0.{number}:80") for number in range(130)]

    async def talk(client: httpx.AsyncClient) -> None:
        replica.view.set_pods("default", many)
        assert [each["id"] for each in (await client.get("/admin/pods")).json()] == [each.id for each in many]
        replica.view.set_pods("default", [])
        assert (await client.get("/admin/pods")).json() == []

    talk_to(replica, talk)


def test_pods_are_a_list_with_load_and_blockers() -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")

    async def talk(client: httpx.AsyncClient) -> None:
        first, second = (await client.get("/admin/pods")).json()
        assert first == {
            "id": POD,
            "pool": "default",
            "address": POD,
            "models": ["m"],
            "role": "both",
            "labels": {},
            "max_inflight": None,
            "inflight": 1,
            "own_inflight": 1,
            "inflight_tokens": 150,
            "pending_prefill_tokens": 100,
            "prefilling": 1,
            "pending_s": pytest.approx(100 * pace(PRIOR, 1.0, PRIOR.decode_step_s(0, 150))),
            "prefill_tokens_per_s": 22_380.4,
            "foreign": 6,
            "queued": 3,
            "running": 4,
            "kv_usage": 0.5,
            "ttft_ewma_s": 0.0,
            "expected_ttft_s": 0.0,
            "ttft_error": 0.0,
            "routable": True,
            "blockers": [],
            "kept": [],
        }
        assert (second["routable"], second["blockers"]) == (False, ["probe"])
        assert (await client.get(f"/admin/pods/{POD}")).json() == first

    talk_to(replica, talk)


def test_a_pod_is_drained_and_undrained_by_its_id_with_a_colon_in_it() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            drained = await client.post(f"/admin/pods/{POD}/drain")
            assert (drained.status_code, drained.json()["blockers"]) == (200, ["draining"])
        assert [pod.id for pod, _ in replica.view.snapshot("default").candidates] == [OTHER_POD]
        back = await client.delete(f"/admin/pods/{POD.replace(':', '%3A')}/drain")
        assert (back.status_code, back.json()["routable"]) == (200, True)

    talk_to(replica, talk)


def test_all_ranks_of_a_pod_are_drained_and_undrained_by_its_id() -> None:
    replica = Replica()
    ranks = ranks_of(Pod(PodId(POD), POD, frozenset({"m"})), 2)
    replica.view.set_pods("default", [*ranks, Pod(PodId(OTHER_POD), OTHER_POD, frozenset({"m"}))])

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.post(f"/admin/pods/{POD}/drain")).status_code == 200
        assert [pod.id for pod, _ in replica.view.snapshot("default").candidates] == [OTHER_POD]
        assert (await client.delete(f"/admin/pods/{POD}@1/drain")).status_code == 200
        assert {pod.id for pod, _ in replica.view.snapshot("default").candidates} == {f"{POD}@1", OTHER_POD}
        assert (await client.delete(f"/admin/pods/{POD}/drain")).status_code == 200
        assert len(replica.view.snapshot("default").candidates) == 3

    talk_to(replica, talk)


MISSING = [
    ("POST", "/admin/pods/10.9.9.9:1/drain", 404, "pod_not_found"),
    ("DELETE", "/admin/pods/10.9.9.9:1/drain", 404, "pod_not_found"),
    ("GET", "/admin/pods/10.9.9.9:1", 404, "pod_not_found"),
    ("GET", "/admin/pools/nonesuch/policy", 404, "pool_not_found"),
    ("GET", "/admin/nonesuch", 404, "not_found"),
    ("POST", "/metrics", 405, "method_not_allowed"),
]


def test_an_unknown_path_or_pod_is_answered_in_openais_shape() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for method, path, status, code in MISSING:
            answer = await client.request(method, path)
            assert (answer.status_code, error_of(answer)["code"]) == (status, code), path

    talk_to(Replica(), talk)


def test_an_unexpected_exception_is_a_500_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica()

    def broken() -> float:
        raise RuntimeError("inner detail")

    monkeypatch.setattr(replica.store, "age_s", broken)

    async def talk(client: httpx.AsyncClient) -> None:
        failed = await client.get("/admin/state")
        assert (failed.status_code, error_of(failed)["code"]) == (500, "internal_error")
        assert "inner detail" not in failed.text
        assert (await client.get("/livez")).status_code == 200

    talk_to(replica, talk)


def test_state_shows_the_replica_its_phases_and_the_other_replicas() -> None:
    replica = Replica()
    replica.ready()
    replica.now = 130.0
    replica.busy()

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get("/admin/state")).json() == {
            "replica": "r-1",
            "version": "1.2.3",
            "phase": "ready",
            "phases": {"starting": 30.0, "warming": 30.0, "ready": 30.0},
            "phase_seconds": {"starting": 0.0, "warming": 0.0, "ready": 30.0},
            "ready": True,
            "cold": False,
            "waits_for": ["rain"],
            "started_at": 1_700_000_000.0,
            "inflight": 1,
            "active": 2,
            "connections": 7,
            "pods_scraped": 1,
            "view_age_s": 0.0,
            "unseen": {"default": 0.0},
            "state": StoreHealth()._asdict(),
            "replicas": [{"id": "r-1", "age_s": 0.0, "lease_left_s": 5.0}],
        }

    talk_to(replica, talk)


def test_asking_twice_to_drain_begins_one_drain() -> None:
    replica = Replica()
    replica.ready()

    async def talk(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            answer = await client.post("/admin/drain")
            assert (answer.status_code, answer.json()) == (202, {"phase": "settling"})

    talk_to(replica, talk)
    assert replica.drains == 1


def test_the_docs_list_every_path() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        assert {"/metrics", "/admin/pods", "/admin/pools/{pool}/policy", "/admin/state", "/admin/drain"} <= set(paths)

    talk_to(Replica(), talk)
