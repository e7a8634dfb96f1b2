"""Checks of how pools reach their pods: every mistake is named with its key and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config.upstream_checks import api_key, upstream_problems
from router.settings import (
    Disaggregation,
    Failover,
    Health,
    KvEvents,
    KvLoad,
    Pool,
    PoolUpstream,
    Scrape,
    Settings,
    UpstreamTls,
)
from tests.fakes.certificates import Authority
from tests.fakes.each_case import each_case
from tests.fakes.programs import need


def _found(pool: Pool, **fields: object) -> list[tuple[str, str, str]]:
    settings = Settings(pools=[pool], **fields)  # type: ignore[arg-type]
    problems = upstream_problems(settings, {"KEY": "sk-1", "EMPTY": "", "ODD": "a\nb"})
    return [(problem.where, problem.message, problem.severity) for problem in problems]


def _pool(upstream: PoolUpstream | None = None, *, engine: str = "auto", pods: tuple[str, ...] = ("a:1",)) -> Pool:
    return Pool(name="p", pods=list(pods), engine=engine, upstream=upstream or PoolUpstream())


def test_what_is_right_has_no_problem(tmp_path: Path) -> None:
    authority, key = Authority(tmp_path), tmp_path / "key"
    key.write_text("sk-1\n")
    pair = authority.issue()
    tls = UpstreamTls(ca_file=str(authority.cert), cert_file=str(pair.cert), key_file=str(pair.key), server_name="x")
    upstream = PoolUpstream(
        api_key_file=str(key),
        send_key=True,
        tls=tls,
        path="/base/",
        health_path=":9000/up",
        metrics_path=":8002/metrics",
        headers={"x-tenant": "a b"},
        strip=["Cookie"],
    )
    assert _found(_pool(upstream, engine="vllm"), health=Health(path="/health"), scrape=Scrape(path=":9/m")) == []
    assert _found(_pool(PoolUpstream(api_key_env="KEY", tls=UpstreamTls()))) == []


@each_case(
    ("upstream", "key", "word"),
    [
        (PoolUpstream(path="base"), "path", "write it as /base"),
        (PoolUpstream(path="/a/../b"), "path", "no base path"),
        (PoolUpstream(health_path="up"), "health_path", "must begin with /"),
        (PoolUpstream(health_path=":0/up"), "health_path", "as in :8002/metrics"),
        (PoolUpstream(metrics_path=":x/m"), "metrics_path", "as in :8002/metrics"),
        (PoolUpstream(metrics_path=":65536/m"), "metrics_path", "as in :8002/metrics"),
        (PoolUpstream(metrics_path="/a b"), "metrics_path", "must begin with /"),
        (PoolUpstream(send_key=True), "send_key", "no key to send"),
        (PoolUpstream(api_key_env="KEY", send_key=True, send_credentials=True), "send_credentials", "not both"),
        (PoolUpstream(send_priority=True), "send_priority", "set engine to vllm or sglang"),
        (PoolUpstream(api_key_env="KEY", api_key_file="/k"), "api_key_env", "not from both"),
        (PoolUpstream(api_key_env="NOT_SET"), "api_key_env", "NOT_SET is not set"),
        (PoolUpstream(api_key_env="EMPTY"), "api_key_env", "is empty"),
        (PoolUpstream(api_key_env="ODD"), "api_key_env", "characters that no header can have"),
        (PoolUpstream(api_key_file="/nothing/here"), "api_key_file", "/nothing/here cannot be read: No such file"),
        (PoolUpstream(headers={"x y": "1"}), "headers.x y", "no name of a header"),
        (PoolUpstream(headers={"x": "a\r\nb: c"}), "headers.x", "characters that are not allowed"),
        (PoolUpstream(headers={"x": ""}), "headers.x", "is empty"),
        (PoolUpstream(headers={"Content-Length": "1"}), "headers.Content-Length", "sets itself"),
        (PoolUpstream(strip=["host"]), "strip[0]", "sets itself"),
        (PoolUpstream(strip=["a", "x-request-id"]), "strip[1]", "sets itself"),
        (PoolUpstream(tls=UpstreamTls(ca_file="/nothing")), "tls.ca_file", "/nothing cannot be read"),
        (PoolUpstream(tls=UpstreamTls(key_file="/k")), "tls.key_file", "without a certificate"),
        (PoolUpstream(tls=UpstreamTls(server_name="..a")), "tls.server_name", "'..a' is no name of a host"),
        (PoolUpstream(tls=UpstreamTls(server_name="a" * 300)), "tls.server_name", "is no name of a host"),
    ],
)
def test_each_mistake_is_named(upstream: PoolUpstream, key: str, word: str) -> None:
    ((where, message, severity),) = _found(_pool(upstream))
    assert where == f"pools[0].upstream.{key}"
    assert word in message
    assert severity == "error"


@each_case(
    ("events", "key", "word"),
    [
        (KvEvents(endpoint="{host}:5557"), "endpoint", "write it as tcp://{host}:5557"),
        (KvEvents(endpoint=""), "endpoint", "write it as tcp://{host}:5557"),
        (KvEvents(replay="tcp://{host}"), "replay", "is no address"),
        (KvEvents(endpoint="tcp://{host}:65535", ranks=2), "endpoint", "no port for each of 2 ranks"),
        (KvEvents(endpoint="tcp://{host}:0"), "endpoint", "no port"),
        (KvEvents(ranks=0), "ranks", "at least 1"),
        (KvEvents(load=KvLoad(disk=-0.1)), "load.disk", "at least 0"),
        (KvEvents(shared=["gpu"]), "shared", "neither cpu nor disk"),
    ],
)
def test_addresses_of_events_are_checked(events: KvEvents, key: str, word: str) -> None:
    found = _found(Pool(name="p", pods=["a:1"], kv_events=events))
    assert [(where, word in message) for where, message, _ in found] == [(f"pools[0].kv_events.{key}", True)]


def test_events_without_a_replay_are_right_and_without_the_package_are_a_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(name="p", pods=["a:1"], kv_events=KvEvents(replay="", ranks=4))
    assert _found(pool) == []
    monkeypatch.setitem(sys.modules, "zmq", None)
    ((where, message, _),) = _found(pool)
    assert where == "pools[0].kv_events"
    assert "pip install 'turnout[kv-events]'" in message


def test_a_path_on_another_port_of_a_socket_is_a_mistake() -> None:
    ((where, message, _),) = _found(_pool(PoolUpstream(metrics_path=":8002/metrics"), pods=("unix:/run/x.sock",)))
    assert where == "pools[0].upstream.metrics_path"
    assert "a pod behind a socket has none" in message


def test_an_unknown_engine_is_named_with_those_that_there_are() -> None:
    ((where, message, _),) = _found(_pool(engine="vlm"))
    assert where == "pools[0].engine"
    assert "'vlm' is not one of auto, vllm, sglang" in message


def test_paths_for_all_pools_are_checked_too() -> None:
    found = _found(_pool(), health=Health(path="health"), scrape=Scrape(path="metrics"))
    assert [where for where, _, _ in found] == ["health.path", "scrape.path"]


def test_certificates_that_are_not_checked_or_not_used_are_warned_of() -> None:
    ((where, message, severity),) = _found(_pool(PoolUpstream(tls=UpstreamTls(verify=False))))
    assert (where, severity) == ("pools[0].upstream.tls.verify", "warning")
    ((where, message, severity),) = _found(_pool(PoolUpstream(tls=UpstreamTls()), pods=("http://a:1", "unix:/x")))
    assert (where, severity) == ("pools[0].upstream.tls", "warning")
    assert "every pod's address says http://" in message


def test_a_key_that_needs_a_passphrase_is_refused_and_nothing_asks_for_one(tmp_path: Path) -> None:
    pair, locked = Authority(tmp_path).issue(), tmp_path / "locked.key"
    encrypting = ["ec", "-in", str(pair.key), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run([need("openssl"), *encrypting], check=True, capture_output=True)
    ((where, message, _),) = _found(
        _pool(PoolUpstream(tls=UpstreamTls(cert_file=str(pair.cert), key_file=str(locked))))
    )
    assert where == "pools[0].upstream.tls.key_file"
    assert "encrypted" in message


def test_the_key_comes_from_the_file_or_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from file")
    key = api_key(PoolUpstream(api_key_file=str(file)), {})
    assert key is not None and key() == "from file"
    key = api_key(PoolUpstream(api_key_env="KEY"), {"KEY": "from environment"})
    assert key is not None and key() == "from environment"
    assert api_key(PoolUpstream(), {}) is None


def test_streams_are_moved_only_where_the_engine_can_go_on_with_them() -> None:
    def found(**fields: Any) -> list[tuple[str, str]]:
        pool = msgspec.structs.replace(_pool(PoolUpstream()), failover=Failover(mid_stream=True), **fields)
        return [(where, message) for where, message, _ in _found(pool)]

    assert found() == found(engine="vllm") == found(engine="sglang") == []
    (where, message), *others = found(engine="ollama")
    assert (where, others) == ("pools[0].failover.mid_stream", [])
    assert "engine ollama cannot continue a message" in message
    ((where, message),) = found(disaggregation=Disaggregation())
    assert "a pool with disaggregation moves no streams" in message


def test_limits_of_failover_are_numbers_from_one_on() -> None:
    pool = msgspec.structs.replace(_pool(PoolUpstream()), failover=Failover(max_chars=0, max_moves=-1))
    assert [where for where, _, _ in _found(pool)] == ["pools[0].failover.max_chars", "pools[0].failover.max_moves"]


def test_streams_are_resumed_from_a_state_that_replicas_share() -> None:
    pool = msgspec.structs.replace(_pool(PoolUpstream()), failover=Failover(resume=True, grace_s=-1.0))
    found = [(where, message.split(":")[0]) for where, message, _ in _found(pool)]
    assert found == [
        ("pools[0].failover.resume", "needs a state that replicas share"),
        ("pools[0].failover.grace_s", "must be between 0 and 3600"),
    ]
    pool = msgspec.structs.replace(pool, failover=Failover(resume=True))
    assert _found(pool, state="redis://localhost") == []


NAMED = "X-Data-Parallel-Rank"


@each_case(
    ("fields", "key", "word"),
    [
        ({"ranks": -1}, "ranks", "between 0 and 256"),
        ({"ranks": 257}, "ranks", "between 0 and 256"),
        ({"engine": "tgi"}, "ranks", "only vLLM and SGLang"),
        ({"kind": "http"}, "ranks", "only vLLM and SGLang"),
        ({"kv_events": KvEvents(ranks=2)}, "kv_events.ranks", "leave this out"),
        ({"kv_events": KvEvents(replay="tcp://{host}:65535")}, "kv_events.replay", "no port for each of 2 ranks"),
        ({"kv_events": KvEvents()}, "kv_events.replay", "overlap"),
        ({"upstream": PoolUpstream(headers={NAMED: "0"})}, f"upstream.headers.{NAMED}", "leave one of the two out"),
        ({"labels": {"dp_rank": "0"}}, "labels.dp_rank", "another name"),
    ],
)
def test_what_contradicts_a_pool_s_ranks_is_a_mistake(fields: dict[str, Any], key: str, word: str) -> None:
    found = _found(Pool(**{"name": "p", "pods": ["a:1"], "ranks": 2, **fields}))
    assert (f"pools[0].{key}", True) in [(where, word in message) for where, message, _ in found]


def test_ranks_of_engines_that_take_the_header_are_right() -> None:
    events = KvEvents(replay="tcp://{host}:5657")
    for engine in ("auto", "vllm", "sglang"):
        assert _found(Pool(name="p", pods=["a:1"], engine=engine, ranks=8, kv_events=events)) == []
