"""Limits of twenty tenants over eight replicas as processes, with a real Redis: while a replica is killed and another
joins, and while Redis is gone. What an exact limit would have admitted is computed from the same requests.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import quantiles
from typing import Any, Final, NamedTuple

import pytest

from statesync.tasks import spawn
from tests.fakes.gateway_process import GatewayProcess, config, starting
from tests.fakes.limited_replicas import ExactBucket
from tests.fakes.redis_server import redis_server
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S

pytestmark = [pytest.mark.realtime, pytest.mark.needs("redis-server")]

REPLICAS: Final = 8
PHASE_S: Final = 20.0
OVERLOAD: Final = 3.0
"""Requests that come, as a multiple of the limit."""

LIMITS: Final = {f"t{at:02d}": 30 + 10 * (at % 10) for at in range(20)}
"""Requests a minute of each tenant."""

_BODY: Final = json.dumps(
    {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
).encode()

_log = logging.getLogger("turnout.limits")


class Asked(NamedTuple):
    """A request and what became of it."""

    tenant: str
    at: float
    status: int
    """0 where its replica was killed."""
    took_s: float


class Crowd:
    """The clients of all tenants: requests at random times to random replicas, each over a connection of its own."""

    def __init__(self, replicas: list[GatewayProcess]) -> None:
        self.replicas = replicas
        self.asked: list[Asked] = []
        self._rng = Random(3)
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Let them all ask for this time; returns when all are answered."""
        end = time.monotonic() + seconds
        async with asyncio.timeout(seconds + DEADLINE_S):
            await asyncio.gather(*(self._tenant(name, OVERLOAD * limit / 60, end) for name, limit in LIMITS.items()))
            await asyncio.gather(*self._open)

    async def _tenant(self, name: str, per_s: float, end: float) -> None:
        due = time.monotonic()
        while (due := due + self._rng.expovariate(per_s)) < end:
            await asyncio.sleep(due - time.monotonic())
            task = spawn(self._ask(name, self._rng.choice(self.replicas)), "request")
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _ask(self, tenant: str, replica: GatewayProcess) -> None:
        began = time.monotonic()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer key-{tenant}\r\n"
        head += f"connection: close\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n"
        status = 0
        try:
            reader, writer = await asyncio.open_connection(replica.host, replica.port)
            try:
                writer.write(head.encode() + _BODY)
                status = int((await reader.read()).split(b" ", 2)[1])
            finally:
                writer.close()
                await writer.wait_closed()  # a transport that closes outlives the loop
        except (OSError, IndexError):
            pass
        self.asked.append(Asked(tenant, began, status, time.monotonic() - began))


class Admitted(NamedTuple):
    """What became of one tenant's requests."""

    tenant: str
    limit: int
    offered: int
    exact: float
    """What one exact bucket admits of them."""
    most: float
    """What the limit allows at most in the time."""
    admitted: int


def per_tenant(asked: list[Asked], since: float = 0.0) -> list[Admitted]:
    """The rows of all tenants, counted from that moment on; the exact bucket has all requests before it as well."""
    rows = []
    for name, limit in LIMITS.items():
        mine = sorted((each for each in asked if each.tenant == name), key=lambda each: each.at)
        exact, before = ExactBucket(limit, mine[0].at), 0.0
        for each in mine:
            exact.offer(1.0, each.at)
            before = exact.admitted if each.at < since else before
        most = limit + limit / 60 * (max(each.at + each.took_s for each in mine) - mine[0].at)
        late = [each for each in mine if each.at >= since]
        admitted = sum(each.status == 200 for each in late)
        rows.append(Admitted(name, limit, len(late), exact.admitted - before, most, admitted))
    return rows


def show(title: str, rows: list[Admitted], asked: list[Asked]) -> None:
    """Log the table; `--log-cli-level=info` shows it."""
    lines = [title, "tenant  limit/min  offered  exact bucket  admitted"]
    whole = Admitted(
        "all",
        sum(row.limit for row in rows),
        sum(row.offered for row in rows),
        sum(row.exact for row in rows),
        sum(row.most for row in rows),
        sum(row.admitted for row in rows),
    )
    lines += [
        f"{row.tenant:6} {row.limit:10} {row.offered:8} {row.exact:13.0f} {row.admitted:9}" for row in [*rows, whole]
    ]
    cuts = quantiles((each.took_s * 1000 for each in asked if each.status), n=100)
    lines.append(f"{100 * (whole.admitted / whole.exact - 1):+.2f} %, p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms")
    _log.info("\n".join(lines))


def settings(name: str, sims: SimPods, keys: Path, state: str) -> Mapping[str, Any]:
    tenants = [{"name": tenant, "requests_per_minute": limit} for tenant, limit in LIMITS.items()]
    sections = {"auth": {"keys_file": str(keys)}, "sync": {"lease_s": 10.0, "timeout_s": 5.0}}
    return config(sims.urls, replica=name, state=state, tenants=tenants, **sections)


def write_keys(path: Path) -> Path:
    keys = [
        {"name": f"key-{tenant}", "tenant": tenant, "sha256": sha256(f"key-{tenant}".encode()).hexdigest()}
        for tenant in LIMITS
    ]
    path.write_text(json.dumps({"keys": keys}))
    return path


def test_eight_replicas_admit_what_one_would(sims: SimPods, tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml")
    with redis_server() as server, ExitStack() as stack:
        state = f"redis://127.0.0.1:{server.port}"

        def start(name: str) -> GatewayProcess:
            return stack.enter_context(starting(settings(name, sims, keys, state), tmp_path / name))

        replicas = [start(f"r{at}") for at in range(REPLICAS)]
        joining = start("joining")
        for each in [*replicas, joining]:
            each.wait_until_ready()
        crowd = Crowd(replicas)

        def phase(title: str, act: Callable[[], None]) -> tuple[list[Admitted], list[Asked]]:
            act()
            first, since = len(crowd.asked), time.monotonic()
            asyncio.run(crowd.run(PHASE_S))
            rows, asked = per_tenant(crowd.asked, since), crowd.asked[first:]
            show(title, rows, asked)
            return rows, asked

        def one_is_killed() -> None:
            replicas.pop(3).kill()
            replicas.append(joining)

        calm, answers = phase("eight replicas", lambda: None)
        killed, answers_of_killed = phase("one killed, one joined", one_is_killed)
        _, answers_hung = phase("Redis hangs", server.pause)
        _, answers_alone = phase("Redis killed", server.kill)
        rows = per_tenant(crowd.asked)
        show("all phases", rows, crowd.asked)
        for part in (answers, answers_of_killed, answers_hung, answers_alone):
            assert {each.status for each in part} <= {200, 429}, Counter(each.status for each in part)
        for row in rows:
            assert row.admitted <= 1.01 * row.most + 1, row
        assert sum(row.admitted for row in rows) <= 1.01 * sum(row.most for row in rows)
        assert sum(row.admitted for row in [*calm, *killed]) >= 0.9 * sum(row.exact for row in [*calm, *killed])
        assert sum(each.status == 200 for each in answers_alone) >= 0.5 * sum(LIMITS.values()) / 60 * PHASE_S
        refused = sum(each.metric("turnout_rejections_total", reason="rate_limit_exceeded") for each in replicas)
        assert refused >= 0.5 * sum(each.status == 429 for each in crowd.asked)
