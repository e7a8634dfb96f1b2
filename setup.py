"""The compiled build; all else of the package is in pyproject.toml.

In a wheel the modules that every request passes are compiled by mypyc, from the same source. Where there is no C
compiler or no Python.h the wheel is pure Python, which behaves the same and takes more CPU. `turnout --version` names
the build, with the reason for a pure one. `TURNOUT_COMPILE=1` makes a pure build an error, `TURNOUT_COMPILE=0` asks for
one. An editable install is never compiled.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

COMPILED = [
    "router/access/certificates.py",
    "router/access/identity.py",
    "router/access/limit_headers.py",
    "router/access/limit_lines.py",
    "router/access/limits.py",
    "router/access/rate_share.py",
    "router/access/slot_share.py",
    "router/access/tenants.py",
    "router/dataplane/access_log.py",
    "router/dataplane/admission.py",
    "router/dataplane/attempt.py",
    "router/dataplane/completion.py",
    "router/dataplane/disaggregation.py",
    "router/dataplane/dispatch.py",
    "router/dataplane/drain_rate.py",
    "router/dataplane/exchange.py",
    "router/dataplane/failover/answer_state.py",
    "router/dataplane/failover/continuation.py",
    "router/dataplane/failover/splice.py",
    "router/dataplane/failover/token_trail.py",
    "router/dataplane/fair_queue.py",
    "router/dataplane/fair_share.py",
    "router/dataplane/gateway.py",
    "router/dataplane/grpc/call.py",
    "router/dataplane/grpc/client.py",
    "router/dataplane/grpc/frames.py",
    "router/dataplane/grpc/header_blocks.py",
    "router/dataplane/grpc/http2.py",
    "router/dataplane/grpc/pods.py",
    "router/dataplane/grpc/port.py",
    "router/dataplane/grpc/status.py",
    "router/dataplane/grpc/streams.py",
    "router/dataplane/http/buffer_budget.py",
    "router/dataplane/http/chunked.py",
    "router/dataplane/http/edge.py",
    "router/dataplane/http/forwarded.py",
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
    "router/dataplane/movable_relay.py",
    "router/dataplane/pair_dispatch.py",
    "router/dataplane/prefix_feedback.py",
    "router/dataplane/queue.py",
    "router/dataplane/relay.py",
    "router/dataplane/request/adapters.py",
    "router/dataplane/request/inline_data.py",
    "router/dataplane/request/json_skim.py",
    "router/dataplane/request/kv_transfer.py",
    "router/dataplane/request/multipart.py",
    "router/dataplane/request/openai.py",
    "router/dataplane/request/path_table.py",
    "router/dataplane/request/routes.py",
    "router/dataplane/request/service_session.py",
    "router/dataplane/request/state_refs.py",
    "router/dataplane/request/tenant_headers.py",
    "router/dataplane/request/tenant_routes.py",
    "router/dataplane/resume/event_log.py",
    "router/dataplane/resume/follower.py",
    "router/dataplane/resume/keeper.py",
    "router/dataplane/resume/kept_stream.py",
    "router/dataplane/retry.py",
    "router/dataplane/routing.py",
    "router/dataplane/services.py",
    "router/dataplane/slo_meter.py",
    "router/dataplane/tenant_limits.py",
    "router/dataplane/tenant_shares.py",
    "router/dataplane/tracer.py",
    "router/dataplane/usage.py",
    "router/dataplane/wire_headers.py",
    "router/epp/call.py",
    "router/epp/grpc_port.py",
    "router/epp/heads.py",
    "router/epp/messages.py",
    "router/epp/server.py",
    "router/epp/stream.py",
    "router/epp/wire_format.py",
    "router/epp/wires.py",
    "router/protobuf.py",
    "router/telemetry/metrics.py",
    "router/telemetry/request_trace.py",
    "router/telemetry/span_encoding.py",
    "router/telemetry/spans.py",
    "router/telemetry/tenants.py",
    "router/telemetry/trace_context.py",
    "schedulers/entropy.py",
    "schedulers/pairs.py",
    "schedulers/policies/prefix_aware.py",
    "schedulers/policies/slo_costs.py",
    "schedulers/sampling.py",
    "schedulers/scorers/column.py",
    "schedulers/slo.py",
    "schedulers/ttft.py",
    "schedulers/types.py",
    "schedulers/weighing.py",
    "statesync/engines/health.py",
    "statesync/kv_events/precise_index.py",
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
    "statesync/store/redis/streams.py",
    "statesync/store/redis/syncer.py",
    "statesync/store/redis/view_age.py",
    "statesync/streams.py",
    "statesync/types.py",
]
"""Not `openai_fields.py`: a msgspec Struct reads its annotations at run time, which mypyc does not keep as types."""

CHECKED = ("dnspython", "httptools", "msgspec", "prometheus-client", "redis", "xxhash")
"""What the compiled modules import, and what that imports. The compiler checks types, and has to see theirs."""
COMPILER = ("mypy>=1.14", "types-PyYAML>=6.0")
NO_COMPILER = "no C compiler or no Python.h where it was built"


def forbidden() -> str:
    """Why this build is not compiled; empty if it is to be."""
    asked = os.environ.get("TURNOUT_COMPILE", "")
    if asked == "1":
        return ""
    if asked:
        return f"built with TURNOUT_COMPILE={asked}"
    return "" if can_compile() else NO_COMPILER


def can_compile() -> bool:
    """Try the C compiler that setuptools would use on a file that includes Python.h."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "probe.c")
        source.write_text("#include <Python.h>\n")
        options = [f"-I{sysconfig.get_path('include')}", "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            subprocess.run([*command, *options], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        return source.with_suffix(".o").exists()


def requirements() -> list[str]:
    """What compiling needs besides setuptools. Build front ends ask for it and install it; those of the project's own
    dependencies keep their range of versions.
    """
    project = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]
    return [*COMPILER, *(line for line in project["dependencies"] if line.startswith(CHECKED))]


def compiled() -> list[Extension]:
    """The extension modules. Raises SystemExit if mypyc refuses the sources."""
    from mypyc.build import mypycify

    level = os.environ.get("MYPYC_OPT_LEVEL", "3")
    return list(mypycify(["--config-file=pyproject.toml", *COMPILED], opt_level=level, debug_level="0"))


def recording(build: str) -> type[build_py]:
    """A build step that leaves a note of the build in the wheel, which `turnout --version` prints."""

    class RecordingBuildPy(build_py):
        def run(self) -> None:
            super().run()
            if not self.editable_mode:
                Path(self.build_lib, "router", "build.txt").write_text(f"{build}\n")

    return RecordingBuildPy


def built(command: Sequence[str], reason: str) -> tuple[list[Extension], str]:
    """The extension modules, and the build in words. Only a wheel has extensions: making them takes a minute."""
    if "bdist_wheel" not in command or reason:
        return [], f"pure Python: {reason}"
    try:
        return compiled(), f"compiled by mypyc {version('mypy')}"
    except (ImportError, SystemExit) as error:
        if os.environ.get("TURNOUT_COMPILE") == "1":
            raise
        return [], f"pure Python: {'no mypy' if isinstance(error, ImportError) else 'mypyc failed'} where it was built"


def main(command: Sequence[str]) -> None:
    """Build what setuptools is asked for."""
    reason = forbidden()
    extensions, build = built(command, reason)
    if "bdist_wheel" in command:
        sys.stderr.write(f"turnout: {build}\n")
    needed = [] if reason else requirements()
    setup(ext_modules=extensions, setup_requires=needed, cmdclass={"build_py": recording(build)})


if __name__ == "__main__":
    main(sys.argv)
