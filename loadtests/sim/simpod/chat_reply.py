"""A chat completion in both of its forms: whole, and as the events of a stream. Pure.

Field names and their order are those of a real engine's answers, nulls included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loadtests.sim.simpod.bodies import ChatBody
from loadtests.sim.simpod.drafts import Draft
from loadtests.sim.simpod.logprobs import chat_entry, prompt_logprobs
from loadtests.sim.simpod.script import CREATED, FINGERPRINT, MARK, encode, event, token_events
from loadtests.sim.simpod.text import Prompt, token_id

_ID, _ID_WRITTEN = "\x01", b"\\u0001"
"""Stands for an answer's id in events that many answers share, and how JSON writes it."""
_FRAMES: dict[tuple[str, str, bool, bool], tuple[bytes, bytes, bytes]] = {}
"""By model, finish reason, and whether usage is wanted and the last token has text: as few as there are models."""


def usage_of(prompt: int, output: int, cached: int | None = None) -> dict[str, object]:
    """OpenAI's usage; `cached` is left out where a real engine leaves it out."""
    counts: dict[str, object] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + output,
        "completion_tokens": output,
    }
    if cached is None:
        return counts
    return counts | {"prompt_tokens_details": {"cached_tokens": cached, "created_cache_tokens": 0}}


class ChatReply(NamedTuple):
    """One answer in both of its forms."""

    body: ChatBody
    name: str
    model: str
    prompt: Prompt
    said: Sequence[Draft]

    def whole(self, cached: int) -> bytes:
        stamp = {"id": self.name, "object": "chat.completion", "created": CREATED, "model": self.model}
        choices = [self._choice(at, one) for at, one in enumerate(self.said)]
        head = stamp | {"choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT}
        ids = self.prompt.token_ids() if self.body.return_token_ids else None
        tail = {"prompt_logprobs": self._scored(), "prompt_token_ids": ids, "prompt_text": None}
        tail |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        usage = usage_of(self.prompt.tokens, self._output, cached) | {"completion_tokens_details": None}
        details = usage["prompt_tokens_details"]
        assert isinstance(details, dict)
        details["multimodal_tokens"] = None
        return encode(head | {"usage": usage} | tail)

    def _scored(self) -> object:
        """The prompt's probabilities, which an echo asks for as well."""
        asked = self.body.prompt_logprobs
        top = self.body.top_logprobs if asked is None and self.body.echo else asked
        return None if top is None else prompt_logprobs(self.prompt, top)

    def _choice(self, at: int, one: Draft) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._echo + ("" if one.call else one.text)}
        message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
        if one.call is not None:
            message["tool_calls"] = [self._call(at, one, one.text)]
        message["reasoning"] = None
        logprobs = {"content": [chat_entry(word, self.body.top_logprobs) for word in one.words()]}
        choice = {"index": at, "message": message, "logprobs": logprobs if self.body.logprobs else None}
        ids = one.token_ids() if self.body.return_token_ids else None
        ending = {"finish_reason": finish_of(one), "stop_reason": one.stop_reason, "token_ids": ids}
        return choice | ending | {"routed_experts": None}

    def opening(self, cached: int) -> Sequence[bytes]:
        if len(self.said) == 1 and self._plain(0):
            return (self._frames(0)[0],)
        return self._openings()

    def _openings(self) -> list[bytes]:
        first = {"role": "assistant", "content": ""}
        ids = self.prompt.token_ids() if self.body.return_token_ids else None
        more = {"prompt_token_ids": ids, "prompt_text": None}
        sent = []
        for at, one in enumerate(self.said):
            choice = {"index": at, "delta": first, "logprobs": None, "finish_reason": None}
            sent.append(event(self._stamp | {"choices": [choice]} | self._usage(0) | more))
            if self._echo:
                sent.append(self._chunk(at, {"content": self._echo}, 0))
            if one.call is not None:
                start = self._call(at, one, "")
                delta = {"id": start["id"], "type": "function", "index": 0, "function": {"name": one.call.name}}
                sent.append(self._chunk(at, {"content": None, "tool_calls": [delta]}, 0))
        return sent

    def events(self, at: int) -> Callable[[int], bytes]:
        """The events of a choice's tokens; all alike, unless each carries counts or probabilities of its own."""
        one = self.said[at]
        if self._plain(at):
            return token_events(one.pieces, *self._frames(at)[1:])
        if not (self.body.logprobs or self._continuous or self.body.return_token_ids):
            last = MARK if one.pieces[-1] else ""
            ending = self._chunk(at, self._delta(one, last), 0, one)
            return token_events(one.pieces, self._chunk(at, self._delta(one, MARK), 0), ending)
        words, end = one.words(), one.tokens - 1
        return lambda index: self._chunk(
            at, self._delta(one, words[index]), index + 1, one if index == end else None, words[index]
        )

    def _plain(self, at: int) -> bool:
        """Whether the events differ from those of other answers in their id and their text only."""
        body, one = self.body, self.said[at]
        special = body.logprobs or body.echo or body.return_token_ids or one.call or one.stop_reason is not None
        return not (special or at or self._continuous)

    def _frames(self, at: int) -> Sequence[bytes]:
        """The first event, a token's and the last token's of a plain answer; they are encoded once for many answers."""
        key = (self.model, finish_of(self.said[at]), self._wants_usage, bool(self.said[at].pieces[-1]))
        found = _FRAMES.get(key)
        if found is None:
            like = self._replace(name=_ID)
            delta, last = {"content": MARK}, {"content": MARK if key[-1] else ""}
            ending = like._chunk(at, last, 0, self.said[at])
            found = _FRAMES[key] = (like._openings()[0], like._chunk(at, delta, 0), ending)
        name = self.name.encode()
        return [frame.replace(_ID_WRITTEN, name) for frame in found]

    def closing(self, cached: int) -> Sequence[bytes]:
        if not self._wants_usage:
            return (b"data: [DONE]\n\n",)
        usage = {"choices": [], "usage": usage_of(self.prompt.tokens, self._output, cached)}
        return event(self._stamp | usage | {"system_fingerprint": FINGERPRINT}), b"data: [DONE]\n\n"

    @property
    def _stamp(self) -> dict[str, Any]:
        return {"id": self.name, "object": "chat.completion.chunk", "created": CREATED, "model": self.model}

    @property
    def _output(self) -> int:
        return sum(one.tokens for one in self.said)

    @property
    def _wants_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    @property
    def _continuous(self) -> bool:
        return self._wants_usage and bool(self.body.stream_options and self.body.stream_options.continuous_usage_stats)

    @property
    def _echo(self) -> str:
        """The last message, if it is the assistant's and wanted back."""
        last = self.body.messages[-1] if self.body.echo and self.body.messages else {}
        content = last.get("content")
        return content if last.get("role") == "assistant" and isinstance(content, str) else ""

    def _usage(self, output: int) -> dict[str, Any]:
        counts = usage_of(self.prompt.tokens, output) | {"completion_tokens_details": None}
        return {"usage": counts} if self._continuous else {}

    def _call(self, at: int, one: Draft, arguments: str) -> dict[str, Any]:
        assert one.call is not None
        function = {"name": one.call.name, "arguments": arguments}
        return {
            "id": f"chatcmpl-tool-{self.prompt.seed + at & 2**64 - 1:016x}",
            "type": "function",
            "function": function,
        }

    @staticmethod
    def _delta(one: Draft, text: str) -> dict[str, Any]:
        if one.call is None:
            return {"content": text}
        if not text:
            return {}
        return {"content": None, "tool_calls": [{"index": 0, "function": {"arguments": text}}]}

    def _chunk(self, at: int, delta: object, made: int, ended: Draft | None = None, word: str | None = None) -> bytes:
        """A chunk after `made` tokens of the choice; `ended` is the draft if it is its last one."""
        wanted = self.body.logprobs and word is not None
        logprobs = {"content": [chat_entry(word or "", self.body.top_logprobs)]} if wanted else None
        choice: dict[str, object] = {"index": at, "delta": delta, "logprobs": logprobs}
        choice["finish_reason"] = None if ended is None else finish_of(ended)
        if ended is not None:
            choice["stop_reason"] = ended.stop_reason
        choice["token_ids"] = [token_id(word.encode())] if self.body.return_token_ids and word is not None else None
        stamped = {} if ended is None or self._wants_usage else {"system_fingerprint": FINGERPRINT}
        return event(self._stamp | {"choices": [choice]} | self._usage(made) | stamped)


def finish_of(one: Draft) -> str:
    """A call ends as `tool_calls`, unless the request named the tool."""
    if one.call is not None and not one.call.named and one.finish == "stop":
        return "tool_calls"
    return one.finish
