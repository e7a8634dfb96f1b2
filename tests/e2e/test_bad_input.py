"""Bad input over raw sockets: each is answered in OpenAI's shape, nothing hangs, and good clients are served on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from loadtests.ports import free_ports
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import Answer, Closed, Wire, chat, get, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for, wait_until_still

pytestmark = pytest.mark.slow

HEADER_BYTES = 8192
BODY_BYTES = 2_000_000


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    (nobody,) = free_ports(1)
    settings = config(
        (),
        pools=[pool("default", all_sims.urls[:2]), pool("empty", [f"http://127.0.0.1:{nobody}"], models=["gone"])],
        limits={"max_header_bytes": HEADER_BYTES, "max_body_bytes": BODY_BYTES},
        timeouts={"client_header_s": 0.5, "client_body_s": 0.5, "connect_s": 0.5},
    )
    with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def wire(port: int) -> Iterator[Wire]:
    with Wire("127.0.0.1", port) as wire:
        yield wire


@pytest.fixture(autouse=True)
def serves_on(port: int) -> Iterator[None]:
    """After each test a good request is answered."""
    yield
    with Wire("127.0.0.1", port) as wire:
        wire.send(post(chat()))
        assert wire.answer().status == 200


def ask(wire: Wire, data: bytes) -> Answer:
    wire.send(data)
    return wire.answer()


def stays_usable(wire: Wire) -> bool:
    """Whether the connection serves another request."""
    return ask(wire, post(chat())).status == 200


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
def test_a_body_that_cannot_be_understood_is_a_400_and_the_connection_lives_on(wire: Wire, named: str) -> None:
    body, code = BODIES[named]
    answer = ask(wire, post(body))
    assert (answer.status, answer.error["code"], answer.error["type"]) == (400, code, "invalid_request_error")
    assert stays_usable(wire)


def test_huge_numbers_in_a_body_do_no_harm(wire: Wire) -> None:
    for count in ("1e308", "-5", "1" * 400, "0.5", "-1e-300", "1e999"):
        body = json.dumps(chat() | {"max_tokens": 7}).replace('"max_tokens": 7', f'"max_tokens": {count}').encode()
        assert ask(wire, post(body)).status in (200, 400)
    assert stays_usable(wire)


def test_a_huge_number_in_flight_spoils_no_reading(gateway: GatewayProcess, sims: SimPods, port: int) -> None:
    for pod in sims.addresses[:2]:
        sims.fault(pod, "hang")
    wires = [Wire("127.0.0.1", port) for _ in range(4)]
    for wire in wires:
        wire.send(post(chat(max_tokens=1.7e308)))
    wait_for("all are in flight", lambda: gateway.inflight() == 4)
    assert gateway.metric("turnout_inflight_tokens") >= 4
    for wire in wires:
        wire.close()
    gateway.settle()


def test_a_deep_body_with_a_model_does_no_harm(wire: Wire) -> None:
    body = b'{"model": "sim-model", "messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}"
    assert ask(wire, post(body)).status == 400
    assert stays_usable(wire)


def test_an_unknown_model_is_a_404_that_says_what_is_near(wire: Wire) -> None:
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


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(wire: Wire) -> None:
    wire.send(f"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {BODY_BYTES + 1}\r\n\r\n".encode())
    answer = wire.answer()
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert wire.closed()


def test_a_too_large_body_that_is_sent_nevertheless_still_gets_its_answer(wire: Wire) -> None:
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
    """Two bytes in a Python object of their own take more than forty."""
    wire.send(b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n")
    before = gateway.rss_bytes()
    for _ in range(100):
        wire.send(b"2\r\nxx\r\n" * (BODY_BYTES // 200))
    wait_until_still(gateway.rss_bytes, still_s=0.2)
    assert gateway.rss_bytes() - before < 20 * 2**20
    wire.send(b"0\r\n\r\n")
    assert wire.answer().error["code"] == "invalid_request"


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


# Time


@pytest.mark.parametrize("begun", [b"", b"G", b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-slow: "])
def test_headers_that_do_not_come_end_in_time(wire: Wire, begun: bytes) -> None:
    wire.send(begun)
    if begun:
        answer = wire.answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert wire.closed()


def test_headers_that_drip_are_a_408_all_the_same(wire: Wire) -> None:
    """A byte now and then does not move the deadline."""
    wire.send(b"GET /v1/models HTTP/1.1\r\nx-drip: ")
    answer = drip_until_answered(wire)
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


def test_a_body_that_does_not_come_is_a_408(wire: Wire) -> None:
    answer = ask(wire, post(chat())[:-10])
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")
    assert wire.closed()


def test_a_body_that_drips_is_a_408(wire: Wire) -> None:
    wire.send(post(b"x" * 5000)[:-4990])
    assert drip_until_answered(wire).status == 408


def drip_until_answered(wire: Wire) -> Answer:
    """Send a byte every 50 ms until the gateway speaks."""
    while not wire.readable(0.05):
        wire.send(b"d")
    return wire.answer()


def test_a_second_request_that_stops_half_way_is_a_408_too(wire: Wire) -> None:
    assert ask(wire, post(chat())).status == 200
    assert ask(wire, post(chat())[:-10]).status == 408


# Paths and methods


@pytest.mark.parametrize("path", ["/", "/v2/chat/completions", "/admin/pods", "/metrics", "/v1", "*", "/v1/nothing"])
def test_an_unknown_path_is_a_404(wire: Wire, path: str) -> None:
    answer = ask(wire, get(path))
    assert (answer.status, answer.error["code"]) == (404, "unknown_path")
    assert stays_usable(wire)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/messages", "POST"),
        ("GET", "/tokenize", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/sim-model", "GET, HEAD"),
        ("PUT", "/readyz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_a_405_that_says_the_right_one(wire: Wire, method: str, path: str, allow: str) -> None:
    answer = ask(wire, get(path, "content-length: 0", method=method))
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allow
    assert stays_usable(wire)


def test_head_of_a_refused_path_has_no_body(wire: Wire) -> None:
    wire.send(get("/nothing", method="HEAD"))
    assert wire.answer(head_only=True).status == 404
    assert stays_usable(wire)


def test_an_unknown_model_card_is_a_404(wire: Wire) -> None:
    answer = ask(wire, get("/v1/models/no%2Fsuch%ff"))
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


# Framing

MALFORMED = {
    "not HTTP": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\n\r\n",
    "two lengths": b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "length and chunks": (
        b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /livez HTTP/1.1\r\n\r\n"
    ),
    "chunks and length": (
        b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\nhello"
    ),
    "a length that is none": b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: five\r\n\r\nhello",
    "a negative length": b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: -5\r\n\r\nhello",
    "a length with a sign": b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: +5\r\n\r\nhello",
    "another coding": b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two codings": (
        b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n"
    ),
    "a chunk size that is none": (
        b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"
    ),
    "a chunk longer than it says": (
        b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n"
    ),
    "a header without a name": b"GET /v1/models HTTP/1.1\r\nhost: g\r\n: value\r\n\r\n",
    "a space before the colon": b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-a : b\r\n\r\n",
    "a folded header": b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-a: b\r\n\tc\r\n\r\n",
    "a NUL in a header": b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-a: b\0c\r\n\r\n",
    "a bare CR in a header": b"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-a: b\rc\r\n\r\n",
    "a space in the target": b"GET /v1/mod els HTTP/1.1\r\nhost: g\r\n\r\n",
}


@pytest.mark.parametrize("named", MALFORMED)
def test_bytes_that_are_no_request_are_a_400_and_the_connection_closes(wire: Wire, named: str) -> None:
    answer = ask(wire, MALFORMED[named])
    assert (answer.status, answer.error["code"]) == (400, "bad_framing")
    assert answer.headers["connection"] == "close"
    assert wire.closed(), "what came after was taken for another request"


def test_connect_is_refused(wire: Wire) -> None:
    """The one method whose meaning is to stop speaking HTTP."""
    answer = ask(wire, b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org:443\r\n\r\n")
    assert (answer.status, answer.error["code"]) == (400, "bad_framing")
    assert wire.closed()


def test_a_good_request_before_garbage_gets_its_answer_first(wire: Wire) -> None:
    wire.send(post(chat()) + b"rubbish\r\n\r\n")
    assert wire.answer().status == 200
    assert wire.answer().status == 400
    assert wire.closed()


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    wire.send(post(chat(), "x-request-id: first") + get("/nothing", "x-request-id: second") + get("/v1/models"))
    answers = [wire.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 404, 200]
    assert [answer.headers["x-request-id"] for answer in answers[:2]] == ["first", "second"]


# Headers with a meaning here


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
def test_a_header_of_ours_with_a_bad_value_is_refused_in_words(wire: Wire, header: str, status: int, code: str) -> None:
    answer = ask(wire, post(chat(), header))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert header.partition(":")[0] in answer.error["message"] or code in ("pool_not_found", "policy_not_allowed")
    assert stays_usable(wire)


def test_odd_values_in_headers_that_only_pass_do_no_harm(wire: Wire) -> None:
    for header in ("x-session-id: \xff\xfe", "x-session-id: ", "authorization: \x80", "x-turnout-priority: -3"):
        assert ask(wire, post(chat(), header)).status == 200


def test_a_sane_request_id_is_kept_and_an_odd_one_replaced(wire: Wire) -> None:
    assert ask(wire, get("/nothing", "x-request-id: abc-1")).headers["x-request-id"] == "abc-1"
    for odd in ("two words", "\xff", "i" * 500, ""):
        kept = ask(wire, get("/nothing", f"x-request-id: {odd}")).headers["x-request-id"]
        assert kept != odd
        assert kept.isalnum()


# No pod


def test_no_pod_is_a_503_that_says_when_to_come_back(wire: Wire) -> None:
    answer = ask(wire, post(chat(model="gone")))
    assert answer.status == 503
    assert answer.error["code"] in ("no_pod_available", "pod_unreachable")
    assert int(answer.headers["retry-after"]) >= 1
    assert stays_usable(wire)


# Clients that leave


@pytest.mark.parametrize("upto", [1, 30, -1], ids=["in the line", "in the headers", "in the body"])
def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(wire: Wire, upto: int) -> None:
    wire.send(post(chat())[:upto])
    wire.shut()
    with contextlib.suppress(Closed):
        assert wire.answer().status in (400, 408)
