"""WebSockets through the gateway: the handshake, bytes both ways, full buffers, and every way to end. Case C 10."""

from __future__ import annotations

import json

import pytest

from router.dataplane.http.websocket import close_frame
from router.settings import Limits, PathSettings, PolicySpec, Pool, Timeouts
from tests.fakes.memory_client_and_pods import Client, PodEnd, get, ok
from tests.fakes.memory_gateway import Rig

OFFER = (
    "Upgrade: websocket",
    "Connection: keep-alive, Upgrade",
    "Sec-WebSocket-Key: a2V5",
    "Sec-WebSocket-Version: 13",
)
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n"
)
HELLO = b"\x81\x05hello"
MASKED = b"\x81\x85maskhello"


def offered(rig: Rig, path: str = "/v1/realtime?model=m", *headers: str) -> Client:
    return rig.client().sends(get(path, *OFFER, *headers))


def pod_of(rig: Rig) -> PodEnd:
    return rig.net.made[-1]


def opened(rig: Rig) -> tuple[Client, PodEnd]:
    client = offered(rig)
    pod = pod_of(rig).sends(ACCEPTED)
    return client, pod


def sent(end: Client | PodEnd) -> bytes:
    """What an end received after the handshake."""
    return bytes(end.transport.sent).partition(b"\r\n\r\n")[2]


def test_the_handshake_reaches_the_pod_and_its_answer_the_client() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        asked = pod.request
        assert (asked.method, asked.target) == ("GET", "/v1/realtime?model=m")
        assert (asked.headers["upgrade"], asked.headers["connection"]) == ("websocket", "Upgrade")
        assert (asked.headers["sec-websocket-key"], asked.headers["host"]) == ("a2V5", pod.address)
        assert "content-length" not in asked.headers
        head = client.raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        assert head[0] == "HTTP/1.1 101 Switching Protocols"
        names = [line.partition(":")[0] for line in head[1:]]
        assert sorted(names) == sorted(set(names))
        assert {"upgrade: websocket", "connection: Upgrade", "sec-websocket-accept: a"} <= set(head)
        assert f"x-turnout-pod: {pod.address}" in head


def test_bytes_are_relayed_both_ways_as_they_come() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        client.sends(MASKED[:3], MASKED[3:])
        assert sent(pod) == MASKED
        pod.sends(HELLO[:1], HELLO[1:], HELLO)
        assert sent(client) == HELLO * 2


def test_what_either_side_sends_with_the_handshake_is_relayed_too() -> None:
    with Rig() as rig:
        client = offered(rig)
        client.sends(MASKED)
        pod = pod_of(rig).sends(ACCEPTED[:20], ACCEPTED[20:] + HELLO)
        assert (sent(client), sent(pod)) == (HELLO, MASKED)


def test_a_websocket_is_in_flight_as_long_as_it_is_open() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        assert rig.load(pod).inflight == 1
        assert len(rig.admission.active) == 1
        rig.passes(100_000)  # silence is no reason to end it
        assert client.fate == ""
        pod.closes()
        assert client.fate == "closed"
        rig.assert_clean()
        assert rig.metrics.requests[("main", "round_robin", pod.address, 101)] == 1
        assert rig.metrics.pool("main").e2e.count == 0, "how long it was open is no latency"


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/realtime?intent=transcription"])
def test_without_a_model_the_only_pool_takes_it(path: str) -> None:
    with Rig() as rig:
        offered(rig, path)
        assert pod_of(rig).request.target == path


def test_without_a_model_the_default_pool_takes_it_or_no_pool_does() -> None:
    pools = [Pool(name="a", models=["x"]), Pool(name="b", models=["y"])]
    with Rig(pools=pools, default_pool="b") as rig:
        offered(rig, "/v1/realtime")
        assert pod_of(rig).address.startswith("10.0.1.")
    with Rig(pools=pools) as rig:
        answer = offered(rig, "/v1/realtime").answer("GET")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "missing_model")


def test_an_alias_in_the_query_becomes_the_pods_own_name() -> None:
    with Rig(Pool(name="main", models=["org/m"], aliases={"small": "org/m"})) as rig:
        offered(rig, "/v1/realtime?a=b&model=small")
        assert pod_of(rig).request.target == "/v1/realtime?a=b&model=org%2Fm"


def test_a_session_reaches_its_pod_again() -> None:
    with Rig(Pool(name="main", models=["m"], policy=PolicySpec(name="session_affinity")), pods=8) as rig:
        addresses = set()
        for _ in range(6):
            offered(rig, "/v1/realtime?model=m", "x-session-id: s-1")
            addresses.add(pod_of(rig).address)
            pod_of(rig).sends(ACCEPTED).closes()
        assert len(addresses) == 1


def test_an_answer_other_than_101_is_an_ordinary_answer() -> None:
    with Rig() as rig:
        client = offered(rig)
        pod_of(rig).sends(ok(b"no", status="403 Forbidden"))
        answer = client.answer("GET")
        assert (answer.status, answer.body, answer.headers["connection"]) == (403, b"no", "close")
        assert client.fate == "closed"


def test_an_unreachable_pod_is_replaced_by_another() -> None:
    with Rig() as rig:
        rig.net.trouble["10.0.0.1:8000"] = ConnectionRefusedError()
        client, pod = opened(rig)
        assert pod.address == "10.0.0.2:8000"
        pod.sends(HELLO)
        assert sent(client) == HELLO


@pytest.mark.parametrize("answer", [b"HTTP/1.1 101 Switching\r\nbad line\r\n\r\n", b"HTTP/1.1 101 " + b"x" * 70_000])
def test_an_acceptance_that_is_none_is_a_502(answer: bytes) -> None:
    with Rig(pods=1) as rig:
        client = offered(rig)
        pod_of(rig).sends(answer)
        assert client.answer("GET").status == 502


def test_a_pod_that_never_answers_the_offer_is_given_up() -> None:
    with Rig(pods=1, timeouts=Timeouts(first_byte_s=5)) as rig:
        client = offered(rig)
        rig.passes(6)
        assert client.answer("GET").status == 504


def test_a_client_that_leaves_takes_the_pods_connection_with_it() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        client.sends(MASKED)
        client.leaves()
        assert (pod.fate, sent(pod)) == ("closed", MASKED)
        rig.assert_clean()


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_client_that_leaves_after_a_close_frame_has_left_in_good_order(says_goodbye: bool) -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        client.sends(b"\x88\x82mask\x6e\x89" if says_goodbye else MASKED)
        client.leaves()
        assert rig.metrics.requests[("main", "round_robin", pod.address, 101 if says_goodbye else 499)] == 1
        assert rig.metrics.client_disconnects == (0 if says_goodbye else 1)


def test_a_client_that_leaves_in_the_handshake_ends_it() -> None:
    with Rig() as rig:
        client = offered(rig)
        client.leaves()
        assert pod_of(rig).fate == "aborted"


def test_a_pod_that_dies_leaves_a_close_frame() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        pod.sends(HELLO)
        pod.dies()
        assert sent(client) == HELLO + close_frame(1011, "The pod closed the connection.")
        assert client.fate == "closed"


def test_a_pod_that_dies_in_a_frame_leaves_only_the_end() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        pod.sends(HELLO[:4])
        pod.dies()
        assert (sent(client), client.fate) == (HELLO[:4], "closed")


def test_a_drain_ends_it_with_the_code_for_going_away() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        pod.sends(HELLO)
        rig.wire.do(rig.gateway.cut_off)
        frame = sent(client).removeprefix(HELLO)
        assert frame[0] == 0x88 and frame[2:4] == (1001).to_bytes(2)
        assert (client.fate, pod.fate) == ("closed", "closed")


def test_nothing_follows_a_close_frame_of_the_pod() -> None:
    with Rig() as rig:
        client, pod = opened(rig)
        bye = close_frame(1000, "bye")
        pod.sends(bye)
        rig.wire.do(rig.gateway.cut_off)
        assert sent(client) == bye


def test_a_client_that_does_not_read_pauses_the_pod() -> None:
    with Rig(limits=Limits(write_buffer_bytes=1000)) as rig:
        client, pod = opened(rig)
        client.stops_reading()
        pod.sends(HELLO * 300)
        assert not pod.transport.is_reading()
        client.reads_on()
        assert pod.transport.is_reading()
        client.stops_reading()
        pod.sends(HELLO * 300)
        rig.passes(61)  # client_write_s
        assert client.fate == "aborted"


def test_a_pod_that_does_not_read_pauses_the_client() -> None:
    with Rig(limits=Limits(write_buffer_bytes=1000)) as rig:
        client, pod = opened(rig)
        pod.transport.stall()
        client.sends(MASKED * 300)
        assert not client.transport.is_reading()
        rig.wire.do(pod.transport.drain)
        assert client.transport.is_reading()
        assert sent(pod) == MASKED * 300


def test_what_waits_for_a_pod_is_part_of_the_bytes_held_for_all_clients() -> None:
    """Case E 22."""
    with Rig(limits=Limits(buffer_budget_bytes=100_000)) as rig:
        client, pod = opened(rig)
        pod.transport.stall()
        client.sends(MASKED * 7_000)
        assert 60_000 < rig.listener.budget.used < 100_000
        rig.wire.do(pod.transport.drain)
        assert rig.listener.budget.used == 0
        pod.transport.stall()
        client.sends(MASKED * 20_000)
        assert client.fate == "aborted"
        rig.wire.do(pod.transport.drain)


def test_a_client_that_sends_before_the_answer_is_read_no_further_than_a_bound() -> None:
    with Rig() as rig:
        client = offered(rig)
        client.sends(MASKED * 10_000)
        assert not client.transport.is_reading()
        pod = pod_of(rig).sends(ACCEPTED)
        assert client.transport.is_reading()
        assert sent(pod) == MASKED * 10_000


def test_bytes_behind_the_offer_are_no_request_and_no_frame() -> None:
    """What a parser reads as a second request must not become a tunnel's bytes, nor a frame a request."""
    with Rig() as rig:
        for behind in (get("/v1/models"), MASKED):
            client = rig.client().sends(get("/v1/realtime?model=m", *OFFER) + behind)
            assert [answer.status for answer in client.answers("GET")] == [400]
            assert client.fate == "closed"
        assert rig.net.made == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/nowhere"])
def test_an_offer_under_another_path_is_ignored(path: str) -> None:
    with Rig() as rig:
        assert offered(rig, path).answer("GET").status in (200, 404, 405)
        assert rig.net.made == []


def test_http_1_0_has_no_websocket() -> None:
    with Rig() as rig:
        offer = get("/v1/realtime?model=m", *OFFER).replace(b"HTTP/1.1", b"HTTP/1.0")
        assert rig.client().sends(offer).answer("GET").status == 404


def test_a_path_that_the_settings_open_takes_a_websocket() -> None:
    with Rig(paths=PathSettings(forward=("/ws",))) as rig:
        offered(rig, "/ws?model=m")
        assert pod_of(rig).request.target == "/ws?model=m"


@pytest.mark.parametrize("target", ["/v1/realtime?model=m", "/v1/responses"])
def test_an_offer_with_a_body_is_refused_for_a_pod_would_read_it_as_a_request(target: str) -> None:
    with Rig() as rig:
        body = b'{"model":"m"}'
        head = get(target, *OFFER, "content-type: application/json", f"content-length: {len(body)}")
        client = rig.client().sends(head + body)
        assert (client.answer("GET").status, client.fate) == (400, "closed")
        assert not rig.net.made


def test_an_offer_with_a_part_of_something_more_is_refused() -> None:
    with Rig() as rig:
        client = rig.client().sends(get("/v1/realtime?model=m", *OFFER) + b"A")
        assert (client.answer("GET").status, client.fate) == (400, "closed")
        assert not rig.net.made


def test_a_client_that_leaves_before_the_answer_to_a_pipelined_offer_is_noticed() -> None:
    with Rig() as rig:
        client = rig.asks()
        client.sends(get("/v1/realtime?model=m", *OFFER))
        rig.asked().sends(ok())
        offer = pod_of(rig)
        assert offer.request.target == "/v1/realtime?model=m"
        client.half_closes()
        assert offer.fate == "aborted"
        assert not rig.admission.active
