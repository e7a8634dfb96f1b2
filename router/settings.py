"""What a user can configure: frozen structs, one per section of the YAML file. No file is read here and nothing is
started; `file.py` decodes and explains, `main.py` overlays the command line.

Every field has a default that is right for a first try; an unknown key is an error that names itself.
"""

from __future__ import annotations

from typing import Final, Literal

from router.client_settings import Auth as Auth
from router.client_settings import Cors as Cors
from router.client_settings import JwtAuth as JwtAuth
from router.client_settings import PathSettings as PathSettings
from router.client_settings import ServerTls as ServerTls
from router.client_settings import TargetClient as TargetClient
from router.client_settings import Targets as Targets
from router.client_settings import TenantLimit as TenantLimit
from router.client_settings import TenantSettings as TenantSettings
from router.control_settings import Control as Control
from router.control_settings import ControlToken as ControlToken
from router.policy_settings import Plugins as Plugins
from router.policy_settings import PolicyGuard as PolicyGuard
from router.policy_settings import PolicySpec as PolicySpec
from router.policy_settings import TrialSettings as TrialSettings
from router.upstream_settings import Disaggregation as Disaggregation
from router.upstream_settings import Failover as Failover
from router.upstream_settings import KvEvents as KvEvents
from router.upstream_settings import KvLoad as KvLoad
from router.upstream_settings import PoolService as PoolService
from router.upstream_settings import PoolSlo as PoolSlo
from router.upstream_settings import PoolUpstream as PoolUpstream
from statesync.settings import Health as Health
from statesync.settings import Scrape as Scrape
from statesync.settings import Section as Section
from statesync.settings import Sync as Sync
from statesync.settings import UpstreamTls as UpstreamTls

AFFINITIES: Final = ("prefer", HOLD := "hold")
KINDS: Final = (LLM := "llm", HTTP := "http", GRPC := "grpc")


class Timeouts(Section, frozen=True):
    """How long each stage of a request may take. Seconds; 0 turns the limit off (except `connect_s`)."""

    connect_s: float = 2.0
    """For a connection to a pod, its TLS handshake included."""
    first_byte_s: float = 3600.0
    """From the request being sent to the first byte of the answer: without a stream, all of it is made in this time. A
    pod that is gone is found by its probes, and SDKs wait for 600 s."""
    idle_s: float = 3600.0
    """Between two bytes of an answer. Engines are silent for minutes while they write the arguments of a tool call."""
    total_s: float = 0.0
    """From the request's arrival to the end of its answer."""
    client_header_s: float = 10.0
    """From a connection's (or next request's) first byte to the end of its headers: slow-loris ends here. A TLS
    handshake, with a PROXY header before it, has as long of its own."""
    client_body_s: float = 60.0
    """From the end of the headers to the end of the body, plus a second for every 16 KB received."""
    client_keepalive_s: float = 75.0
    """An idle client connection is kept this long."""
    client_write_s: float = 60.0
    """A client that takes no byte of its answer for this long is cut off."""
    upstream_keepalive_s: float = 4.0
    """An idle pod connection is kept this long; below vLLM's (uvicorn's) 5 s, so that the gateway closes it first."""


class Limits(Section, frozen=True):
    """Bounds on what clients can make the gateway hold."""

    max_header_bytes: int = 65536
    """Of the request line and the headers of a request; a longer head gets 431."""
    max_headers: int = 100
    """Headers of one request."""
    max_body_bytes: int = 33554432
    """Of a request; a longer one gets 413."""
    max_connections: int = 20000
    """Client connections of this replica; it accepts no more."""
    max_inflight: int = 0
    """Requests in flight in this replica before it sheds; 0 is no limit."""
    max_queue: int = 1024
    """Requests that may wait for a saturated pool (every pod at its `max_inflight`), or for a pool's first pod."""
    queue_timeout_s: float = 30.0
    """How long they may wait. A request that would wait longer, or past its deadline, at the speed at which the queue
    empties is refused at once."""
    write_buffer_bytes: int = 65536
    """Unsent bytes to a slow client above which reading from its pod pauses."""
    buffer_budget_bytes: int = 1073741824
    """Bytes held for all clients: bodies, half-read heads, answers that slow clients do not take; 0 is no limit. Beyond
    it a request gets 503 `overloaded`, and a slow client is cut off."""
    max_connections_per_client: int = 0
    """Connections from one address, of IPv6 from one /64; 0 is no limit. Clients behind a load balancer
    have its address, unless it names them with `proxy_protocol`."""


class Retries(Section, frozen=True):
    """Another pod gets the request only before the first byte of an answer. While all others are full it waits for one
    as a new request does, and after a second also for the pod that failed it."""

    attempts: int = 2
    """More attempts after the first."""
    budget_ratio: float = 0.2
    """Retries allowed as a share of recent requests, so that an outage is not multiplied."""
    budget_min: int = 10
    """Retries a second that are always allowed."""


class Drain(Section, frozen=True):
    """The life of a replica between SIGTERM and exit."""

    settle_s: float = 5.0
    """Not ready, but still accepting: endpoints take seconds to propagate."""
    timeout_s: float = 300.0
    """In-flight streams get this long to finish."""


class Logging(Section, frozen=True):
    """Logs."""

    format: str = "human"
    """`human` or `json`."""
    level: str = "info"
    """`debug`, `info`, `warning` or `error`."""
    access: bool = False
    """One line a request, with client, model, pool, pod, tokens and times; off by default because formatting and
    writing it is not free."""


class Telemetry(Section, frozen=True):
    """Traces. They need the packages of `pip install 'turnout[otel]'`."""

    otlp_endpoint: str = ""
    """Base URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`; empty is off."""
    sample_ratio: float = 0.01
    """Share of the traces that begin here which are recorded. Of a client's own trace its `traceparent` decides."""


class Discovery(Section, frozen=True):
    """Where a pool's pods come from, unless they are listed."""

    source: str = ""
    """`dns://name:port`, `dns+srv://_http._tcp.name`, `kubernetes://namespace?selector=app=vllm`,
    `kubernetes+service://namespace/service`, `ray+http://head:8265/application`; empty with `pods` given."""
    interval_s: float = 5.0
    """Longest time between two queries; a shorter DNS TTL shortens it."""
    nameservers: list[str] = []
    """DNS servers to query in place of the system's: `10.0.0.10`, or with a port, such as Consul's `127.0.0.1:8600`."""


class Pool(Section, frozen=True):
    """A named set of pods that serve the same models."""

    name: str
    """What `default_pool`, `fallback`, commands and metrics call it."""
    pods: list[str] = []
    """`http://host:port`, `https://host:port/base` or `unix:/path` each; port and path are optional."""
    kind: str = "llm"
    """`llm`, whose requests name a model; `http`: any other service, found by its paths; or `grpc`: a gRPC service,
    found by its methods (needs `turnout[grpc]`). See `service`."""
    service: PoolService = PoolService()
    engine: str = "auto"
    """`vllm`, `sglang`, `trtllm`, `tgi`, `lmdeploy`, `llamacpp`, `ollama`, `triton`: where it says that it is well,
    where its metrics are, and which of its paths are closed to clients. `auto` tries the paths of all."""
    upstream: PoolUpstream = PoolUpstream()
    discovery: Discovery = Discovery()
    models: list[str] = []
    """Models served; empty: learned from the pods' /v1/models."""
    aliases: dict[str, str] = {}
    """Name a client may use -> name the pods know."""
    policy: PolicySpec = PolicySpec()
    allowed_policies: list[str] = []
    """Policies a request may ask for with `x-turnout-policy`, ready-made ones included; `["*"]` for all."""
    cluster: str = ""
    """Where its pods are: what `x-turnout-cluster` names, and a label of metrics and answers."""
    fallback: list[str] = []
    """Pools that take its requests, in this order, when it has no usable pod, is full, or failed a request before the
    first byte of an answer. Every request tries its own pool first. Fall-backs of a fall-back are not followed."""
    fallback_after_s: float = 0.0
    """How long a request waits for a full pool (every pod at its `max_inflight`) before a fall-back is tried. 0: at
    once; above `limits.queue_timeout_s`: only where the wait would end in an error."""
    affinity: str = "prefer"
    """`prefer` or `hold`: then a request with a session waits for the session's own pod while that is full, failing or
    restarting, at most `limits.queue_timeout_s`, and is refused after that."""
    failover: Failover = Failover()
    scale_from_zero_s: float = 0.0
    """How long a request waits for a pod while the pool has none that can be used; 0: it is refused at once."""
    labels: dict[str, str] = {}
    """Of all its pods, such as `zone`: a policy can prefer pods that share the gateway's."""
    max_inflight_per_pod: int | Literal["auto"] = 0
    """0 is no limit; `auto` is learned from each engine's metrics: what it runs while requests wait in it."""
    ranks: int = 0
    """Data-parallel ranks of each pod (vLLM's `--data-parallel-size`, SGLang's `--dp-size`), each of which is a target
    of its own: see docs/data-parallel.md. 0: a pod is one target, and its engine chooses the rank."""
    timeouts: Timeouts | None = None
    """This pool's own; None takes the global ones."""
    slo: PoolSlo = PoolSlo()
    disaggregation: Disaggregation | None = None
    kv_events: KvEvents | None = None
    """Present, even empty: the pods' KV events are read."""


class Sessions(Section, frozen=True):
    """Where requests name their session, beside the names that agents and SDKs use (Claude Code, Codex, OpenCode, Open
    WebUI, OpenAI's `prompt_cache_key`, `safety_identifier` and `user`). Read where a policy of the pool asks for it."""

    headers: list[str] = []
    """More headers, looked at right after `x-session-id`."""
    fields: list[str] = []
    """More fields of the JSON body, such as `metadata.thread`, looked at before the known ones."""


class Prefix(Section, frozen=True):
    """The index of which pod holds which prefix."""

    max_bytes: int = 268435456
    """Memory of the index; the placements that were used least recently go first."""
    default_kv_tokens: int = 500000
    """Capacity assumed of a pod that does not report its own."""


class Recording(Section, frozen=True):
    """A record of the gateway's traffic, for `turnout simulate`: lengths and hashes, never a word of a prompt."""

    path: str = ""
    """A file whose name ends in `.jsonl`, to which a line is added for each request; empty is off."""
    max_bytes: int = 268435456
    """At half of it the file becomes `NAME.1`, in place of the one before."""


class Settings(Section, frozen=True):
    """The whole file."""

    listen: str = "0.0.0.0:8000"
    """Host and port of the inference port; `[::]:8000` takes IPv4, too."""
    tls: ServerTls | None = None
    """TLS on the inference port; without it plain HTTP."""
    control: Control = Control()
    state: str = "memory://"
    """`memory://` (this process alone), or the store that all replicas share: `redis://`, `rediss://`,
    `redis+sentinel://`, `redis+cluster://`."""
    sync: Sync = Sync()
    replica: str = ""
    """This process's name among the replicas. Default: hostname, PID and a random suffix."""
    labels: dict[str, str] = {}
    """The gateway's own labels, such as `zone` and `cluster`: a policy can prefer pods that share them."""
    pools: list[Pool] = []
    policies: dict[str, PolicySpec] = {}
    """Ready-made policies: a name of your own -> policy and parameters. A pool's `policy`, `allowed_policies`, the
    header `x-turnout-policy` and the control port take these names like any other."""
    targets: Targets = Targets()
    auth: Auth | None = None
    tenants: list[TenantSettings] = []
    default_pool: str = ""
    """Takes models that no pool names; empty: unknown models get 404."""
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    paths: PathSettings = PathSettings()
    cors: Cors = Cors()
    trusted_proxies: list[str] = []
    """Addresses and networks (`10.0.0.0/8`) of proxies in front of the gateway. Of their requests, `Forwarded` and
    `X-Forwarded-*` are passed on with the proxy's address added; of any other request they are replaced."""
    proxy_protocol: bool = False
    """Connections of `trusted_proxies` to the inference port begin with a header of the PROXY protocol, version 1 or 2,
    which names the client. One without it is closed. Connections of others have none."""
    retries: Retries = Retries()
    health: Health = Health()
    scrape: Scrape = Scrape()
    prefix: Prefix = Prefix()
    sessions: Sessions = Sessions()
    drain: Drain = Drain()
    logging: Logging = Logging()
    telemetry: Telemetry = Telemetry()
    recording: Recording = Recording()
    policy_guard: PolicyGuard = PolicyGuard()
    plugins: Plugins = Plugins()
    trials: TrialSettings = TrialSettings()
    warmup_timeout_s: float = 10.0
    """Discovery and state may take this long at start; then the replica serves, marked cold."""
