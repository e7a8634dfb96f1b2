"""The load: `wrk`, one thread, told by a Lua script what to send and to report its sums as one line of JSON.

Everything but `run` is pure.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from string import Template
from typing import NamedTuple

from loadtests.bench.cases import SERIAL, Case, bodies

MARK = "TURNOUT-BENCH "

_SCRIPT = Template("""\
-- Bodies share one of some dozens of system prompts and end in a number of their own.
local before = { $before }
local after = { $after }
local serial = $serial
local groups = #before

function init(args)
  local head = "POST $path HTTP/1.1\\r\\nHost: bench\\r\\nContent-Type: application/json\\r\\n"
    .. "Content-Length: $length\\r\\n\\r\\n"
  for at = 1, groups do before[at] = head .. before[at] end
end

function request()
  serial = serial + 1
  local at = serial % groups + 1
  return before[at] .. string.format("$format", serial) .. after[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '$mark{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d,"bad_status":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
""")


class Load(NamedTuple):
    """What one run of wrk did."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Connections refused, reset or timed out."""
    bad_status: int
    """Answers that were not 2xx or 3xx."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.bad_status) / self.seconds


class LoadFailed(Exception):
    """wrk did not run to its end; the message holds what it said."""


def script(case: Case, first: int) -> str:
    """The Lua script of `case`; `first` is the first serial number, so that a later run repeats no prompt."""
    parts = bodies(case)
    return _SCRIPT.substitute(
        before=", ".join(_lua(before) for before, _ in parts),
        after=", ".join(_lua(after) for _, after in parts),
        serial=first,
        length=case.prompt_bytes,
        path="/v1/chat/completions",
        format=SERIAL,
        mark=MARK,
    )


def _lua(text: str) -> str:
    # Every escape that json.dumps makes of ASCII text means the same in a Lua string.
    return json.dumps(text)


def parse(output: str) -> Load:
    """Read the line that `done` wrote. Raises LoadFailed where there is none, or where nothing was done."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise LoadFailed(f"wrk did not report:\n{output}")
    sums = json.loads(line.removeprefix(MARK))
    if not sums["requests"]:
        raise LoadFailed("wrk got no answer at all")
    return Load(
        requests=sums["requests"],
        seconds=sums["duration_us"] / 1e6,
        p50_ms=sums["p50_us"] / 1e3,
        p99_ms=sums["p99_us"] / 1e3,
        failed=sums["failed"],
        bad_status=sums["bad_status"],
    )


def run(pin: list[str], url: str, case: Case, seconds: float, first: int, directory: Path) -> Load:
    """Load `url` for whole `seconds`; `pin` is the command prefix that ties wrk to a core."""
    path = directory / f"{case.name}-{first}.lua"
    path.write_text(script(case, first))
    command = [*pin, "wrk", "-t1", f"-c{case.connections}", f"-d{max(1, round(seconds))}s", "-s", str(path), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode:
        raise LoadFailed(done.stdout + done.stderr)
    return parse(done.stdout)
