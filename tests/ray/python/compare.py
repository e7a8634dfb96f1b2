"""Four replicas of a small model server behind Ray Serve: Ray's own routers and Turnout's on the same conversations,
and Turnout's policy swapped under them. Prints one JSON object.

    python -m tests.ray.python.compare [--seconds 8]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import ray
from ray import serve
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import PrefixCacheAffinityRouter
from ray.serve.config import RequestRouterConfig
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from statesync.tasks import spawn
from tests.ray.python.engine import Engine, Question

REPLICAS = 4
USERS = 24
TURN = 1200
"""Characters that a turn adds to a conversation."""
TURNS = 8
ANSWER = 12
"""Tokens of an answer."""
POLICIES: tuple[dict[str, Any], ...] = (
    {"policy": "prefix_aware"},
    {"policy": "p2c", "params": {}},
    {"policy": "least_load", "shadow": {"name": "prefix_aware"}},
    {"policy": "prefix_aware", "canary": {"name": "round_robin", "percent": 20.0}},
)
"""What the deployment has one after the other, by changes of its configuration."""


class Reply(NamedTuple):
    """An answer that a user got."""

    ttft_s: float
    failed: str
    size: int = 0
    """Tokens of the prompt."""
    cached: int = 0
    """Of those, found in the replica's cache."""


class Users:
    """Conversations, each a chain of growing prompts. The next turn is asked when the answer is there."""

    def __init__(self, handle: Any, seconds: float, seed: int) -> None:
        self.handle = handle.options(stream=True, method_name="generate")
        self.ends_at = time.monotonic() + seconds
        self.rng = random.Random(seed)
        self.replies: list[Reply] = []

    async def all(self) -> None:
        """Every user, to the end."""
        await asyncio.gather(*[self._user(number) for number in range(USERS)])

    async def _user(self, number: int) -> None:
        rng, conversation = random.Random(self.rng.random()), 0
        await asyncio.sleep(number * 0.03)
        while time.monotonic() < self.ends_at:
            conversation += 1
            prompt = f"system prompt {number % 3} " * 40
            for _ in range(TURNS):
                prompt += f"{number} {conversation} " + "".join(rng.choices("abcdefgh ", k=TURN))
                self.replies.append(await self._ask(prompt))
                await asyncio.sleep(rng.expovariate(1 / 0.25))
                if time.monotonic() >= self.ends_at:
                    return

    async def _ask(self, prompt: str) -> Reply:
        began, first_s, answer = time.monotonic(), 0.0, list[int]()
        try:
            async for item in self.handle.remote(Question(prompt, ANSWER)):
                first_s = first_s or time.monotonic() - began
                answer.append(item)
        except Exception as error:  # noqa: BLE001  it is counted
            return Reply(0.0, repr(error)[:200])
        if len(answer) != ANSWER:
            return Reply(0.0, f"{len(answer)} tokens")
        return Reply(first_s, "", len(prompt) // 4, answer[0])


ENGINE = {"num_replicas": REPLICAS, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}}


def application(router: RequestRouterConfig) -> Any:
    """The engine behind this router."""
    return serve.deployment(Engine, name="Engine", request_router_config=router, **ENGINE).bind()  # type: ignore[arg-type]


def deploy(policy: Mapping[str, object]) -> None:
    """Apply a configuration file in which the deployment has this policy, as `serve deploy` and a RayService do."""
    router = {"request_router_class": "router.ray.serve.TurnoutRouter", "request_routing_stats_period_s": 0.5}
    engine = {"name": "Engine", **ENGINE, "request_router_config": router, "user_config": {"turnout": policy}}
    app = {"name": "swaps", "import_path": "tests.ray.python.engine:app", "route_prefix": None, "deployments": [engine]}
    _get_global_client().deploy_apps(ServeDeploySchema(applications=[app]), _blocking=True)


def turnout(**arguments: object) -> RequestRouterConfig:
    """Turnout's router with these arguments."""
    return RequestRouterConfig(
        request_router_class="router.ray.serve.TurnoutRouter",
        request_router_kwargs=arguments,
        request_routing_stats_period_s=0.5,
    )


def summary(replies: list[Reply]) -> dict[str, Any]:
    """Counts, times, and the share of the prompts' tokens that was cached."""
    good = [each for each in replies if not each.failed]
    times = sorted(each.ttft_s for each in good)
    return {
        "requests": len(replies),
        "failed": [each.failed for each in replies if each.failed],
        "ttft_p50_ms": round(1000 * times[len(times) // 2], 1),
        "ttft_p95_ms": round(1000 * times[len(times) * 95 // 100], 1),
        "ttft_mean_ms": round(1000 * sum(times) / len(times), 1),
        "hit_rate": round(sum(each.cached for each in good) / sum(each.size for each in good), 3),
    }


def status(handle: Any) -> dict[str, object]:
    """What decides in this process."""
    router = handle._router._asyncio_router.request_router
    return dict(router.status()._asdict())


async def swapped(handle: Any, seconds: float) -> dict[str, object]:
    """The users' run under Turnout, while the deployment's configuration changes."""
    users = Users(handle, 600.0, 7)
    run = spawn(users.all(), "users")
    seen: list[dict[str, object]] = []
    await asyncio.sleep(0.5)
    before = replicas(handle)
    for arguments in POLICIES:
        await asyncio.to_thread(deploy, arguments)
        while status(handle)["policy"] != arguments["policy"]:  # noqa: ASYNC110  Ray has no event for it
            await asyncio.sleep(0.05)
        await asyncio.sleep(seconds)
        seen.append(status(handle))
    users.ends_at = 0.0
    await run
    await asyncio.sleep(0.2)
    return {
        "seen": seen,
        "same_replicas": replicas(handle) == before,
        "inflight": inflight(handle),
        **summary(users.replies),
    }


def replicas(handle: Any) -> list[str]:
    """The replicas' names."""
    return sorted(each.unique_id for each in handle._router._asyncio_router.request_router.curr_replicas)


def inflight(handle: Any) -> int:
    """Requests that the router counts as in flight."""
    return int(handle._router._asyncio_router.request_router._host._parts.state.view.inflight)


async def main(seconds: float) -> dict[str, object]:
    """Every router in turn."""
    routers = {
        "ray_power_of_two": RequestRouterConfig(),
        "ray_prefix": RequestRouterConfig(request_router_class=PrefixCacheAffinityRouter),
        "ray_prefix_bounded": RequestRouterConfig(
            request_router_class=PrefixCacheAffinityRouter, request_router_kwargs={"imbalanced_threshold": 5}
        ),
        "turnout": turnout(),
    }
    found: dict[str, object] = {"ray": ray.__version__}
    began = time.monotonic()
    for name, router in routers.items():
        print(name, time.monotonic() - began, file=sys.stderr)
        handle = await asyncio.to_thread(serve.run, application(router), name=name, route_prefix=None)
        users = Users(handle, seconds, 7)
        await users.all()
        found[name] = summary(users.replies)
        if name == "turnout":
            found["digest"] = status(handle)["digest"]
        await asyncio.to_thread(serve.delete, name)
    await asyncio.to_thread(deploy, POLICIES[0])
    found["swaps"] = await swapped(serve.get_deployment_handle("Engine", "swaps"), seconds / 2)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=6.0)
    given = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    try:
        print(json.dumps(asyncio.run(main(given.seconds))))
    finally:
        serve.shutdown()
        ray.shutdown()
