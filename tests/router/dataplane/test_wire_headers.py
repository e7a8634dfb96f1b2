"""Request ids, the head sent to a pod, and the headers that name pod, pool, policy and replica."""

from __future__ import annotations

import pytest

from router.dataplane import wire_headers as wire_headers_module
from router.dataplane.exchange import Exchange, Placement
from router.dataplane.http.cors import AllowedOrigins
from router.dataplane.http.head_cache import HeadCache
from router.dataplane.http.header_rules import FORWARDING
from router.dataplane.wire_headers import APART_BYTES, MAX_HEADS, PoolHeaders, WireHeaders
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import ranks_of
from statesync.engines.access import PoolAccess, fixed_key
from statesync.load.pod_state import Charge
from tests.fakes.bare_exchange import exchange, routed
from tests.fakes.each_case import each_case
from tests.fakes.memory_transport import read_requests
from tests.fakes.trial_inputs import request

POD = Pod(PodId("uid-1"), "10.0.0.1:8000")
CHARGE = Charge(POD.id, 1, 1)


def placed(attempts: int = 1, body: bytes = b"hello") -> Exchange:
    made = exchange(target=b"/v1/x?a=b", kept=(b"x-a", b": ", b"1", b"\r\n"))
    made.request_id, made.placement, made.attempts = b"id-1", placement(), attempts
    made.routed = routed(body=body)
    return made


def placement(pod: Pod = POD) -> Placement:
    return Placement(pod, "p2c", CHARGE, request())


@pytest.mark.parametrize("given", [b"abc", b"a" * 128, b"0af7651916cd43dd8448eb211c80319c", b"!~"])
def test_a_valid_id_is_kept(given: bytes) -> None:
    assert WireHeaders("r", 1).request_id({b"x-request-id": given}) == given


@each_case("given", [b"", b"a" * 129, b"a b", b"a\x7f", b"\xc3\xa9", b"a\tb"])
def test_an_invalid_id_is_replaced(given: bytes) -> None:
    assert WireHeaders("r", 1).request_id({b"x-request-id": given}) == b"00000000000100000001"


def test_ids_with_a_key_show_no_count() -> None:
    identity = WireHeaders("a", 1, key=b"secret")
    ids = [identity.request_id({}) for _ in range(1000)]
    assert len({id[12:] for id in ids}) == 1000
    assert {len(id) for id in ids} == {28}
    assert sorted(ids) != ids
    assert WireHeaders("a", 1, key=b"other").request_id({}) != ids[0]


def test_generated_ids_differ_within_and_between_processes() -> None:
    one, other = WireHeaders("a", 1), WireHeaders("b", 2)
    assert len({identity.request_id({}) for identity in (one, other, one, other)}) == 4
    assert len(WireHeaders("a", 1 << 60 | 5).request_id({})) == 20


def test_the_pod_gets_the_request_with_its_own_host_and_length() -> None:
    (asked,) = read_requests(b"".join(WireHeaders("r", 1).request(placed(), POD)))
    assert (asked.method, asked.target, asked.body) == ("POST", "/v1/x?a=b", b"hello")
    assert asked.headers == {"host": "10.0.0.1:8000", "x-a": "1", "x-request-id": "id-1", "content-length": "5"}


def test_a_large_body_is_not_copied_behind_its_head() -> None:
    large = bytes(APART_BYTES)
    head, body = WireHeaders("r", 1).request(placed(body=large), POD)
    assert body is large
    assert head.endswith(b"content-length: 16384\r\n\r\n")


def test_the_answer_names_request_pod_policy_replica_and_attempts() -> None:
    expected = (
        b"x-request-id: id-1\r\nx-turnout-pod: uid-1\r\nx-turnout-pool: main\r\nx-turnout-policy: p2c\r\n"
        b"x-turnout-replica: r\r\nx-turnout-attempts: 2\r\n"
    )
    identity = WireHeaders("r", 1)
    for _ in range(2):
        assert b"".join(identity.response_headers(placed(attempts=2), placement())) == expected
    assert b"x-turnout-attempts: 1" in b"".join(identity.response_headers(placed(), placement()))


def test_an_error_before_any_attempt_names_request_and_replica_only() -> None:
    made = exchange()
    made.request_id = b"id-1"
    assert WireHeaders("r", 1).error_headers(made) == ((b"x-request-id", b"id-1"), (b"x-turnout-replica", b"r"))


def test_an_error_after_an_attempt_names_its_pod() -> None:
    assert (b"x-turnout-pod", b"uid-1") in WireHeaders("r", 1).error_headers(placed())


def test_prepared_headers_of_gone_pods_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_headers_module, "MAX_PLACEMENTS", 1000)
    identity = WireHeaders("r", 1)
    for number in range(1050):
        headers = identity.response_headers(placed(), placement(Pod(PodId(f"p{number}"), "a:1")))
    assert f"x-turnout-pod: p{number}\r\n".encode() in b"".join(headers)
    assert len(identity._by_placement) < 1000


def test_pods_get_the_address_of_a_client_in_place_of_what_it_says() -> None:
    """Case E 26."""
    made = placed()
    made.header_map = {FORWARDING: b"", b"x-forwarded-for": b"203.0.113.9"}
    (asked,) = read_requests(b"".join(WireHeaders("r", 1).request(made, POD)))
    assert asked.headers["x-forwarded-for"] == "unknown"  # no connection, so no address


def test_an_error_is_readable_in_the_browser_of_an_allowed_origin() -> None:
    """Case D 14."""
    made, identity = (
        exchange(header_map={b"origin": b"https://a"}),
        WireHeaders("r", 1, cors=AllowedOrigins(["https://a"])),
    )
    assert (b"access-control-allow-origin", b"https://a") in identity.error_headers(made)
    assert (b"access-control-allow-origin", b"https://a") in identity.refusal_headers()


@pytest.mark.parametrize(
    ("address", "target", "host"),
    [
        ("10.0.0.1:8000", "/v1/x?a=b", "10.0.0.1:8000"),
        ("https://vllm:443/base", "/base/v1/x?a=b", "vllm"),
        ("http://vllm:81/base", "/base/v1/x?a=b", "vllm:81"),
        ("[fe80::1%eth0]:8000", "/v1/x?a=b", "[fe80::1]:8000"),
        ("unix:/run/vllm.sock", "/v1/x?a=b", "localhost"),
    ],
)
def test_each_kind_of_address_has_its_target_and_host(address: str, target: str, host: str) -> None:
    """Case D 17."""
    headers = WireHeaders("r", 1)
    for _ in range(2):
        (asked,) = read_requests(b"".join(headers.request(placed(), Pod(PodId("p"), address))))
        assert (asked.target, asked.headers["host"]) == (target, host)


def _asked(access: PoolAccess, *kept: bytes) -> dict[str, str]:
    made = placed()
    made.kept = list(kept)
    made.routed.pool = "main"
    (asked,) = read_requests(b"".join(WireHeaders("r", 1, accesses={"main": access}).request(made, POD)))
    del asked.headers["x-request-id"], asked.headers["content-length"]
    return asked.headers


def test_a_pool_s_headers_are_added_and_stripped() -> None:
    access = PoolAccess(headers={"X-Tenant": "t"}, strip=["Authorization"])
    lines = (b"authorization: Bearer client\r\n", b"x-a: 1\r\n")
    expected = {"host": "10.0.0.1:8000", "x-a": "1", "x-tenant": "t"}
    assert _asked(access, *lines, b"x-tenant: mine\r\n") == expected
    assert _asked(access, b"".join(lines)) == expected, "a client's head is one piece"
    assert _asked(access) == {"host": "10.0.0.1:8000", "x-tenant": "t"}


def test_a_client_s_credentials_reach_only_the_pods_that_are_to_get_them() -> None:
    names = (b"authorization", b"x-api-key", b"api-key")
    lines = [name + b": client\r\n" for name in names]
    for kept in (lines, [b"".join(lines)]):
        assert _asked(PoolAccess(send_credentials=False), *kept, b"x-a: 1\r\n") == {"host": "10.0.0.1:8000", "x-a": "1"}
        assert _asked(PoolAccess(), *kept).keys() == {"host", *(name.decode() for name in names)}


def test_what_is_left_of_a_head_that_was_seen_before_is_known_until_there_are_too_many() -> None:
    headers = PoolHeaders(PoolAccess(strip=["x-b"], headers={"x-c": "3"}))
    head = b"x-a: 1\r\nx-b: 2\r\n"
    for number in range(MAX_HEADS + 10):
        made = headers.changed([head, b"x-b: %d\r\n" % number, b"x-d: %d\r\n" % number])
        assert b"".join(made) == b"x-a: 1\r\nx-d: %d\r\nx-c: 3\r\n" % number
        headers.changed([b"x-a: %d\r\n" % number])
    assert len(headers._known) <= MAX_HEADS


def test_what_is_left_of_a_long_head_is_not_remembered() -> None:
    headers = PoolHeaders(PoolAccess(strip=["x-b"]))
    long = b"x-a: %b\r\n" % (b"1" * HeadCache.MAX_HEAD_BYTES)
    assert headers.changed([long + b"x-b: 2\r\n"]) == [long]
    assert not headers._known


def test_a_pool_s_key_takes_the_place_of_the_client_s_only_where_it_is_to_be_sent() -> None:
    """Case A 3."""
    client = (b"authorization: Bearer client\r\nx-api-key: client\r\n",)
    kept = {"host": "10.0.0.1:8000", "authorization": "Bearer client", "x-api-key": "client"}
    assert _asked(PoolAccess(key=fixed_key("pod")), *client) == kept
    sent = {"host": "10.0.0.1:8000", "authorization": "Bearer pod"}
    assert _asked(PoolAccess(key=fixed_key("pod"), send_key=True), *client) == sent


def test_a_pool_may_name_another_host() -> None:
    assert _asked(PoolAccess(headers={"Host": "vllm.internal"}))["host"] == "vllm.internal"


def test_prepared_heads_of_pods_that_are_gone_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_headers_module, "MAX_PLACEMENTS", 10)
    headers = WireHeaders("r", 1)
    for at in range(100):
        headers.request(placed(), Pod(PodId("p"), f"h:{at + 1}"))
    assert len(headers._plain._pods) <= 12


def test_a_rank_s_requests_name_it_and_a_client_s_own_header_does_not_reach_the_pod() -> None:
    identity = WireHeaders("a", 1, accesses={"p": PoolAccess(strip=["x-data-parallel-rank"])})
    asked = placed()
    asked.routed.pool = "p"
    asked.kept = [b"x-a: 1\r\nx-data-parallel-rank: 7\r\n"]
    for rank in ranks_of(POD, 2):
        head = b"".join(identity.request(asked, rank)).split(b"\r\n\r\n")[0].split(b"\r\n")
        named = b"x-data-parallel-rank: " + rank.labels["dp_rank"].encode()
        assert [line for line in head if b"rank" in line] == [named]
        assert b"host: 10.0.0.1:8000" in head
    assert b"rank" not in b"".join(identity.request(asked, POD)), "a pod of the pool with one rank"
