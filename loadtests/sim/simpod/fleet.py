"""Simulated vLLM pods: engine models behind HTTP, several in one process, with faults to switch on.

`SimPod` is one pod, for tests and demos; `main` is what `turnout sim` runs.

`PUT /sim/faults`, `DELETE /sim/faults` and `GET /sim/state` work on each pod's own port. The fault `refuse`
closes that port (new connections get ECONNREFUSED, idle ones are closed, streams under way go on), so it must have
`for_s` there; or start with `--control-port C` and use `/sim/{port}/faults` on that port, for any pod of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Self

import uvloop

from loadtests.sim.engine.profiles import PROFILES, EngineProfile
from loadtests.sim.simpod.api import FaultRefused, PodApi, control
from loadtests.sim.simpod.bodies import ChatBody
from loadtests.sim.simpod.errors import NOT_FOUND
from loadtests.sim.simpod.faults import Fault, FaultSwitch
from loadtests.sim.simpod.kv_transfer import MODES, Start, Transfers
from loadtests.sim.simpod.listener import Listener
from loadtests.sim.simpod.ranks import EngineRank, totals
from loadtests.sim.simpod.script import PodSpec, encode
from loadtests.sim.simpod.wire import Connection, Exchange, Request

if TYPE_CHECKING:
    from loadtests.sim.simpod.spans import EngineSpans

DEFAULT_MODEL = "sim-model"
LAST_PORT = 65535


class SimPod:
    """One simulated engine on one port."""

    def __init__(
        self,
        port: int = 0,
        *,
        profile: EngineProfile | str = "tiny",
        models: Sequence[str] = (DEFAULT_MODEL,),
        speed: float = 1.0,
        host: str = "127.0.0.1",
        name: str = "",
        keepalive_s: float = 5.0,
        output_mean_tokens: float = 128.0,
        controlled: bool = False,
        by_priority: bool = False,
        otlp_endpoint: str = "",
        kv_transfer: str = "",
        kv_events: tuple[str, str] | None = None,
        ranks: int = 1,
    ) -> None:
        """`port` 0 takes a free one; `speed` divides all durations; `name` (default `sim-PORT`) is the value of
        `x-inference-pod`; `controlled` says that faults can also be switched elsewhere than on this port;
        `by_priority` is vLLM's `--scheduling-policy priority`; `otlp_endpoint` its `--otlp-traces-endpoint`;
        `kv_transfer` is one of `kv_transfer.MODES`; `kv_events` are the addresses at which KV events are published and
        replayed; `ranks` is its `--data-parallel-size`."""
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        if by_priority:
            self.profile = self.profile._replace(by_priority=True)
        self._ranks = [EngineRank(self.profile, tuple(models), time.time(), number) for number in range(ranks)]
        self.engine = self._ranks[0].engine
        self.faults = FaultSwitch()
        self.name = name
        self._models, self._speed, self._keepalive_s = tuple(models), speed, keepalive_s
        self._output_mean_tokens, self._controlled = output_mean_tokens, controlled
        self._otlp_endpoint = otlp_endpoint
        self._kv_transfer = kv_transfer
        self._kv_events = kv_events
        self._spans: EngineSpans | None = None
        self._listener = Listener(host, port)
        self._api: PodApi | None = None
        self._reopening: asyncio.TimerHandle | None = None

    @property
    def port(self) -> int:
        """The port; 0 before `start` if a free one is to be taken."""
        return self._listener.port

    @property
    def received(self) -> Counter[str]:
        """Requests by path since the start, /sim/* left out."""
        return self._api.received if self._api is not None else Counter()

    @property
    def refused(self) -> Sequence[tuple[float, str]]:
        """The last requests for models that the pod did not have: when, by the monotonic clock, and the message."""
        return self._api.refused if self._api is not None else ()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self._listener.host}:{self.port}"

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self.address}"

    async def start(self) -> int:
        """Listen; returns the port. OSError if it is taken."""
        sock = self._listener.bind()
        ChatBody.model_rebuild()  # or the first request would wait for it
        self.name = self.name or f"sim-{self.port}"
        spec = PodSpec(self.name, self._models, self.profile, self._output_mean_tokens)
        for rank in self._ranks:
            rank.start(self._speed, self._kv_events)
        if self._otlp_endpoint:
            from loadtests.sim.simpod.spans import EngineSpans

            self._spans = EngineSpans(self._otlp_endpoint, self.name)
        outlet = self._spans.outlet if self._spans is not None else None
        transfers = self._transfers if self._kv_transfer else None
        self._api = PodApi(spec, self._ranks, self.faults, self, spans=outlet, transfers=transfers)
        await self._listener.serve(sock, self._api, self.name.encode(), self._keepalive_s)
        return self.port

    def _transfers(self, start: Start) -> Transfers:
        return Transfers(self._kv_transfer, start, lambda: (self._listener.host, self.port), self._speed)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and reset open connections, as a killed engine does. Safe to call twice."""
        self._stop_reopening()
        self._listener.close()
        for rank in self._ranks:
            rank.stop()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.stop)
            self._spans = None
        await asyncio.sleep(0)

    def set_fault(self, fault: Fault | None, /, *, remote: bool = False) -> None:
        """Switch a fault on, or all off with None. FaultRefused if a `remote` caller could not switch it off again."""
        refuse = fault is not None and fault.kind == "refuse"
        if refuse and remote and not self._controlled and fault and fault.for_s is None:
            raise FaultRefused("refuse closes this port: give for_s, or use a control port")
        self.faults.set(fault)
        self._stop_reopening()
        if not refuse:
            self._listener.reopen()
            return
        self._listener.refuse()
        if fault is not None and fault.for_s is not None:
            self._reopening = asyncio.get_running_loop().call_later(fault.for_s, self.set_fault, None)

    def state(self) -> dict[str, object]:
        """The body of GET /sim/state; `open_requests` counts those that are being answered, hung ones included."""
        received = self.received
        fault, transfers = self.faults.fault, self._api.transfers if self._api is not None else None
        return {
            "pod": self.name,
            "port": self.port,
            "connections": len(self._listener.members),
            "open_requests": sum(connection.serving for connection in self._listener.members),
            "requests": received.total(),
            "by_path": dict(received),
            **totals(self._ranks),
            "kv_sent": transfers.sent if transfers else 0,
            "kv_received": transfers.received if transfers else 0,
            "fault": fault,
            "struck": self.faults.struck,
        }

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None


class ControlPort:
    """One port that switches the faults of all pods: `/sim/pods`, `/sim/{port}/faults`, `/sim/{port}/state`."""

    def __init__(self, pods: Sequence[SimPod], port: int, host: str) -> None:
        self._pods = {str(pod.port): pod for pod in pods}
        self._listener = Listener(host, port)

    async def start(self) -> int:
        """Listen; returns the port."""
        await self._listener.serve(self._listener.bind(), self, b"control", 5.0)
        return self._listener.port

    async def stop(self) -> None:
        """Close the port."""
        self._listener.close()

    def handle(self, request: Request, connection: Connection, /) -> Exchange | None:
        """Answer at once."""
        port, _, rest = request.path.removeprefix("/sim/").partition("/")
        if request.path == "/sim/pods":
            connection.whole(200, b"application/json", encode([pod.state() for pod in self._pods.values()]))
        elif port in self._pods:
            control(request, f"/sim/{rest}", connection, self._pods[port], remote=False)
        else:
            connection.whole(404, b"application/json", NOT_FOUND.openai())
        return None


async def run(
    ports: Sequence[int],
    profile: EngineProfile | str = "tiny",
    speed: float = 1.0,
    host: str = "127.0.0.1",
    *,
    models: Sequence[str] = (DEFAULT_MODEL,),
    keepalive_s: float = 5.0,
    output_mean_tokens: float = 128.0,
    control_port: int | None = None,
    by_priority: bool = False,
    otlp_endpoint: str = "",
    kv_transfer: str = "",
    kv_events: tuple[str, str] | None = None,
    ranks: int = 1,
    ready: Callable[[Sequence[SimPod]], None] = lambda pods: None,
) -> None:
    """Run a pod on each port until cancelled; `ready` is called when all listen. OSError if a port is taken."""
    pods = [
        SimPod(
            port,
            profile=profile,
            models=models,
            speed=speed,
            host=host,
            keepalive_s=keepalive_s,
            output_mean_tokens=output_mean_tokens,
            controlled=control_port is not None,
            by_priority=by_priority,
            otlp_endpoint=otlp_endpoint,
            kv_transfer=kv_transfer,
            kv_events=kv_events,
            ranks=ranks,
        )
        for port in ports
    ]
    async with contextlib.AsyncExitStack() as stack:
        for pod in pods:
            stack.push_async_callback(pod.stop)
            await pod.start()
        if control_port is not None:
            controls = ControlPort(pods, control_port, host)
            stack.push_async_callback(controls.stop)
            await controls.start()
        ready(pods)
        await asyncio.Event().wait()


async def until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends, or until SIGINT or SIGTERM; what it raises is raised."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _announce(pods: Sequence[SimPod]) -> None:
    for pod in pods:
        sys.stdout.write(f"{pod.name} {pod.url} {pod.profile.name}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="turnout sim", description="Simulated vLLM engines, several in one process.")
    parser.add_argument("--port", type=int, required=True, help="the first pod's port; the others follow")
    parser.add_argument("--count", type=int, default=1, help="number of pods")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="tiny", help="what the engines can do")
    parser.add_argument("--speed", type=float, default=1.0, help="divides all durations")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--model", action="append", help=f"model name, may be repeated (default {DEFAULT_MODEL})")
    parser.add_argument("--keepalive", type=float, default=5.0, help="seconds an idle connection is kept")
    parser.add_argument("--output-mean", type=float, default=128.0, help="mean tokens of an answer without a limit")
    parser.add_argument(
        "--scheduling-policy", choices=("fcfs", "priority"), default="fcfs", help="priority: by the field of requests"
    )
    parser.add_argument("--otlp-traces-endpoint", default="", help="URL for the engines' spans (OTLP over HTTP)")
    parser.add_argument("--kv-transfer", choices=MODES, default="", help="how prompts' blocks come from other pods")
    parser.add_argument("--data-parallel-size", type=int, default=1, help="engines behind each port: its ranks")
    parser.add_argument("--control-port", type=int, help="switch the faults of all pods here as well")
    parser.add_argument(
        "--kv-events", nargs=2, metavar=("LIVE", "REPLAY"), help="addresses for KV events of one pod: tcp://*:5557 ..."
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """`turnout sim`: parse the command line and run. Returns the exit status."""
    parser = _parser()
    args = parser.parse_args(argv)
    if min(args.count, args.data_parallel_size) < 1 or not args.speed > 0:
        parser.error("--count and --data-parallel-size must be at least 1 and --speed greater than 0")
    if args.kv_transfer and args.data_parallel_size > 1:
        parser.error("--kv-transfer is of pods with one rank")
    if args.kv_events and args.count > 1:
        parser.error("--kv-events are the addresses of one pod: start a process for each")
    if args.port < 0 or max(args.port + args.count - 1, args.control_port or 0) > LAST_PORT:
        parser.error(f"--port, the ports that follow for --count, and --control-port must be at most {LAST_PORT}")
    ports = range(args.port, args.port + args.count)
    serving = run(
        ports,
        args.profile,
        args.speed,
        args.host,
        models=args.model or (DEFAULT_MODEL,),
        keepalive_s=args.keepalive,
        output_mean_tokens=args.output_mean,
        control_port=args.control_port,
        by_priority=args.scheduling_policy == "priority",
        otlp_endpoint=args.otlp_traces_endpoint,
        kv_transfer=args.kv_transfer,
        kv_events=tuple(args.kv_events) if args.kv_events else None,
        ranks=args.data_parallel_size,
        ready=_announce,
    )
    try:
        uvloop.run(until_signalled(serving))
    except OSError as error:
        sys.stderr.write(f"turnout sim: {error}\n")
        return 1
    return 0
