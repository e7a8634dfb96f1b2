"""`turnout demo`: simulated engines, a gateway, traffic and a live view on one machine, with nothing to install.

Engines and traffic run on this process's event loop; the gateway is a separate process, started as a user starts it.
Ctrl-C, SIGTERM or the end of its terminal ends all of it. `fleet_view.py` renders the view.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
import uvloop
from rich.console import Console
from rich.live import Live

from loadtests.sim.engine.profiles import PROFILES
from loadtests.sim.ports import HOST, free_ports, this_or_free
from loadtests.sim.simpod import fleet
from loadtests.sim.traffic import Traffic
from router.cli.fleet_reading import Reading, read
from router.cli.fleet_view import Size, line, screen
from statesync.tasks import spawn

POOL = "demo"
INFERENCE_PORT = 8000
CONTROL_PORT = 9000
READY_S = 30.0
"""Engines and gateway have to be ready in this time."""
GRACE_S = 5.0
"""From the gateway's SIGTERM to its SIGKILL."""
WINDOW_S = 10.0
"""Rates are of this long."""


class DemoFailed(Exception):
    """The gateway did not start, or ended by itself; the message holds the end of its log."""


class Ports(NamedTuple):
    """The ports of all parts."""

    inference: int
    control: int
    engines: tuple[int, ...]


class Demo(NamedTuple):
    """What the command line asks for."""

    pods: int = 4
    policy: str = "prefix_aware"
    profile: str = "h100-8b"
    speed: float = 1.0
    users: int = 16
    duration_s: float = 0.0
    """0 runs until a signal."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the demo's options to a command line."""
    parser.add_argument("--pods", type=int, default=Demo().pods, help="simulated engines (%(default)s)")
    parser.add_argument("--policy", default=Demo().policy, help="the pool's policy at start (%(default)s)")
    parser.add_argument("--profile", default=Demo().profile, choices=sorted(PROFILES), help="which engine to simulate")
    parser.add_argument("--speed", type=float, default=Demo().speed, help="engines run this much faster than real ones")
    parser.add_argument("--users", type=int, default=Demo().users, help="conversations at a time; 0 for no traffic")
    parser.add_argument("--duration", type=float, default=0.0, metavar="S", help="end after S seconds")


def demo_of(options: argparse.Namespace) -> Demo:
    """The parsed options as a value."""
    return Demo(options.pods, options.policy, options.profile, options.speed, options.users, options.duration)


def gateway_config(demo: Demo, ports: Ports) -> str:
    """The gateway's settings file: one pool, swaps allowed, a short drain. JSON is YAML."""
    pool = {
        "name": POOL,
        "pods": [f"http://{HOST}:{port}" for port in ports.engines],
        "policy": {"name": demo.policy},
        "allowed_policies": ["*"],
    }
    config = {
        "listen": f"{HOST}:{ports.inference}",
        "control": {"listen": f"{HOST}:{ports.control}"},
        "pools": [pool],
        "default_pool": POOL,
        # No load balancer has to notice the end, and Ctrl-C should not take the minutes that streams may get.
        "drain": {"settle_s": 0.0, "timeout_s": 1.0},
        "logging": {"level": "warning"},
    }
    return json.dumps(config, indent=1)


@contextlib.asynccontextmanager
async def gateway(demo: Demo, ports: Ports, directory: Path, gone: Callable[[], None]) -> AsyncIterator[None]:
    """A gateway that runs as long as the block does.

    Calls `gone` when it ends by itself; leaving the block then raises DemoFailed with the end of its log.
    """
    config, log = directory / "turnout.yaml", directory / "gateway.log"
    config.write_text(gateway_config(demo, ports))
    with log.open("wb") as output:
        # A new session: the terminal's Ctrl-C reaches only the demo, which then ends the gateway in order.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router", "serve", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            # Settings of the environment are those of another gateway.
            env={name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")},
        )  # fmt: skip
    watch = spawn(_watch(process, gone), "gateway watch")
    try:
        await _answering(f"http://{HOST}:{ports.control}/readyz", lambda: process.returncode is None)
        yield
    finally:
        watch.cancel()
        died = process.returncode is not None
        await _end(process)
        if died:
            raise DemoFailed(f"the gateway ended by itself:\n{log.read_text(errors='replace')[-2000:]}")


async def _watch(process: asyncio.subprocess.Process, gone: Callable[[], None]) -> None:
    await process.wait()
    gone()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), GRACE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def _answering(url: str, alive: Callable[[], bool]) -> None:
    """Wait until `url` answers 200, for at most READY_S and as long as `alive`. Raises DemoFailed."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_S
    async with httpx.AsyncClient(trust_env=False, timeout=1.0) as client:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).is_success:
                    return
            if not alive() or loop.time() > deadline:
                raise DemoFailed(f"{url} does not answer")
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def engines(demo: Demo, ports: Ports) -> AsyncIterator[None]:
    """Simulated engines that serve as long as the block does."""
    serving = fleet.run(ports.engines, PROFILES[demo.profile], demo.speed, HOST)
    async with background(spawn(serving, "engines")) as task:
        for port in ports.engines:
            await _answering(f"http://{HOST}:{port}/health", lambda: not task.done())
        yield


@contextlib.asynccontextmanager
async def traffic(demo: Demo, ports: Ports) -> AsyncIterator[None]:
    """Conversations against the gateway for as long as the block runs; none with no users."""
    if not demo.users:
        yield
        return
    base = f"http://{HOST}:{ports.inference}"
    async with httpx.AsyncClient(trust_env=False) as client:
        model = (await client.get(f"{base}/v1/models")).json()["data"][0]["id"]
    async with background(spawn(Traffic(base, model, demo.users).run(), "traffic")):
        yield


@contextlib.asynccontextmanager
async def background(task: asyncio.Task[None]) -> AsyncIterator[asyncio.Task[None]]:
    """A task that is cancelled, and waited for, when the block ends."""
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def reading(client: httpx.AsyncClient) -> Reading:
    """Ask the control port for everything that is shown."""
    pods = await client.get("/admin/pods")
    pools = await client.get("/admin/pools")
    metrics = await client.get("/metrics")
    at = asyncio.get_running_loop().time()
    return read(at, pods.raise_for_status().json(), pools.raise_for_status().json(), metrics.text)


async def show(ports: Ports, console: Console) -> None:
    """Show readings until cancelled: a screen on a terminal, a line a second elsewhere."""
    past: deque[Reading] = deque()
    live = Live(console=console, screen=True, auto_refresh=False) if console.is_terminal else None
    async with httpx.AsyncClient(base_url=f"http://{HOST}:{ports.control}", trust_env=False, timeout=5.0) as client:
        with live or contextlib.nullcontext():
            while True:
                now = await reading(client)
                past.append(now)
                while now.at - past[0].at > WINDOW_S:
                    past.popleft()
                if live is not None:
                    size = Size(console.width, console.height)
                    live.update(screen(now, past[0], footer(ports), size), refresh=True)
                else:
                    say(line(now, past[0]))
                await asyncio.sleep(0.5 if live is not None else 1.0)


def footer(ports: Ports) -> list[str]:
    """Commands and addresses for the user."""
    base, control = f"http://{HOST}:{ports.inference}", f"http://{HOST}:{ports.control}"
    return [
        f"gateway {base}/v1   console {control}/console",
        "swap the policy while it runs, in another terminal:",
        f"  turnout policy set {POOL} round_robin{'' if ports.control == CONTROL_PORT else f' --control {control}'}",
        "Ctrl-C ends engines, gateway and traffic",
    ]


def say(text: str) -> None:
    """One plain line, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def everything(demo: Demo, end: Callable[[], None]) -> None:
    """Start all parts, show them until cancelled, and end them in the reverse order."""
    ports = Ports(this_or_free(INFERENCE_PORT), this_or_free(CONTROL_PORT), tuple(free_ports(demo.pods)))
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-demo-")))
        await stack.enter_async_context(engines(demo, ports))
        await stack.enter_async_context(gateway(demo, ports, directory, end))
        await stack.enter_async_context(traffic(demo, ports))
        say(f"gateway http://{HOST}:{ports.inference} control http://{HOST}:{ports.control}")
        if demo.duration_s:
            asyncio.get_running_loop().call_later(demo.duration_s, end)
        await show(ports, Console())


async def run(demo: Demo) -> int:
    """The demo until a signal or its duration ends it: 0; or 1, with a message, if a part did not start or died."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()

    def end() -> None:
        # Once only: a second Ctrl-C must not interrupt the cleanup.
        if not ending.is_set():
            ending.set()
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        await everything(demo, end)
    except DemoFailed as failed:
        sys.stderr.write(f"demo: {failed}\n")
        return 1
    except asyncio.CancelledError:
        if not ending.is_set():
            raise
        task.uncancel()
    except httpx.TransportError as error:
        sys.stderr.write(f"demo: the gateway does not answer any more: {error!r}\n")
        return 1
    say("demo: ended")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo from a command line of its own."""
    parser = argparse.ArgumentParser(prog="turnout demo", description="engines, gateway, traffic and a live view")
    add_options(parser)
    return uvloop.run(run(demo_of(parser.parse_args(argv))))


if __name__ == "__main__":
    sys.exit(main())
