"""The machine, the versions and the load under which figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version


def description(gateway_python: str) -> dict[str, str]:
    """By the name in the report."""
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "cpu": cpu_model(_text("/proc/cpuinfo")),
        "cores": str(os.cpu_count()),
        "memory": memory(_text("/proc/meminfo")),
        "kernel": f"{platform.system()} {platform.release()}",
        "gateway's Python": python_build(gateway_python),
        "libraries": ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "msgspec")),
        "load generator": wrk_version(),
        "load average at start": load_average(),
    }


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


def cpu_model(cpuinfo: str) -> str:
    """The first core's model name."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "unknown")


def memory(meminfo: str) -> str:
    """Total memory, rounded to GB."""
    total = next((line.split()[1] for line in meminfo.splitlines() if line.startswith("MemTotal:")), "0")
    return f"{int(total) * 1024 / 1e9:.0f} GB"


def load_average() -> str:
    """Of the last 1, 5 and 15 minutes."""
    return ", ".join(f"{load:.2f}" for load in os.getloadavg())


def commit() -> str:
    """The commit that is measured, and whether the sources differ from it."""
    known = _output("git", "rev-parse", "--short=12", "HEAD")
    if not known:
        return "unknown"
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", "router", "schedulers", "statesync")
    return f"{known}, with changes not committed" if changed else known


_ASK_BUILD = """
import platform, time, timeit
least = min(timeit.repeat("sum(i * i for i in range(10_000))", timer=time.process_time, number=1, repeat=99))
print(platform.python_implementation(), platform.python_version() + ",", f"{least * 1e5:.0f} ns a step of a plain loop")
"""


def python_build(program: str) -> str:
    """Version and speed of a Python: built without PGO and LTO it takes up to twice the CPU time for the same work,
    which its build flags do not always show.
    """
    return _output(program, "-c", _ASK_BUILD) or "unknown"


def wrk_version() -> str:
    """`wrk 4.1.0`, and the stream load."""
    found = _output("wrk", "-v").split()
    name = " ".join(found[:2]) if found[:1] == ["wrk"] else "wrk"
    return f"{name} for whole answers, loadtests/bench/load/streams.py for streams"


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
