"""`affinity: hold`: a session waits for its own pod, and for no other's."""

from __future__ import annotations

import pytest

from router.dataplane.session_homes import AWAY_S, SessionHomes
from router.settings import Limits, Pool
from schedulers.policies.session_affinity import SessionAffinity
from schedulers.types import Decision, LoadSnapshot, Pod, PodId, RequestInfo
from statesync.discovery.changes import PodChange
from statesync.load.view import LoadView
from tests.fakes.memory_client_and_pods import CHAT, Client, ok
from tests.fakes.memory_gateway import Rig, one_pool
from tests.fakes.virtual_time import Clock
from tests.router.dataplane.test_model_misses import ListsOfRig, missing

SESSIONS = [f"s{number}" for number in range(30)]


def holding(**more: object) -> Pool:
    return one_pool("session_affinity", affinity="hold", **more)


def of(session: str, rig: Rig) -> Client:
    return rig.asks(CHAT, f"x-session-id: {session}")


def home(rig: Rig, session: str) -> str:
    """The pod of a session, by an answered request."""
    of(session, rig)
    pod = rig.asked().sends(ok())
    return pod.address


def _picked(session: str, snapshot: LoadSnapshot) -> str:
    answer = SessionAffinity().pick(RequestInfo("r", "m", 1, 0, 0.0, 1, 0, session), snapshot)
    assert isinstance(answer, Decision)
    return answer.pod


def agent(number: int, uid: str = "1") -> Pod:
    labels = {"statefulset": "agent", "uid": uid}
    return Pod(PodId(f"agent-{number}.llm"), f"10.0.0.{number}:80", labels=labels)


def test_the_own_pod_is_the_first_of_session_affinity() -> None:
    clock = Clock()
    view = LoadView(clock)
    pods = [Pod(PodId(f"p{number}"), f"10.0.0.{number}:80") for number in range(9)]
    view.set_pods("main", pods)
    homes = SessionHomes(view, clock, ["main"])
    homes.change_pods("main", PodChange(come=tuple(reversed(pods))))
    snapshot: LoadSnapshot = view.snapshot("main")
    for session in SESSIONS:
        assert homes.home("main", session) == _picked(session, snapshot)
    homes.change_pods("other", PodChange(come=tuple(pods)))
    assert homes.home("main", "s") is not None


def test_case_c11_a_session_waits_while_its_pod_is_full_and_others_are_free() -> None:
    with Rig(holding(max_inflight_per_pod=1), pods=3) as rig:
        pod = home(rig, "s")
        of("s", rig)
        waiting = of("s", rig)
        assert rig.admission.queued == 1
        other = next(session for session in SESSIONS if _home(rig, session) != pod)
        passed = of(other, rig)
        (served,) = [end for end in rig.net.made if end.address != pod and len(end.requests) > end.answered]
        served.sends(ok(b"other"))
        assert passed.answer().body == b"other"
        assert waiting.raw == b""
        rig.asked().sends(ok())
        assert rig.asked().address == pod
        rig.asked().sends(ok(b"own"))
        assert waiting.answer().body == b"own"


def test_a_session_is_not_refused_because_its_pod_serves_nothing_while_it_is_away() -> None:
    with Rig(holding(), pods=3, limits=Limits(queue_timeout_s=60)) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.view.block(PodId(pod), "probe"))
        waiting = [of("s", rig) for _ in range(4)]
        for _ in range(40):
            rig.passes(1)
        waiting += [of("s", rig) for _ in range(4)]
        assert ([client.raw for client in waiting], rig.nobody_asked()) == ([b""] * 8, True)
        rig.wire.do(lambda: rig.view.unblock(PodId(pod), "probe"))
        for client in waiting:
            rig.asked().sends(ok(b"own"))
            assert client.answer().body == b"own"


def _home(rig: Rig, session: str) -> str | None:
    assert rig.homes is not None
    return rig.homes.home("main", session)


@pytest.mark.parametrize("blocker", ["probe", "ejected", "not_ready"])
def test_case_c11_a_session_waits_until_its_pod_is_well_again(blocker: str) -> None:
    with Rig(holding(), pods=3) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.view.block(PodId(pod), blocker))
        waiting = of("s", rig)
        rig.passes(20)
        assert rig.nobody_asked()
        rig.wire.do(lambda: rig.view.unblock(PodId(pod), blocker))
        assert rig.asked().address == pod
        rig.asked().sends(ok(b"own"))
        assert waiting.answer().body == b"own"


def test_the_wait_for_an_own_pod_ends_with_the_queue_s_timeout() -> None:
    with Rig(holding(), pods=3, limits=Limits(queue_timeout_s=30)) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.view.block(PodId(pod), "probe"))
        waiting = of("s", rig)
        rig.passes(31)
        answer = waiting.answer()
        assert (answer.status, b'"pool_saturated"' in answer.body) == (429, True)
        assert rig.nobody_asked()


def test_case_c11_a_session_waits_for_a_stateful_set_s_pod_that_is_away() -> None:
    with Rig(holding(), pods=0) as rig:
        rig.pod_registry.on_pods("main", [agent(0), agent(1)])
        session = next(each for each in SESSIONS if _home(rig, each) == "agent-0.llm")
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [agent(1)]))
        waiting = of(session, rig)
        assert rig.nobody_asked()
        back = agent(0, uid="2")._replace(address="10.0.9.9:80")
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [back, agent(1)]))
        assert rig.asked().address == "10.0.9.9:80"
        rig.asked().sends(ok(b"own"))
        assert waiting.answer().body == b"own"


def test_a_pod_that_does_not_come_back_is_forgotten_after_a_while() -> None:
    with Rig(holding(), pods=0) as rig:
        rig.pod_registry.on_pods("main", [agent(0), agent(1)])
        session = next(each for each in SESSIONS if _home(rig, each) == "agent-0.llm")
        rig.wire.do(lambda: rig.pod_registry.on_pods("main", [agent(1)]))
        rig.passes(AWAY_S + 1)
        of(session, rig)
        assert rig.asked().address == "10.0.0.1:80"
        rig.asked().sends(ok())


@pytest.mark.parametrize("blocker", ["draining", "terminating"])
def test_a_pod_that_goes_for_good_is_not_waited_for(blocker: str) -> None:
    with Rig(holding(), pods=3) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.view.block(PodId(pod), blocker))
        assert home(rig, "s") != pod


def test_requests_without_a_session_and_pools_that_prefer_do_not_wait() -> None:
    with Rig(holding(max_inflight_per_pod=1), pods=2) as rig:
        rig.asks()
        rig.asks()
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())
    with Rig(one_pool("session_affinity", max_inflight_per_pod=1), pods=2) as rig:
        of("s", rig)
        of("s", rig)
        assert rig.admission.queued == 0
        for _ in range(2):
            rig.asked().sends(ok())


def test_a_pool_without_pods_has_no_home() -> None:
    with Rig(holding(), pods=0) as rig:
        assert _home(rig, "s") is None
        assert of("s", rig).answer().status == 503


def test_a_pod_that_fails_a_request_of_its_session_is_tried_again_and_no_other_is() -> None:
    with Rig(holding(), pods=3, limits=Limits(queue_timeout_s=30)) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.upstream.drop_idle(pod))
        rig.net.trouble[pod] = ConnectionRefusedError(111, "Connection refused")
        waiting = of("s", rig)
        assert (rig.admission.queued, waiting.raw) == (1, b"")
        del rig.net.trouble[pod]
        rig.passes(1.1)
        assert rig.asked().address == pod
        rig.asked().sends(ok(b"own"))
        assert waiting.answer().body == b"own"
        rig.wire.do(lambda: rig.upstream.drop_idle(pod))
        rig.net.trouble[pod] = ConnectionRefusedError(111, "Connection refused")
        gone = of("s", rig)
        rig.passes(31)
        assert gone.answer().status == 429
        assert {end.address for end in rig.net.made} == {pod}


def test_the_own_pod_is_one_that_lists_the_model() -> None:
    with Rig(holding(), pods=3) as rig:
        pod = home(rig, "s")
        rig.wire.do(lambda: rig.routes.learned("main", pod, frozenset({"other"})))
        assert home(rig, "s") != pod
        rig.wire.do(lambda: rig.routes.learned("main", pod, None))
        assert home(rig, "s") == pod, "a pod without a list may serve any model"


def _other(rig: Rig, pod: str) -> PodId:
    return next(status.pod.id for status in rig.view.statuses() if status.pod.id != pod)


def test_a_request_that_waits_goes_to_the_next_pod_once_its_own_goes_for_good() -> None:
    with Rig(holding(max_inflight_per_pod=1), pods=2) as rig:
        pod = home(rig, "s")
        busy, waiting = of("s", rig), of("s", rig)
        rig.wire.do(lambda: rig.view.block(PodId(pod), "draining"))
        rig.asked().sends(ok(b"busy"))
        assert busy.answer().body == b"busy"
        other = _other(rig, pod)
        rig.wire.do(lambda: rig.view.block(other, "probe"))
        rig.wire.do(lambda: rig.view.unblock(other, "probe"))
        assert rig.asked().address == other
        rig.asked().sends(ok(b"other"))
        assert waiting.answer().body == b"other"


@pytest.mark.parametrize("free", [True, False])
def test_a_request_that_waits_goes_to_the_next_pod_once_its_own_lists_other_models(free: bool) -> None:
    with Rig(holding(max_inflight_per_pod=1), pods=2) as rig:
        pod = home(rig, "s")
        busy, waiting = of("s", rig), of("s", rig)
        elsewhere = None if free else of(next(each for each in SESSIONS if _home(rig, each) != pod), rig)
        own, *others = [end for end in rig.net.made if len(end.requests) > end.answered]
        for number, status in enumerate(rig.view.statuses(), 1):
            rig.wire.do(lambda at=number, id=status.pod.id: rig.lists(at, "other" if id == pod else "m"))  # type: ignore[misc]
        own.sends(ok(b"busy"))
        assert busy.answer().body == b"busy"
        if elsewhere is not None:
            assert rig.admission.queued == 1
            others[0].sends(ok(b"elsewhere"))
            assert elsewhere.answer().body == b"elsewhere"
        assert rig.asked().address == _other(rig, pod)
        rig.asked().sends(ok(b"other"))
        assert waiting.answer().body == b"other"


def test_a_request_that_waits_for_the_pool_waits_for_its_own_pod_once_it_has_one() -> None:
    with Rig(holding(max_inflight_per_pod=1), pods=2, limits=Limits(queue_timeout_s=30)) as rig:
        for number in (1, 2):
            rig.lists(number, "other")
        busy = [of("s", rig), of("s", rig)]
        waiting = [of("s", rig), of("s", rig)]
        assert rig.admission.lines("main") == ["main"]
        for number in (1, 2):
            rig.wire.do(lambda at=number: rig.lists(at, "m"))  # type: ignore[misc]
        assert rig.admission.queued == 2
        own = _home(rig, "s")
        for end in sorted(rig.net.made, key=lambda end: end.address == own):
            end.sends(ok())
        assert [client.answer().status for client in busy] == [200, 200]
        assert (rig.asked().address, rig.admission.queued) == (own, 1)
        rig.passes(31)
        assert waiting[1].answer().status == 429
        rig.asked().sends(ok(b"own"))
        assert waiting[0].answer().body == b"own"


def test_a_session_s_request_that_its_own_pod_refuses_for_its_model_moves_on() -> None:
    with Rig(holding(), pods=2) as rig:
        for number in (1, 2):
            rig.lists(number, "m")
        pod = home(rig, "s")
        lists = ListsOfRig(rig)
        lists.known[PodId(pod)] = frozenset({"m"})
        client = of("s", rig)
        assert rig.asked().address == pod
        rig.asked().sends(missing("m"))
        assert lists.refusals == [(PodId(pod), "m")]
        assert rig.asked().address == _other(rig, pod)
        rig.asked().sends(ok(b"other"))
        assert client.answer().body == b"other"
