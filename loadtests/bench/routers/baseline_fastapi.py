"""A router written the usual way in Python: FastAPI in front, aiohttp behind, round robin.

The shape of the vLLM production stack's router: the body parsed by json, forwarded with the client's headers, the
answer streamed through. The code is not theirs; without their metrics it is rather faster. It
runs in a separate environment and imports nothing of this project: `python baseline_fastapi.py PORT ENGINE_PORT...`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp  # type: ignore[import-not-found, unused-ignore]  # only in the bench's own environment
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive"}


def app_for(engines: list[str]) -> FastAPI:
    """The whole router."""
    turn = itertools.cycle(engines)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
            app.state.session = session
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> Response:
        return Response()

    @app.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        body = await request.body()
        if "model" not in json.loads(body):
            return Response(status_code=400)
        headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
        url = f"{next(turn)}{request.url.path}"
        answer = await request.app.state.session.post(url, data=body, headers=headers)

        async def chunks() -> AsyncIterator[bytes]:
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        passed = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        return StreamingResponse(chunks(), status_code=answer.status, headers=passed)

    return app


def main() -> None:
    """Serve the port of the command line."""
    port, *engines = sys.argv[1:]
    app = app_for([f"http://127.0.0.1:{engine}" for engine in engines])
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False, backlog=4096)


if __name__ == "__main__":
    main()
