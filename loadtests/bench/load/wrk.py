"""The load for whole answers: `wrk`, one thread, with a Lua script that makes the requests and prints one line of JSON.

wrk is in C: a client in Python would need more CPU than the gateway that is measured. Everything but `run` is pure.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from string import Template

from loadtests.bench.load.cases import ACTIVE, SERIAL, Case, bodies
from loadtests.bench.load.result import Load, LoadFailed

MARK = "TURNOUT-BENCH "
PATH = "/v1/chat/completions"
TIMEOUT_S = 10
"""An answer that takes longer has failed: far longer than any takes that a busy machine delays."""

_SCRIPT = Template("""\
-- Conversations share one of some dozens of system prompts and have a number of their own; see place() in cases.py.
local before = { $before }
local after = { $after }
local number = $first
local active, turns = $active, $turns
local groups = #before / turns

function init(args)
  for at = 1, #before do
    before[at] = "POST $path HTTP/1.1\\r\\nHost: bench\\r\\nContent-Type: application/json\\r\\nContent-Length: "
      .. (#before[at] + $digits + #after[at]) .. "\\r\\n\\r\\n" .. before[at]
  end
end

function request()
  local conversation = math.floor(number / (active * turns)) * active + number % active
  local at = conversation % groups * turns + math.floor(number / active) % turns + 1
  number = number + 1
  return before[at] .. string.format("$format", conversation) .. after[at]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '$mark{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"failed":%d,"bad_status":%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
""")


def script(case: Case, first: int) -> str:
    """The Lua script of `case`; `first` is its first request's number, so that a later run repeats no prompt."""
    parts = bodies(case)
    return _SCRIPT.substitute(
        before=", ".join(_lua(before) for before, _ in parts),
        after=", ".join(_lua(after) for _, after in parts),
        first=first,
        active=ACTIVE,
        turns=case.turns,
        digits=len(SERIAL % 0),
        path=PATH,
        format=SERIAL,
        mark=MARK,
    )


def _lua(text: str) -> str:
    # The escapes of json.dumps for ASCII text mean the same in a Lua string.
    return json.dumps(text)


def parse(output: str) -> Load:
    """Read the line that `done` wrote. Raises LoadFailed if there is none, or no request was answered."""
    line = next((line for line in output.splitlines() if line.startswith(MARK)), None)
    if line is None:
        raise LoadFailed(f"wrk printed no result:\n{output}")
    sums = json.loads(line.removeprefix(MARK))
    if not sums["requests"]:
        raise LoadFailed("wrk got no answer")
    return Load(
        requests=sums["requests"],
        seconds=sums["duration_us"] / 1e6,
        p50_ms=sums["p50_us"] / 1e3,
        p99_ms=sums["p99_us"] / 1e3,
        failed=sums["failed"],
        bad_status=sums["bad_status"],
    )


def run(pin: list[str], url: str, case: Case, seconds: int, first: int, directory: Path) -> Load:
    """Load `url` for `seconds`; `pin` is the command prefix that ties wrk to a core. Raises LoadFailed."""
    path = directory / "wrk.lua"
    path.write_text(script(case, first))
    command = [*pin, "wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "-s", str(path)]
    command += ["--timeout", f"{TIMEOUT_S}s", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 20)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed("wrk did not end in time") from error
    if done.returncode:
        raise LoadFailed(done.stdout + done.stderr)
    return parse(done.stdout)
