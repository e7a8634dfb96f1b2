"""What the model says: the text or the tool call that answers a prompt, and where it ends. Pure.

Texts follow from the prompt alone, so that equal prompts get equal answers and longer answers begin with shorter ones.
Constrained answers are examples of their schema. Which tool a request wants called is decided in `tools.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import xxhash

from loadtests.sim.simpod.bodies import Sampled
from loadtests.sim.simpod.forms import Form, formed
from loadtests.sim.simpod.script import PodSpec, encode
from loadtests.sim.simpod.text import (
    BYTES_PER_TOKEN,
    Prompt,
    answer_length,
    answer_text,
    chained_ids,
    pieces_of,
    token_id,
)
from loadtests.sim.simpod.tools import ToolCall

_NO_IDS: frozenset[int] = frozenset()


class Ask(NamedTuple):
    """What a request wants of the model, whichever API it came through."""

    limit: int | None = None
    """Most tokens to generate; None is as many as fit."""
    least: int = 0
    """Tokens before the model may stop."""
    ignore_eos: bool = False
    stops: Sequence[str] = ()
    stop_ids: frozenset[int] = _NO_IDS
    keep_stop: bool = False
    """The text that stopped the answer stays in it."""
    form: Form | None = None
    call: ToolCall | None = None


class Draft(NamedTuple):
    """An answer and its tokens."""

    text: str
    """The answer's text, or the arguments of the call."""
    pieces: Sequence[bytes]
    """The text token by token, escaped as inside a JSON string."""
    finish: str
    """vLLM's finish reason: `stop` or `length`."""
    stop_reason: str | int | None = None
    call: ToolCall | None = None

    @property
    def tokens(self) -> int:
        """The answer's length."""
        return len(self.pieces)

    def words(self) -> list[str]:
        """The text token by token."""
        return [plain(piece) for piece in self.pieces]

    def token_ids(self) -> list[int]:
        """The tokens' numbers."""
        return [token_id(word.encode()) for word in self.words()]


def plain(piece: bytes) -> str:
    """The text of an escaped piece."""
    return msgspec.json.decode(b'"%b"' % piece, type=str)


def ask_of(body: Sampled, limit: int | None, form: Form | None = None, call: ToolCall | None = None) -> Ask:
    """What OpenAI's APIs ask for with the fields that they share."""
    stops = [body.stop] if isinstance(body.stop, str) else body.stop or ()
    ids = frozenset(body.stop_token_ids) if body.stop_token_ids else _NO_IDS
    return Ask(limit, body.min_tokens, body.ignore_eos, stops, ids, body.include_stop_str_in_output, form, call)


def draft(ask: Ask, prompt: Prompt, spec: PodSpec, index: int = 0) -> Draft:
    """The answer to a prompt; `index` numbers the answers to one prompt, which differ."""
    seed = prompt.seed if index == 0 else xxhash.xxh3_64_intdigest(b"%d" % index, prompt.seed)
    cap = spec.profile.max_model_len - prompt.tokens if ask.limit is None else ask.limit
    if ask.call is not None:
        return _cut(ask.call.arguments.decode(), cap)._replace(call=ask.call)
    if ask.form is not None:
        return _cut(formed(ask.form, seed), cap)
    begun = prompt.begun // BYTES_PER_TOKEN
    tokens, finish = _length(ask, seed, cap, spec, begun)
    text = answer_text(seed, begun + tokens)[begun * BYTES_PER_TOKEN :]
    if ask.stops or ask.stop_ids:
        return _stopped(text, ask, finish)
    return Draft(text.decode(), pieces_of(text), finish)


def ids_of(prompt: Prompt, said: Draft, spec: PodSpec) -> list[int]:
    """Hash ids of the prompt and of the answer; a call's come back in the next prompt in another form."""
    answer = b"" if said.call is not None else said.text.encode(errors="surrogatepass")
    return chained_ids(prompt.text + answer, spec.profile.block_tokens)


def _length(ask: Ask, seed: int, cap: int, spec: PodSpec, begun: int) -> tuple[int, str]:
    if ask.ignore_eos:
        return cap, "length"
    natural = max(answer_length(seed, spec.output_mean_tokens) - begun, ask.least, 1)
    return (natural, "stop") if natural <= cap else (cap, "length")


def _cut(text: str, cap: int) -> Draft:
    """A text that ends by itself, with a token that has no text, unless the limit comes first."""
    words = [text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN)]
    kept = words[:cap]
    pieces = [encode(word)[1:-1] for word in kept]
    if cap <= len(words):
        return Draft("".join(kept), pieces, "length")
    return Draft(text, [*pieces, b""], "stop")


def _stopped(text: bytes, ask: Ask, finish: str) -> Draft:
    """The text up to the first thing that stops it, after the least number of tokens."""
    found: list[tuple[int, int, str | int]] = []
    for stop in ask.stops:
        at = text.find(stop.encode(), max(0, ask.least * BYTES_PER_TOKEN - len(stop) + 1))
        if at >= 0:
            found.append((at + len(stop.encode()), at, stop))
    pieces = pieces_of(text)
    if ask.stop_ids:
        hits = [at for at, piece in enumerate(pieces) if at >= ask.least and token_id(piece) in ask.stop_ids]
        size = BYTES_PER_TOKEN
        found += [((at + 1) * size, at * size, token_id(pieces[at])) for at in hits[:1]]
    if not found:
        return Draft(text.decode(), pieces, finish)
    end, start, reason = min(found)
    kept = text[: end if ask.keep_stop else start]
    tokens = -(-end // BYTES_PER_TOKEN)
    pieces = pieces_of(kept)
    return Draft(kept.decode(), [*pieces, *[b""] * (tokens - len(pieces))], "stop", reason)
