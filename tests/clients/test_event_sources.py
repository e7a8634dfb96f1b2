"""Libraries for server-sent events that others wrote come back by themselves to a stream whose replica was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from loadtests.sim.right_answer import expected
from tests.clients.conftest import CLIENT_S, HERE, Clients
from tests.fakes.gateway_process import config, pool, starting
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, sim_pods

pytestmark = pytest.mark.needs("redis-server")

TOKENS = 40


@pytest.mark.parametrize("library", ["fetch-event-source", "eventsource"])
def test_a_stream_goes_on_over_another_replica(clients: Clients, tmp_path: Path, library: str) -> None:
    with ExitStack() as stack:
        state = f"redis://127.0.0.1:{stack.enter_context(redis_server()).port}"
        pods = stack.enter_context(sim_pods(2, tmp_path / "pods.log", "--profile", "paced"))
        pools = [pool("default", pods.urls, failover={"resume": True})]
        first, second = (
            stack.enter_context(
                starting(config((), pools=pools, state=state, replica=name, sync={"timeout_s": 30.0}), tmp_path / name)
            )
            for name in ("first", "second")
        )
        first.wait_until_ready()
        second.wait_until_ready()
        urls = f"{first.url},{second.url}"
        script = stack.enter_context(
            subprocess.Popen(
                ["node", HERE / "node/event_sources.mjs", library, urls, MODEL, str(TOKENS)],
                stdout=subprocess.PIPE,
                text=True,
                env={"PATH": os.environ["PATH"], "HOME": str(clients.home)},
            )
        )
        stack.callback(script.kill)
        assert script.stdout is not None
        assert script.stdout.readline() == "begun\n"
        os.kill(first.pid, signal.SIGKILL)
        printed, _ = script.communicate(timeout=CLIENT_S)
        seen = json.loads(printed)
        assert seen["text"].encode() == expected([{"role": "user", "content": "hello"}], TOKENS)
        assert (seen["asked"] > 1, seen["ids"]) == (True, True), "it came back, and no event came twice"
