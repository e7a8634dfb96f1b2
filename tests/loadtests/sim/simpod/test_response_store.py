import pytest

from loadtests.sim.simpod.bodies import ResponsesBody, read
from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.response_store import Follower, Kept, Recorder, ResponseStore, complete
from loadtests.sim.simpod.responses import Written, write
from tests.loadtests.sim.simpod.test_pump import Sink
from tests.loadtests.sim.simpod.written import SPEC


def written() -> Written:
    body = read(ResponsesBody, {"input": "hi", "background": True, "max_output_tokens": 2})
    return write(body, SPEC, "resp_1", [])


def test_the_oldest_response_is_forgotten_first() -> None:
    store = ResponseStore(most=2)
    for name in "abc":
        store.add(name, written())
    assert store.get("c") and store.get("b")
    with pytest.raises(ApiError):
        store.get("a")


def test_a_cancelled_response_stays_cancelled() -> None:
    store = ResponseStore()
    kept = store.add("a", written())
    ended: list[str] = []
    kept.cancel = lambda: ended.append("a")
    assert store.cancel("a")["status"] == "cancelled"
    complete(kept, {"status": "completed"})
    assert (store.get("a").body["status"], ended) == ("cancelled", ["a"])


def test_deleting_a_response_under_way_cancels_it() -> None:
    store = ResponseStore()
    ended: list[str] = []
    store.add("a", written()).cancel = lambda: ended.append("a")
    assert store.delete("a")["deleted"]
    assert ended == ["a"]


def test_a_follower_gets_all_events_before_and_after_it_came() -> None:
    kept, sink, late = Kept(written()), Sink(), Sink()
    recorder = Recorder(kept)
    recorder.open(b"text/event-stream")
    Follower(kept, sink, 0)
    recorder.send(b"a")
    recorder.send(b"b")
    Follower(kept, late, 1)
    recorder.end()
    assert (sink.sent, late.sent) == ([b"open", b"a", b"b"], [b"open", b"b"])
    assert sink.done.is_set() and late.done.is_set()


def test_a_follower_that_does_not_read_gets_the_rest_later_and_one_that_is_gone_nothing() -> None:
    kept, slow, gone = Kept(written()), Sink(), Sink()
    recorder = Recorder(kept)
    slow.paused = True
    follower, other = Follower(kept, slow, 0), Follower(kept, gone, 0)
    other.cancel()
    recorder.send(b"a")
    recorder.end()
    assert (slow.sent, gone.sent, slow.done.is_set()) == ([b"open"], [b"open"], False)
    slow.paused = False
    follower.resume()
    assert slow.sent == [b"open", b"a"] and slow.done.is_set()
