"""gRPC through the gateway: grpcio's client and servers, every kind of call, deadlines, cancels, health, rolls, TLS."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.fakes.certificates import Authority
from tests.fakes.dns_server import serving
from tests.fakes.gateway_process import PATIENT_HEALTH, GatewayProcess, config, pool, running, starting
from tests.fakes.grpc_server import HOST, NOT_SERVING, GrpcClient, GrpcServer
from tests.fakes.known_keys import KEY
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

QUICK_HEALTH = PATIENT_HEALTH | {"interval_s": 0.2, "failures": 1}
SHORT_S = 4.0
"""A deadline that ends calls. The call has to reach its pod before, on a busy machine, too."""


@pytest.fixture
def servers() -> Iterator[list[GrpcServer]]:
    made = [GrpcServer(name) for name in ("a", "b", "c")]
    yield made
    for server in made:
        server.stop()


def settings(servers: list[GrpcServer], *, service: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
    fields = {"kind": "grpc", "service": service or {}, "policy": {"name": "round_robin"}}
    pods = [f"http://{server.address}" for server in servers]
    return config((), pools=[pool("echo", pods, **fields)], **({"health": QUICK_HEALTH} | sections))


def client(gateway: GatewayProcess) -> GrpcClient:
    return GrpcClient(f"{HOST}:{gateway.port}")


def test_every_kind_of_call_passes(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers[:1]), tmp_path) as gateway, client(gateway) as calls:
        answer, call = calls.unary.with_call(b"hello", metadata=(("x-mine", "1"),), timeout=DEADLINE_S)  # type: ignore[attr-defined]
        assert answer == b"a:hello"
        head = dict(call.initial_metadata())
        assert (head["x-turnout-pod"], head["x-turnout-policy"]) == (servers[0].address, "round_robin")
        assert dict(call.trailing_metadata())["x-trailer"] == "end"
        assert (servers[0].metadata["x-mine"], servers[0].metadata["x-request-id"]) == ("1", head["x-request-id"])
        assert list(calls.down(b"500")) == [b"%d" % number for number in range(500)]
        large = [b"x" * 100_000] * 20
        assert calls.up(iter(large)) == b"20 2000000"
        assert list(calls.both(iter(large))) == [b"a:" + each for each in large]
        assert list(calls.down(b"0")) == []
        assert gateway.metric("turnout_requests_total", pool="echo", status="200", pod=servers[0].address) == 5


def test_a_conversation_goes_back_and_forth_on_one_stream(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers), tmp_path) as gateway, client(gateway) as calls:
        go_on = threading.Semaphore(1)

        def asks() -> Iterator[bytes]:
            for number in range(20):
                assert go_on.acquire(timeout=DEADLINE_S)
                yield b"%d" % number

        for number, answer in enumerate(calls.both(asks())):
            assert answer.partition(b":")[2] == b"%d" % number
            go_on.release()


def test_a_pod_s_error_reaches_the_client_as_it_is(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers[:1], service={"paths": ["/test.Echo/*"]}), tmp_path) as gateway:
        with client(gateway) as calls:
            with pytest.raises(grpc.RpcError) as failed:
                calls.fails(b"")
            assert (failed.value.code(), failed.value.details()) == (
                grpc.StatusCode.FAILED_PRECONDITION,
                "nicht möglich: 100 %",
            )
            with pytest.raises(grpc.RpcError) as failed:
                calls.unknown(b"")
            assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert httpx.get(f"{gateway.url}/health", trust_env=False).status_code == 200, "HTTP/1.1 on the same port"


@pytest.mark.parametrize("whose", ["the client's", "the method's", "the pool's"])
def test_a_deadline_ends_the_call_at_both_sides(servers: list[GrpcServer], tmp_path: Path, whose: str) -> None:
    service = {"deadlines_s": {"/test.Echo/Slow": SHORT_S, "/test.Echo/*": 60.0}} if whose == "the method's" else {}
    made = settings(servers[:1], service=service)
    if whose == "the pool's":
        made["pools"][0]["timeouts"] = {"total_s": SHORT_S}
    with running(made, tmp_path) as gateway, client(gateway) as calls:
        calls.unary(b"")  # connects both sides, which would count against the deadline
        with pytest.raises(grpc.RpcError) as failed:
            calls.slow(b"", timeout=SHORT_S if whose == "the client's" else DEADLINE_S)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert servers[0].cancelled.wait(DEADLINE_S), "the pod's call ends, too"
        assert servers[0].left_s is not None
        assert servers[0].left_s < 1.5 * SHORT_S, "gRPC rounds what is left up"
        wait_for("nothing in flight", lambda: gateway.pod(servers[0].address)["inflight"] == 0)


def test_a_cancel_reaches_the_pod(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers[:1]), tmp_path) as gateway, client(gateway) as calls:
        stream = calls.endless(b"")
        assert next(stream) == b"x" * 1000
        wait_for("it is in flight", lambda: gateway.pod(servers[0].address)["inflight"] == 1)
        stream.cancel()
        assert servers[0].cancelled.wait(DEADLINE_S)
        wait_for("nothing in flight", lambda: gateway.pod(servers[0].address)["inflight"] == 0)


def test_a_client_that_does_not_read_stops_its_pod_and_no_other_call(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers[:1]), tmp_path) as gateway, client(gateway) as calls:
        before = gateway.rss_bytes()
        streams = [calls.endless(b"") for _ in range(4)]
        for stream in streams:
            next(stream)
        assert [calls.unary(b"%d" % number) for number in range(50)] == [b"a:%d" % number for number in range(50)]
        assert gateway.rss_bytes() - before < 50_000_000
        for stream in streams:
            stream.cancel()


@contextmanager
def load(gateway: GatewayProcess, address: str = "") -> Iterator[Counter[str]]:
    """Clients that call during the block; counts the servers that answered, and errors under their codes.

    With several gateways at the `address`, calls may begin in the moment in which one of them says goodbye. gRPC's
    client fails those that it has not written then, unless it may begin them again: the gateway never sees them.
    """
    counts, over = Counter[str](), threading.Event()

    def calling() -> None:
        with GrpcClient(address or f"{HOST}:{gateway.port}", retries=bool(address)) as calls:
            while not over.is_set():
                try:
                    counts[calls.unary(b"x", timeout=DEADLINE_S).decode().partition(":")[0]] += 1
                except grpc.RpcError as error:
                    counts[f"{error.code()}: {error.details()}"] += 1

    with ThreadPoolExecutor(4) as threads:
        running_calls = [threads.submit(calling) for _ in range(4)]
        try:
            yield counts
        finally:
            over.set()
    for each in running_calls:
        each.result()


def answered(counts: Counter[str], more: int = 100) -> None:
    before = counts.total()
    wait_for("calls are answered", lambda: counts.total() > before + more)


def test_an_unhealthy_instance_gets_no_calls_and_a_roll_fails_none(servers: list[GrpcServer], tmp_path: Path) -> None:
    with running(settings(servers), tmp_path) as gateway, load(gateway) as counts:
        for at, server in enumerate(list(servers)):
            answered(counts)
            server.health = NOT_SERVING
            wait_for("it is out", lambda server=server: not gateway.pod(server.address)["routable"])  # type: ignore[misc]
            wait_for("its calls end", lambda server=server: gateway.pod(server.address)["inflight"] == 0)  # type: ignore[misc]
            served = server.calls
            answered(counts)
            assert server.calls == served, "not one call"
            server.stop(DEADLINE_S)
            servers[at] = GrpcServer(f"{server.name}2", port=server.port)
            wait_for("it is back", lambda server=server: gateway.pod(server.address)["routable"])  # type: ignore[misc]
            wait_for("it serves", lambda at=at: servers[at].calls > 10)  # type: ignore[misc]
        assert set(counts) == {"a", "b", "c", "a2", "b2", "c2"}, "0 failed"


def test_a_call_that_no_pod_has_begun_is_repeated_on_another(servers: list[GrpcServer], tmp_path: Path) -> None:
    health = PATIENT_HEALTH | {"interval_s": 1000.0}
    with running(settings(servers, health=health), tmp_path) as gateway, client(gateway) as calls:
        servers[1].stop()
        assert {calls.unary(b"x") for _ in range(9)} == {b"a:x", b"c:x"}


def test_a_roll_of_the_gateways_fails_no_call(servers: list[GrpcServer], tmp_path: Path) -> None:
    """A client with the addresses of both, as a headless service gives them, and a long call over the one that goes."""
    made = settings(servers)
    with starting(made, tmp_path / "one") as one:
        one.wait_until_ready()
        with running(made, tmp_path / "two") as two:
            with client(one) as calls, load(one, f"ipv4:{HOST}:{one.port},{HOST}:{two.port}") as counts:
                over = threading.Event()

                def asks() -> Iterator[bytes]:
                    yield b"first"
                    assert over.wait(DEADLINE_S)
                    yield b"last"

                stream = calls.both(asks())
                assert next(stream).endswith(b"first")
                answered(counts)
                one.signal()
                wait_for("the other one serves", lambda: two.metric("turnout_requests_total", pool="echo") > 100)
                assert one.exit_status is None, "a call is open"
                over.set()
                assert next(stream).endswith(b"last")
                assert list(stream) == []
                assert one.ended() == 0
                answered(counts)
            assert set(counts) == {"a", "b", "c"}, "0 failed"
        assert one.complaints() == []


def test_round_robin_over_the_addresses_of_a_name_is_even(tmp_path: Path) -> None:
    first = GrpcServer("a")
    servers = [first, *(GrpcServer(name, f"127.0.0.{at}", first.port) for at, name in ((2, "b"), (3, "c")))]

    def calling(nameserver: str) -> Counter[bytes]:
        fields = {"kind": "grpc", "policy": {"name": "round_robin"}}
        discovery = {"source": f"dns://echo.test:{first.port}", "nameservers": [nameserver]}
        pools = [pool("echo", (), discovery=discovery, **fields)]
        with running(config((), pools=pools), tmp_path) as gateway, client(gateway) as calls:
            return Counter(calls.unary(b"") for _ in range(300))

    async def test() -> Counter[bytes]:
        async with serving() as dns:
            dns.records["echo.test.", "A"] = (5, ["127.0.0.1", "127.0.0.2", "127.0.0.3"])
            return await asyncio.to_thread(calling, f"{HOST}:{dns.port}")

    try:
        counts = asyncio.run(test())
    finally:
        for server in servers:
            server.stop()
    assert set(counts) == {b"a:", b"b:", b"c:"}
    assert max(counts.values()) - min(counts.values()) <= 5, "within 5 % of a hundred each"


@pytest.mark.needs("openssl")
def test_tls_on_both_sides_and_a_key(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue()
    own = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    server = GrpcServer("a", credentials=own)
    keys = tmp_path / "keys.yaml"
    digest = sha256(KEY.encode()).hexdigest()
    keys.write_text(f"keys:\n- {{name: one, tenant: team, sha256: {digest}}}\n")
    fields = {"kind": "grpc", "upstream": {"tls": {"ca_file": str(authority.cert)}}}
    made = config(
        (),
        pools=[pool("echo", [f"https://{server.address}"], **fields)],
        tls={"cert_file": str(pair.cert), "key_file": str(pair.key)},
        auth={"keys_file": str(keys)},
        tenants=[{"name": "team"}],
    )
    try:
        with running(made, tmp_path / "gateway") as gateway:
            trusted = grpc.ssl_channel_credentials(authority.cert.read_bytes())
            with GrpcClient(f"{HOST}:{gateway.port}", trusted) as calls:
                with pytest.raises(grpc.RpcError) as failed:
                    calls.unary(b"x")
                assert failed.value.code() is grpc.StatusCode.UNAUTHENTICATED
                key = ("authorization", f"Bearer {KEY}")
                assert calls.unary(b"x", metadata=(key,)) == b"a:x"
                assert "authorization" not in server.metadata, "the key is the gateway's"
    finally:
        server.stop()
