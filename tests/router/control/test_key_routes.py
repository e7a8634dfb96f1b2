"""API keys over the control port: hashes come in, names and states go out."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import httpx

from router.access.identity import AccessControl
from router.access.shared_keys import SharedKeys
from router.access.tenants import tenants_by_name
from router.settings import Auth, Settings, TenantSettings
from tests.fakes.control_port import Replica, error_of, talk_to
from tests.fakes.each_case import each_case

A, B = "a" * 64, "b" * 64
CI = {"name": "ci", "tenant": "search", "sha256": A}


def with_keys() -> Replica:
    """A replica whose keys are in its state."""
    replica = Replica()
    settings = Settings(auth=Auth(keys_from="state"), tenants=[TenantSettings(name="search")])
    control = AccessControl(tenants_by_name(settings.tenants), datetime.now(UTC).timestamp)
    keys = SharedKeys(replica.store, control, datetime.now(UTC).timestamp)
    replica.plane = dataclasses.replace(replica.plane, settings=settings, keys=keys)
    return replica


def test_a_key_is_made_listed_and_revoked_and_its_hash_is_not_shown() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        made = await client.post("/admin/keys", json={**CI, "expires": "2100-01-01T00:00:00Z"})
        assert made.status_code == 201
        assert made.json().items() >= {"name": "ci", "tenant": "search", "state": "valid"}.items()
        assert made.json()["expires"] == "2100-01-01T00:00:00Z"
        assert (await client.get("/admin/keys")).json() == [made.json()]
        revoked = await client.delete("/admin/keys/ci", headers={"x-turnout-author": "ada"})
        assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
        assert (await client.get("/admin/keys")).json() == [revoked.json()]
        assert A not in made.text + revoked.text

    talk_to(with_keys(), talk)


@each_case(
    "body, param, why",
    [
        ({**CI, "sha256": "A" * 64}, "sha256", "pattern"),
        ({**CI, "sha256": A + "\n"}, "sha256", "pattern"),
        ({**CI, "name": "a b"}, "name", "pattern"),
        ({**CI, "tenant": "other"}, "tenant", "there is no tenant 'other'; there are: search"),
        ({**CI, "expires": "2100-01-01T00:00:00"}, "expires", "timezone"),
        ({**CI, "expires": "2020-01-01T00:00:00Z"}, "expires", "is over"),
        ({**CI, "key": "k"}, "key", "Extra"),
    ],
)
def test_what_is_no_key_is_refused(body: dict[str, str], param: str, why: str) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.post("/admin/keys", json=body)
        error = error_of(answer)
        assert (answer.status_code, error["param"]) == (422, param)
        assert why in str(error["message"])

    talk_to(with_keys(), talk)


def test_a_taken_name_is_a_conflict_and_an_unknown_one_is_not_found() -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        await client.post("/admin/keys", json=CI)
        again = await client.post("/admin/keys", json={**CI, "sha256": B})
        assert (again.status_code, error_of(again)["code"]) == (409, "key_exists")
        gone = await client.delete("/admin/keys/none")
        assert (gone.status_code, error_of(gone)["code"]) == (404, "key_not_found")

    talk_to(with_keys(), talk)


def test_where_the_keys_are_elsewhere_the_answer_says_where() -> None:
    replica = Replica()

    async def nowhere(client: httpx.AsyncClient) -> None:
        answer = await client.get("/admin/keys")
        assert (answer.status_code, error_of(answer)["code"]) == (409, "keys_not_shared")
        assert "not in use" in answer.text

    talk_to(replica, nowhere)
    in_file = Replica()
    settings = Settings(auth=Auth(keys_file="/etc/keys.yaml"), tenants=[TenantSettings(name="search")])
    in_file.plane = dataclasses.replace(in_file.plane, settings=settings)

    async def elsewhere(client: httpx.AsyncClient) -> None:
        assert "in /etc/keys.yaml" in (await client.post("/admin/keys", json=CI)).text

    talk_to(in_file, elsewhere)
