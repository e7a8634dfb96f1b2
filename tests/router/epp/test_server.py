"""The picker's gRPC port: health and addresses. tests/e2e/test_picker_e2e.py has streams through it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from router.address import ListenAddress
from router.epp.process import create
from router.epp.server import EXT_PROC, PickerServer
from router.lifecycle import Phase
from router.settings import Pool, Settings
from tests.fakes.ext_proc_pb2 import HealthCheckRequest, HealthCheckResponse

SETTINGS = Settings(pools=[Pool(name="a", pods=["http://127.0.0.1:1"])])


def picker() -> tuple[Any, PickerServer]:
    """A picker's lifecycle and its port, neither of them started."""
    replica = create(SETTINGS, 0)
    front = replica._front
    assert isinstance(front, PickerServer)
    return replica.parts.core.lifecycle, front


async def status(port: int, service: str) -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        answer = await check(HealthCheckRequest(service=service))
        assert isinstance(answer, HealthCheckResponse)
        return answer.status


def test_health_is_that_of_the_replica() -> None:
    async def talk() -> None:
        lifecycle, front = picker()
        port = await front.start(ListenAddress("127.0.0.1", 0))
        assert await status(port, "liveness") == 1
        assert [await status(port, name) for name in ("", "readiness", EXT_PROC)] == [2, 2, 2]
        lifecycle.enter(Phase.WARMING)
        lifecycle.enter(Phase.READY)
        assert [await status(port, name) for name in ("", "readiness", EXT_PROC)] == [1, 1, 1]
        lifecycle.enter(Phase.SETTLING)
        assert [await status(port, name) for name in ("liveness", EXT_PROC)] == [1, 2]
        with pytest.raises(grpc.aio.AioRpcError, match="no service 'other'"):
            await status(port, "other")
        front.stop_accepting()
        await front.stop()

    asyncio.run(talk())


def test_a_port_that_is_taken_is_said() -> None:
    async def talk() -> None:
        _, front = picker()
        port = await front.start(ListenAddress("127.0.0.1", 0))
        _, other = picker()
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await other.start(ListenAddress("127.0.0.1", port))
        await front.stop()
        await other.stop()

    asyncio.run(talk())


def test_a_health_check_that_is_no_message_ends_alone() -> None:
    async def talk() -> None:
        _, front = picker()
        port = await front.start(ListenAddress("127.0.0.1", 0))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
            with pytest.raises(grpc.aio.AioRpcError, match="no HealthCheckRequest"):
                await check(b"\x0a")
        await front.stop()

    asyncio.run(talk())
