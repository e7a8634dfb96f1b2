"""What a user can configure of the way to a pool's pods and of its answers; `settings.py` has the rest. Values only."""

from __future__ import annotations

from statesync.settings import Section, UpstreamTls


class PoolUpstream(Section, frozen=True):
    """How the gateway speaks to the pods of one pool."""

    api_key_file: str = ""
    """File with the pods' API key, sent as `Authorization: Bearer` with probes and when models and metrics are read.
    Read again when it changes."""
    api_key_env: str = ""
    """Environment variable with that key, in place of a file."""
    send_key: bool = False
    """Clients' requests get the key too, in place of what the client sent as `authorization`, `x-api-key` or
    `api-key`."""
    send_credentials: bool = False
    """Where `auth` is configured: pods get the key or token that the client sent. Without `auth` they always do, unless
    `strip` names its header."""
    tls: UpstreamTls | None = None
    """TLS to pods. Without it, only to those whose address says `https://`, with the system's authorities."""
    path: str = ""
    """Precedes the path of every request to pods whose address has no path: `/base`."""
    health_path: str = ""
    """Path that answers 2xx while a pod is well, `:9000/health` on another port of it; empty: `health.path`, else the
    engine's."""
    metrics_path: str = ""
    """Path of the metrics, `:8002/metrics` on another port of the pod; empty: `scrape.path`, else the engine's."""
    headers: dict[str, str] = {}
    """Added to every request, in place of the client's of the same name."""
    send_priority: bool = False
    """Requests of clients get the body field `priority` from `x-turnout-priority` (0 without it), in place of the
    client's own. For `engine: vllm` with `--scheduling-policy priority`, where a lower number goes first, and for
    `engine: sglang` with `--enable-priority-scheduling`, where a higher one does: each gets its own sign."""
    strip: list[str] = []
    """Headers of clients that the pods do not get, such as `authorization`."""


class PoolService(Section, frozen=True):
    """What goes to a pool that serves no models (`kind: http` or `grpc`), such as agents that keep state, and which
    requests belong together there."""

    paths: list[str] = []
    """Paths and beginnings of paths that end in `/*`, such as `/agents/*`. Of several that match the longest counts,
    over all pools; the path reaches the pod as it is. Of `grpc`: `/package.Service/*` or a method; empty: all calls."""
    session: list[str] = []
    """Where a request names its session, the first that it has: `header:x-agent-id`, `cookie:agent_id`, or `path:1` for
    the first part of the path after the matching one of `paths`. Policies such as `session_affinity`, and `affinity:
    hold`, keep a session on its pod."""
    deadlines_s: dict[str, float] = {}
    """Path, or beginning of paths that ends in `/*` -> seconds that a request there may take, its wait for a pod
    included; of several that match the longest counts. Other requests have `timeouts.total_s`. A WebSocket has none."""


class KvLoad(Section, frozen=True):
    """Time to load a block of the KV cache to the GPU, of the time to compute it. At 1 and above it counts as not
    there. The defaults are those of an 8B model on an H100: 128 KB a token at 25, 5 and 10 GB/s, 45 µs to compute."""

    cpu: float = 0.1
    """From the pod's host memory."""
    disk: float = 0.6
    """From its disk."""
    shared: float = 0.3
    """From a store that pods share."""


class KvEvents(Section, frozen=True):
    """What engines publish of their KV caches: it says what a pod holds, where the index otherwise learns it from what
    was sent there. Needs the package of `pip install 'turnout[kv-events]'`, and `--kv-events-config` at the engine."""

    endpoint: str = "tcp://{host}:5557"
    """Where a pod publishes; `{host}` stands for the host of its address. Each further data-parallel rank of it
    publishes one port further."""
    replay: str = "tcp://{host}:5558"
    """Where it answers for what was missed, ranks likewise; empty: a gap leaves the pod to what is learned until its
    engine restarts."""
    topic: str = ""
    """The topic it publishes under; empty for all."""
    ranks: int = 1
    """Data-parallel ranks of a pod that is one target; where the pool has `ranks`, each is read for itself."""
    load: KvLoad = KvLoad()
    shared: list[str] = []
    """Of `cpu` and `disk` those that are one store for all pods of the pool, such as LMCache's or Mooncake's: what one
    pod stores there counts for each. Media that events call external or remote are such a store anyway."""


class PoolSlo(Section, frozen=True):
    """Times that every request of the pool is promised, unless its headers `x-turnout-slo-ttft-ms` and
    `x-turnout-slo-tpot-ms` say otherwise. The policy `slo_goodput` decides by them, `turnout_slo_requests_total` counts
    them. 0 promises nothing."""

    ttft_s: float = 0.0
    """From a request's arrival to its first token."""
    tpot_s: float = 0.0
    """Mean time between two tokens after that."""


class Disaggregation(Section, frozen=True):
    """Two pods for one request: a prefill pod computes the prompt, a pod of this pool generates the answer from its
    KV cache. For `/v1/chat/completions` and `/v1/completions`; see docs/disaggregation.md."""

    prefill: str = "role=prefill"
    """The pods that compute prompts: a label of pods in this pool, as `label=value`, or the name of another pool, which
    then gets no requests of its own. The label `role` is the role that discovery found."""
    decode: str = "role=decode"
    """The pods of this pool that generate answers, by a label. Pods without a role do both."""
    connector: str = "nixl"
    """How the KV cache gets there: `nixl` or `shared_storage` (vLLM), or `sglang`."""
    short_tokens: int = 256
    """A prompt of which a decode pod has all but this many tokens is computed there. Not with `sglang`, whose decode
    pods compute no prompts."""
    prefill_timeout_s: float = 30.0
    """How long a prefill pod may take; then the decode pod computes the prompt itself. 0: `timeouts.first_byte_s`."""
    bootstrap_port: int = 8998
    """SGLang's `--disaggregation-bootstrap-port`, the same on every prefill pod; 0: the port of each pod's API."""

    @property
    def prefill_pool(self) -> str:
        """The pool that `prefill` names; empty where it is a label."""
        return "" if "=" in self.prefill else self.prefill


class Failover(Section, frozen=True):
    """Streams of chats and completions that outlive their pod."""

    mid_stream: bool = False
    """A stream whose pod dies goes on on another one, which gets the prompt and the text so far. Needs engines that can
    continue a message: vLLM and SGLang. Chunks of such streams carry the tokens so far on their way to the gateway."""
    max_chars: int = 262144
    """Of the text that is kept for each stream; a longer answer is not moved."""
    max_moves: int = 4
    """How often one stream may be moved, attempts that reach a pod and fail included: its pods may die of the
    request."""
    resume: bool = False
    """Streams carry event ids, and a client that comes back to any replica with `Last-Event-ID` gets what it has missed
    and the rest, also where its replica is gone: then a pod goes on with it as with `mid_stream`. Needs a `state` in
    Redis."""
    grace_s: float = 10.0
    """With `resume`: how long a stream goes on after its client has left. 0 ends it at once, as without `resume`."""
