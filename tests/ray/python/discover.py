"""A Ray with its dashboard and a token, and an application that comes and goes: what discovery finds of it. Prints one
JSON object.

    RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE python -m tests.ray.python.discover
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtests.sim.ports import free_ports
from statesync.discovery.known import LookupFailed, LookupFound
from statesync.discovery.ray_serve import RayServeSource, target_of
from statesync.engines.http_get import read_page


class Echo:
    """Answers with the path that was asked for."""

    def __call__(self, request: Request) -> str:
        """The answer."""
        return f"here is {request.url.path}"


async def look(url: str) -> dict[str, Any]:
    """What a look finds, and what the first pod answers."""
    source = RayServeSource(target_of(url), read_page)
    found = await source.look()
    while isinstance(found, LookupFailed) and "no answer within" in found.why:  # its first takes long on a busy machine
        found = await source.look()
    if not isinstance(found, LookupFound):
        return {"why": found.why}
    answer = await read_page(found.pods[0].address, "/v1/x")
    return {"pods": [each.address for each in found.pods], "answer": answer.decode()}


async def main(dashboard: str) -> dict[str, Any]:
    """Look at each stage."""
    url = f"ray+http://{dashboard}/llm"
    with_token = f"{url}?token_file={os.environ['RAY_AUTH_TOKEN_PATH']}"
    app = serve.deployment(Echo, ray_actor_options={"num_cpus": 0.1}).bind()
    found = {"stranger": await look(url), "before": await look(with_token)}
    for prefix in ("/llm", "/"):
        await asyncio.to_thread(serve.run, app, name="llm", route_prefix=prefix)
        found[prefix] = await look(with_token)
    await asyncio.to_thread(serve.delete, "llm")
    return {**found, "after": await look(with_token)}


if __name__ == "__main__":
    started = ray.init(num_cpus=2, include_dashboard=True, log_to_driver=False, logging_level=logging.WARNING)
    (port,) = free_ports(1)
    http = {"host": "0.0.0.0", "port": port}
    serve.start(proxy_location="EveryNode", http_options=http, logging_config={"log_level": "WARNING"})
    try:
        print(json.dumps({"port": port, **asyncio.run(main(started.dashboard_url))}))
    finally:
        serve.shutdown()
        ray.shutdown()
