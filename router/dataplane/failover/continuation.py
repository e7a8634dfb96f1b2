"""How another pod goes on with an answer: the client's request and the answer so far in, the next request out. Pure.

Where the token ids of prompt and text are known, they are the next prompt: text that is split into tokens anew may
become other tokens. Else, and for engines that take no ids for a chat, a chat gets the text as the beginning of an
assistant message that is to be continued, a completion has it after its prompt: as vLLM and SGLang take them. What the
engine would need to know besides decides what is not moved.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from router.dataplane.failover.answer_state import AnswerState
from router.dataplane.failover.reasons import NotMoved

CHAT: Final = b"/v1/chat/completions"
COMPLETION: Final = b"/v1/completions"

Fields = dict[str, msgspec.Raw]

_OFF: Final[tuple[object, ...]] = (None, False, 0)
_EMPTY: Final[tuple[object, ...]] = (None, False, [], {}, "")

FORBIDDEN: Final[Sequence[tuple[str, Collection[object], str]]] = (
    ("n", (None, 1), "choices"),
    ("best_of", (None, 1), "choices"),
    ("use_beam_search", _OFF, "choices"),
    ("logprobs", (None, False), "logprobs"),
    ("top_logprobs", _OFF, "logprobs"),
    ("prompt_logprobs", (None,), "logprobs"),
    ("echo", _OFF, "echo"),
    ("functions", _EMPTY, "tools"),
    ("response_format", (None, {"type": "text"}), "structured"),
    *((name, _EMPTY, "structured") for name in ("structured_outputs", "guided_json", "guided_regex", "guided_choice")),
    *((name, _EMPTY, "structured") for name in ("guided_grammar", "regex", "ebnf", "json_schema", "structural_tag")),
    ("presence_penalty", _OFF, "penalties"),
    ("frequency_penalty", _OFF, "penalties"),
    ("suffix", _EMPTY, "prompt"),
    ("prompt_embeds", _EMPTY, "prompt"),
    *((name, _EMPTY, "option") for name in ("bad_words", "logits_processors", "custom_logit_processor")),
    *((name, _EMPTY, "option") for name in ("kv_transfer_params", "vllm_xargs", "audio", "thinking_token_budget")),
    ("modalities", (None, ["text"]), "option"),
)
"""Field, the values with which it does no harm, and the reason with any other."""

_LIMITS: Final = ("max_tokens", "max_completion_tokens")
_COMPLETION_TOKENS: Final = 16
"""The tokens of a completion that names no limit, in OpenAI's API and in the engines'."""

_USAGE_OPTIONS: Final = {"include_usage": True, "continuous_usage_stats": True}


_ADDED: Final = ("stream_options", "return_token_ids")
"""The fields that `opened` may set."""


class Opened(NamedTuple):
    """A request as its first pod gets it, so that its answer can be moved."""

    body: bytes
    """Chunks are asked to carry the tokens so far."""
    wants_usage: bool
    """The client asked for the usage at the end."""
    wants_counts: bool
    """The client asked for the usage in every chunk."""
    wants_ids: bool
    """The client asked for token ids."""
    given: Fields
    """What the client itself has in the fields that were set."""


class Continuation(NamedTuple):
    """The request to the next pod."""

    body: bytes
    owed: str
    """Blanks that the next pod makes again, though the client has them, if it goes on with the text."""
    ids: bytes
    """The token ids with which it is to go on; empty where the text is all there is."""
    behind: str
    """The text that these lack: the next pod makes it again, for at temperature 0 it makes the same."""


def opened(path: bytes, body: bytes, *, ids: bool = False) -> Opened | NotMoved:
    """The request of a stream that may have to be moved; NotMoved where its fields forbid that. `ids`: the engine says
    which tokens it has."""
    fields = _fields(path, body)
    if isinstance(fields, NotMoved):
        return fields
    wants_ids = bool(_value(fields, "return_token_ids"))
    if wants_ids and path == CHAT:
        return NotMoved("token_ids")
    options = _value(fields, "stream_options")
    asked = options if isinstance(options, dict) else {}
    usage = asked.get("include_usage") is True
    counts = usage and asked.get("continuous_usage_stats") is True
    given: Fields = {name: msgspec.Raw(bytes(fields[name])) for name in _ADDED if name in fields}
    _put(fields, "stream_options", {**asked, **_USAGE_OPTIONS})
    if ids:
        _put(fields, "return_token_ids", True)
    return Opened(msgspec.json.encode(fields), usage, counts, wants_ids, given)


def original(made: Opened) -> bytes:
    """The client's request again, in other bytes: for a pool whose streams are not moved."""
    fields = msgspec.json.decode(made.body, type=Fields)
    kept = {name: raw for name, raw in fields.items() if name not in _ADDED}
    return msgspec.json.encode({**kept, **made.given})


def continuation(path: bytes, body: bytes, state: AnswerState, *, wants_ids: bool = False) -> Continuation | NotMoved:
    """The request that goes on with the answer in `state` to the request `body`, as the client or `opened` has it.
    `wants_ids`: see `Opened`."""
    if state.reason or state.finished:
        return NotMoved(state.reason or "ended")
    fields = _fields(path, body)
    if isinstance(fields, NotMoved):
        return fields
    text = state.text
    ids, behind = state.trail.ids, text[state.trail.chars :]
    if not text or (behind and _value(fields, "temperature") != 0):
        ids = b""
    if wants_ids and (state.trail.has_more or (text and not ids)):
        return NotMoved("token_ids")
    if not _reduce(fields, path, state.trail.tokens if ids else state.solid_tokens):
        return NotMoved("ended")
    if path == COMPLETION:
        reason, owed = _after_prompt(fields, text, ids), ""
    else:
        kept = text.rstrip()  # templates drop the blanks, and the engine would make them a second time
        reason, owed = _after_messages(fields, kept), text[len(kept) :]
        if ids:
            fields["kv_transfer_params"] = msgspec.Raw(b'{"prompt_token_ids":[%b]}' % ids)
    return NotMoved(reason) if reason else Continuation(msgspec.json.encode(fields), owed, ids, behind)


def _fields(path: bytes, body: bytes) -> Fields | NotMoved:
    """The fields of a body that can be moved."""
    if path not in (CHAT, COMPLETION):
        return NotMoved("path")
    try:
        fields = msgspec.json.decode(body, type=Fields)
        reason = _forbidden(fields, path)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NotMoved("body")
    return NotMoved(reason) if reason else fields


def _forbidden(fields: Fields, path: bytes) -> str:
    for name, harmless, reason in FORBIDDEN:
        if name in fields and _value(fields, name) not in harmless:
            return reason
    if "tools" in fields and _value(fields, "tools") not in _EMPTY and _value(fields, "tool_choice") != "none":
        return "tools"
    stop = _value(fields, "stop")
    if isinstance(stop, list | str) and any(
        not isinstance(one, str) or len(one) > 1 for one in ([stop] if isinstance(stop, str) else stop)
    ):
        return "stop"  # the engine keeps text back that may begin with one, and the rest ends within a token
    if path == CHAT:
        anew = _value(fields, "add_generation_prompt") is False and not _value(fields, "continue_final_message")
        return "prompt" if anew else ""
    raw = fields.get("prompt")
    prompt = "" if raw is None or bytes(raw).startswith(b'"') else msgspec.json.decode(raw)
    if not isinstance(prompt, str) and not _is_ids(prompt) and _only(prompt) is None:
        return "choices"
    return ""


def _is_ids(prompt: object) -> bool:
    return isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)


def _only(prompt: object) -> str | None:
    """The only text of a list of prompts; None where it is anything else."""
    return prompt[0] if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str) else None


def _reduce(fields: Fields, path: bytes, sent: int) -> bool:
    """Take what was sent from the limits of the answer's length; False where nothing is left."""
    if path == COMPLETION and _value(fields, "max_tokens") is None:
        _put(fields, "max_tokens", _COMPLETION_TOKENS)
    for name in _LIMITS:
        limit = _value(fields, name)
        if isinstance(limit, int | float):
            left = int(limit) - sent
            if left <= 0:
                return False
            _put(fields, name, left)
    least = _value(fields, "min_tokens")
    if isinstance(least, int | float) and least:
        _put(fields, "min_tokens", max(0, int(least) - sent))
    return True


def _after_messages(fields: Fields, text: str) -> str:
    """Put the text after a chat's messages. Returns the reason why not."""
    if not text:
        return ""  # nothing was said: the request as it is
    messages = msgspec.json.decode(fields["messages"], type=list[msgspec.Raw])
    said: dict[str, object] = {"role": "assistant", "content": text}
    if _value(fields, "continue_final_message") and messages:
        last = msgspec.json.decode(messages.pop())
        if not isinstance(last, dict) or last.get("role") != "assistant" or not isinstance(last.get("content"), str):
            return "prompt"
        said = {**last, "content": last["content"] + text}
    messages.append(msgspec.Raw(msgspec.json.encode(said)))
    _put(fields, "messages", messages)
    _put(fields, "continue_final_message", True)
    _put(fields, "add_generation_prompt", False)
    return ""


def _after_prompt(fields: Fields, text: str, ids: bytes) -> str:
    """Put the text after a completion's prompt, or the ids in its place. Returns the reason why not."""
    if ids:
        fields["prompt"] = msgspec.Raw(b"[%b]" % ids)
        return ""
    given = _value(fields, "prompt")
    prompt = _only(given) or given
    if isinstance(prompt, str):
        _put(fields, "prompt", prompt + text)
        return ""
    return "token_ids" if text else ""


def _value(fields: Fields, name: str) -> object:
    raw = fields.get(name)
    return None if raw is None else msgspec.json.decode(raw)


def _put(fields: Fields, name: str, value: object) -> None:
    fields[name] = msgspec.Raw(msgspec.json.encode(value))
