"""A small model server as a Ray Serve deployment: prompts are computed one after the other, as fast as their uncached
tokens allow, and the tokens of all answers come at one pace. Its prefix cache holds the blocks used last.

Runs in the environment of `make test-ray`.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import NamedTuple

from ray import serve

BLOCK = 256
"""Characters of a prompt that are cached together: 64 tokens."""

S_A_TOKEN = 100e-6
"""Seconds that an uncached prompt token takes."""

STEP_S = 0.004
"""Seconds between two tokens of an answer."""


class Question(NamedTuple):
    """A request, with the fields that routers read in those of Ray Serve LLM."""

    prompt: str
    max_tokens: int


class Engine:
    """One replica."""

    def __init__(self, cache_blocks: int = 600) -> None:
        self.cache_blocks = cache_blocks
        self.blocks: OrderedDict[int, None] = OrderedDict()
        self.prefill = asyncio.Lock()
        self.started_at = time.time()
        self.waiting = self.running = self.queries = self.hits = 0

    def reconfigure(self, user_config: dict[str, object]) -> None:
        """Its router reads this, not the engine; Ray asks for the method."""

    def record_routing_stats(self) -> dict[str, float]:
        """What routers may know of it, by the names of `EngineReport`."""
        return {
            "queued": self.waiting,
            "running": self.running,
            "kv_usage": len(self.blocks) / self.cache_blocks,
            "kv_capacity_tokens": self.cache_blocks * BLOCK // 4,
            "prefix_queries_tokens": self.queries,
            "prefix_hits_tokens": self.hits,
        }

    async def generate(self, question: Question) -> AsyncIterator[int]:
        """The answer: the prompt's cached tokens first, then a number for each further token."""
        self.waiting += 1
        try:
            async with self.prefill:
                size, found = self._look_up(question.prompt)
                await asyncio.sleep((size - found) * S_A_TOKEN)
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield found
            for number in range(1, question.max_tokens):
                await asyncio.sleep(STEP_S)
                yield number
        finally:
            self.running -= 1

    def _look_up(self, prompt: str) -> tuple[int, int]:
        """Put the prompt into the cache; returns its tokens, and those that were there."""
        chain, cached, unbroken = 0, 0, True
        for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
            chain = hash((chain, prompt[start : start + BLOCK]))
            unbroken = unbroken and chain in self.blocks
            cached += unbroken
            self.blocks[chain] = None
            self.blocks.move_to_end(chain)
        while len(self.blocks) > self.cache_blocks:
            self.blocks.popitem(last=False)
        size, found = len(prompt) // 4, cached * BLOCK // 4
        self.queries += size
        self.hits += found
        return size, found


app = serve.deployment(Engine).bind()
"""The application as a configuration file names it: `tests.ray.python.engine:app`."""
