"""Requests whose model is not where it was expected: they are looked for, and moved to a pod that has it."""

from __future__ import annotations

import gc
import json
from functools import partial

import pytest

from router.dataplane.exchange import Exchange
from router.dataplane.model_misses import LOOKS
from router.settings import PolicySpec, Pool, TenantSettings
from schedulers.types import PodId
from statesync.engines.model_list import ModelCard
from statesync.engines.model_reader import LookWaiter
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import Client, PodEnd, chunk, ok, post
from tests.fakes.memory_gateway import Rig

ONE, TWO, THREE = (f"10.0.0.{number}:8000" for number in (1, 2, 3))
POOL = Pool(name="main", policy=PolicySpec(name="round_robin"))


def ask(model: str = "lora") -> bytes:
    return json.dumps({"model": model, "messages": []}).encode()


def missing(model: str = "lora", *, chunked: bool = False) -> bytes:
    """vLLM's answer."""
    error = {"message": f"The model `{model}` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}
    body = json.dumps({"error": error}).encode()
    if not chunked:
        return ok(body, status="404 Not Found")
    return b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(body) + b"0\r\n\r\n"


def exchanges() -> int:
    """How many there are in this process."""
    return sum(isinstance(each, Exchange) for each in gc.get_objects())


class ListsOfRig:
    """Stands for the reader: the test says what a look finds, and when it ends."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.waiters: list[LookWaiter] = []
        self.refusals: list[tuple[PodId, str]] = []
        self.known: dict[PodId, frozenset[str]] = {}
        self.patient: list[bool] = []
        self.lately: set[str] = set()
        self.fresh = False
        """Whether a look was made a moment ago."""
        rig.rebuild(rig.gateway.deps._replace(lists=self))

    def look_again(self, waiter: LookWaiter, /, *, patient: bool) -> bool:
        self.patient.append(patient)
        if self.fresh:
            return False
        self.waiters.append(waiter)
        return True

    def had(self, model: str, /) -> bool:
        return model in self.lately

    def refused(self, pod: PodId, model: str, /) -> None:
        self.refusals.append((pod, model))
        left = self.known.get(pod, frozenset()) - {model}
        self.rig.updates.on_models(pod, {each: ModelCard({"id": each}) for each in left})

    def lists(self, number: int, *models: str) -> None:
        """A pod lists these models."""
        self.known[PodId(f"10.0.0.{number}:8000")] = frozenset(models)
        self.rig.lists(number, *models)

    def found(self, number: int, *models: str) -> None:
        """The look under way finds that a pod lists these models."""
        self.lists(number, *models)
        self._call(last=False)

    def ends(self) -> None:
        self._call(last=True)

    def _call(self, *, last: bool) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            self.rig.wire.do(partial(self._keep, waiter, last=last))

    def _keep(self, waiter: LookWaiter, *, last: bool) -> None:
        if not waiter(last) and not last:
            self.waiters.append(waiter)  # at the end of a look, a waiter that goes on asks for another one


class Scene:
    """A pool of three pods, of which the first two list an adapter."""

    def __init__(self, rig: Rig, *adapters: int) -> None:
        self.rig = rig
        self.lists = ListsOfRig(rig)
        for number in (1, 2, 3):
            self.lists.lists(number, "base", *(["lora"] if number in adapters else []))

    def pod(self) -> PodEnd:
        return self.rig.asked()


def outcome(client: Client) -> tuple[int, str]:
    answer = client.answer()
    return answer.status, answer.headers.get("x-turnout-pod", "")


def rig_of(pool: Pool = POOL, pods: int = 3) -> Rig:
    return Rig(pool, pods=pods)


@pytest.mark.parametrize("chunked", [False, True])
def test_case_a_2_a_pod_that_lacks_the_adapter_is_left_for_one_that_has_it(chunked: bool) -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1, 2)
        client = rig.asks(ask())
        first = scene.pod()
        first.sends(missing(chunked=chunked))
        second = scene.pod()
        assert {first.address, second.address} == {ONE, TWO}
        second.sends(ok())
        assert outcome(client) == (200, second.address)
        assert scene.lists.refusals == [(first.address, "lora")]
        for _ in range(2):  # the lesson
            client = rig.asks(ask())
            scene.pod().sends(ok())
            assert outcome(client) == (200, second.address)


FILE = {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
NO_FILE = ok(b'{"error": {"message": "No such File object: file-1", "code": null}}', status="404 Not Found")


def asks_of_file(rig: Rig, *headers: str) -> Client:
    body = json.dumps({"model": "base", "messages": [FILE]}).encode()
    return rig.client().sends(post(body, *headers))


def uploads(rig: Rig, *headers: str) -> str:
    """A client creates the file; returns the pod that has it."""
    client = rig.client().sends(post(b'{"model": "base"}', *headers, path="/v1/files"))
    pod = rig.asked().sends(ok(b'{"id": "file-1", "object": "file"}'))
    assert client.answer().status == 200
    return pod.address


def test_a_chat_that_names_a_file_reaches_the_pod_that_has_it() -> None:
    """Case C 9."""
    with rig_of() as rig:
        Scene(rig)
        home = uploads(rig)
        for _ in range(3):
            client, first = asks_of_file(rig), rig.asked()
            if first.address != home:
                first.sends(NO_FILE)
                first = rig.asked()
            assert first.address == home
            first.sends(ok())
            assert outcome(client) == (200, home)


def test_pods_are_asked_in_turn_for_a_file_of_which_nothing_is_known() -> None:
    with rig_of() as rig:
        Scene(rig)
        for has_it in (True, False):
            client = asks_of_file(rig)
            pods = [rig.asked().sends(NO_FILE).address, rig.asked().sends(NO_FILE).address]
            last = rig.asked().sends(ok() if has_it else NO_FILE)
            assert {*pods, last.address} == {ONE, TWO, THREE}
            assert outcome(client)[0] == (200 if has_it else 404)


def test_no_pod_is_asked_for_the_file_of_another_tenant() -> None:
    with rig_of() as rig:
        Scene(rig)
        rig.rebuild(rig.gateway.deps._replace(access=access_of(TenantSettings(name="a"), TenantSettings(name="b"))))
        home = uploads(rig, bearer("a"))
        served = set()
        for _ in range(3):
            client, pod = asks_of_file(rig, bearer("b")), rig.asked().sends(NO_FILE)
            assert outcome(client) == (404, pod.address)
            client, pod = asks_of_file(rig, bearer("a")), rig.asked()
            served.add((pod if pod.address == home else (pod.sends(NO_FILE), rig.asked())[1]).sends(ok()).address)
            assert client.answer().status == 200
        assert served == {home}


def test_a_404_about_something_else_is_passed_on_as_the_pod_wrote_it() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1, 2)
        client = rig.asks(ask())
        pod = scene.pod().sends(ok(b'{"detail":"Not Found"}', "x-own: 1", status="404 Not Found"))
        answer = client.answer()
        assert (answer.status, answer.body, answer.headers["x-own"]) == (404, b'{"detail":"Not Found"}', "1")
        assert (scene.lists.refusals, pod.fate) == ([], "")


@pytest.mark.parametrize("headers", [b"content-length: 0", b"content-length: 70000"], ids=["no body", "long body"])
def test_a_404_that_cannot_be_about_the_model_is_not_held(headers: bytes) -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        client = rig.asks(ask())
        body = b"x" * int(headers.rpartition(b" ")[2])
        scene.pod().sends(b"HTTP/1.1 404 Not Found\r\n" + headers + b"\r\n\r\n", body)
        assert (client.answer().status, client.answer().body) == (404, body)


def test_an_endless_404_is_a_failure_of_the_pod() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1, 2)
        client = rig.asks(ask())
        first = scene.pod()
        first.sends(b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n", chunk(b"x" * 70_000))
        scene.pod().sends(ok())
        assert outcome(client)[0] == 200
        assert first.transport.ending


def test_the_only_pod_s_404_reaches_the_client_after_a_look_at_the_lists() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        client = rig.asks(ask())
        scene.pod().sends(missing())
        assert (client.answers(), len(scene.lists.waiters)) == ([], 1)
        assert rig.inflight == 0
        scene.lists.ends()
        answer = client.answer()
        assert (answer.status, json.loads(answer.body)["error"]["type"]) == (404, "NotFoundError")


def test_an_adapter_that_moved_to_another_pod_is_found_there() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        client = rig.asks(ask())
        scene.pod().sends(missing())
        scene.lists.found(2, "base", "something")
        assert client.answers() == []
        scene.lists.found(3, "base", "lora")
        scene.pod().sends(ok())
        assert outcome(client) == (200, THREE)
        scene.lists.ends()


def test_a_look_may_miss_an_adapter_that_moves_so_there_is_another_one() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        scene.lists.lately = {"lora", "other"}
        refused, unlisted = rig.asks(ask()), rig.asks(ask("other"))
        scene.pod().sends(missing())
        scene.lists.ends()
        assert (refused.answers(), unlisted.answers(), len(scene.lists.waiters)) == ([], [], 2)
        scene.lists.found(1, "base", "lora", "other")  # they are back where they were
        assert {scene.pod().sends(ok()).address for _ in range(2)} == {ONE}
        assert [outcome(client) for client in (refused, unlisted)] == [(200, ONE)] * 2


def test_an_adapter_that_moves_back_to_a_pod_that_refused_it_is_found_there() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        client = rig.asks(ask())
        scene.pod().sends(missing())
        scene.lists.found(2, "base", "lora")
        second = scene.pod()
        assert second.address == TWO
        second.sends(missing())
        scene.lists.found(1, "base", "lora")
        back = scene.pod()
        back.sends(ok())
        assert (back.address, outcome(client)) == (ONE, (200, ONE))


def test_looks_for_a_model_that_was_there_come_to_an_end() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        scene.lists.lately = {"lora", "other"}
        refused, unlisted = rig.asks(ask()), rig.asks(ask("other"))
        scene.pod().sends(missing())
        for _ in range(LOOKS):
            assert (refused.answers(), unlisted.answers()) == ([], [])
            scene.lists.ends()
        assert [outcome(client)[0] for client in (refused, unlisted)] == [404, 404]
        assert scene.lists.waiters == []


def test_a_refusal_right_after_a_look_is_passed_on_at_once() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        scene.lists.fresh = True
        client = rig.asks(ask())
        scene.pod().sends(missing())
        assert outcome(client) == (404, ONE)


def test_case_a_2_a_model_that_no_list_names_is_looked_for_before_a_404() -> None:
    with rig_of() as rig:
        scene = Scene(rig)
        client, other = rig.asks(ask()), rig.asks(ask("nothing"))
        assert scene.lists.patient == [True, True]
        assert (client.answers(), len(rig.admission.active)) == ([], 2)
        scene.lists.found(2, "base", "lora")
        scene.pod().sends(ok())
        assert outcome(client) == (200, TWO)
        assert other.answers() == []
        scene.lists.ends()
        assert (outcome(other)[0], json.loads(other.answer().body)["error"]["code"]) == (404, "model_not_found")
        scene.lists.fresh = True
        assert outcome(rig.asks(ask("nothing")))[0] == 404


def test_a_client_that_leaves_while_its_model_is_looked_for_leaves_nothing_behind() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        waits, refused = rig.asks(ask("nothing")), rig.asks(ask())
        scene.pod().sends(missing())
        for client in (waits, refused):
            client.leaves()
        scene.lists.ends()
        assert not rig.admission.active


@pytest.mark.parametrize("refused", [False, True])
def test_a_request_whose_model_was_looked_for_is_freed_without_a_garbage_collection(refused: bool) -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        gc.collect()
        gc.disable()
        before = exchanges()
        try:
            client = rig.asks(ask() if refused else ask("nothing"))
            if refused:
                scene.pod().sends(missing())
            scene.lists.ends()
            assert outcome(client)[0] == 404
            client.leaves()
            assert exchanges() == before
        finally:
            gc.enable()


def test_with_a_default_pool_an_unlisted_model_is_looked_for_and_then_left_to_the_pods() -> None:
    pools = [Pool(name="main"), Pool(name="other", models=["o"])]
    with Rig(pools=pools, pods=3, default_pool="main") as rig:
        scene = Scene(rig)
        client = rig.asks(ask())
        assert (client.answers(), rig.nobody_asked(), scene.lists.patient) == ([], True, [False])
        scene.lists.ends()
        scene.pod().sends(missing())
        assert (client.answers(), len(scene.lists.waiters)) == ([], 0)
        for _ in range(2):
            scene.pod().sends(missing())
        scene.lists.ends()
        assert outcome(client)[0] == 404


def test_where_every_pool_names_its_models_an_unknown_one_is_refused_at_once() -> None:
    with Rig(Pool(name="main", models=["m"])) as rig:
        lists = ListsOfRig(rig)
        assert outcome(rig.asks(ask("nothing")))[0] == 404
        assert lists.waiters == []


def test_a_saturated_pod_that_has_the_adapter_is_waited_for() -> None:
    pool = Pool(name="main", max_inflight_per_pod=1)
    with rig_of(pool) as rig:
        scene = Scene(rig, 1, 2)
        both = [rig.asks(ask()), rig.asks(ask())]
        first, second = (end for end in rig.net.made if end.requests)
        first.sends(missing())
        assert [client.answers() for client in both] == [[], []]
        assert rig.admission.queued == 1
        second.sends(ok())
        rig.wire.do()
        second.sends(ok())
        assert {outcome(client) for client in both} == {(200, second.address)}
        assert scene.lists.refusals == [(first.address, "lora")]


def test_a_pod_that_is_gone_takes_a_held_answer_with_it() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1, 2)
        client = rig.asks(ask())
        first = scene.pod()
        first.sends(b"HTTP/1.1 404 Not Found\r\ncontent-length: 500\r\n\r\n")
        first.dies()
        scene.pod().sends(ok())
        assert outcome(client)[0] == 200


def test_case_a_2_on_anthropic_s_path_too() -> None:
    with rig_of() as rig:
        scene = Scene(rig, 1)
        client = rig.client().sends(post(ask(), path="/v1/messages"))
        scene.pod().sends(
            ok(b'{"type":"error","error":{"message":"The model `lora` does not exist."}}', status="404 X")
        )
        scene.lists.found(2, "base", "lora")
        scene.pod().sends(ok())
        assert outcome(client) == (200, TWO)


def test_an_id_that_a_client_chose_does_not_make_a_pod_seem_to_lack_the_model() -> None:
    with Rig(POOL, pods=1) as rig:
        lists = ListsOfRig(rig)
        lists.lists(1, "lora")
        body = b'{"model":"lora","input":"x","previous_response_id":"resp_1 \\u006dodel lora"}'
        client = rig.client().sends(post(body, path="/v1/responses"))
        error = {"error": {"message": "Response with id 'resp_1 model lora' not found.", "code": 404}}
        rig.asked().sends(ok(json.dumps(error).encode(), status="404 Not Found"))
        assert (client.answer().status, lists.refusals) == (404, [])
