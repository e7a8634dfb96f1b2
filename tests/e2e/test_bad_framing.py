"""Paths, methods and bytes that are no request, over raw sockets: each is answered, good clients are still served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.gateway_process import GatewayProcess, config, running
from tests.fakes.raw_http_client import Wire, ask, chat, get, post, stays_usable
from tests.fakes.sim_process import SimPods

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running(config(all_sims.urls[:2]), tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def serves_on(port: int) -> Iterator[None]:
    """After each test a good request is answered."""
    yield
    with Wire("127.0.0.1", port) as wire:
        assert stays_usable(wire)


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
        ("OPTIONS", "/v1/embeddings", "POST"),
        ("GET", "/tokenize", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/sim-model", "GET, HEAD"),
        ("PUT", "/readyz", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_a_405_with_the_allowed_one(wire: Wire, method: str, path: str, allow: str) -> None:
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
    assert wire.closed(), "the bytes after it were read as another request"


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0"])
def test_another_version_is_a_505_and_the_connection_closes(wire: Wire, version: str) -> None:
    """Case D 20."""
    answer = ask(wire, f"GET /v1/models HTTP/{version}\r\nhost: g\r\n\r\n".encode())
    assert (answer.status, answer.error["code"]) == (505, "http_version_not_supported")
    assert wire.closed()


def test_connect_is_refused(wire: Wire) -> None:
    """CONNECT is the one method that ends HTTP on the connection."""
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
