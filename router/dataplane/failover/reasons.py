"""Why a stream does not go on on another pod: the labels of the metric, and the words of the error. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

NO_POD: Final = "no_pod"
MOVED: Final = "moved"
"""The label of a stream that goes on."""

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "path": "only chats and completions can be",
        "body": "its body cannot be read",
        "choices": "it has several choices or prompts",
        "logprobs": "it has logprobs",
        "echo": "it repeats its prompt",
        "tools": "tools may be called in it",
        "structured": "its output is structured",
        "penalties": "its penalties count the tokens so far",
        "stop": "its stop strings hold text back",
        "token_ids": "its token ids are not all known",
        "prompt": "nothing can be put after its prompt",
        "option": "it has an option of which the state is not known",
        "reasoning": "it has reasoned",
        "events": "its events cannot be read",
        "size": "its text is longer than failover.max_chars",
        "ended": "its text is complete",
        "not_continued": "the other pod began anew instead of going on",
        "refused": "the other pod refused to go on",
        "pinned": "only this pod has its state",
        "attempts": "too many pods failed it",
        NO_POD: "no other pod has room",
        "time": "its time is over",
    }
)
"""By label: why not, after `It was not continued on another pod: `."""


class NotMoved(NamedTuple):
    """A stream that stays where it is. `reason` is a key of `REASONS`."""

    reason: str

    @property
    def words(self) -> str:
        """The end of the error's message."""
        return f" It was not continued on another pod: {REASONS[self.reason]}."
