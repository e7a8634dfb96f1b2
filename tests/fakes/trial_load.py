"""Load for trials: users who stream long prompts through every replica, each request in a new session."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from typing import Final, Self

from loadtests.sim import chat
from loadtests.sim.http_client import Client
from tests.fakes.sim_process import MODEL
from tests.fakes.waiting import DEADLINE_S

USERS_EACH: Final = 10
TEXT: Final = "word " * 1_100
"""A prompt of about 1,400 tokens, which takes 60 ms of a pod's time; no two prompts begin alike."""
NO_LATENCY_LIMITS: Final = " --max-ttft-ratio 0 --max-ttft-p50-ratio 0 --max-tpot-ratio 0 --max-pool-ratio 0"
"""Options of `turnout policy canary`. Latencies on this machine are random, so no canary of an example is taken back
for them."""


class Load:
    """Users of every gateway, each request in a new session, until the block ends."""

    def __init__(self, ports: list[int]) -> None:
        self.errors: Counter[str] = Counter()
        self.answers = 0
        self.policies: Counter[str] = Counter()
        """Number of answers by the policy that decided; a test clears it to count from then on."""
        self._ports = ports
        self._stop = threading.Event()
        self._serial = itertools.count()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as users:
            for port in self._ports * USERS_EACH:
                users.create_task(self._user(port))

    async def _user(self, port: int) -> None:
        client = Client("127.0.0.1", port, resend=True)
        while not self._stop.is_set():
            serial = next(self._serial)
            body = (
                f'{{"model":"{MODEL}","stream":true,"max_tokens":3,"messages":'
                f'[{{"role":"user","content":"{serial} {TEXT}"}}]}}'
            )
            try:
                headers = {"x-session-id": f"s{serial}"}
                reply = chat.reply(await client.post(chat.PATH, body.encode(), DEADLINE_S, headers))
                self.answers += 1
                self.policies[reply.headers["x-turnout-policy"]] += 1
            except chat.TrafficError as error:
                self.errors[str(error)] += 1
        client.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(2 * DEADLINE_S)
        assert not self._thread.is_alive(), "the load did not end"
