"""Only the optional compiled build is here; all else is in pyproject.toml.

`TURNOUT_COMPILE=1 pip install --no-build-isolation .` compiles the modules that every request passes by mypyc, from the
same source; it needs mypy and a C compiler. Without the variable the package is pure Python and behaves the same.
"""

import os

from setuptools import setup

COMPILED = [
    "router/access/certificates.py",
    "router/access/identity.py",
    "router/access/limits.py",
    "router/access/rate_share.py",
    "router/access/slot_share.py",
    "router/dataplane/admission.py",
    "router/dataplane/attempt.py",
    "router/dataplane/completion.py",
    "router/dataplane/dispatch.py",
    "router/dataplane/drain_rate.py",
    "router/dataplane/exchange.py",
    "router/dataplane/fair_queue.py",
    "router/dataplane/fair_share.py",
    "router/dataplane/gateway.py",
    "router/dataplane/http/buffer_budget.py",
    "router/dataplane/http/chunked.py",
    "router/dataplane/http/edge.py",
    "router/dataplane/http/head_cache.py",
    "router/dataplane/http/header_rules.py",
    "router/dataplane/http/request_head.py",
    "router/dataplane/http/request_parser.py",
    "router/dataplane/http/response_parser.py",
    "router/dataplane/http/sse.py",
    "router/dataplane/http/upstream.py",
    "router/dataplane/http/upstream_connection.py",
    "router/dataplane/http/write_batcher.py",
    "router/dataplane/local_routes.py",
    "router/dataplane/prefix_feedback.py",
    "router/dataplane/queue.py",
    "router/dataplane/relay.py",
    "router/dataplane/request/adapters.py",
    "router/dataplane/request/inline_data.py",
    "router/dataplane/request/json_skim.py",
    "router/dataplane/request/multipart.py",
    "router/dataplane/request/openai.py",
    "router/dataplane/request/routes.py",
    "router/dataplane/request/tenant_headers.py",
    "router/dataplane/request/tenant_routes.py",
    "router/dataplane/retry.py",
    "router/dataplane/routing.py",
    "router/dataplane/tenant_limits.py",
    "router/dataplane/tenant_shares.py",
    "router/dataplane/tracer.py",
    "router/dataplane/wire_headers.py",
    "router/telemetry/metrics.py",
    "router/telemetry/request_trace.py",
    "router/telemetry/trace_context.py",
    "schedulers/entropy.py",
    "schedulers/policies/prefix_aware.py",
    "schedulers/policies/slo_costs.py",
    "schedulers/sampling.py",
    "schedulers/scorers/column.py",
    "schedulers/slo.py",
    "schedulers/ttft.py",
    "schedulers/types.py",
    "schedulers/weighing.py",
    "statesync/engines/health.py",
    "statesync/load/cost_model.py",
    "statesync/load/decaying_rate.py",
    "statesync/load/eligibility.py",
    "statesync/load/learned_limit.py",
    "statesync/load/pod_state.py",
    "statesync/load/pool_state.py",
    "statesync/load/promises.py",
    "statesync/load/remote_load.py",
    "statesync/load/subset.py",
    "statesync/load/view.py",
    "statesync/prefix/accuracy.py",
    "statesync/prefix/block_hash.py",
    "statesync/prefix/index.py",
    "statesync/prefix/pod_lru.py",
    "statesync/store/redis/commands.py",
    "statesync/store/redis/lease.py",
    "statesync/store/redis/ledger.py",
    "statesync/store/redis/placement_log.py",
    "statesync/store/redis/receiver.py",
    "statesync/store/redis/syncer.py",
    "statesync/store/redis/view_age.py",
    "statesync/types.py",
]
"""Not `openai_fields.py`: a msgspec Struct reads its annotations at run time, which mypyc does not keep as types."""


def extensions() -> list[object]:
    if os.environ.get("TURNOUT_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    return list(mypycify(["--config-file=pyproject.toml", *COMPILED], opt_level="3", debug_level="0"))


setup(ext_modules=extensions())
