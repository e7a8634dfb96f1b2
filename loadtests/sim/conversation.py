"""Multi-turn conversations with shared system prompts, as chat traffic has them. Pure: seeded random numbers, no I/O.

Every user talks under one of a few system prompts, so prompts share a long prefix across users, and each turn sends
the whole conversation again, so prompts share a growing prefix within one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_WORDS = (
    "track train signal junction switch platform engine wagon cargo station bridge tunnel river valley morning night "
    "north south early late quick slow steel timber copper water question answer reason number letter paper"
).split()


@dataclass(frozen=True)
class Shape:
    """The shape of conversations. Lengths are in tokens of four bytes."""

    systems: int = 4
    """Different system prompts."""
    system_tokens: int = 400
    turns: int = 5
    """Turns of a conversation; a new one starts after the last."""
    turn_tokens: int = 60
    """Mean length of a user's message."""
    max_tokens: int = 64
    """Longest answer asked for."""
    think_s: float = 0.2
    """Mean pause before the next turn."""


class Conversation:
    """One user's conversation: gives the next request, takes the answer, starts over after its last turn."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._rng = random.Random(seed)
        self._turn = 0
        self.session = ""
        """Changes with every new conversation."""
        self.messages: list[dict[str, str]] = []

    def ask(self) -> list[dict[str, str]]:
        """The messages of the next turn; starts a new conversation when the last one is over."""
        if self._turn % self._shape.turns == 0:
            self._begin()
        self._turn += 1
        tokens = max(1, round(self._rng.expovariate(1 / self._shape.turn_tokens)))
        self.messages.append({"role": "user", "content": words(self._rng, min(tokens, self._shape.turn_tokens * 8))})
        return self.messages

    def answered(self, text: str) -> None:
        """The answer joins the conversation."""
        self.messages.append({"role": "assistant", "content": text})

    def failed(self) -> None:
        """No answer: this conversation is over."""
        self._turn = 0

    def pause_s(self) -> float:
        """The pause before the next turn."""
        return self._rng.expovariate(1 / self._shape.think_s) if self._shape.think_s > 0 else 0.0

    def _begin(self) -> None:
        system = self._rng.randrange(self._shape.systems)
        prompt = f"System prompt {system}. {words(random.Random(system), self._shape.system_tokens)}"
        self.session = f"{self._rng.getrandbits(64):016x}"
        self.messages = [{"role": "system", "content": prompt}]


def words(rng: random.Random, tokens: int) -> str:
    """Text of about `tokens` tokens."""
    text, length = [], 0
    while length < tokens * 4:
        text.append(rng.choice(_WORDS))
        length += len(text[-1]) + 1
    return " ".join(text)
