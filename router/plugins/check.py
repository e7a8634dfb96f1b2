"""The check of one file, in the process that `checking.py` starts for it: load, examine by the contract, replay. Each
step is reported on the pipe as a line, so that the gateway knows the step at which the process crashed or hung.

The job comes on stdin, pickled by the gateway, with the bytes of the file in it. What reports and ends the process is
bound before the file runs, since the file may replace anything in any module.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import msgspec

from router.plugins.audit import AuditSandbox
from router.plugins.contract import ContractBroken, PolicyUnderTest, examine, replay
from router.plugins.loading import Loaded, PluginError, load
from router.plugins.patches import PatchWatch
from router.plugins.types import CheckJob
from router.plugins.watchdog import bounded
from schedulers.errors import SchedulerError
from schedulers.guard import PolicyQuit, PolicyTimeout
from schedulers.protocols import Scheduler
from schedulers.registry import BUILT_IN

LOAD_S: Final = 1.0
"""CPU seconds that loading the file may take: in the gateway it competes with requests for the interpreter."""
PICK_S: Final = 1.0
"""Seconds after which a pick is interrupted and counts as one that does not return."""
STARVED: Final = 10.0
"""Factor by which a limit is longer where this process waited for a processor for half of it. Its priority is low, so
on a busy machine that may be seconds, which says nothing of the file."""

_T = TypeVar("_T")

Report = Callable[[dict[str, object]], None]


def main() -> None:
    """Read a job, run it, report the result, and end the process with the threads and handlers the file left behind."""
    job: CheckJob = pickle.load(sys.stdin.buffer)
    report = _pipe()
    sys.path[:] = job.path
    os.nice(10)
    report({"at": "loading it"})
    sandbox = AuditSandbox()
    sandbox.limit(job.memory_bytes, job.timeout_s)
    sandbox.close()
    end, patches = os._exit, PatchWatch()
    try:
        result = _checked(job, sandbox, report, patches)
    except (PluginError, ContractBroken) as error:
        # The action that was refused is the cause of the exception.
        result = {"problem": sandbox.seen or str(error)}
    except MemoryError:
        result = {"problem": f"it takes more than {job.memory_bytes >> 20} MB of memory"}
    except BaseException as error:  # noqa: BLE001  the file may have broken any function that the check calls
        result = {"problem": patches.problem() or f"its check raised {type(error).__name__}: {error}"}
    report(result)
    end(0)


def _checked(job: CheckJob, sandbox: AuditSandbox, report: Report, patches: PatchWatch) -> dict[str, object]:
    clock = time.thread_time
    began = clock()
    try:
        loaded = _load(job, "turnout_plugin")
    except PluginError as error:
        raise PluginError(patches.problem() or str(error)) from error
    load_s = clock() - began
    _is_clean(sandbox, patches)
    patches.look_again()
    if load_s > LOAD_S:
        raise PluginError(f"loading it takes {load_s:.1f} s; at most {LOAD_S:g} s")
    figures: dict[str, dict[str, float]] = {}
    for name in loaded.policies:
        report({"at": f"asking {name}"})
        figures[name] = _examined(job, sandbox, loaded, name)
        _is_clean(sandbox, patches)
    return {"policies": list(loaded.policies), "load_s": round(load_s, 3), "pick_us": figures, "problem": ""}


def _examined(job: CheckJob, sandbox: AuditSandbox, loaded: Loaded, name: str) -> dict[str, float]:
    policy = loaded.policies[name]
    if name in BUILT_IN:
        raise PluginError(f"{name!r} is one of the gateway's own policies; give yours another name")
    sandbox.when = "while it is loaded"
    # A second load shares nothing with the first.
    reloaded = _load(job, "turnout_plugin_reloaded").policies[name]
    subject = PolicyUnderTest(
        name, partial(_made, policy), loaded.module, partial(_made, reloaded), partial(bounded_pick, PICK_S)
    )
    sandbox.when = f"in a pick of {name}"
    try:
        figures = examine(subject)
        replay(subject, job.recorded)
    except ContractBroken as error:
        raise ContractBroken(f"{name}: {error}") from error
    return figures


def bounded_pick(limit_s: float, policy: Scheduler, request: object, snapshot: object) -> object:
    """The policy's answer. Raises PolicyTimeout at the limit."""
    return bounded_running(limit_s, policy.pick, request, snapshot)


def bounded_running(limit_s: float, work: Callable[..., _T], *given: object) -> _T:
    """What `work` returns. Raises PolicyTimeout at the limit, but calls `work` again if it hardly ran: it slept, or the
    machine stood still, or this process waited for a processor, and then with a longer limit."""
    before_s, ran_s = waited_s(), time.thread_time
    began_s = ran_s()
    try:
        return bounded(limit_s, work, *given)
    except PolicyTimeout:
        if ran_s() - began_s > limit_s / 2:
            raise
    starved = waited_s() - before_s >= limit_s / 2
    return bounded(STARVED * limit_s if starved else limit_s, work, *given)


def waited_s() -> float:
    """Seconds that this thread was ready to run and had no processor; 0.0 where the kernel does not count them."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as counts:
            return int(counts.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _load(job: CheckJob, module: str) -> Loaded:
    try:
        return bounded_running(5 * LOAD_S, load, job.source, job.filename, module)
    except (PolicyTimeout, PolicyQuit) as error:
        raise PluginError(f"loading it {error}") from None


def _made(policy: type[Scheduler]) -> Scheduler:
    try:
        return policy()
    except (SchedulerError, TypeError, ValueError) as error:
        raise PluginError(f"it cannot be built with its defaults: {error}") from error


def _is_clean(sandbox: AuditSandbox, patches: PatchWatch) -> None:
    if problem := sandbox.seen or patches.problem():
        raise PluginError(problem)


def _pipe() -> Report:
    """Sends lines to the gateway. What the file writes to the descriptors 1 and 2 is discarded."""
    pipe = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    write, encode = os.write, msgspec.json.Encoder().encode

    def report(line: dict[str, object]) -> None:
        write(pipe, encode(line) + b"\n")

    return report


if __name__ == "__main__":
    main()
