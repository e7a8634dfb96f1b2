"""Requests of a tenant with limits, through a whole gateway between a client and pods in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from router.access.limits import LimitRegistry
from router.dataplane.tenant_limits import TenantLimits
from router.settings import Failover, Pool, TenantSettings
from tests.fakes.each_case import each_case
from tests.fakes.known_keys import access_of, bearer
from tests.fakes.memory_client_and_pods import CHAT, SSE_HEAD, Client, event, ok, post
from tests.fakes.memory_gateway import Rig, one_pool

SEARCH = bearer("search")
USAGE = b'{"id":"1","usage":{"prompt_tokens":40,"completion_tokens":60,"total_tokens":100}}'


def limited(
    rig: Rig, *, requests_per_minute: int = 0, tokens_per_minute: int = 0, max_inflight: int = 0
) -> LimitRegistry:
    """Give the tenant `search` these limits, before the first client."""
    search = TenantSettings(
        name="search",
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        max_inflight=max_inflight,
    )
    access = access_of(search, TenantSettings(name="free"))
    limits = LimitRegistry([access.tenants["search"]], rig.wire.clock, shared=False)
    charges = TenantLimits(limits, rig.wire.clock, lambda: 1_700_000_000.0)
    rig.rebuild(rig.gateway.deps._replace(access=access, limits=charges))
    return limits


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as made:
        yield made


def served(rig: Rig, answer: bytes = USAGE) -> Client:
    client = rig.asks(CHAT, SEARCH)
    rig.asked().sends(ok(answer))
    return client


def test_answers_say_what_is_left(rig: Rig) -> None:
    limited(rig, requests_per_minute=60, tokens_per_minute=6000)
    headers = served(rig).answer().headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert headers["x-ratelimit-limit-tokens"] == "6000"
    assert int(headers["x-ratelimit-remaining-tokens"]) < 6000


def test_what_a_pod_says_of_its_own_limits_reaches_only_who_has_none_here(rig: Rig) -> None:
    limited(rig, requests_per_minute=60)
    lines = ["X-RateLimit-Remaining-Requests: 9000", "x-ratelimit-limit-tokens: 5", "RateLimit-Policy: 9", "x-own: 1"]
    for status in ("200 OK", "200 OK", "400 Bad Request"):
        client = rig.asks(CHAT, SEARCH)
        rig.asked().sends(ok(b"{}", *lines, status=status))
        headers = client.answer().headers
        assert int(headers["x-ratelimit-remaining-requests"]) < 60 and headers["x-own"] == "1"
        assert "x-ratelimit-limit-tokens" not in headers and "ratelimit-policy" not in headers
    free = rig.asks(CHAT, bearer("free"))
    rig.asked().sends(ok(b"{}", *lines))
    assert free.answer().headers["x-ratelimit-remaining-requests"] == "9000"


def test_the_usage_of_a_response_counts_though_much_follows_it(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=6000)
    body = b'{"model":"m","input":"hi","stream":true}'
    client = rig.client()
    client.sends(post(body, SEARCH, path="/v1/responses"))
    usage = {"input_tokens": 40, "input_tokens_details": {"cached_tokens": 8}, "output_tokens": 60}
    last = {
        "response": {"id": "resp_1", "output": ["x" * 5000], "usage": usage, "user": "u" * 900},
    }
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    rig.asked().sends(head, event(json.dumps(last, separators=(",", ":"))), b"0\r\n\r\n")
    assert client.answer().status == 200
    assert limits.shares[0].hand == 5900


def test_a_request_beyond_the_limit_gets_429_with_the_time_to_wait_and_is_counted(rig: Rig) -> None:
    limited(rig, requests_per_minute=2)
    served(rig)
    served(rig)
    answer = rig.asks(CHAT, SEARCH).answer()
    assert answer.status == 429
    assert answer.headers["retry-after"] == "30"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    error = json.loads(answer.body)["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert rig.metrics.rejections["main", "rate_limit_exceeded"] == 1


def test_answers_on_anthropics_paths_use_its_names(rig: Rig) -> None:
    limited(rig, requests_per_minute=1)
    body = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}'
    rig.client().sends(post(body, SEARCH, path="/v1/messages"))
    rig.asked().sends(ok())
    answer = rig.client().sends(post(body, SEARCH, path="/v1/messages")).answer()
    assert answer.status == 429
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert answer.headers["anthropic-ratelimit-requests-reset"] == "2023-11-14T22:14:20Z"
    assert json.loads(answer.body)["error"]["type"] == "rate_limit_error"


def test_other_tenants_are_not_limited_and_get_no_headers(rig: Rig) -> None:
    limited(rig, requests_per_minute=1)
    for _ in range(3):
        client = rig.asks(CHAT, bearer("free"))
        rig.asked().sends(ok())
        assert client.answer().status == 200
        assert not any("ratelimit" in name for name in client.answer().headers)


def test_the_engines_count_of_tokens_takes_the_place_of_the_estimate(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=6000)
    served(rig)
    (share,) = limits.shares
    assert share.hand == 5900


def test_a_stream_without_usage_counts_its_events(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=6000)
    rig.asks(CHAT.replace(b"{", b'{"stream":true,', 1), SEARCH)
    chunks = [event(f'{{"choices":[{{"delta":{{"content":"{at}"}}}}]}}') for at in range(12)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    rig.asked().sends(head, *chunks, event("[DONE]"), b"0\r\n\r\n")
    (share,) = limits.shares
    prompt = 6000 - share.hand - 11  # the first event is the role's, the last is [DONE]
    assert 0 < prompt < 20


def test_an_answer_without_usage_is_as_was_expected(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=6000)
    rig.asks(CHAT, SEARCH)
    before = limits.shares[0].hand
    rig.asked().sends(ok())
    assert limits.shares[0].hand == before < 6000


def test_a_request_that_no_pod_takes_gives_back_what_it_took() -> None:
    with Rig(pods=0) as rig:
        limits = limited(rig, requests_per_minute=10, tokens_per_minute=1000, max_inflight=1)
        for _ in range(20):
            assert rig.asks(CHAT, SEARCH).answer().status == 503
        assert [share.hand for share in limits.shares] == [10, 1000, 1]


def test_a_request_that_its_pod_fails_gives_back_what_it_took(rig: Rig) -> None:
    limits = limited(rig, requests_per_minute=10, tokens_per_minute=1000)
    client = rig.asks(CHAT, SEARCH)
    rig.asked().sends(ok(b'{"error":1}', status="500 Internal Server Error"))
    assert client.answer().status == 500
    assert [share.hand for share in limits.shares] == [10, 1000]


def test_a_request_that_its_pod_refuses_counts_but_uses_no_tokens(rig: Rig) -> None:
    limits = limited(rig, requests_per_minute=10, tokens_per_minute=1000)
    rig.asks(CHAT, SEARCH)
    rig.asked().sends(ok(b'{"error":1}', status="400 Bad Request"))
    assert [share.hand for share in limits.shares] == [9, 1000]


def test_a_client_that_leaves_gives_back_the_answer_that_it_did_not_get(rig: Rig) -> None:
    limits = limited(rig, requests_per_minute=10, tokens_per_minute=1000, max_inflight=1)
    client = rig.asks(CHAT, SEARCH)
    rig.asked()
    client.leaves()
    requests, tokens, slots = (share.hand for share in limits.shares)
    assert (requests, slots) == (9, 1)
    assert 980 < tokens < 1000


def test_a_deadline_of_the_clients_own_is_as_if_it_had_left(rig: Rig) -> None:
    limits = limited(rig, requests_per_minute=10, tokens_per_minute=1000, max_inflight=1)
    client = rig.asks(CHAT, SEARCH, "x-turnout-deadline-ms: 50")
    rig.asked()
    rig.passes(1)
    assert client.answer().status == 504
    requests, _, slots = (share.hand for share in limits.shares)
    assert (int(requests), slots) == (9, 1)


def test_a_stream_that_no_pod_goes_on_with_uses_the_tokens_that_its_client_got() -> None:
    with Rig(one_pool(failover=Failover(mid_stream=True))) as rig:
        limits = limited(rig, tokens_per_minute=6000)
        client = rig.asks(CHAT.replace(b"{", b'{"stream":true,', 1), SEARCH)
        said = [event(f'{{"id":"a","choices":[{{"delta":{{"content":"{at}"}}}}]}}') for at in range(40)]
        rig.asked().sends(SSE_HEAD, *said).dies()
        rig.asked().sends(ok(b"{}", status="400 Bad Request"))
        assert not client.answer().complete
        assert 6000 - 80 < limits.shares[0].hand < 6000 - 35


def test_a_compressed_stream_uses_tokens(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=6000)
    rig.asks(CHAT.replace(b"{", b'{"stream":true,', 1), SEARCH)
    used = b"\x1f\x8b" * 200
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
    rig.asked().sends(head, b"content-length: %d\r\n\r\n" % len(used), used)
    assert 6000 - 130 < limits.shares[0].hand < 6000 - 100


def test_a_retry_is_charged_once(rig: Rig) -> None:
    limits = limited(rig, requests_per_minute=10, max_inflight=5)
    client = rig.asks(CHAT, SEARCH)
    rig.asked().sends(ok(b"{}", status="503 Service Unavailable"))
    rig.asked().sends(ok())
    assert client.answer().headers["x-turnout-attempts"] == "2"
    assert limits.shares[0].hand == 9


def test_a_fall_back_is_charged_once() -> None:
    pools = [one_pool(fallback=["other"]), Pool(name="other", models=["m2"], aliases={"m": "m2"})]
    with Rig(pools=pools, pods={"main": 0, "other": 1}) as rig:
        limits = limited(rig, requests_per_minute=10)
        client = rig.asks(CHAT, SEARCH)
        rig.asked().sends(ok())
        assert client.answer().headers["x-turnout-pool"] == "other"
        assert limits.shares[0].hand == 9


def test_requests_at_a_time_are_limited_and_each_end_makes_room(rig: Rig) -> None:
    limited(rig, max_inflight=1)
    first = rig.asks(CHAT, SEARCH)
    refused = rig.asks(CHAT, SEARCH).answer()
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    rig.asked().sends(ok())
    assert first.answer().status == 200
    rig.asks(CHAT, SEARCH)
    rig.asked().sends(ok())


@each_case("path", ["/v1/models", "/livez"])
def test_what_no_pod_answers_is_not_limited(rig: Rig, path: str) -> None:
    limits = limited(rig, requests_per_minute=1)
    for _ in range(3):
        assert (
            rig.client().sends(f"GET {path} HTTP/1.1\r\nhost: x\r\n{SEARCH}\r\n\r\n".encode()).answer("GET").status
            == 200
        )
    assert limits.shares[0].hand == 1


def test_embeddings_use_no_tokens_of_an_answer(rig: Rig) -> None:
    limits = limited(rig, tokens_per_minute=1000)
    rig.client().sends(post(b'{"model":"m","input":"12345678"}', SEARCH, path="/v1/embeddings"))
    assert 990 < limits.shares[0].hand < 1000
    rig.asked().sends(ok(b'{"data":[],"usage":{"prompt_tokens":2,"total_tokens":2}}'))
    assert limits.shares[0].hand == 998
