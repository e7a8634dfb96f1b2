"""Only the optional compiled build is here; all else is in pyproject.toml.

`TURNOUT_COMPILE=1 pip install --no-build-isolation .` compiles the modules that every request passes by mypyc, from the
same source; it needs mypy and a C compiler. Without the variable the package is pure Python and behaves the same.
"""

import os

from setuptools import setup

COMPILED = [
    *(
        "schedulers/entropy.py",
        "schedulers/scorers/column.py",
        "schedulers/soonest.py",
        "schedulers/ttft.py",
        "schedulers/types.py",
        "schedulers/weighing.py",
    ),
    *(
        "statesync/columns.py",
        "statesync/health.py",
        "statesync/lineup.py",
        "statesync/pace.py",
        "statesync/prefix.py",
        "statesync/prefix_chain.py",
    ),
    *(
        "statesync/prefix_shelf.py",
        "statesync/prefix_truth.py",
        "statesync/seat.py",
        "statesync/shares.py",
        "statesync/tempo.py",
        "statesync/types.py",
    ),
    "statesync/view.py",
    *("statesync/commands.py", "statesync/freshness.py", "statesync/hearing.py", "statesync/lease.py"),
    *("statesync/ledger.py", "statesync/placement_log.py", "statesync/syncer.py"),
    *("router/telemetry/histograms.py", "router/telemetry/metrics.py"),
    "router/dataplane/abridged.py",
    "router/dataplane/admission.py",
    "router/dataplane/answer_head.py",
    "router/dataplane/dispatch.py",
    "router/dataplane/edge.py",
    "router/dataplane/endings.py",
    "router/dataplane/exchange.py",
    "router/dataplane/framing.py",
    "router/dataplane/gateway.py",
    "router/dataplane/headers.py",
    "router/dataplane/heads.py",
    "router/dataplane/identity.py",
    "router/dataplane/lessons.py",
    "router/dataplane/local.py",
    "router/dataplane/openai.py",
    "router/dataplane/outbox.py",
    "router/dataplane/reader.py",
    "router/dataplane/relay.py",
    "router/dataplane/retry.py",
    "router/dataplane/routes.py",
    "router/dataplane/upstream.py",
    "router/dataplane/upstream_connection.py",
    "router/dataplane/usage.py",
]
"""Not `body.py`: a msgspec Struct reads its annotations at run time, which mypyc does not keep as types."""


def extensions() -> list[object]:
    if os.environ.get("TURNOUT_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    return list(mypycify(["--config-file=pyproject.toml", *COMPILED], opt_level="3", debug_level="0"))


setup(ext_modules=extensions())
