"""Owners in memory and in the store, and answers that are read on their way."""

from __future__ import annotations

import asyncio

import pytest

from router.dataplane.state_owners import StateOwners
from schedulers.types import PodId
from statesync.errors import StoreUnavailable
from statesync.owners import key_of
from statesync.store.memory import MemoryStore
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import SSE_HEAD, chunk, ok, post
from tests.fakes.memory_gateway import Rig

A, B = PodId("a"), PodId("b")


class Store(MemoryStore):
    """A store with these owners, which may be away or silent."""

    def __init__(self, shared: bool = True, fails: bool = False, silent: bool = False) -> None:
        super().__init__("owners" if shared else "")
        self.noted: dict[bytes, PodId] = {}
        self.asked = 0
        self._fails, self._silent = fails, silent

    def own(self, key: bytes, pod: PodId, /) -> None:
        self.noted[key] = pod

    async def owner(self, key: bytes, /) -> PodId | None:
        self.asked += 1
        if self._fails:
            raise StoreUnavailable("away")
        if self._silent:
            await asyncio.get_running_loop().create_future()
        return self.noted.get(key)


def test_what_is_learned_is_known_here_and_shared_once() -> None:
    store = Store()
    owners = StateOwners(store)
    owners.learn("resp_1", A)
    assert store.noted == {key_of("resp_1"): A}
    store.noted.clear()
    owners.learn("resp_1", A)
    assert store.noted == {}
    assert owners.known(["x", "resp_1"]) == A


def test_nothing_is_shared_without_other_replicas() -> None:
    store = Store(shared=False)
    StateOwners(store).learn("resp_1", A)
    assert store.noted == {}


def test_what_the_store_knows_is_known_here_afterwards() -> None:
    store = Store()
    store.noted[key_of("resp_1")] = B
    owners = StateOwners(store)
    assert asyncio.run(owners.find(["x", "resp_1"])) == B
    assert owners.known(["resp_1"]) == B


@pytest.mark.parametrize("store", [Store(fails=True), Store()])
def test_a_store_that_is_away_or_knows_nothing_gives_no_owner(store: Store) -> None:
    assert asyncio.run(StateOwners(store).find(["resp_1"])) is None
    assert store.asked == 1


def test_a_silent_store_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.dataplane.state_owners.LOOK_UP_S", 0.0)
    assert asyncio.run(StateOwners(Store(silent=True)).find(["resp_1"])) is None


@each_case("cut", range(5, 60, 9))
def test_an_id_that_is_split_over_chunks_is_read(cut: int) -> None:
    event = b'data: {"type":"response.created","response":{"id":"resp_1234567890"}}\n\n'
    with Rig() as rig:
        client = rig.client().sends(post(b'{"model":"m"}', path="/v1/responses"))
        pod = rig.asked().sends(SSE_HEAD, chunk(event[:cut]), chunk(event[cut:]))
        assert rig.gateway.deps.owners.known(["resp_1234567890"]) == pod.address
        assert client.raw.endswith(chunk(event[:cut]) + chunk(event[cut:]))


def test_an_old_client_gets_an_unframed_answer_whose_id_is_known_too() -> None:
    with Rig() as rig:
        rig.client().sends(post(b'{"model":"m"}', path="/v1/responses", version="1.0"))
        rig.asked().sends(SSE_HEAD, chunk(b'data: {"id":"resp_1"}\n\n'))
        assert rig.gateway.deps.owners.known(["resp_1"]) is not None


def test_the_tail_of_a_long_answer_is_not_read() -> None:
    with Rig() as rig:
        client = rig.client().sends(post(b'{"model":"m"}', path="/v1/responses"))
        body = b'{"text":"' + b"x" * 200_000 + b'","id":"late"}'
        rig.asked().sends(ok(body))
        assert client.answer().body == body
        assert rig.gateway.deps.owners.known(["late"]) is None


def test_what_one_tenant_was_given_is_no_other_tenants() -> None:
    store = Store()
    owners = StateOwners(store)
    owners.learn("resp_1", A, "search")
    owners.learn("resp_2", B, "chat")
    assert list(owners.made_by("search", ["resp_1", "resp_2"])) == [A, None]
    assert owners.known(["resp_1"]) is None
    assert store.noted == {key_of("resp_1", "search"): A, key_of("resp_2", "chat"): B}


def test_of_a_tenants_ids_only_unknown_ones_are_asked_for_and_the_first_unknown_one_ends_it() -> None:
    store = Store()
    owners = StateOwners(store)
    owners.learn("resp_1", A, "search")
    store.noted[key_of("resp_2", "search")] = B
    assert list(asyncio.run(owners.find_made_by("search", ["resp_1", "resp_2"]))) == [A, B]
    assert store.asked == 1
    assert list(asyncio.run(owners.find_made_by("search", ["x", "y", "resp_1"]))) == [None, None, A]
    assert store.asked == 2
    with pytest.raises(StoreUnavailable):
        asyncio.run(StateOwners(Store(fails=True)).find_made_by("search", ["x"]))
