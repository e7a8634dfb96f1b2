"""Settings in the form that the components of a replica take. Pure: builds values, no components."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router.config.upstream_checks import api_key
from router.settings import GRPC, HOLD, LLM, Pool, Settings, Timeouts
from statesync.discovery.ranks import HEADER
from statesync.discovery.source import PodTemplate
from statesync.engines.access import Check, PoolAccess
from statesync.engines.presets import SERVICE
from statesync.engines.tls import PodTls
from statesync.types import LEARNED


def pod_template(pool: Pool) -> PodTemplate:
    """The properties of every pod of a pool, whichever source discovers it."""
    labels = dict(pool.labels)
    if pool.cluster:
        labels["cluster"] = pool.cluster
    return PodTemplate(
        models=frozenset(pool.models),
        labels=MappingProxyType(labels),
        max_inflight=LEARNED if pool.max_inflight_per_pod == "auto" else pool.max_inflight_per_pod or None,
        tls=pool.upstream.tls is not None,
        base=pool.upstream.path.rstrip("/"),
    )


def pool_access(pool: Pool, settings: Settings, environ: Mapping[str, str]) -> PoolAccess:
    """How the pods of a pool are reached. Raises BadTlsFiles, OSError, ValueError and KeyError for files and variables
    that cannot be read; the checks of the configuration explain those."""
    upstream, protocol = pool.upstream, "h2" if pool.kind == GRPC else "http/1.1"
    check: Check | None = None
    if pool.kind == GRPC:
        from router.dataplane.grpc import health  # h2 is installed where such a pool is configured

        check = health.check
    return PoolAccess(
        pool.engine if pool.kind == LLM else SERVICE,
        tls=PodTls(upstream.tls, protocol) if upstream.tls is not None else None,
        key=api_key(upstream, environ),
        send_key=upstream.send_key,
        send_credentials=settings.auth is None or upstream.send_credentials,
        send_priority=upstream.send_priority,
        headers=upstream.headers,
        strip=[*upstream.strip, HEADER] if pool.ranks else upstream.strip,
        health=upstream.health_path or ("/" if check is not None else settings.health.path),
        metrics=upstream.metrics_path or settings.scrape.path,
        protocol=protocol,
        check=check,
    )


def session_pools(settings: Settings) -> list[str]:
    """Pools whose requests' sessions are read whatever the policy is: a request may name one there that asks for them,
    or all traffic is recorded with them, or they wait for their pods, or the pool says where its sessions are."""
    recorded = bool(settings.recording.path)
    return [
        pool.name
        for pool in settings.pools
        if recorded or pool.allowed_policies or pool.affinity == HOLD or pool.kind != LLM
    ]


def request_limits_s(settings: Settings) -> list[float]:
    """Every time limit that the deadlines enforce, those of all pools included."""
    every: list[Timeouts] = [
        settings.timeouts,
        *(pool.timeouts for pool in settings.pools if pool.timeouts is not None),
    ]
    return [
        limit
        for each in every
        for limit in (each.first_byte_s, each.idle_s, each.total_s, each.client_header_s, each.client_body_s)
    ]
