"""The check of one file, in the process that `checking.py` starts for it: load, ask what every policy owes, replay. It
says on the pipe where it is, line by line, so that who waits knows what it was at if it ends without a word.

The job comes on stdin, pickled by the gateway; the file it is about is only bytes in it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from router.plugins.audit import AuditSandbox
from router.plugins.contract import ContractBroken, PolicyUnderTest, examine, replay
from router.plugins.loading import Loaded, PluginError, load
from router.plugins.types import CheckJob
from router.plugins.watchdog import bounded
from schedulers.errors import SchedulerError
from schedulers.guard import PolicyQuit, PolicyTimeout
from schedulers.protocols import Scheduler
from schedulers.registry import BUILT_IN

LOAD_S: Final = 1.0
"""Loading the file in the gateway holds every request up for so long."""
PICK_S: Final = 1.0
"""A pick that takes longer does not return, as far as the check is concerned."""

Say = Callable[[dict[str, object]], None]


def main() -> None:
    """Read a job, do it, say what came of it, and end, whatever threads or handlers the file has left behind."""
    job: CheckJob = pickle.load(sys.stdin.buffer)
    say = _pipe()
    sys.path[:] = job.path
    os.nice(10)
    say({"at": "loading it"})
    sandbox = AuditSandbox()
    sandbox.limit(job.memory_bytes, job.timeout_s)
    sandbox.close()
    try:
        result = _checked(job, sandbox, say)
    except (PluginError, ContractBroken) as error:
        # What it was refused is the cause of what it raised then, or of worse.
        result = {"problem": sandbox.seen or str(error)}
    except MemoryError:
        result = {"problem": f"it takes more than {job.memory_bytes >> 20} MB of memory"}
    say(result)
    os._exit(0)


def _checked(job: CheckJob, sandbox: AuditSandbox, say: Say) -> dict[str, object]:
    began = time.perf_counter()
    loaded = _load(job, "turnout_plugin")
    load_s = time.perf_counter() - began
    _is_clean(sandbox)
    if load_s > LOAD_S:
        raise PluginError(
            f"loading it takes {load_s:.1f} s, and holds every request up meanwhile; at most {LOAD_S:g} s"
        )
    figures: dict[str, dict[str, float]] = {}
    for name in loaded.policies:
        say({"at": f"asking {name}"})
        figures[name] = _examined(job, sandbox, loaded, name)
    return {"policies": list(loaded.policies), "load_s": round(load_s, 3), "pick_us": figures, "problem": ""}


def _examined(job: CheckJob, sandbox: AuditSandbox, loaded: Loaded, name: str) -> dict[str, float]:
    policy = loaded.policies[name]
    if name in BUILT_IN:
        raise PluginError(f"{name!r} is one of the gateway's own policies; give yours another name")
    sandbox.when = "while it is loaded"
    # The second load shares nothing with the first.
    anew = _load(job, "turnout_plugin_anew").policies[name]
    subject = PolicyUnderTest(
        name, partial(_made, policy), loaded.module, partial(_made, anew), partial(bounded_pick, PICK_S)
    )
    sandbox.when = f"in a pick of {name}"
    try:
        figures = examine(subject)
        replay(subject, job.recorded)
    except ContractBroken as error:
        raise ContractBroken(f"{name}: {error}") from error
    _is_clean(sandbox)
    return figures


def bounded_pick(limit_s: float, policy: Scheduler, request: object, snapshot: object) -> object:
    """Its answer. Raises PolicyTimeout where there is none in time."""
    return bounded(limit_s, policy.pick, request, snapshot)


def _load(job: CheckJob, module: str) -> Loaded:
    try:
        return bounded(5 * LOAD_S, load, job.source, job.filename, module)
    except (PolicyTimeout, PolicyQuit) as error:
        raise PluginError(f"loading it {error}") from None


def _made(policy: type[Scheduler]) -> Scheduler:
    try:
        return policy()
    except (SchedulerError, TypeError, ValueError) as error:
        raise PluginError(f"it cannot be built with its defaults: {error}") from error


def _is_clean(sandbox: AuditSandbox) -> None:
    if sandbox.seen:
        raise PluginError(sandbox.seen)


def _pipe() -> Say:
    """Lines for whoever started this process. What the file writes to the descriptors 1 and 2 goes nowhere."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    return lambda said: _write(pipe, said)


def _write(pipe: int, said: dict[str, object]) -> None:
    os.write(pipe, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()
