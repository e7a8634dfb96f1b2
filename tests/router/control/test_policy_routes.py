"""Policies over the control port: a real uvicorn on loopback, a real controller, a store that can be unavailable."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import pytest

from schedulers import registry
from schedulers.params import fingerprint
from statesync.errors import StoreUnavailable
from statesync.store.lineage import digest
from statesync.store.policy_record import CanaryGuard
from statesync.store.protocol import PolicyRecord
from tests.fakes.control_port import OTHER_POD, Replica, error_of, talk_to
from tests.fakes.each_case import each_case

PLAIN = {
    "policy": "p2c",
    "params": {},
    "generation": 0,
    "shadow": None,
    "canary": None,
    "note": "",
    "restores": None,
    "local": False,
}
"""The policy of the settings."""

POOL = "/admin/pools/default"
GUARD = CanaryGuard()._asdict()


def test_a_policy_is_read_replaced_and_tagged_with_its_generation() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        before = await client.get("/admin/pools/default/policy")
        own = digest(replica.policies.record("default"))
        decides = fingerprint("p2c", registry.create("p2c"))
        state = {"policy_digest": decides, "waits_for": "", "taken_out": ""}
        assert before.json() == {**PLAIN, "digest": own, **state}
        assert before.headers["etag"] == '"0"'
        tag = {"if-match": before.headers["etag"]}
        body = {"policy": "round_robin", "params": {}}
        after = await client.put("/admin/pools/default/policy", json=body, headers=tag)
        assert (after.status_code, after.headers["etag"]) == (200, '"1"')
        new = digest(replica.policies.record("default"))
        assert after.json() == {**PLAIN, "policy": "round_robin", "generation": 1, "digest": new, "dry_run": False}
        assert replica.policies.live("default").scheduler.name == "round_robin"
        stale = await client.put("/admin/pools/default/policy", json={"policy": "random"}, headers=tag)
        assert (stale.status_code, error_of(stale)["code"]) == (412, "stale_generation")
        assert replica.policies.live("default").scheduler.name == "round_robin"
        other = await client.put("/admin/pools/default/policy", json=body, headers={"if-match": f'"1-{own}"'})
        assert (other.status_code, error_of(other)["code"]) == (412, "stale_generation")
        same = await client.put("/admin/pools/default/policy", json=body, headers={"if-match": f'"1-{new}"'})
        assert same.status_code == 200
        for unconditional in ({}, {"if-match": "*"}):
            put = await client.put("/admin/pools/default/policy", json={"policy": "random"}, headers=unconditional)
            assert put.status_code == 200
        assert replica.policies.record("default").generation == 4

    talk_to(replica, talk)


UNFIT: list[tuple[str, dict[str, str], int, str, str]] = [
    ('{"policy": "nonesuch"}', {}, 422, "unknown_policy", "nonesuch"),
    ('{"policy": "p2c", "params": {"nonesuch": 1}}', {}, 422, "invalid_params", "nonesuch"),
    ('{"policy": "p2c", "parms": {}}', {}, 422, "invalid_request", "parms"),
    ('{"params": {}}', {}, 422, "invalid_request", "policy"),
    ('{"policy": 3}', {}, 422, "invalid_request", "policy"),
    ("{", {}, 422, "invalid_request", "the body is no JSON: "),
    ("[]", {}, 422, "invalid_request", "dictionary"),
    ('{"policy": "p2c"}', {"if-match": "latest"}, 400, "invalid_if_match", "latest"),
    ('{"policy": "p2c"}', {"if-match": "3-XY"}, 400, "invalid_if_match", "3-XY"),
    ('{"policy": "os.system"}', {}, 422, "unknown_policy", "os.system"),
]
"""Body, headers; status, code, and a part of the message."""


def test_an_invalid_policy_is_refused_with_a_reason_and_changes_nothing() -> None:
    replica = Replica()
    before = replica.policies.live("default").scheduler

    async def talk(client: httpx.AsyncClient) -> None:
        for content, headers, *expected, word in UNFIT:
            sent = {"content-type": "application/json", **headers}
            answer = await client.put("/admin/pools/default/policy", content=content, headers=sent)
            error = error_of(answer)
            assert [answer.status_code, error["code"]] == expected, content
            assert word in str(error["message"])

    talk_to(replica, talk)
    assert replica.policies.live("default").scheduler is before


def test_pools_show_models_pods_and_policy() -> None:
    replica = Replica()
    replica.busy()
    replica.view.block(OTHER_POD, "probe")

    async def talk(client: httpx.AsyncClient) -> None:
        (pool,) = (await client.get("/admin/pools")).json()
        expected = {
            "name": "default",
            "cluster": "",
            "models": ["m"],
            "aliases": {"alias": "m"},
            "pods": 2,
            "routable": 1,
            "inflight": 1,
            **PLAIN,
            "waits_for": "",
            "taken_out": "",
        }
        assert {name: pool[name] for name in expected} == expected

    talk_to(replica, talk)


def test_shadow_and_canary_are_put_shown_and_deleted_and_each_change_is_a_generation() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        shadow = await client.put(f"{POOL}/shadow", json={"policy": "random"})
        assert shadow.json()["shadow"] == {"policy": "random", "params": {}}
        body = {"policy": "session_affinity", "params": {"balance_factor": 2.0}, "percent": 12.5}
        canary = await client.put(f"{POOL}/canary", json={**body, "guard": {"min_requests": 7}})
        assert canary.json()["canary"] == {**body, "guard": {**GUARD, "min_requests": 7}}
        shown = (await client.get(f"{POOL}/policy")).json()
        assert (shown["shadow"]["policy"], shown["canary"], shown["generation"]) == (
            "random",
            canary.json()["canary"],
            2,
        )
        ended = await client.delete(f"{POOL}/shadow")
        assert (ended.json()["shadow"], ended.json()["canary"]["percent"]) == (None, 12.5)
        ended = await client.delete(f"{POOL}/canary", params={"note": "not this one"})
        assert (ended.json()["canary"], ended.json()["note"], ended.headers["etag"]) == (None, "not this one", '"4"')
        again = await client.delete(f"{POOL}/canary")
        assert again.headers["etag"] == '"4"'

    talk_to(replica, talk)


def test_a_candidate_is_promoted_and_rolled_back_and_the_history_shows_it() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        nothing = await client.post(f"{POOL}/promote")
        assert (nothing.status_code, error_of(nothing)["code"]) == (409, "no_canary")
        await client.put(f"{POOL}/canary", json={"policy": "random", "percent": 10})
        promoted = await client.post(f"{POOL}/promote")
        assert (promoted.json()["policy"], promoted.json()["canary"]) == ("random", None)
        back = await client.post(f"{POOL}/rollback")
        assert (back.json()["policy"], back.json()["restores"]) == ("p2c", 1)
        forth = await client.post(f"{POOL}/rollback", json={"to": 2})
        assert (forth.json()["policy"], forth.json()["generation"]) == ("random", 4)
        unknown = await client.post(f"{POOL}/rollback", json={"to": 9})
        assert (unknown.status_code, error_of(unknown)["param"]) == (422, "to")
        history = (await client.get(f"{POOL}/history")).json()
        assert [(each["generation"], each["policy"]) for each in history] == [
            (4, "random"),
            (3, "p2c"),
            (2, "random"),
            (1, "p2c"),
            (0, "p2c"),
        ]
        assert history[0]["note"] == "rolled back to generation 2"

    talk_to(replica, talk)


CHANGES = [
    ("PUT", "policy", {"policy": "random"}),
    ("PUT", "shadow", {"policy": "random"}),
    ("DELETE", "shadow", None),
    ("PUT", "canary", {"policy": "random", "percent": 5}),
    ("DELETE", "canary", None),
    ("POST", "promote", None),
    ("POST", "rollback", None),
]


@each_case(("method", "path", "body"), CHANGES)
def test_every_change_has_a_dry_run_and_is_refused_for_another_generation(
    method: str, path: str, body: dict[str, object] | None
) -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        await client.put(f"{POOL}/shadow", json={"policy": "random"})
        await client.put(f"{POOL}/policy", json={"policy": "least_load"})
        await client.put(f"{POOL}/canary", json={"policy": "random", "percent": 20})
        before = replica.policies.live("default")
        stale = await client.request(method, f"{POOL}/{path}", json=body, headers={"if-match": '"2"'})
        assert (stale.status_code, error_of(stale)["code"]) == (412, "stale_generation")
        rehearsed = await client.request(method, f"{POOL}/{path}", json=body, params={"dry_run": "true"})
        assert (rehearsed.status_code, rehearsed.json()["dry_run"], rehearsed.headers["etag"]) == (200, True, '"3"')
        assert replica.policies.live("default") is before
        done = await client.request(method, f"{POOL}/{path}", json=body, headers={"if-match": '"3"'})
        assert (done.status_code, done.headers["etag"]) == (200, '"4"')
        new = digest(replica.policies.record("default"))
        assert done.json() == {**rehearsed.json(), "generation": 4, "digest": new, "dry_run": False}

    talk_to(replica, talk)


MISTAKES: list[tuple[str, dict[str, object], str]] = [
    ("canary", {"policy": "random"}, "percent"),
    ("canary", {"policy": "random", "percent": 0}, "percent"),
    ("canary", {"policy": "random", "percent": 101}, "percent"),
    ("canary", {"policy": "random", "percent": 5, "guard": {"min_requests": 0}}, "guard.min_requests"),
    ("canary", {"policy": "random", "percent": 5, "guard": {"confidence": 1}}, "guard.confidence"),
    ("canary", {"policy": "random", "percent": 5, "guard": {"patience": 1}}, "guard.patience"),
    ("canary", {"policy": "p3c", "percent": 5}, "canary.policy"),
    ("canary", {"policy": "p2c", "params": {"wat": 1}, "percent": 5}, "canary.params"),
    ("shadow", {"policy": "p3c"}, "shadow.policy"),
    ("shadow", {"policy": "p2c", "params": {"wat": 1}}, "shadow.params"),
    ("shadow", {"policy": "p2c", "percent": 5}, "percent"),
    ("policy", {"policy": "p2c", "params": {"wat": 1}}, "params"),
    ("policy", {"policy": "p3c"}, "policy"),
]
"""Path, body, and the place of the problem."""


def test_an_invalid_body_is_a_422_that_names_its_place() -> None:
    replica = Replica()

    async def talk(client: httpx.AsyncClient) -> None:
        for path, body, param in MISTAKES:
            answer = await client.put(f"{POOL}/{path}", json=body)
            assert (answer.status_code, error_of(answer)["param"]) == (422, param), body

    talk_to(replica, talk)
    assert replica.policies.record("default") == PolicyRecord("p2c", {}, 0)


def test_without_the_shared_state_a_change_is_refused_with_advice_and_made_locally_on_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = Replica()

    async def silent(_: str) -> Sequence[PolicyRecord]:
        raise StoreUnavailable("redis does not answer")

    async def talk(client: httpx.AsyncClient) -> None:
        here = {"local": "true"}
        early = await client.put(f"{POOL}/policy", json={"policy": "random"}, params=here)
        assert (early.status_code, error_of(early)["code"]) == (409, "not_local")
        monkeypatch.setattr(replica.store, "policy_history", silent)
        refused = await client.put(f"{POOL}/policy", json={"policy": "random"})
        assert (refused.status_code, error_of(refused)["code"]) == (503, "store_unavailable")
        assert "redis does not answer" in refused.text
        assert "local=true" in refused.text
        local = await client.put(f"{POOL}/policy", json={"policy": "random"}, params=here)
        assert (local.status_code, local.json()["local"], local.json()["generation"]) == (200, True, 0)
        assert (await client.get(f"{POOL}/policy")).json()["local"] is True
        assert (await client.get("/admin/pools")).json()[0]["local"] is True
        trial = await client.put(f"{POOL}/canary", json={"policy": "random", "percent": 5}, params=here)
        assert (trial.status_code, error_of(trial)["param"]) == (409, "local")

    talk_to(replica, talk)
    replica.policies.stop()


def test_records_that_cannot_be_built_yet_and_policies_taken_out_are_shown() -> None:
    replica = Replica()
    live = replica.policies.live("default").scheduler

    async def talk(client: httpx.AsyncClient) -> None:
        replica.policies.policy_changed("default", PolicyRecord("later", {}, 3))
        replica.policies.take_out("default", live, live, "it raised")
        shown = (await client.get(f"{POOL}/policy")).json()
        assert (shown["policy"], shown["generation"], shown["taken_out"]) == ("p2c", 0, "it raised")
        assert shown["waits_for"].startswith("generation 3: no policy 'later'")

    talk_to(replica, talk)


def test_a_pool_s_trial_is_reported_and_an_unknown_pool_is_not_found() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.get(f"{POOL}/trial")).json() == {"pool": "default", "running": False}
        for path in ("trial", "history"):
            assert (await client.get(f"/admin/pools/nonesuch/{path}")).status_code == 404
        for method, path, body in CHANGES:
            answer = await client.request(method, f"/admin/pools/nonesuch/{path}", json=body)
            assert (answer.status_code, error_of(answer)["code"]) == (404, "pool_not_found")

    talk_to(Replica(), talk)


def test_an_author_is_read_as_utf_8_and_else_as_it_was_sent() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        for sent in ("J\u00f6rg \u5c71".encode(), "J\u00f6rg".encode("latin-1")):
            headers = {b"x-turnout-author": sent}
            assert (await client.put(f"{POOL}/policy", json={"policy": "random"}, headers=headers)).status_code == 200
        history = (await client.get(f"{POOL}/history")).json()
        assert [record.get("by") for record in history[:2]] == ["J\u00f6rg", "J\u00f6rg \u5c71"]

    talk_to(Replica(), talk)
