"""The probe of a gRPC pod, against servers of grpcio."""

from __future__ import annotations

import asyncio

import pytest

from router.dataplane.grpc.health import check
from statesync.engines.access import PoolAccess
from tests.fakes.grpc_server import HOST, NOT_SERVING, SERVING, GrpcServer


def asked(server: GrpcServer, path: str = "/") -> tuple[int, str]:
    return asyncio.run(asyncio.wait_for(check(PoolAccess(), server.address, path), 60))


@pytest.mark.parametrize(
    ("answer", "status", "problem"),
    [(SERVING, 200, ""), (NOT_SERVING, 0, "NOT_SERVING"), (b"", 0, "UNKNOWN"), (b"\x08\x63", 0, "something else")],
)
def test_only_serving_is_well(answer: bytes, status: int, problem: str) -> None:
    server = GrpcServer("a")
    server.health = answer
    try:
        found = asked(server, "/test.Echo")
        assert found[0] == status
        assert problem in found[1]
        assert server.asked == b"\n\x09test.Echo"
        asked(server)
        assert server.asked == b""
    finally:
        server.stop()


def test_a_server_without_the_service_says_why_it_is_not_well() -> None:
    server = GrpcServer("a")
    server.healthless()
    try:
        assert asked(server) == (0, "/grpc.health.v1.Health/Check ended with gRPC status 12")
    finally:
        server.stop()


def test_a_pod_that_is_not_there_raises_and_one_of_another_protocol_is_not_well() -> None:
    with pytest.raises(OSError, match=r"."):
        asyncio.run(check(PoolAccess(), f"{HOST}:1", "/"))

    async def rude() -> tuple[int, str]:
        def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_server(close, HOST, 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            return await check(PoolAccess(), f"{HOST}:{port}", "/")

    assert asyncio.run(asyncio.wait_for(rude(), 60)) == (0, "the connection was closed before the answer")
