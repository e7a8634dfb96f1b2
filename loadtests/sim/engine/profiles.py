"""Named engine profiles: the size of the KV cache and the duration of steps. It knows no request.

Where the numbers come from (none was measured here):

* SMG's mock worker (sglang/smg, `mock_worker`), which models an 8B model on one H100: a decode step of 6 ms plus
  0.35 ms a running request, chunks of 2,048 tokens, 256 running requests, 524,288 KV tokens. `h100-8b` is that, with
  the 0.35 ms split into a fixed part and the reading of KV (at 5.4k tokens of context they add up to it again).
* Prefill from the model's own work: 2 FLOPs a parameter and token (8.03 billion) at the 40 % of bf16 compute that
  attention gets too, 24,600 tokens/s. SMG's mock has 8,000, with which half of an hour's queueing would be the
  linear part of long prompts; linear and quadratic work are done by the same tensor cores.
* KV bytes per token from the model cards (Llama 3.1): 8B is 32 layers x 8 KV heads x 128 x 2 x 2 B = 131,072 B;
  70B is 80 layers, 327,680 B. Memory bandwidth and bf16 compute from NVIDIA's data sheets: H100 SXM 3.35 TB/s,
  989 TFLOPS; A100 80GB SXM 2.04 TB/s, 312 TFLOPS. Reading reaches 70 % of the bandwidth, attention 40 % of compute.
* Ratios between machines: prefill on an A100 by its compute (3.2 x the H100's time); 70B on eight H100s takes 2 x the
  prefill and 2.1 x the decode time of 8B on one (llm-d-inference-sim, docs/latency-profiles.md).
* The quadratic term is attention's own work: 4 x hidden size x layers FLOPs per pair of (token, earlier token).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class EngineProfile(NamedTuple):
    """An engine's capacity and the durations of its steps, in tokens and seconds."""

    name: str
    kv_blocks: int
    """Blocks of KV cache."""
    block_tokens: int
    """Tokens a block holds."""
    max_num_seqs: int
    """Requests in the batch at a time."""
    max_batched_tokens: int
    """Token budget of a step: decode tokens first, the rest goes to prefill chunks."""
    max_model_len: int
    """Most prompt plus answer tokens of one request."""
    step_s: float
    """A step's fixed part: reading the weights, launching kernels."""
    sequence_s: float
    """For each request that decodes in the step."""
    kv_token_s: float
    """For each token of context that the decoding requests read."""
    prefill_token_s: float
    """For each prompt token computed in the step."""
    attention_s: float
    """For each pair of a computed prompt token and a token before it."""
    by_priority: bool = False
    """Whether requests are scheduled by their priority, as by vLLM's `--scheduling-policy priority`."""

    @property
    def kv_tokens(self) -> int:
        """Tokens the KV cache holds."""
        return self.kv_blocks * self.block_tokens

    def decode_s(self, steps: int, decoding: int, context: int) -> float:
        """Time of `steps` steps of `decoding` requests, whose `context` grows by a token each in every step."""
        first = self.step_s + self.sequence_s * decoding + self.kv_token_s * context
        return steps * first + self.kv_token_s * decoding * (steps * (steps - 1) / 2)

    def steps_started(self, window_s: float, most: int, decoding: int, context: int) -> int:
        """Such steps that start before the window ends, by bisection; at least one, at most `most`."""
        low, high = 1, most
        while low < high:
            middle = (low + high + 1) // 2
            if self.decode_s(middle - 1, decoding, context) < window_s:
                low = middle
            else:
                high = middle - 1
        return low

    def slowed(self, factor: float) -> EngineProfile:
        """The same machine, all of whose durations are multiplied."""
        return self._replace(
            step_s=self.step_s * factor,
            sequence_s=self.sequence_s * factor,
            kv_token_s=self.kv_token_s * factor,
            prefill_token_s=self.prefill_token_s * factor,
            attention_s=self.attention_s * factor,
        )


H100_8B = EngineProfile(
    name="h100-8b",
    kv_blocks=32768,
    block_tokens=16,
    max_num_seqs=256,
    max_batched_tokens=2048,
    max_model_len=131072,
    step_s=6e-3,
    sequence_s=5e-5,
    kv_token_s=5.6e-8,
    prefill_token_s=4.06e-5,
    attention_s=1.3e-9,
)

A100_8B = H100_8B._replace(
    name="a100-8b",
    step_s=9.9e-3,
    sequence_s=8e-5,
    kv_token_s=9.2e-8,
    prefill_token_s=1.29e-4,
    attention_s=4.2e-9,
)

H100_70B_TP8 = H100_8B._replace(
    name="h100-70b-tp8",
    kv_blocks=75000,
    max_batched_tokens=8192,
    step_s=1.26e-2,
    sequence_s=1e-4,
    kv_token_s=1.8e-8,
    prefill_token_s=8.1e-5,
    attention_s=8.3e-10,
)

TINY = EngineProfile(
    name="tiny",
    kv_blocks=4096,
    block_tokens=16,
    max_num_seqs=64,
    max_batched_tokens=2048,
    max_model_len=16384,
    step_s=2e-3,
    sequence_s=2e-5,
    kv_token_s=1e-8,
    prefill_token_s=2e-5,
    attention_s=0.0,
)
"""No real machine: quick answers for demos and tests."""

PACED = EngineProfile(
    name="paced",
    kv_blocks=32768,
    block_tokens=16,
    max_num_seqs=1024,
    max_batched_tokens=16384,
    max_model_len=16384,
    step_s=0.1,
    sequence_s=0.0,
    kv_token_s=0.0,
    prefill_token_s=2e-5,
    attention_s=0.0,
)
"""No real machine: ten tokens a second at any batch size, so that a small machine can hold hundreds of long streams."""

AGENT = EngineProfile(
    name="agent",
    kv_blocks=131072,
    block_tokens=16,
    max_num_seqs=64,
    max_batched_tokens=16384,
    max_model_len=200_000,
    step_s=2e-3,
    sequence_s=2e-5,
    kv_token_s=1e-9,
    prefill_token_s=5e-6,
    attention_s=0.0,
)
"""No real machine: quick answers with room for coding agents, whose first prompt alone has 20,000 tokens."""

PROFILES: Mapping[str, EngineProfile] = MappingProxyType(
    {profile.name: profile for profile in (H100_8B, A100_8B, H100_70B_TP8, TINY, PACED, AGENT)}
)
"""Every profile by name, as `turnout sim --profile` takes it."""
