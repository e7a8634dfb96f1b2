"""The list of targets, and the dry run of a request."""

from __future__ import annotations

import json
from typing import Any

from router.settings import Pool, Targets, TenantSettings
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import get, ok, post
from tests.fakes.memory_gateway import Rig

POOLS = [
    Pool(name="near", models=["m"], cluster="eu", fallback=["far"], max_inflight_per_pod=1),
    Pool(name="far", models=["m", "big"], cluster="us"),
    Pool(name="hidden", models=["m"]),
]


def two(**settings: Any) -> Rig:
    return Rig(pools=POOLS, pods=1, **settings)


def listed(rig: Rig, path: str = "/v1/targets", *headers: str) -> Any:
    answer = rig.client().sends(get(path, *headers)).answer("GET")
    assert answer.status == 200
    return json.loads(answer.body)


def test_targets_are_those_that_models_lead_to_and_those_that_may_be_named() -> None:
    with two(targets=Targets(allow=["us"])) as rig:
        said = listed(rig)
        assert [each["id"] for each in said["data"]] == ["near", "far"]
        assert said["data"][0] == {
            "id": "near",
            "object": "target",
            "cluster": "eu",
            "models": ["m"],
            "available": True,
            "pods": 1,
            "pods_with_room": 1,
            "fallback": ["far"],
        }
        assert "request" not in said


def test_a_full_pool_and_one_without_pods_are_not_available() -> None:
    with two() as rig:
        rig.asks(b'{"model":"m","messages":[]}')
        for status in rig.view.statuses("far"):
            rig.view.block(status.pod.id, "test")
        near, far = listed(rig)["data"]
        assert (near["available"], near["pods"], near["pods_with_room"]) == (False, 1, 0)
        assert (far["available"], far["pods"]) == (False, 0)
        rig.asked().sends(ok())


def test_a_dry_run_says_where_a_request_would_go_and_leaves_nothing_behind() -> None:
    with two(targets=Targets(allow=["us"])) as rig:
        said = listed(rig, "/v1/targets?model=m")["request"]
        assert (said["pool"], said["cluster"], said["available"], said["then"]) == ("near", "eu", True, ["far"])
        assert listed(rig, "/v1/targets?model=m", "x-turnout-fallback: false")["request"]["then"] == []
        assert listed(rig, "/v1/targets?model=m", "x-turnout-cluster: us")["request"]["pool"] == "far"
        assert (rig.nobody_asked(), rig.inflight) == (True, 0)


def test_a_dry_run_says_why_a_request_would_be_refused() -> None:
    with two() as rig:
        for query, headers, code in (
            ("model=no", (), "model_not_found"),
            ("model=m", ("x-turnout-pool: hidden",), "target_not_allowed"),
            ("model=m", ("x-turnout-cluster: mars",), "pool_not_found"),
            ("model=m", ("x-turnout-fallback: perhaps",), "invalid_request"),
        ):
            said = listed(rig, f"/v1/targets?{query}", *headers)["request"]
            real = rig.client().sends(post(b'{"model":"%b"}' % query.encode()[6:], *headers)).answer()
            assert said["error"] == {key: json.loads(real.body)["error"][key] for key in ("code", "message")}
            assert said["error"]["code"] == code


def test_a_tenant_sees_its_own_targets_only() -> None:
    with two() as rig:
        rig.rebuild(
            rig.gateway.deps._replace(access=access_of(TenantSettings(name="a", pools=("far",), targets=["us"])))
        )
        assert [each["id"] for each in listed(rig, "/v1/targets", bearer("a"))["data"]] == ["far"]
        assert listed(rig, "/v1/targets?model=m", bearer("a"))["request"]["pool"] == "far"
        assert rig.client().sends(get("/v1/targets")).answer("GET").status == 401
