"""Checks of settings whose types are right: values out of range, names that refer to nothing, unsafe ports.

Pure, and independent of the source: the same rules hold for a file and for a command line. Each rule yields every
problem that it finds.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from router.address import ListenAddress, parse_listen
from router.config import (
    access_checks,
    control_checks,
    disaggregation_checks,
    edge_checks,
    plugin_checks,
    service_checks,
    target_checks,
    telemetry_checks,
    upstream_checks,
)
from router.config.problems import Path as Path
from router.config.problems import Problem as Problem
from router.settings import (
    AFFINITIES,
    LLM,
    Control,
    Discovery,
    Health,
    Limits,
    Logging,
    Plugins,
    PolicyGuard,
    PolicySpec,
    Pool,
    Prefix,
    Recording,
    Retries,
    Scrape,
    Section,
    Sessions,
    Settings,
    Sync,
    Telemetry,
    TenantSettings,
    Timeouts,
    TrialSettings,
)
from router.telemetry.logs import FORMATS, LEVELS
from statesync.discovery.address import parse
from statesync.discovery.source import open_source
from statesync.errors import BadStoreUrl, DiscoveryError, StateError
from statesync.store.open import open_store

VLLM_KEEPALIVE_S = 5.0

_POOL_NAME = re.compile(r"[A-Za-z0-9._-]+")
"""The name is part of headers, metric labels and the admin API's paths."""


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110."""


class _Range(NamedTuple):
    low: float = 0.0
    high: float = math.inf
    above: bool = False
    """`low` itself is refused."""

    def refuses(self, value: float) -> str:
        if not math.isfinite(value):
            return "must be a finite number"
        if value < self.low or (self.above and value == self.low):
            return f"must be {'more than' if self.above else 'at least'} {self.low:g}"
        return f"must be at most {self.high:g}" if value > self.high else ""


_POSITIVE = _Range(above=True)
_COUNT = _Range(low=1)
_SHARE = _Range(high=1)
_ANY = _Range()

_RANGES: Mapping[tuple[type[Section], str], _Range] = {
    (Timeouts, "connect_s"): _POSITIVE,
    (Limits, "max_header_bytes"): _Range(low=1024),
    (Limits, "max_headers"): _Range(low=16),
    (Limits, "max_body_bytes"): _COUNT,
    (Limits, "max_connections"): _COUNT,
    (Limits, "queue_timeout_s"): _POSITIVE,
    (Limits, "write_buffer_bytes"): _COUNT,
    (Retries, "budget_ratio"): _SHARE,
    (Health, "interval_s"): _POSITIVE,
    (Health, "timeout_s"): _POSITIVE,
    (Health, "failures"): _COUNT,
    (Health, "successes"): _COUNT,
    (Health, "eject_failures"): _COUNT,
    (Health, "eject_s"): _POSITIVE,
    (Health, "eject_max_s"): _POSITIVE,
    (Health, "max_ejected_ratio"): _SHARE,
    (Scrape, "interval_s"): _POSITIVE,
    (Scrape, "timeout_s"): _POSITIVE,
    (Scrape, "max_per_s"): _POSITIVE,
    (Scrape, "models_interval_s"): _POSITIVE,
    (Sync, "lease_s"): _Range(low=0.1),
    (Sync, "timeout_s"): _POSITIVE,
    (Sync, "checkpoint_s"): _Range(low=0.1),
    (Discovery, "interval_s"): _POSITIVE,
    (Prefix, "default_kv_tokens"): _COUNT,
    (Telemetry, "sample_ratio"): _SHARE,
    (Recording, "max_bytes"): _COUNT,
    (Control, "audit_max_bytes"): _COUNT,
    (PolicyGuard, "failures"): _COUNT,
    (PolicyGuard, "window_s"): _POSITIVE,
    (PolicyGuard, "slow_s"): _POSITIVE,
    (PolicyGuard, "stuck_s"): _POSITIVE,
    (Plugins, "interval_s"): _POSITIVE,
    (Plugins, "check_timeout_s"): _POSITIVE,
    (Plugins, "check_memory_bytes"): _Range(low=1 << 27),
    (TenantSettings, "weight"): _POSITIVE,
    (TenantSettings, "priority"): _Range(low=-1_000_000, high=1_000_000),
    (TrialSettings, "shadow_per_s"): _Range(0.001, 10_000.0),
}
"""Numbers that are not listed may be 0 or more."""


def problems_in(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Every problem of these settings, in the order of the file. Tokens may come from `environ`."""
    return [
        *_numbers(settings, ()),
        *_ports(settings),
        *control_checks.control_problems(settings, environ),
        *_state(settings),
        *_choices(settings),
        *plugin_checks.plugin_problems(settings),
        *_pools(settings.pools, settings.policies),
        *upstream_checks.upstream_problems(settings),
        *service_checks.service_problems(settings),
        *target_checks.ready_made(settings),
        *target_checks.targets(settings),
        *access_checks.access_problems(settings),
        *edge_checks.edge_problems(settings),
        *disaggregation_checks.disaggregation_problems(settings),
        *edge_checks.port_problems(settings),
        *_default_pool(settings),
        *_keepalive(settings),
        *telemetry_checks.telemetry_problems(settings.telemetry),
        *_recording(settings.recording),
        *_replica(settings.replica),
        *_sessions(settings.sessions),
        *_labels(settings),
    ]


def _numbers(section: Section, path: Path) -> Iterator[Problem]:
    for name in section.__struct_fields__:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _numbers(value, (*path, name))
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, Section):
                    yield from _numbers(item, (*path, name, at))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            wrong = _RANGES.get((type(section), name), _ANY).refuses(value)
            if wrong:
                yield Problem((*path, name), f"{wrong}, not {value:g}")


def _ports(settings: Settings) -> Iterator[Problem]:
    listens: dict[Path, ListenAddress] = {}
    for path, text in ((("listen",), settings.listen), (("control", "listen"), settings.control.listen)):
        try:
            listens[path] = parse_listen(text)
        except ValueError as error:
            yield Problem(path, str(error))
    control, inference = listens.get(("control", "listen")), listens.get(("listen",))
    if control is not None and inference is not None and control.overlaps(inference):
        yield Problem(("control", "listen"), f"{control} is the inference port already; choose another")


def _recording(recording: Recording) -> Iterator[Problem]:
    if recording.path and not recording.path.endswith(".jsonl"):
        yield Problem(("recording", "path"), "must end in .jsonl, by which `turnout simulate` knows what it is")
    folder = os.path.dirname(recording.path) or "."
    if recording.path and not os.access(folder, os.W_OK | os.X_OK):
        yield Problem(("recording", "path"), f"{folder} is no folder in which a file can be written", "warning")


def _replica(name: str) -> Iterator[Problem]:
    if not (name.isascii() and name.isprintable() and name == name.strip()):
        yield Problem(("replica",), "is a header's value: it has printable ASCII only, and no blank at an end")


def _sessions(sessions: Sessions) -> Iterator[Problem]:
    for at, name in enumerate(sessions.headers):
        if not _HEADER_NAME.fullmatch(name):
            yield Problem(("sessions", "headers", at), f"{name!r} is no header name, such as x-thread-id")
    for at, path in enumerate(sessions.fields):
        if not all(path.split(".")):
            yield Problem(("sessions", "fields", at), f"{path!r} is no path of fields, such as metadata.thread")


def _labels(settings: Settings) -> Iterator[Problem]:
    for name, value in settings.labels.items():
        if not name or not value:
            yield Problem(("labels", name), f"{name or value!r} is half a label; each has a name and a value")
    if settings.labels:
        return
    specs: list[tuple[Path, PolicySpec]] = [(("pools", at, "policy"), p.policy) for at, p in enumerate(settings.pools)]
    specs += [(("policies", name), spec) for name, spec in settings.policies.items()]
    for path, spec in specs:
        scorers = spec.params.get("scorers")
        if isinstance(scorers, list) and any(isinstance(s, dict) and s.get("name") == "locality" for s in scorers):
            message = (
                "scorer locality compares pods with the gateway's own `labels`; there are none, so it changes nothing"
            )
            yield Problem((*path, "params"), message, "warning")


def _state(settings: Settings) -> Iterator[Problem]:
    try:
        open_store(settings.state, settings.sync)
    except BadStoreUrl as error:
        yield Problem(("state",), str(error))
    except StateError as error:
        yield Problem(("sync", "namespace"), str(error))


def _choices(settings: Settings) -> Iterator[Problem]:
    logging: Logging = settings.logging
    for name, value, known in (("format", logging.format, FORMATS), ("level", logging.level, LEVELS)):
        if value not in known:
            yield Problem(("logging", name), f"{value!r} is not one of {', '.join(known)}")
    for at, pool in enumerate(settings.pools):
        if pool.affinity not in AFFINITIES:
            yield Problem(("pools", at, "affinity"), f"{pool.affinity!r} is not one of {', '.join(AFFINITIES)}")
    if settings.health.eject_max_s < settings.health.eject_s:
        yield Problem(("health", "eject_max_s"), "is shorter than eject_s, the first ejection")


def _pools(pools: Sequence[Pool], ready: Mapping[str, PolicySpec]) -> Iterator[Problem]:
    if not pools:
        yield Problem(("pools",), "there is no pool, so no request can go anywhere")
    seen: dict[str, int] = {}
    homes: dict[str, str] = {}
    served: dict[str, str] = {}
    by_name = {pool.name: pool for pool in pools}
    halves = {pool.disaggregation.prefill_pool for pool in pools if pool.disaggregation is not None}
    for at, pool in enumerate(pools):
        path: Path = ("pools", at)
        if not _POOL_NAME.fullmatch(pool.name):
            message = "is empty" if not pool.name else f"{pool.name!r} has more than letters, digits, '.', '_' and '-'"
            yield Problem((*path, "name"), message)
        elif seen.setdefault(pool.name, at) != at:
            yield Problem((*path, "name"), f"{pool.name!r} is the name of pools[{seen[pool.name]}] too")
        yield from _pods(pool, path, homes)
        yield from _aliases(pool, path)
        yield from target_checks.policies(pool, path, ready)
        yield from target_checks.fallbacks(pool, path, by_name)
        if pool.name not in halves:  # those are reached by no model
            yield from _models(pool, path, served, by_name)


def _pods(pool: Pool, path: Path, homes: dict[str, str]) -> Iterator[Problem]:
    if bool(pool.pods) == bool(pool.discovery.source):
        both = " and not both" if pool.pods else ""
        yield Problem(path, f"pool {pool.name!r} needs either `pods` or `discovery.source`{both}")
    elif pool.discovery.source:
        try:
            open_source((), pool.discovery.source, nameservers=pool.discovery.nameservers)
        except DiscoveryError as error:
            yield Problem((*path, "discovery", "source"), str(error))
    for at, url in enumerate(pool.pods):
        try:
            at_address = parse(url, tls=pool.upstream.tls is not None, base=pool.upstream.path.rstrip("/"))
        except DiscoveryError as error:
            yield Problem((*path, "pods", at), str(error))
            continue
        if "/v1/" in f"{at_address.base}/":
            message = f"requests' paths begin with /v1 already: pods get {at_address.base}/v1/...; leave it out"
            yield Problem((*path, "pods", at), message, "warning")
        pod = at_address.text
        if pod in homes:
            yield Problem((*path, "pods", at), f"{pod} is in pool {homes[pod]!r} already; a pod stands in one place")
        homes.setdefault(pod, pool.name)


def _aliases(pool: Pool, path: Path) -> Iterator[Problem]:
    for alias, target in pool.aliases.items():
        where: Path = (*path, "aliases", alias)
        if _loops(pool.aliases, alias):
            yield Problem(where, f"leads back to itself: {alias!r} -> {target!r}")
        elif target in pool.aliases:
            yield Problem(where, f"{target!r} is an alias too; write {pool.aliases[target]!r}, which it stands for")
        elif pool.models and target not in pool.models:
            yield Problem(where, f"pool {pool.name!r} has no model {target!r}; it has {', '.join(pool.models)}")
        elif alias in pool.models:
            yield Problem(where, f"hides the model {alias!r} of the same pool", "warning")


def _loops(aliases: Mapping[str, str], start: str) -> bool:
    visited = {start}
    name = aliases[start]
    while name in aliases and name not in visited:
        visited.add(name)
        name = aliases[name]
    return name == start


def _models(pool: Pool, path: Path, served: dict[str, str], pools: Mapping[str, Pool]) -> Iterator[Problem]:
    for section, models in (("models", pool.models), ("aliases", list(pool.aliases))):
        for at, model in enumerate(models):
            home = served.setdefault(model, pool.name)
            if home != pool.name and pool.name not in pools[home].fallback:
                key = at if section == "models" else model
                message = f"pool {home!r} serves {model!r} too; requests without x-turnout-pool go there"
                yield Problem((*path, section, key), message, "warning")


def _default_pool(settings: Settings) -> Iterator[Problem]:
    known = list(dict.fromkeys(pool.name for pool in settings.pools if pool.name))
    if settings.default_pool and settings.default_pool not in known:
        there = f"there are {', '.join(known)}" if known else "there are none"
        yield Problem(("default_pool",), f"no pool {settings.default_pool!r}; {there}")
    for at, pool in enumerate(settings.pools):
        if pool.kind == LLM and pool.scale_from_zero_s and not pool.models and pool.name != settings.default_pool:
            message = "an empty pool has no pod to ask for its models: name them in `models`, or no request comes to it"
            yield Problem(("pools", at, "scale_from_zero_s"), message, "warning")


def _keepalive(settings: Settings) -> Iterator[Problem]:
    own = [(("pools", at, "timeouts"), pool.timeouts) for at, pool in enumerate(settings.pools)]
    everywhere: list[tuple[Path, Timeouts | None]] = [(("timeouts",), settings.timeouts), *own]
    for path, timeouts in everywhere:
        if timeouts is not None and timeouts.upstream_keepalive_s >= VLLM_KEEPALIVE_S:
            yield Problem(
                (*path, "upstream_keepalive_s"),
                f"vLLM closes idle connections after {VLLM_KEEPALIVE_S:g} s; at {timeouts.upstream_keepalive_s:g} s "
                "some requests will meet a closed one and need a retry",
                "warning",
            )
