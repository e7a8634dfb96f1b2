"""The repr of an exchange, its values before it is routed, and its summary of fall-backs."""

from __future__ import annotations

import pytest

from router.dataplane.exchange import FAILED, NO_POD, SATURATED, UNROUTED, FallbackState, Placement
from router.dataplane.request.openai import Call
from router.dataplane.request.routes import Route
from router.errors import PodFailure
from schedulers.types import Pod, PodId
from statesync.load.pod_state import Charge
from tests.fakes.bare_exchange import exchange, routed
from tests.fakes.trial_inputs import request


def test_the_path_is_the_target_without_its_query() -> None:
    assert exchange(target=b"/v1/x?a=/b?c").path == b"/v1/x"
    assert exchange(target=b"/v1/x").path == b"/v1/x"


def test_the_repr_shows_pool_pod_and_attempts() -> None:
    made = exchange()
    assert repr(made) == "<Exchange  POST /v1/completions pool=- pod=- attempts=0>"
    pod = Pod(PodId("p1"), "a:1")
    made.request_id, made.attempts = b"id-1", 2
    made.routed, made.placement = routed("main"), Placement(pod, "p2c", Charge(pod.id, 1, 1), request())
    assert repr(made) == "<Exchange id-1 POST /v1/completions pool=main pod=p1 attempts=2>"
    made.done = True
    assert repr(made).endswith(" done>")


def test_the_repr_of_bytes_that_are_no_text_does_not_raise() -> None:
    made = exchange(target=b"/v1/\xff")
    made.request_id = b"\xff"
    assert "Exchange" in repr(made)


def test_a_request_without_a_pool_has_no_deadline() -> None:
    made = exchange()
    assert (made.routed, made.deadline) == (UNROUTED, 0.0)
    made.routed = routed()
    made.routed.deadline = 1005.0
    assert made.deadline == 1005.0


class Source:
    """A relay that records its calls."""

    status = 0
    begun = sse = False
    status = 200
    first_at = 0.0
    tail = b""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def cancel(self) -> None:
        self.calls.append("cancel")

    def conclude(self) -> bool:
        self.calls.append("conclude")
        return False

    def break_off(self, failure: PodFailure, /) -> None:
        self.calls.append("break_off")


def test_backpressure_reaches_the_relay_of_the_attempt_under_way() -> None:
    made, source = exchange(), Source()
    made.pause()
    made.resume()
    made.relay = source
    made.pause()
    made.resume()
    assert source.calls == ["pause", "resume"]


def test_the_usage_of_an_answer_is_read_once_for_all_who_ask() -> None:
    made, source = exchange(), Source()
    source.tail = b'"usage":{"prompt_tokens":3,"completion_tokens":4}'
    assert made.usage(source).named() == {"prompt_tokens": 3, "completion_tokens": 4}
    assert made.usage(source) is made.usage(source)


@pytest.mark.parametrize("stream", [True, False])
def test_a_routed_request_is_a_stream_where_the_client_asked_for_one(stream: bool) -> None:
    assert routed(call=Call("m", (), 1, 0, stream, "")).stream is stream


def test_a_fall_back_is_explained_only_where_another_pool_was_tried() -> None:
    state = FallbackState(Route("east", "m"), refused=False)
    assert state.summary("east") == ""
    state.tried = {"east": NO_POD, "west": SATURATED}
    assert state.summary("west") == " Pools tried: 'east' has no pod for it, 'west' is full."
    state.tried = {"east": FAILED}
    assert state.summary("west") == " Pools tried: 'east' failed it, 'west' failed it."


def test_a_summary_for_a_client_that_refuses_fall_back_names_its_header() -> None:
    assert "refuses fall-back" in FallbackState(Route("east", "m"), refused=True).summary("east")
