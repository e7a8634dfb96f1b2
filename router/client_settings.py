"""The settings about clients: which may come, what they may use and choose. `router/settings.py` has the whole file.
Knows no pod and no engine."""

from __future__ import annotations

from statesync.settings import Section


class PathSettings(Section, frozen=True):
    """Which requests go to pods besides the known inference paths, such as `POST /v1/chat/completions`."""

    forward: tuple[str, ...] = ("/v1/*",)
    """Full paths, or beginnings that end in `*`. `/v1/*` stands for POST, other entries for every method: add an
    engine's native paths, such as `/generate`. Paths that manage an engine (`/v1/load_lora_adapter`, `/sleep`) are open
    only where their full name is here."""


class Cors(Section, frozen=True):
    """Requests of browsers from pages of other origins."""

    allow_origins: list[str] = []
    """Exact origins, such as `https://chat.example.com`, or `"*"`. Empty is off: a pod's own headers pass."""


class ServerTls(Section, frozen=True):
    """TLS 1.2 and 1.3 on a port of the gateway. The files are read again within half a second of a change; connections
    that are open stay. Files that cannot be used leave the ones before in place, with an error in the log."""

    cert_file: str
    """The gateway's certificate and those between it and its authority, PEM."""
    key_file: str = ""
    """Its key, without a passphrase; empty: it is in `cert_file`."""
    client_ca_file: str = ""
    """Authorities of clients' certificates, PEM. Every client must then show a certificate of one of them."""
    crl_file: str = ""
    """Certificates that were revoked: a list (CRL) of each authority in `client_ca_file`, PEM. Once a list is older
    than its `nextUpdate`, no certificate of its authority is taken."""


class TargetClient(Section, frozen=True):
    """A client known by its API key, and where it may go. Superseded by `auth` and `tenants`, which also refuse unknown
    keys. Use long random keys: the hash of a guessable one is no secret."""

    key_sha256: str
    """SHA-256, in hex, of the key that it sends as `Authorization: Bearer` or `x-api-key`."""
    name: str = ""
    """For people; part of messages to that client."""
    allow: list[str] = []
    """In place of `targets.allow`."""


class Targets(Section, frozen=True):
    """Which clients may choose with `x-turnout-pool` or `x-turnout-cluster` where a request goes. To name the pool that
    it would go to anyway is always allowed; every other choice must be allowed here. With `auth`, the `targets` of a
    tenant stand in place of this section."""

    allow: list[str] = []
    """Pools and clusters that any request may name; `["*"]` for all."""
    clients: list[TargetClient] = []
    """Clients by their keys, each with its own permission."""


class JwtAuth(Section, frozen=True):
    """Tokens that an identity provider signs (JWT), in place of API keys."""

    issuer: str
    """The `iss` that tokens must have."""
    audience: str
    """The `aud` that tokens must have, or have among others."""
    jwks_file: str
    """The provider's public keys, a JSON Web Key Set. Read again when it changes."""
    tenant_claim: str = "tenant"
    """The claim with the name of a tenant of `tenants`."""


class Auth(Section, frozen=True):
    """Who is let in at the inference port. Without this section every request is. Clients send their key or token as
    `Authorization: Bearer`, `x-api-key` or `api-key`; probes (`/livez`, `/readyz`, `/health`) need none. Those whose
    certificate names a tenant need none either: see `tenants[].certificates`."""

    keys_file: str = ""
    """API keys as hashes: see `turnout keys`. A mounted Secret will do. Read again when it changes."""
    keys_from: str = ""
    """`state`: the keys are in the `state` that all replicas share, in place of a file."""
    jwt: JwtAuth | None = None
    """Tokens are accepted, too."""


class TenantLimit(Section, frozen=True):
    """A limit on a part of a tenant's requests, beside those of the whole tenant. All that fit a request apply."""

    model: str = ""
    """Requests for this model, by the name that clients use; empty: for any."""
    key: str = ""
    """Requests with the key of this name; `"*"`: with each key by itself; empty: with any."""
    requests_per_minute: int = 0
    """0 is no limit, as for the next two."""
    tokens_per_minute: int = 0
    """Tokens of prompts and answers."""
    max_inflight: int = 0
    """Requests at a time, over all replicas."""


class TenantSettings(Section, frozen=True):
    """Clients that share rights and limits. Each key or token belongs to one tenant."""

    name: str
    """What keys, tokens and metrics call it."""
    models: tuple[str, ...] = ("*",)
    """Models that it may use, by the names that clients use, or patterns with `*`, `?` and `[...]`. All others do not
    exist for it."""
    pools: tuple[str, ...] = ("*",)
    """Pools that may serve it, fall-backs too; `["*"]` for all. All others do not exist for it."""
    policies: list[str] = []
    """Policies that its requests may ask for with `x-turnout-policy`, of those in the pool's `allowed_policies`;
    `["*"]` for all of these."""
    targets: list[str] = []
    """Pools and clusters that its requests may name with `x-turnout-pool` and `x-turnout-cluster`, of its `pools`;
    `["*"]` for all of these. In place of the section `targets`."""
    headers: tuple[str, ...] = ("deadline",)
    """Which of its requests' headers count: `priority`, `deadline`, `slo`; `["*"]` for all. Without `priority`,
    `x-turnout-priority` may lower the tenant's priority and not raise it."""
    certificates: tuple[str, ...] = ()
    """Names of client certificates whose requests are its own and need no key: `URI:`, `DNS:` or `email:` and an
    alternative name, or `CN:` and the common name. Needs `tls.client_ca_file`."""
    default_pool: str = ""
    """A pool or cluster that gets its requests where it serves their model, before pools that stand earlier. A pool
    also takes those for other models and for none, in place of the `default_pool` of all."""
    requests_per_minute: int = 0
    """0 is no limit, as for the next two."""
    tokens_per_minute: int = 0
    """Tokens of prompts and answers."""
    max_inflight: int = 0
    """Requests at a time, over all replicas."""
    limits: list[TenantLimit] = []
    """More limits, of single models and keys: `[{model: big, tokens_per_minute: 100000}, {key: "*", max_inflight:
    4}]`."""
    weight: float = 1.0
    """Its share of a saturated pool, beside the weights of the others that wait for it."""
    priority: int = 0
    """That of its requests: goes before a lower one while a pool is saturated."""
    isolate_cache: bool = False
    """Its requests get the field `cache_salt`, so that engines which know it, such as vLLM, share no cached prompt of
    this tenant with another. Costs the rewriting of each body, and the hits between tenants."""
