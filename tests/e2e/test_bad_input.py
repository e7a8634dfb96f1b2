"""Wrong bodies, headers and lengths, over raw sockets: each gets an error in OpenAI's shape, others are still served.

Bytes that are no request are in test_bad_framing.py, clients that are slow or leave in test_slow_clients.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from loadtests.sim.ports import free_ports
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Wire, ask, chat, get, post, stays_usable
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

HEADER_BYTES = 8192
BODY_BYTES = 2_000_000


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    (unused_port,) = free_ports(1)
    settings = config(
        (),
        pools=[pool("default", all_sims.urls[:2]), pool("empty", [f"http://127.0.0.1:{unused_port}"], models=["gone"])],
        limits={"max_header_bytes": HEADER_BYTES, "max_body_bytes": BODY_BYTES},
    )
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def serves_on(port: int) -> Iterator[None]:
    """After each test a good request is answered."""
    yield
    with Wire("127.0.0.1", port) as wire:
        assert stays_usable(wire)


# Bodies

NO_MODEL = {"messages": [{"role": "user", "content": "hi"}]}
BODIES = {
    "empty": (b"", "invalid_request"),
    "no JSON": (b"hello", "invalid_request"),
    "half of a JSON": (b'{"model": "sim-', "invalid_request"),
    "an array": (b"[1, 2]", "invalid_request"),
    "a string": (b'"model"', "invalid_request"),
    "a number": (b"7", "invalid_request"),
    "null": (b"null", "invalid_request"),
    "not UTF-8": (b'{"model": "\xff\xfe"}', "invalid_request"),
    "too deep": (b'{"model": "sim-model", "messages": ' + b"[" * 40_000, "invalid_request"),
    "no model": (json.dumps(NO_MODEL).encode(), "missing_model"),
    "an empty model": (json.dumps(chat(model="")).encode(), "missing_model"),
    "null for a model": (json.dumps(NO_MODEL | {"model": None}).encode(), "missing_model"),
    "a number for a model": (json.dumps(NO_MODEL | {"model": 3}).encode(), "invalid_request"),
    "a text for a count": (json.dumps(chat() | {"max_tokens": "many"}).encode(), "invalid_request"),
}


@pytest.mark.parametrize("named", BODIES)
def test_a_malformed_body_is_a_400_and_the_connection_stays_open(wire: Wire, named: str) -> None:
    body, code = BODIES[named]
    answer = ask(wire, post(body))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (400, code, "invalid_request_error")
    assert stays_usable(wire)


def test_huge_numbers_in_a_body_do_no_harm(wire: Wire) -> None:
    for count in ("1e308", "-5", "1" * 400, "0.5", "-1e-300", "1e999"):
        body = json.dumps(chat() | {"max_tokens": 7}).replace('"max_tokens": 7', f'"max_tokens": {count}').encode()
        assert ask(wire, post(body)).status in (200, 400)
    assert stays_usable(wire)


def test_a_huge_number_in_flight_leaves_all_readings_finite(gateway: GatewayProcess, sims: SimPods, port: int) -> None:
    for pod in sims.addresses[:2]:
        sims.fault(pod, "hang")
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(Wire("127.0.0.1", port)).send(post(chat(max_tokens=1.7e308)))
        wait_for("all are in flight", lambda: gateway.inflight() == 4)
        assert gateway.metric("turnout_inflight_tokens") >= 4
    gateway.settle()


def test_a_deep_body_with_a_model_does_no_harm(wire: Wire) -> None:
    body = b'{"model": "sim-model", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    assert ask(wire, post(body)).status == 400
    assert stays_usable(wire)


def test_an_unknown_model_is_a_404_with_the_closest_name(wire: Wire) -> None:
    answer = ask(wire, post(chat(model="sim-modle")))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "'sim-model'" in answer.error["message"]
    assert stays_usable(wire)


def test_a_very_long_model_name_is_not_echoed_whole(wire: Wire) -> None:
    answer = ask(wire, post(chat(model="m" * 50_000)))
    assert answer.status == 404
    assert len(answer.body) < 2000


def test_a_form_without_a_model_is_a_400(wire: Wire) -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'
    request = post(form, path="/v1/audio/transcriptions").replace(
        b"application/json", b"multipart/form-data; boundary=b"
    )
    answer = ask(wire, request)
    assert (answer.status, answer.error["code"]) == (400, "missing_model")


def test_a_compressed_body_is_a_415(wire: Wire) -> None:
    answer = ask(wire, post(b"\x1f\x8b\x08", "content-encoding: gzip"))
    assert (answer.status, answer.error["code"]) == (415, "unsupported_encoding")
    assert stays_usable(wire)


# Limits


def test_a_body_announced_as_too_large_is_refused_before_it_is_sent(wire: Wire) -> None:
    wire.send(f"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {BODY_BYTES + 1}\r\n\r\n".encode())
    answer = wire.answer()
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert wire.closed()


def test_a_too_large_body_that_is_sent_anyway_gets_an_answer(wire: Wire) -> None:
    with contextlib.suppress(ConnectionError):
        wire.send(post(b"x" * 3_000_000))
    assert wire.answer().status == 413


def test_a_chunked_body_is_refused_where_it_grows_too_large(wire: Wire) -> None:
    wire.send(b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        for _ in range(BODY_BYTES // 10_000 + 1):
            wire.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    answer = wire.answer()
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")


def test_a_body_in_tiny_chunks_costs_no_more_memory_than_in_large_ones(gateway: GatewayProcess, wire: Wire) -> None:
    """Two bytes in a Python object of their own take more than forty bytes of memory."""
    wire.send(b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
    before = gateway.rss_bytes()
    gateway.forget_peak()
    for _ in range(100):
        wire.send(b"2\r\nxx\r\n" * (BODY_BYTES // 200))
    wire.send(b"0\r\n\r\n")
    assert wire.answer().error["code"] == "invalid_request"
    assert gateway.peak_rss_bytes() - before < 20 * 2**20


def test_an_absurd_length_is_refused(wire: Wire) -> None:
    wire.send(b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 18446744073709551615\r\n\r\n")
    assert wire.answer().status == 413


@pytest.mark.parametrize("count", [1, 400], ids=["one large header", "many small headers"])
def test_headers_over_the_limit_are_a_431(wire: Wire, count: int) -> None:
    size = HEADER_BYTES // count + 20
    answer = ask(wire, get("/v1/models", *(f"x-{at}: {'h' * size}" for at in range(count))))
    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
    assert wire.closed()


def test_a_header_that_never_ends_is_a_431(wire: Wire) -> None:
    wire.send(b"GET /v1/models HTTP/1.1\r\nx-endless: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            wire.send(b"e" * 500)
    assert wire.answer().status == 431


def test_a_target_over_the_limit_is_a_431(wire: Wire) -> None:
    assert ask(wire, get("/v1/" + "t" * (HEADER_BYTES + 1))).status == 431


# Headers that the gateway reads


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ("x-turnout-deadline-ms: soon", 400, "invalid_request"),
        ("x-turnout-deadline-ms: 0", 400, "invalid_request"),
        ("x-turnout-deadline-ms: -5", 400, "invalid_request"),
        ("x-turnout-deadline-ms: " + "9" * 5000, 400, "invalid_request"),
        ("x-turnout-deadline-ms: " + "9" * 4000, 400, "invalid_request"),
        ("x-turnout-priority: high", 400, "invalid_request"),
        ("x-turnout-priority: " + "9" * 5000, 400, "invalid_request"),
        ("x-turnout-pool: nowhere", 404, "pool_not_found"),
        ("x-turnout-pool: \xff\xfe", 400, "invalid_request"),
        ("x-turnout-cluster: nowhere", 404, "pool_not_found"),
        ("x-turnout-policy: random", 403, "policy_not_allowed"),
        ("x-turnout-policy: \xff" + "p" * 500, 403, "policy_not_allowed"),
    ],
)
def test_a_turnout_header_with_a_bad_value_is_refused(wire: Wire, header: str, status: int, code: str) -> None:
    answer = ask(wire, post(chat(), header))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert header.partition(":")[0] in answer.error["message"] or code in ("pool_not_found", "policy_not_allowed")
    assert stays_usable(wire)


def test_odd_values_in_headers_that_are_passed_on_do_no_harm(wire: Wire) -> None:
    for header in ("x-session-id: \xff\xfe", "x-session-id: ", "authorization: \x80", "x-turnout-priority: -3"):
        assert ask(wire, post(chat(), header)).status == 200


def test_a_valid_request_id_is_kept_and_an_invalid_one_replaced(wire: Wire) -> None:
    assert ask(wire, get("/nothing", "x-request-id: abc-1")).headers["x-request-id"] == "abc-1"
    for odd in ("two words", "\xff", "i" * 500, ""):
        kept = ask(wire, get("/nothing", f"x-request-id: {odd}")).headers["x-request-id"]
        assert kept != odd
        assert kept.isalnum()


# No pod


def test_a_request_without_a_pod_is_a_503_with_retry_after(wire: Wire) -> None:
    answer = ask(wire, post(chat(model="gone")))
    assert answer.status == 503
    assert answer.error["code"] in ("no_pod_available", "pod_unreachable")
    assert int(answer.headers["retry-after"]) >= 1
    assert stays_usable(wire)
