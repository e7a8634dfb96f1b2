"""The gateway's CPU time a chunk, without failover and with each kind of it, on gateways that have one load in turn;
and the time of each step of a stream that moves. Figures only; `__main__.py` writes the text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any, Final, NamedTuple, TypeVar

from loadtests.bench.load import stream_load
from loadtests.bench.load.cases import CASES, Case
from loadtests.bench.load.cores import LOAD_CORE, ROUTER_CORE
from loadtests.bench.load.stream_load import Pids
from loadtests.bench.routers import turnout
from loadtests.bench.routers.run import ENGINES, NUMBERS_A_RUN, calm
from loadtests.processes import procfs
from loadtests.processes.owned import Owned, pin, wait_until_ready
from loadtests.processes.redis_server import RedisServer
from loadtests.processes.replica import serve
from loadtests.sim.ports import HOST, free_ports
from router.dataplane.failover.continuation import CHAT, Continuation, Opened, opened
from router.dataplane.failover.stream import MovableStream

T = TypeVar("T")

MODES: Final[Mapping[str, Mapping[str, Any]]] = {
    "off": {},
    "mid_stream": {"mid_stream": True},
    "resume": {"resume": True},
    "both": {"mid_stream": True, "resume": True},
}
"""By name in the report: the pool's `failover`. The others are compared with the first."""

TOKENS: Final = 500
"""Of the streams whose steps are timed."""
PROMPT_TOKENS: Final = 1000
_TIMES: Final = 40


class Plan(NamedTuple):
    """The size of a measurement."""

    rounds: int = 5
    seconds: int = 3
    python: str = sys.executable
    case: Case = CASES["paced-256"]
    modes: Sequence[str] = tuple(MODES)


class Window(NamedTuple):
    """One load on one gateway."""

    mode: str
    round: int
    chunk_us: float
    """CPU time of the gateway, a chunk."""
    redis_us: float
    """The same of Redis."""
    rss_bytes: int
    wrong: int
    """Streams that failed or were refused."""


def windows(plan: Plan, directory: Path) -> Iterator[Window]:
    """In each round every mode once, each round beginning with another one."""
    modes = [*plan.modes]
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(directory, LOAD_CORE))
        ports = free_ports(ENGINES)
        gap = ["--stream", "--gap-ms", str(plan.case.gap_s * 1000)]
        canned = [sys.executable, "-m", "loadtests.bench.load.canned", *map(str, ports), *gap]
        engines = stack.enter_context(Owned(canned, LOAD_CORE, directory / "engines.log"))
        wait_until_ready(engines, f"http://{HOST}:{ports[0]}/health")
        gateways: dict[str, tuple[Owned, str]] = {}
        for mode in modes:
            port, control = free_ports(2)
            given = turnout.settings("turnout", port, control, ports) | {"state": redis.url, "replica": mode}
            given["pools"][0] |= {"engine": "vllm", "failover": MODES[mode]}
            own = Owned(serve(plan.python, given, directory / f"{mode}.yaml"), ROUTER_CORE, directory / f"{mode}.log")
            stack.enter_context(own)
            wait_until_ready(own, f"http://{HOST}:{control}/readyz")
            gateways[mode] = own, f"http://{HOST}:{port}"
        runs = 0
        for number in range(plan.rounds + 1):  # the first one warms up
            for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
                runs += 1
                owned, url = gateways[mode]
                calm(owned)
                pids, before = Pids(owned.pids(), engines.pids()), procfs.read(redis.process.pids())
                found = stream_load.run(
                    pin(LOAD_CORE), url, plan.case, plan.seconds, runs * NUMBERS_A_RUN, pids, directory
                )
                chunks = found.load.chunks
                redis_s = procfs.read(redis.process.pids()).since(before).cpu_s
                wrong = found.load.failed + found.load.bad_status
                if number:
                    costs = (found.usage.cpu_s / chunks * 1e6, redis_s / chunks * 1e6, found.usage.rss_bytes)
                    yield Window(mode, number, *costs, wrong)


def _events(prompt: int) -> list[bytes]:
    return [_event(0, prompt, first=True), *[_event(number, prompt) for number in range(1, TOKENS + 1)]]


def _event(number: int, prompt: int, *, first: bool = False) -> bytes:
    """A chunk of a chat as vLLM writes it, with the tokens so far and its token's id."""
    delta = {"role": "assistant", "content": ""} if first else {"content": " word" + "s" * (number % 5)}
    choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    said: dict[str, Any] = {"id": "chatcmpl-8b45788d6279d48e", "object": "chat.completion.chunk", "created": 1}
    said |= {"model": "bench", "choices": [choice]}
    if first:
        said["prompt_token_ids"] = list(range(prompt))
    else:
        choice["token_ids"] = [number]
    said["usage"] = {"prompt_tokens": prompt, "total_tokens": prompt + number, "completion_tokens": number}
    return b"data: " + json.dumps(said, separators=(",", ":")).encode() + b"\n\n"


def _all(passed: Callable[[bytes], bytes], events: list[bytes]) -> None:
    for event in events:
        passed(event)


def steps() -> dict[str, float]:
    """CPU time in us of the steps of a chat of 4 KB that moves after `TOKENS` tokens."""
    messages = [{"role": "user", "content": "word " * 800}]
    body = json.dumps({"model": "bench", "stream": True, "max_tokens": 1000, "messages": messages}).encode()
    events, following_events = _events(PROMPT_TOKENS), _events(PROMPT_TOKENS + TOKENS)
    spent = dict.fromkeys(("request", "chunk", "move", "chunk of the next pod"), 0.0)

    def timed(name: str, work: Callable[[], T]) -> T:
        began = process_time()
        result = work()
        spent[name] += process_time() - began
        return result

    for _ in range(_TIMES):
        made = timed("request", lambda: opened(CHAT, body, ids=True))
        assert isinstance(made, Opened)
        stream = MovableStream(CHAT, made, 1_000_000)
        passed = stream.splice.passed
        timed("chunk", partial(_all, passed, events))
        following = timed("move", stream.next_request)
        assert isinstance(following, Continuation)
        stream.splice.go_on(following.owed, following.ids, following.behind)
        timed("chunk of the next pod", partial(_all, passed, following_events))
    each = {"request": 1, "chunk": len(events), "move": 1, "chunk of the next pod": len(events)}
    return {name: seconds / _TIMES / each[name] * 1e6 for name, seconds in spent.items()}
