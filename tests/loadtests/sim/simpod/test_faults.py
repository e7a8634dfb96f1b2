import asyncio

import httpx
import pytest

from loadtests.sim.simpod.faults import INSTEAD, SPOILT, Fault, FaultSwitch, Kind
from loadtests.sim.simpod.fleet import SimPod
from tests.fakes.chance import five_deviations
from tests.fakes.waiting import until

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
BODY = b'{"messages":[{"role":"user","content":"hi"}],"max_tokens":6,"ignore_eos":true,"stream":%b}'


def client(pod: SimPod) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=pod.url, trust_env=False, verify=False, timeout=60.0)


async def answer(pod: SimPod, *, stream: bool = True) -> tuple[bytes, type[Exception] | None]:
    """All bytes received for one request on a new connection, and how it ended (None: in good order)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    body = BODY % (b"true" if stream else b"false")
    head = b"POST %b HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\n" % CHAT.encode()
    writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    got, ended = b"", None
    try:
        while chunk := await reader.read(65536):
            got += chunk
    except ConnectionResetError as error:
        ended = type(error)
    writer.close()
    return got, ended


async def struck(fault: Fault, *, stream: bool = True) -> tuple[bytes, type[Exception] | None]:
    async with SimPod(speed=100) as pod:
        pod.set_fault(fault)
        return await answer(pod, stream=stream)


def test_every_kind_of_fault_has_exactly_one_effect() -> None:
    kinds = set(Kind.__args__)  # type: ignore[attr-defined]
    assert kinds == {"refuse", *INSTEAD, *SPOILT}
    assert not set(INSTEAD) & set(SPOILT)


def test_rate_zero_affects_no_request_and_rate_one_all() -> None:
    switch = FaultSwitch()
    for rate, expected in ((0.0, 0), (1.0, 50)):
        switch.set(Fault(kind="hang", rate=rate))
        assert sum(switch.draw(inference=True) is not None for _ in range(50)) == expected


def test_a_rate_affects_its_share_and_the_same_requests_for_the_same_seed() -> None:
    def drawn() -> list[bool]:
        switch = FaultSwitch()
        switch.set(Fault(kind="hang", rate=0.3, seed=5))
        return [switch.draw(inference=True) is not None for _ in range(1000)]

    assert drawn() == drawn()
    assert abs(sum(drawn()) - 300) < five_deviations(1000, 0.3)


def test_a_count_ends_a_fault_and_its_scope_excludes_health_checks() -> None:
    switch = FaultSwitch()
    switch.set(Fault(kind="http_500", count=2))
    assert switch.draw(inference=False) is None
    assert [switch.draw(inference=True) is not None for _ in range(3)] == [True, True, False]
    switch.set(Fault(kind="http_500", scope="all"))
    assert switch.draw(inference=False) is not None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_error_statuses_have_a_body_and_retry_after(status: int) -> None:
    async def scenario() -> None:
        async with (
            SimPod(speed=100) as pod,
            client(pod) as http,
        ):
            fault = {"kind": f"http_{status}", "count": 1, "retry_after_s": 7}
            assert (await http.put("/sim/faults", json=fault)).status_code == 200
            failed = await http.post(CHAT, content=BODY % b"true", headers=JSON)
            assert (failed.status_code, failed.headers["retry-after"], failed.json()["error"]["code"]) == (
                status,
                "7",
                status,
            )
            assert (await http.post(CHAT, content=BODY % b"true", headers=JSON)).status_code == 200

    asyncio.run(scenario())


def test_a_connection_may_be_closed_before_the_first_byte() -> None:
    assert asyncio.run(struck(Fault(kind="close_before_first_byte"))) == (b"", None)


def test_garbage_is_not_http() -> None:
    got, _ = asyncio.run(struck(Fault(kind="garbage")))
    assert got and not got.startswith(b"HTTP/")


@pytest.mark.parametrize(("kind", "ended"), [("reset_midstream", ConnectionResetError), ("truncated_sse", None)])
def test_a_stream_is_cut_after_the_given_number_of_chunks(kind: Kind, ended: type[Exception] | None) -> None:
    got, how = asyncio.run(struck(Fault(kind=kind, after_chunks=3)))
    assert how is ended
    assert got.count(b"\n\n\r\n") == 3, "the role and two tokens"
    assert not got.endswith(b"\n\n\r\n"), "half of the next"
    assert b"[DONE]" not in got


@pytest.mark.parametrize("kind", ["reset_midstream", "truncated_sse"])
def test_an_answer_in_one_piece_is_cut_in_half(kind: Kind) -> None:
    got, _ = asyncio.run(struck(Fault(kind=kind), stream=False))
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split()[0])
    assert len(body) == length // 2


def test_a_slow_drip_sends_everything_in_small_pieces() -> None:
    async def scenario() -> None:
        async with (
            SimPod(speed=100) as pod,
            client(pod) as http,
        ):
            expected = (await http.post(CHAT, content=BODY % b"true", headers=JSON)).content
            pod.set_fault(Fault(kind="slow_drip", drip_bytes=100, drip_interval_s=0.0005))
            async with http.stream("POST", CHAT, content=BODY % b"true", headers=JSON) as dripping:
                pieces = [piece async for piece in dripping.aiter_raw()]
            assert b"".join(pieces) == expected

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "chunks"), [("hang", 0), ("stall", 2)])
def test_a_silent_pod_keeps_the_request_open_until_its_client_disconnects(kind: Kind, chunks: int) -> None:
    async def scenario() -> None:
        async with SimPod(speed=100) as pod:
            pod.set_fault(Fault(kind=kind, after_chunks=chunks))
            reader, writer = await asyncio.open_connection("127.0.0.1", pod.port)
            body = BODY % b"true"
            head = b"POST %b HTTP/1.1\r\ncontent-type: application/json\r\n" % CHAT.encode()
            writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
            for _ in range(chunks):
                await reader.readuntil(b"\n\n\r\n")
            await until(lambda: pod.state()["open_requests"] == 1 and not pod.engine.running)
            writer.close()
            await until(lambda: pod.state()["open_requests"] == 0)
            assert await reader.read() == b""

    asyncio.run(scenario())
