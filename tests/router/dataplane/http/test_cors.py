"""Requests of browsers from other origins. Every case is Case D 14."""

from __future__ import annotations

import pytest

from router.dataplane.http.cors import AllowedOrigins, without_cors
from router.settings import Limits
from tests.fakes.each_case import each_case
from tests.fakes.memory_client_and_pods import CHAT, LAST_CHUNK, SSE_HEAD, Client, event, get, ok, post
from tests.fakes.memory_gateway import Rig

PAGE = "https://chat.example.com"
ORIGIN = f"origin: {PAGE}"
ASKS = ("access-control-request-method: POST", "access-control-request-headers: authorization,content-type")


def headers(client: Client, method: str = "POST") -> dict[str, str]:
    return client.answers(method)[-1].headers


@each_case("allowed", ["*", PAGE])
@each_case("path", ["/v1/chat/completions", "/v1/models", "/v1/new", "/nowhere"])
def test_a_preflight_is_answered_for_every_path(allowed: str, path: str) -> None:
    with Rig(cors=[allowed]) as rig:
        client = rig.client().sends(get(path, ORIGIN, *ASKS, method="OPTIONS"))
        answer = client.answer("OPTIONS")
        assert (answer.status, answer.body) == (204, b"")
        assert answer.headers["access-control-allow-origin"] == allowed
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
        assert "content-length" not in answer.headers
        assert client.sends(get("/livez", ORIGIN)).answers("GET")[-1].status == 200


@pytest.mark.parametrize("allowed", ["*", PAGE])
def test_every_answer_can_be_read_from_an_allowed_origin(allowed: str) -> None:
    """Answers of pods, streams, lists of models, refusals, unknown paths, bytes that are no request."""
    with Rig(cors=[allowed], pods=1) as rig:
        whole = rig.asks(CHAT, ORIGIN)
        rig.asked().sends(ok())
        stream = rig.asks(CHAT, ORIGIN)
        rig.asked().sends(SSE_HEAD + event("one") + LAST_CHUNK)
        failed = rig.asks(CHAT, ORIGIN)
        rig.asked().sends(ok(b"{}", status="422 Unprocessable"))
        dead = rig.asks(CHAT, ORIGIN)
        rig.asked().dies()  # a kept-alive connection: the same pod is tried again
        rig.asked().dies()
        clients = [whole, stream, failed, dead, rig.asks(b"{", ORIGIN), rig.asks(b'{"model":"none"}', ORIGIN)]
        clients += [rig.client().sends(get(path, ORIGIN)) for path in ("/v1/models", "/nowhere", "/v1/completions")]
        clients.append(rig.client().sends(b"nonsense\r\n\r\n"))
        assert [headers(each)["access-control-allow-origin"] for each in clients] == [allowed] * len(clients)
        assert headers(whole)["access-control-expose-headers"] == "*"


def test_another_origin_gets_its_answers_without_leave_to_read_them() -> None:
    with Rig(cors=[PAGE, "https://b.example.com"], pods=1) as rig:
        client = rig.asks(CHAT, "origin: https://evil.example.com")
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert "access-control-allow-origin" not in client.answer().headers
        assert client.answer().headers["vary"] == "origin"
        preflight = rig.client().sends(get("/v1/models", "origin: https://evil", *ASKS, method="OPTIONS"))
        assert preflight.answer("OPTIONS").status == 405
        assert "access-control-allow-origin" not in preflight.answer("OPTIONS").headers


def test_a_pods_own_words_on_origins_do_not_contradict_the_gateways() -> None:
    with Rig(cors=[PAGE], pods=1) as rig:
        client = rig.asks(CHAT, ORIGIN)
        own = ("access-control-allow-origin: *", "access-control-allow-credentials: true", "vary: Origin", "x-a: 1")
        rig.asked().sends(ok(b"{}", *own))
        answer = client.answer()
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in answer.headers
        assert (answer.headers["vary"], answer.headers["x-a"]) == ("origin", "1")


def test_without_the_setting_nothing_is_said_and_a_pods_words_pass() -> None:
    with Rig(pods=1) as rig:
        client = rig.asks(CHAT, ORIGIN)
        rig.asked().sends(ok(b"{}", "access-control-allow-origin: *"))
        assert client.answer().headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-origin" not in headers(rig.client().sends(get("/v1/models", ORIGIN)), "GET")
        preflight = rig.client().sends(get("/v1/chat/completions", ORIGIN, *ASKS, method="OPTIONS"))
        assert preflight.answer("OPTIONS").status == 405


def test_a_request_of_options_that_is_no_preflight_is_answered_as_before() -> None:
    assert AllowedOrigins(["*"]).preflight({b"origin": b"https://a"}) is None
    assert AllowedOrigins(["*"]).preflight({b"access-control-request-method": b"POST"}) is None


def test_a_page_of_the_internet_may_ask_a_gateway_in_its_own_network() -> None:
    asked = {b"origin": b"https://a", b"access-control-request-method": b"POST"}
    private = {b"access-control-request-private-network": b"true"}
    allowed = dict(AllowedOrigins(["*"]).preflight(asked | private) or ())
    assert allowed[b"access-control-allow-private-network"] == b"true"


def test_names_that_are_no_header_names_are_not_repeated() -> None:
    asked = {b"origin": b"https://a", b"access-control-request-method": b"POST"}
    for names in (b"x\x80", b"a" * 5000, b"x: y"):
        allowed = dict(AllowedOrigins(["*"]).preflight(asked | {b"access-control-request-headers": names}) or ())
        assert allowed[b"access-control-allow-headers"] == b"*"


def test_the_other_headers_of_a_pod_stay() -> None:
    kept = [b"a: 1\r\naccess-control-max-age: 1\r\nvary: accept\r\nvary: origin\r\n"]
    assert b"".join(without_cors(kept)) == b"a: 1\r\nvary: accept\r\n"


def test_a_preflight_with_a_body_behind_it_does_not_confuse_the_connection() -> None:
    with Rig(cors=["*"]) as rig:
        client = rig.client().sends(get("/v1/models", ORIGIN, *ASKS, method="OPTIONS"), post(b"{"))
        assert [answer.status for answer in client.answers()][-1] == 400


def test_a_refusal_before_the_body_was_read_is_readable_too() -> None:
    with Rig(cors=[PAGE, "https://b.example.com"], limits=Limits(max_body_bytes=10)) as rig:
        for _ in range(2):  # the second head may come from the cache
            answer = rig.client().sends(post(CHAT, ORIGIN)).answer()
            assert (answer.status, answer.headers["access-control-allow-origin"]) == (413, PAGE)
        chunked = post(b"zz\r\n", ORIGIN, "transfer-encoding: chunked", length=False)
        answer = rig.client().sends(chunked).answer()
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (400, PAGE)
