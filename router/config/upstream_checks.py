"""Checks of how pools reach their pods: addresses, TLS files, keys, headers. Files are read as the gateway would read
them, so that `turnout check` finds what would fail at the start.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec

import msgspec

from router.config.problems import Path, Problem
from router.settings import LLM, KvEvents, Pool, PoolUpstream, Settings
from statesync.discovery import ranks
from statesync.discovery.address import is_base, parse
from statesync.engines.access import HEADER_VALUE, fixed_key, followed_key
from statesync.engines.presets import ENGINES, PRESETS, preset_of
from statesync.engines.tls import BadTlsFiles, make_context
from statesync.errors import DiscoveryError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""A token (RFC 9110, 5.6.2)."""

_PATH = re.compile(r"(?::([1-9][0-9]{0,4}))?/[\x21-\x7e]*")

_ZMQ = re.compile(r"tcp://[^\s/]+:([0-9]{1,5})")

_LAST_PORT = 65535

MOST_GRACE_S = 3600.0

CONTINUING = ("auto", "vllm", "sglang")
"""Engines that take the beginning of an answer and go on with it, and what may stand for them."""

_FRAMING = frozenset(
    ("connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive")
)
"""Headers that the gateway sets or ends; `x-request-id` is its own, too."""


def api_key(upstream: PoolUpstream, environ: Mapping[str, str]) -> Callable[[], str] | None:
    """Where the key of a pool's pods comes from; None without one. Raises OSError, ValueError and KeyError."""
    if upstream.api_key_file:
        return followed_key(upstream.api_key_file)
    return fixed_key(environ[upstream.api_key_env]) if upstream.api_key_env else None


def upstream_problems(settings: Settings, environ: Mapping[str, str] = os.environ) -> Iterator[Problem]:
    """Problems of `pools[].engine` and `pools[].upstream`, and of the paths that hold for all pools."""
    for section, path in (("health", settings.health.path), ("scrape", settings.scrape.path)):
        if wrong := _path_problem(path):
            yield Problem((section, "path"), wrong)
    for at, pool in enumerate(settings.pools):
        where: Path = ("pools", at)
        if pool.engine not in ENGINES:
            yield Problem((*where, "engine"), f"{pool.engine!r} is not one of {', '.join(ENGINES)}")
        elif pool.upstream.send_priority and not preset_of(pool.engine).priority:
            able = " or ".join(name for name, preset in PRESETS.items() if preset.priority)
            yield Problem((*where, "upstream", "send_priority"), f"needs to know the engine: set engine to {able}")
        yield from _paths(pool, (*where, "upstream"))
        yield from _key(pool.upstream, environ, (*where, "upstream"))
        yield from _headers(pool.upstream, (*where, "upstream"))
        yield from _tls(pool, (*where, "upstream", "tls"))
        yield from _failover(pool, settings, (*where, "failover"))
        yield from _ranks(pool, where)
        if pool.kv_events is not None:
            yield from _kv_events(pool.kv_events, max(pool.kv_events.ranks, pool.ranks), (*where, "kv_events"))


def _paths(pool: Pool, path: Path) -> Iterator[Problem]:
    upstream, portless = pool.upstream, any(text.startswith("unix:") for text in pool.pods)
    if not is_base(upstream.path.rstrip("/")):
        yield Problem((*path, "path"), f"{upstream.path!r} is no base path; write it as /base")
    for name in ("health_path", "metrics_path"):
        value: str = getattr(upstream, name)
        if wrong := _path_problem(value):
            yield Problem((*path, name), wrong)
        elif portless and value.startswith(":"):
            yield Problem((*path, name), f"{value!r} is on another port, and a pod behind a socket has none")


def _path_problem(path: str) -> str:
    found = _PATH.fullmatch(path)
    if not path or (found is not None and int(found[1] or 0) <= _LAST_PORT):
        return ""
    return f"{path!r} must begin with /, or with a port as in :8002/metrics"


def _key(upstream: PoolUpstream, environ: Mapping[str, str], path: Path) -> Iterator[Problem]:
    if upstream.api_key_file and upstream.api_key_env:
        yield Problem((*path, "api_key_env"), "the key comes from a file or a variable, not from both")
        return
    if upstream.send_key and not (upstream.api_key_file or upstream.api_key_env):
        yield Problem((*path, "send_key"), "there is no key to send; set api_key_file or api_key_env")
    if upstream.send_key and upstream.send_credentials:
        yield Problem((*path, "send_credentials"), "pods get the client's key or the pool's own (send_key), not both")
    field = "api_key_file" if upstream.api_key_file else "api_key_env"
    try:
        key = api_key(upstream, environ)
        if key is not None and not HEADER_VALUE.fullmatch(key()):
            yield Problem((*path, field), "the key has characters that no header can have, or is empty")
    except KeyError:
        yield Problem((*path, field), f"the environment variable {upstream.api_key_env} is not set")
    except OSError as error:
        yield Problem((*path, field), f"{upstream.api_key_file} cannot be read: {error.strerror}")
    except ValueError as error:
        yield Problem((*path, field), f"{upstream.api_key_file} holds no key: {error}")


def _headers(upstream: PoolUpstream, path: Path) -> Iterator[Problem]:
    for name, value in upstream.headers.items():
        where: Path = (*path, "headers", name)
        if wrong := _name_problem(name):
            yield Problem(where, wrong)
        elif not HEADER_VALUE.fullmatch(value):
            yield Problem(
                where, "the value is empty, begins or ends with a blank, or has characters that are not allowed"
            )
    for at, name in enumerate(upstream.strip):
        if wrong := _name_problem(name) or ("is what the gateway sets itself" if name.lower() == "host" else ""):
            yield Problem((*path, "strip", at), f"{name!r}: {wrong}")


def _name_problem(name: str) -> str:
    if not _NAME.fullmatch(name):
        return "is no name of a header"
    return "is what the gateway sets itself" if name.lower() in _FRAMING or name.lower() == "x-request-id" else ""


def _tls(pool: Pool, path: Path) -> Iterator[Problem]:
    tls = pool.upstream.tls
    if tls is None:
        return
    try:
        make_context(tls)
    except BadTlsFiles as error:
        yield Problem((*path, error.field), str(error))
    if not tls.verify:
        yield Problem((*path, "verify"), "the certificates of pods are not checked", "warning")
    if pool.pods and not any(_speaks_tls(text) for text in pool.pods):
        yield Problem(path, "has no effect: every pod's address says http:// or unix:", "warning")


def _ranks(pool: Pool, path: Path) -> Iterator[Problem]:
    if not 0 <= pool.ranks <= ranks.MOST:
        yield Problem((*path, "ranks"), f"must be between 0 and {ranks.MOST}")
    if not pool.ranks:
        return
    if pool.kind != LLM or pool.engine not in CONTINUING:
        yield Problem((*path, "ranks"), f"only vLLM and SGLang take the header {ranks.HEADER}")
    if pool.kv_events is not None and pool.kv_events.ranks != 1:
        yield Problem((*path, "kv_events", "ranks"), "the pool's own `ranks` says how many there are; leave this out")
    for name in pool.upstream.headers:
        if name.lower() == ranks.HEADER:
            yield Problem((*path, "upstream", "headers", name), "is what `ranks` sets; leave one of the two out")
    for label in (ranks.RANK, ranks.RANKS):
        if label in pool.labels:
            yield Problem((*path, "labels", label), "is the label of a rank; give it another name")


def _kv_events(events: KvEvents, count: int, path: Path) -> Iterator[Problem]:
    if find_spec("zmq") is None:
        message = "needs a package that is not installed: pip install 'turnout[kv-events]', or leave the section out"
        yield Problem(path, message)
    for name, value in (("endpoint", events.endpoint), ("replay", events.replay)):
        port = _ZMQ.fullmatch(value)
        if port is None and (value or name == "endpoint"):
            yield Problem((*path, name), f"{value!r} is no address; write it as tcp://{{host}}:5557")
        elif port is not None and not 0 < int(port[1]) <= _LAST_PORT + 1 - max(1, count):
            yield Problem((*path, name), f"there is no port for each of {count} ranks from {port[1]} on")
    ends = [_ZMQ.fullmatch(value) for value in (events.endpoint, events.replay)]
    if ends[0] and ends[1] and abs(int(ends[0][1]) - int(ends[1][1])) < count:
        message = f"its ports and those of `endpoint` overlap: each is the first of {count}, one for each rank"
        yield Problem((*path, "replay"), message)
    if events.ranks < 1:
        yield Problem((*path, "ranks"), "must be at least 1")
    for name, share in msgspec.structs.asdict(events.load).items():
        if share < 0:
            yield Problem((*path, "load", name), "must be at least 0")
    for name in events.shared:
        if name not in ("cpu", "disk"):
            yield Problem((*path, "shared"), f"{name!r} is neither cpu nor disk")


def _failover(pool: Pool, settings: Settings, path: Path) -> Iterator[Problem]:
    failover = pool.failover
    if failover.mid_stream and pool.engine not in CONTINUING:
        able = ", ".join(CONTINUING)
        yield Problem((*path, "mid_stream"), f"engine {pool.engine} cannot continue a message; one of {able} can")
    for name in ("mid_stream", "resume"):
        if getattr(failover, name) and pool.disaggregation is not None:
            yield Problem((*path, name), "a pool with disaggregation moves no streams; leave one of the two out")
    if failover.resume and settings.state.startswith("memory:"):
        yield Problem((*path, "resume"), "needs a state that replicas share: set state to redis://...")
    if not 0 <= failover.grace_s <= MOST_GRACE_S:
        yield Problem((*path, "grace_s"), f"must be between 0 and {MOST_GRACE_S:g}")
    for name in ("max_chars", "max_moves"):
        if getattr(failover, name) < 1:
            yield Problem((*path, name), "must be at least 1; to move no stream, leave mid_stream off")


def _speaks_tls(text: str) -> bool:
    try:
        return parse(text, tls=True).tls
    except DiscoveryError:
        return True  # reported as a problem of the address
