"""What a tenant's requests made at pods is its own: for another tenant it does not exist."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from router.dataplane.state_owners import StateOwners
from router.settings import PathSettings, PolicySpec, Pool, TenantSettings
from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.store.memory import MemoryStore
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import Client, PodEnd, get, ok, post
from tests.fakes.memory_gateway import Rig

POOLS = [Pool(name="main", models=["m", "n"], policy=PolicySpec(name="round_robin")), Pool(name="other", models=["o"])]
TENANTS = (
    TenantSettings(name="a"),
    TenantSettings(name="b"),
    TenantSettings(name="some", models=("m",), pools=("main",)),
)
KEYS = {each.name: bearer(each.name) for each in TENANTS}


class OwnersRig(Rig):
    """A gateway with state on its pods and three tenants; `state` is shared by all with this name."""

    def __init__(self, state: str = "", pods: int = 3, forward: tuple[str, ...] = ("/v1/*", "/v1/files*")) -> None:
        super().__init__(pools=POOLS, pods=pods, state=state, paths=PathSettings(forward=forward))
        self.rebuild(self.gateway.deps._replace(access=access_of(*TENANTS)))

    def creates(self, tenant: str, id: str, path: str = "/v1/responses", model: str = "m") -> PodEnd:
        """A client of the tenant creates something; returns the pod that has it."""
        body = json.dumps({"model": model, "input": "hi"}).encode()
        client = self.client().sends(post(body, KEYS[tenant], path=path))
        pod = self.asked().sends(ok(json.dumps({"id": id}).encode()))
        assert client.answer().status == 200
        return pod

    def refused(self, raw: bytes) -> tuple[int, str, str]:
        client = self.client().sends(raw)
        return refusal(client, raw.partition(b" ")[0].decode())


def refusal(client: Client, method: str = "POST") -> tuple[int, str, str]:
    answer = client.answer(method)
    said = json.loads(answer.body)["error"] if answer.body else {"code": "", "message": ""}
    return answer.status, said["code"], said["message"]


def requests(id: str, *headers: str) -> Mapping[str, bytes]:
    """A request of every kind that names the id."""

    def body(path: str = "/v1/responses", **fields: object) -> bytes:
        return post(json.dumps({"model": "m", "input": "on", **fields}).encode(), *headers, path=path)

    return {
        "read": get(f"/v1/responses/{id}", *headers),
        "read its input": get(f"/v1/responses/{id}/input_items", *headers),
        "read percent-encoded": get(f"/v1/%72esponses/{id.replace('_', '%5F')}", *headers),
        "delete": get(f"/v1/responses/{id}", *headers, method="DELETE"),
        "cancel": post(b"", *headers, path=f"/v1/responses/{id}/cancel"),
        "cancel with a body": post(b"{}", *headers, path=f"/v1/responses/{id}/cancel"),
        "go on": body(previous_response_id=id),
        "go on in a conversation": body(conversation={"x": 1, "id": id}),
        "file in a message": body(input=[{"content": [{"type": "input_file", "file_id": id}]}]),
        "files of a tool": body(tools=[{"container": {"file_ids": [id]}}]),
        "batch": post(json.dumps({"input_file_id": id}).encode(), *headers, path="/v1/batches"),
        "another collection": get(f"/v1/anything/{id}", *headers),
        "action on another collection": body(path=f"/v1/anything/{id}/append"),
        "escaped": post(
            json.dumps({"model": "m", "previous_response_id": id}).replace("_", "\\u005f").encode(),
            *headers,
            path="/v1/responses",
        ),
        "in UTF-16": post(
            json.dumps({"model": "m", "previous_response_id": id}).encode("utf-16"), *headers, path="/v1/responses"
        ),
    }


@each_case("kind", list(requests("x")))
def test_another_tenants_id_is_answered_as_one_that_does_not_exist_and_no_pod_is_asked(kind: str) -> None:
    with OwnersRig() as rig:
        home = rig.creates("a", "resp_1").address
        theirs = rig.refused(requests("resp_1", KEYS["b"])[kind])
        unknown = rig.refused(requests("resp_9", KEYS["b"])[kind])
        assert theirs[:2] == (404, "not_found")
        assert theirs[2] == unknown[2].replace("resp_9", "resp_1")
        assert rig.nobody_asked()
        client = rig.client().sends(requests("resp_1", KEYS["a"])[kind])
        assert rig.asked().address == home
        rig.asked().sends(ok(b"{}"))
        assert client.answers(requests("x")[kind].partition(b" ")[0].decode())[0].status == 200


def test_one_id_of_another_tenant_among_own_ones_is_enough() -> None:
    with OwnersRig() as rig:
        rig.creates("a", "file_1", "/v1/files")
        rig.creates("b", "file_2", "/v1/files")
        body = json.dumps({"model": "m", "file_ids": ["file_2"] * 20 + ["file_1"]}).encode()
        assert rig.refused(post(body, KEYS["b"], path="/v1/responses"))[:2] == (404, "not_found")


def test_an_id_that_pods_gave_to_two_tenants_leads_each_to_its_own() -> None:
    with OwnersRig() as rig:
        homes = {name: rig.creates(name, "resp_1").address for name in ("a", "b")}
        assert homes["a"] != homes["b"]
        for name, home in homes.items():
            rig.client().sends(get("/v1/responses/resp_1", KEYS[name]))
            assert rig.asked().address == home
            rig.asked().sends(ok(b"{}"))


def test_a_list_is_refused_and_an_own_file_is_not() -> None:
    with OwnersRig() as rig:
        rig.creates("a", "file_1", "/v1/files")
        for path in ("/v1/files", "/v1/files/", "/v1/files?limit=9"):
            assert rig.refused(get(path, KEYS["a"]))[:2] == (403, "permission_denied")
        rig.client().sends(get("/v1/files/file_1/content", KEYS["a"]))
        rig.asked().sends(ok(b"content"))


def test_ids_in_what_a_file_holds_are_not_the_tenants_own() -> None:
    with OwnersRig(pods=1) as rig:
        rig.creates("a", "resp_1")
        rig.creates("b", "file_2", "/v1/files")
        for path in ("/v1/files/file_2/content", "/v1/files/file_2%2Fcontent"):
            rig.client().sends(get(path, KEYS["b"]))
            rig.asked().sends(ok(b'{"id":"resp_1"}'))
        assert rig.refused(get("/v1/responses/resp_1", KEYS["b"]))[:2] == (404, "not_found")


def test_ids_in_what_is_read_of_a_thing_are_the_tenants_own() -> None:
    with OwnersRig(pods=1) as rig:
        rig.creates("a", "batch_1", "/v1/batches")
        rig.client().sends(get("/v1/batches/batch_1", KEYS["a"]))
        rig.asked().sends(ok(b'{"id":"batch_1","output_file_id":"file_2"}'))
        rig.client().sends(get("/v1/files/file_2/content", KEYS["a"]))
        rig.asked().sends(ok(b"{}"))


def test_a_body_that_names_a_model_without_permission_is_refused_though_the_thing_is_the_tenants_own() -> None:
    with OwnersRig() as rig:
        rig.creates("some", "thread_1", "/v1/threads")
        run = b'{"assistant_id":"","model":"n"}'
        assert rig.refused(post(run, KEYS["some"], path="/v1/threads/thread_1/runs"))[:2] == (404, "model_not_found")
        rig.client().sends(post(b'{"role":"user"}', KEYS["some"], path="/v1/threads/thread_1/messages"))
        rig.asked().sends(ok(b"{}"))
        for model in ("", '"model":"m",'):
            body = f'{{{model}"input_file_id":"thread_1","requests":[]}}'.encode()
            for path in ("/v1/batches", "/v1/%62atches/", "/v1/messages/batches"):
                assert rig.refused(post(body, KEYS["some"], path=path))[:2] == (403, "permission_denied")


def test_what_is_in_a_pool_that_the_tenant_may_no_longer_use_does_not_exist() -> None:
    with OwnersRig() as rig:
        rig.gateway.deps.owners.learn("resp_1", PodId("10.0.1.1:8000"), "some")
        assert rig.refused(get("/v1/responses/resp_1", KEYS["some"]))[:2] == (404, "not_found")


def test_a_compressed_body_is_refused() -> None:
    with OwnersRig() as rig:
        rig.creates("a", "thread_1", "/v1/threads")
        raw = post(b"\x1f\x8b", KEYS["a"], "content-encoding: gzip", path="/v1/threads/thread_1/messages")
        assert rig.refused(raw)[0] == 415


@pytest.mark.parametrize("kind", ["read", "go on", "delete"])
def test_an_owner_holds_on_every_replica(kind: str) -> None:
    with OwnersRig("owners-of-tenants") as one, OwnersRig("owners-of-tenants") as two:
        home = one.creates("a", "resp_1").address
        two.client().sends(requests("resp_1", KEYS["a"])[kind])
        assert two.asked().address == home
        two.asked().sends(ok(b"{}"))
        client = two.client().sends(requests("resp_1", KEYS["b"])[kind])
        assert refusal(client, requests("")[kind].partition(b" ")[0].decode())[:2] == (404, "not_found")


@pytest.mark.parametrize("path", ["/%761/files", "//v1//files", "/v1//responses/resp_1", "/%76%31/responses/resp_1"])
def test_a_path_that_only_engines_read_as_such_is_refused_too(path: str) -> None:
    with OwnersRig(forward=("/*",)) as rig:
        rig.creates("a", "resp_1")
        assert rig.refused(get(path, KEYS["b"]))[1] in ("permission_denied", "not_found")
        assert rig.nobody_asked()


class AwayStore(MemoryStore):
    """A shared store that does not answer."""

    @property
    def shared(self) -> bool:
        return True

    async def owner(self, key: bytes, /) -> PodId | None:
        raise StoreUnavailable("away")


def test_while_the_store_is_away_an_id_from_elsewhere_can_be_asked_for_again() -> None:
    with OwnersRig() as rig:
        deps = rig.gateway.deps._replace(owners=StateOwners(AwayStore()))
        rig.rebuild(deps)
        deps.owners.learn("resp_1", PodId("10.0.0.1:8000"), "a")
        for tenant, id in (("a", "resp_2"), ("b", "resp_1")):
            client = rig.client().sends(get(f"/v1/responses/{id}", KEYS[tenant]))
            assert refusal(client, "GET")[:2] == (503, "no_pod_available")
        rig.client().sends(get("/v1/responses/resp_1", KEYS["a"]))
        rig.asked().sends(ok(b"{}"))
