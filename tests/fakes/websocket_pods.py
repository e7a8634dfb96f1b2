"""Pods with a real WebSocket server (aiohttp's). Each echoes messages, names itself first, and keeps close codes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator

from aiohttp import WSCloseCode, WSMsgType, web

from loadtests.sim.ports import HOST
from tests.fakes.waiting import DEADLINE_S

BYE = "bye"
"""A text message that makes the pod close with `OWN_CODE`."""
OWN_CODE = 4001


class WebSocketPod:
    """One pod; `base` is where it listens."""

    def __init__(self) -> None:
        self.base = ""
        self.open = 0
        """WebSockets that are open."""
        self.codes: list[int | None] = []
        """The close codes that its clients sent."""

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("realtime",), max_msg_size=0)
        await socket.prepare(request)
        self.open += 1
        try:
            await socket.send_str(self.base)
            async for message in socket:
                if message.type is WSMsgType.TEXT and message.data == BYE:
                    await socket.close(code=OWN_CODE, message=b"own reason")
                elif message.type is WSMsgType.TEXT:
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
            self.codes.append(socket.close_code)
        finally:
            self.open -= 1
        return socket

    async def _well(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def start(self, tls: ssl.SSLContext | None) -> web.AppRunner:
        """Listen."""
        app = web.Application()
        app.router.add_get("/health", self._well)
        app.router.add_get("/v1/models", self._well)
        app.router.add_get("/v1/realtime", self._socket)
        app.router.add_get("/v1/responses", self._socket)
        runner = web.AppRunner(app, shutdown_timeout=0.0)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
        await site.start()
        self.base = f"{'https' if tls else 'http'}://{HOST}:{runner.addresses[0][1]}"
        return runner


@contextlib.contextmanager
def websocket_pods(count: int, tls: ssl.SSLContext | None = None) -> Iterator[list[WebSocketPod]]:
    """Pods that run in a thread for the block."""
    pods = [WebSocketPod() for _ in range(count)]
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        runners = [await pod.start(tls) for pod in pods]
        ready.set()
        await stop.wait()
        for runner in runners:
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(DEADLINE_S), "the pods do not listen"
        yield pods
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the pods do not end"
        loop.close()


GOING_AWAY = WSCloseCode.GOING_AWAY
