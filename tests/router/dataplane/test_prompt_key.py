"""What makes two prompts share a prefix: every part of a request that an engine keys its cache by is in the chain."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import msgspec

from router.dataplane.request import openai
from statesync.prefix.index import PrefixIndex
from tests.fakes.each_case import each_case

LONG = "The licensee may copy and distribute the program. " * 40
OTHER = "Y" + LONG[1:]
PICTURE = "data:image/png;base64," + "iVBORw0KGgo" * 100
OTHER_PICTURE = PICTURE[:-3] + "AAA"


def chain(body: Mapping[str, object]) -> list[int]:
    call = openai.read(b"application/json", msgspec.json.encode(body))
    return PrefixIndex(1 << 20, 1 << 20).chain(call.model, call.prompt)


def shared(one: Mapping[str, object], other: Mapping[str, object]) -> int:
    """How many leading blocks both have."""
    pairs = list(zip(chain(one), chain(other), strict=False))
    return next((at for at, (left, right) in enumerate(pairs) if left != right), len(pairs))


def user(*content: object) -> list[dict[str, object]]:
    return [{"role": "user", "content": content[0] if len(content) == 1 else content}]


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def image(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def tool(name: str) -> list[dict[str, object]]:
    return [{"type": "function", "function": {"name": name, "description": LONG}}]


CHAT: dict[str, Any] = {"model": "m", "messages": user(LONG)}
WHOLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": (CHAT, {"model": "m2"}),
    "LoRA adapter": (CHAT, {"model": "m:adapter"}),
    "cache salt": (CHAT | {"cache_salt": "one"}, {"cache_salt": "two"}),
    "first cache salt": (CHAT, {"cache_salt": "one"}),
    "tools": (CHAT | {"tools": tool("read")}, {"tools": tool("save")}),
    "first tools": (CHAT, {"tools": tool("read")}),
    "system": (CHAT | {"system": LONG}, {"system": OTHER}),
    "system in blocks": (CHAT | {"system": [text(LONG)]}, {"system": [text(OTHER)]}),
    "instructions": ({"model": "m", "input": LONG, "instructions": LONG}, {"instructions": OTHER}),
    "first message": (CHAT, {"messages": user(OTHER)}),
    "role": (CHAT, {"messages": [{"role": "system", "content": LONG}]}),
    "text prompt": ({"model": "m", "prompt": LONG}, {"prompt": OTHER}),
    "token ids": ({"model": "m", "prompt": [1, *range(500)]}, {"prompt": [2, *range(500)]}),
    "lists of token ids": ({"model": "m", "prompt": [[1, *range(500)]]}, {"prompt": [[2, *range(500)]]}),
    "responses input": ({"model": "m", "input": user(LONG)}, {"input": user(OTHER)}),
}
"""Bodies that differ before the rest of the prompt: no block may be shared."""


@each_case("named", WHOLE)
def test_prompts_that_differ_at_the_beginning_share_no_block_and_equal_ones_all(named: str) -> None:
    body, change = WHOLE[named]
    assert shared(body, body | change) == 0
    again = copy.deepcopy(body | change)
    assert shared(body | change, again | {"temperature": 0.3, "max_tokens": 9}) == len(chain(again)) > 3


LATER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "second text part": (
        {"model": "m", "messages": user(text(LONG), text("a" + LONG))},
        {"messages": user(text(LONG), text("b" + LONG))},
    ),
    "picture": (
        {"model": "m", "messages": user(text(LONG), image(PICTURE), text(LONG))},
        {"messages": user(text(LONG), image(OTHER_PICTURE), text(LONG))},
    ),
    "picture by address": (
        {"model": "m", "messages": user(text(LONG), image("https://x/1.png"), text(LONG))},
        {"messages": user(text(LONG), image("https://x/2.png"), text(LONG))},
    ),
    "messages after tools": (CHAT | {"tools": tool("read")}, {"messages": user(OTHER)}),
    "messages after system": (CHAT | {"system": LONG}, {"messages": user(OTHER)}),
    "later token id": ({"model": "m", "prompt": [*range(700), 1]}, {"prompt": [*range(500), 9, *range(501, 700), 1]}),
    "answer of a tool": (
        {"model": "m", "messages": [*user(LONG), {"role": "tool", "tool_call_id": "1", "content": LONG}]},
        {"messages": [*user(LONG), {"role": "tool", "tool_call_id": "1", "content": OTHER}]},
    ),
}
"""Bodies that differ later in the prompt: the blocks before are shared, none after."""


@each_case("named", LATER)
def test_prompts_that_differ_later_share_the_blocks_before_and_none_after(named: str) -> None:
    body, change = LATER[named]
    one, other = chain(body), chain(body | change)
    same = shared(body, body | change)
    assert 3 < same < len(one)
    assert not set(one[same:]) & set(other[same:])
    assert shared(body | change, copy.deepcopy(body | change)) == len(other)
