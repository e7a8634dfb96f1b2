"""Reading callgrind's dumps, and callgrind itself where it is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.bench.guard.counted import CALIBRATION, calibrate
from loadtests.bench.guard.counting import CountingFailed, counts, total
from loadtests.bench.guard.script import PHASES
from loadtests.bench.guard.valgrind import MACHINES, Callgrind

DUMP = """# callgrind format
version: 1
part: 1
desc: Timerange: Basic block 0 - 68855
desc: Trigger: Client Request: {name}

positions: line
events: Ir
summary: 99

fn=(0)
+5 2

totals: {total}
"""

TOTALS = {CALIBRATION: 700, **{phase.name: 1000 * (at + 1) for at, phase in enumerate(PHASES)}}


def test_a_dump_is_read_by_its_name() -> None:
    assert total([DUMP.format(name="whole 1.2 KB", total=258673), DUMP.format(name="b", total=2)]) == {
        "whole 1.2 KB": 258673,
        "b": 2,
    }


def test_the_dump_at_the_programs_end_has_no_name_and_is_ignored() -> None:
    assert total([DUMP.replace("Client Request: {name}", "Program termination").format(total=5)]) == {}


def test_counts_are_per_request() -> None:
    found = counts(TOTALS, turns=10)
    assert found.calibration == 700
    assert found.each[f"request, {PHASES[1].name}"] == 200


def test_the_cost_of_a_chunk_is_the_extra_cost_of_the_long_stream() -> None:
    short, long = [phase for phase in PHASES if phase.chunks]
    found = counts({**TOTALS, short.name: 5000, long.name: 5000 + 63 * 20 * 10}, turns=10)
    assert (short.chunks, long.chunks) == (1, 64)
    assert found.each["chunk of a stream"] == 20


def test_a_phase_that_was_not_counted_is_named() -> None:
    lacking = {name: number for name, number in TOTALS.items() if name != PHASES[2].name}
    with pytest.raises(CountingFailed, match=f"nothing for: {PHASES[2].name}"):
        counts(lacking)


def test_the_calibration_has_the_same_count_each_time() -> None:
    assert calibrate() == calibrate() > 0


@pytest.mark.skipif("x86_64" not in MACHINES or sys.platform != "linux", reason="no client requests here")
def test_client_requests_do_nothing_without_valgrind() -> None:
    callgrind = Callgrind()
    assert not callgrind.present
    callgrind.start()
    callgrind.zero()
    callgrind.dump("nothing")


@pytest.mark.slow
@pytest.mark.needs("valgrind")
def test_twice_the_work_is_twice_the_count(tmp_path: Path) -> None:
    program = """
from loadtests.bench.guard.valgrind import Callgrind
callgrind = Callgrind()
assert callgrind.present
def work(n): return sum(at * at for at in range(n))
work(2000)
callgrind.start()
for n in (20000, 40000):
    callgrind.zero()
    work(n)
    callgrind.dump(str(n))
"""
    command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={tmp_path}/out"]
    subprocess.run([*command, sys.executable, "-c", program], check=True, capture_output=True, timeout=200.0)
    found = total(path.read_text() for path in tmp_path.glob("out.*"))
    assert set(found) == {"20000", "40000"}
    assert found["40000"] / found["20000"] == pytest.approx(2, rel=0.05)
