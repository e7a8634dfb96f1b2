"""OpenAI's completions in vLLM 0.32's dialect: request body in, script out. Pure.

Each prompt of a list is answered `n` times; the choices are numbered through, prompt by prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loadtests.sim.simpod.bodies import CompletionBody, read
from loadtests.sim.simpod.drafts import Draft, ask_of, draft, ids_of
from loadtests.sim.simpod.errors import rejected
from loadtests.sim.simpod.forms import form_of
from loadtests.sim.simpod.limits import check_sampling, check_stream_options, limit_of
from loadtests.sim.simpod.logprobs import MOST, completion_logprobs, prompt_logprobs
from loadtests.sim.simpod.script import (
    CREATED,
    FINGERPRINT,
    MARK,
    Choice,
    PodSpec,
    Script,
    Stream,
    encode,
    event,
    model_of,
    name_of,
    token_events,
)
from loadtests.sim.simpod.text import Prompt, going_on, pieces_of, prompt_of, prompt_of_ids, token_id

_MOST_PROMPTS = 1024


def completion(given: object, spec: PodSpec) -> Script:
    """POST /v1/completions."""
    body = read(CompletionBody, given)
    limit = 16 if body.max_tokens is None else body.max_tokens
    if not body.prompt:
        raise rejected("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    check_stream_options(body)
    _check_logprobs(body)
    model = model_of(body.model, spec)
    prompts = prompts_of(body.prompt)
    echo_only = bool(body.echo) and limit == 0
    limit = min(limit_of(prompt, limit, spec) for prompt in prompts)
    limit = 1 if echo_only else limit
    check_sampling(body, limit, body.n)
    ask = ask_of(body, limit, form_of(body))
    said = [(prompt, draft(ask, prompt, spec, at)) for prompt in prompts for at in range(body.n)]
    form = _Form(body, f"cmpl-{name_of(prompts[0])}", model, prompts, said, echo_only)
    events = form.events if body.stream else lambda _: None
    choices = [
        Choice(prompt.tokens, ids_of(prompt, one, spec), one.tokens, one.finish, limit, events(at), body.priority)
        for at, (prompt, one) in enumerate(said)
    ]
    return Script(choices, form.whole, Stream(lambda _: (), form.closing) if body.stream else None)


def prompts_of(given: Any) -> list[Prompt]:
    """A text, token ids (each stands for four bytes), or a list of either."""
    if isinstance(given, str):
        return [going_on(prompt_of(given.encode(errors="surrogatepass")))]
    if given and all(isinstance(token, int) for token in given):
        return [prompt_of_ids(given)]
    if len(given) > _MOST_PROMPTS:
        raise rejected(
            f"prompt list length {len(given)} exceeds the maximum allowed count of {_MOST_PROMPTS}. To increase this "
            "limit, set the VLLM_MAX_COMPLETION_PROMPTS environment variable.",
            "prompt",
        )
    return [prompt for one in given for prompt in prompts_of(one or "")]


def _check_logprobs(body: CompletionBody) -> None:
    if body.prompt_logprobs is not None and body.stream and body.prompt_logprobs != 0:
        raise rejected("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    top = body.logprobs
    if top is None:
        return
    if top < 0 and top != -1:
        raise rejected("`logprobs` must be a positive value or -1.", "logprobs", top)
    if top > MOST:
        message = f"Requested sample logprobs of {top}, which is greater than max allowed: {MOST}"
        raise rejected(message, "logprobs", top)


class _Form(NamedTuple):
    """One answer in both of its forms."""

    body: CompletionBody
    name: str
    model: str
    prompts: Sequence[Prompt]
    said: Sequence[tuple[Prompt, Draft]]
    echo_only: bool

    def whole(self, cached: int) -> bytes:
        choices = [self._choice(at, prompt, one) for at, (prompt, one) in enumerate(self.said)]
        stamp = self._stamp | {"choices": choices, "service_tier": None, "system_fingerprint": FINGERPRINT}
        usage = self._usage(cached)
        usage["prompt_tokens_details"] |= {"created_cache_tokens": None, "multimodal_tokens": None}
        usage["completion_tokens_details"] = None
        tail = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        return encode(stamp | {"usage": usage} | tail)

    def _choice(self, at: int, prompt: Prompt, one: Draft) -> dict[str, Any]:
        text = self._echoed(prompt) + ("" if self.echo_only else one.text)
        words = [*self._prompt_words(prompt), *([] if self.echo_only else one.words())]
        logprobs = None
        if self.body.logprobs is not None:
            logprobs = completion_logprobs(words, self.body.logprobs, unscored=1 if self.body.echo else 0)
        choice = {"index": at, "text": text, "logprobs": logprobs, "finish_reason": one.finish}
        ids = bool(self.body.return_token_ids)
        top = self.body.logprobs if self.body.prompt_logprobs is None and self.body.echo else self.body.prompt_logprobs
        scored = None if top is None else prompt_logprobs(prompt, top)
        more: dict[str, object] = {"token_ids": one.token_ids() if ids else None, "prompt_logprobs": scored}
        more["prompt_token_ids"] = prompt.token_ids() if ids else None
        return choice | {"stop_reason": one.stop_reason} | more | {"routed_experts": None}

    def events(self, at: int) -> Callable[[int], bytes]:
        """The events of a choice's tokens; all alike, unless each carries counts or probabilities of its own."""
        _, one = self.said[at]
        body = self.body
        if body.logprobs is None and not (body.echo or self._continuous or body.return_token_ids):
            return token_events(one.pieces, self._chunk(at, MARK), self._chunk(at, MARK, ended=one))
        return lambda index: self._detailed(at, index)

    def closing(self, cached: int) -> Sequence[bytes]:
        if not self._wants_usage:
            return (b"data: [DONE]\n\n",)
        usage = {"choices": [], "usage": self._usage(cached), "system_fingerprint": FINGERPRINT}
        return event(self._stamp | usage), b"data: [DONE]\n\n"

    def _detailed(self, at: int, index: int) -> bytes:
        """The event of one token, with the prompt before it if it is the first and the prompt is wanted back."""
        prompt, one = self.said[at]
        first = index == 0
        echoed = [*self._prompt_words(prompt)] if first else []
        words = [*echoed, *([] if self.echo_only else one.words()[index : index + 1])]
        more: dict[str, Any] = {}
        if self.body.logprobs is not None:
            before = 0 if first else sum(len(word) for word in [*self._prompt_words(prompt), *one.words()[:index]])
            more["logprobs"] = completion_logprobs(words, self.body.logprobs, before, 1 if echoed else 0)
        wants_ids = bool(self.body.return_token_ids)
        more["prompt_token_ids"] = prompt.token_ids() if first and (wants_ids or self.body.echo) else None
        more["token_ids"] = [token_id(word.encode()) for word in one.words()[index : index + 1]] if wants_ids else None
        ended = one if index == one.tokens - 1 else None
        return self._chunk(at, "".join(words), more, ended, self._counts(prompt, index + 1))

    def _chunk(
        self,
        at: int,
        text: str,
        more: dict[str, Any] | None = None,
        ended: Draft | None = None,
        counts: dict[str, Any] | None = None,
    ) -> bytes:
        finish = None if ended is None else ended.finish
        choice = {"index": at, "text": text, "logprobs": None, "finish_reason": finish}
        choice |= {"stop_reason": ended.stop_reason if ended else None, "prompt_token_ids": None, "token_ids": None}
        stamped = {} if ended is None or self._wants_usage else {"system_fingerprint": FINGERPRINT}
        return event(self._stamp | {"choices": [choice | (more or {})]} | (counts or {}) | stamped)

    @property
    def _stamp(self) -> dict[str, Any]:
        return {"id": self.name, "object": "text_completion", "created": CREATED, "model": self.model}

    @property
    def _wants_usage(self) -> bool:
        return bool(self.body.stream_options and self.body.stream_options.include_usage)

    @property
    def _continuous(self) -> bool:
        return self._wants_usage and bool(self.body.stream_options and self.body.stream_options.continuous_usage_stats)

    def _echoed(self, prompt: Prompt) -> str:
        return prompt.text.decode(errors="replace") if self.body.echo and not self.body.return_token_ids else ""

    def _prompt_words(self, prompt: Prompt) -> list[str]:
        return [piece.decode(errors="replace") for piece in pieces_of(prompt.text)] if self._echoed(prompt) else []

    def _counts(self, prompt: Prompt, made: int) -> dict[str, Any]:
        if not self._continuous:
            return {}
        counts = {"prompt_tokens": prompt.tokens, "total_tokens": prompt.tokens + made, "completion_tokens": made}
        return {"usage": counts}

    def _usage(self, cached: int) -> dict[str, Any]:
        prompt, output = sum(one.tokens for one in self.prompts), sum(one.tokens for _, one in self.said)
        counts = {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}
        return counts | {"prompt_tokens_details": {"cached_tokens": cached}}
