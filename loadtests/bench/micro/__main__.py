"""`make bench-micro`: run the microbenchmarks, write docs/benchmarks/ and the marked part of docs/benchmarks.md.

It measures the packages installed for the Python that runs it: the compiled ones if there is a compiler.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loadtests.bench.micro import report
from loadtests.bench.micro.plot import svg
from loadtests.bench.micro.report import GROUPS, Result
from loadtests.report import files, machine
from loadtests.report.tables import between
from schedulers.policies import prefix_aware

HERE = Path(__file__).parent
LIBRARIES = ("msgspec", "httptools", "xxhash", "pytest-benchmark")
BEGIN, END = "<!-- micro: begin -->", "<!-- micro: end -->"


def measure(arguments: Sequence[str]) -> dict[str, Any]:
    """Run pytest-benchmark; its JSON. Raises SystemExit when a benchmark failed."""
    with tempfile.TemporaryDirectory(prefix="turnout-micro-") as directory:
        out = Path(directory) / "micro.json"
        status = pytest.main(["-c", str(HERE / "pytest.ini"), str(HERE), f"--benchmark-json={out}", *arguments])
        if status:
            sys.exit(int(status))
        found: dict[str, Any] = json.loads(out.read_text())
        return found


def circumstances(found: Mapping[str, Any], load_before: float) -> dict[str, object]:
    """Commit, versions and machine, without the machine's name."""
    cpu = found["machine_info"]["cpu"]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": machine.commit(),
        "python": platform.python_version(),
        "build": "pure" if str(prefix_aware.__file__).endswith(".py") else "compiled by mypyc",
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "cpu": cpu.get("brand_raw", platform.machine()),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load_average": [round(load_before, 2), round(os.getloadavg()[0], 2)],
    }


def section(about: Mapping[str, Any], every: Sequence[Result]) -> str:
    """The text between the marks."""
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    before, after = about["load_average"]
    where = (
        f"Measured {about['date']} at commit {about['commit']}: {about['cpu']}, {about['cores']} cores, "
        f"{about['system']}, Python {about['python']}, {about['build']}, {libraries}; "
        f"load average {before} before, {after} after."
    )
    parts = [where]
    for name, group in GROUPS.items():
        parts.append(f"### {group.title}")
        if group.unit:
            parts.append(f"![{group.title}](benchmarks/{file_name(name)})")
        parts.append(report.table(name, every))
    return "\n\n".join(parts)


def file_name(group: str) -> str:
    """The file name of its plot."""
    return "micro-" + re.sub(r"\W+", "-", group) + ".svg"


def write(docs: Path, about: Mapping[str, Any], every: Sequence[Result]) -> None:
    """The page, the plots and the JSON."""
    folder = docs / "benchmarks"
    folder.mkdir(exist_ok=True)
    page = docs / "benchmarks.md"
    page.write_text(between(page.read_text(), BEGIN, END, section(about, every)))
    for name, group in GROUPS.items():
        if group.unit:
            (folder / file_name(name)).write_text(svg(group.title, group.unit, report.points(name, every)))
    kept = {**about, "results": [one._asdict() for one in every]}
    files.write_json(folder / "micro.json", kept)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.micro", description=__doc__)
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where benchmarks.md is")
    parser.add_argument("--huge", action="store_true", help="also an index of 10 million blocks: 5 GB and a minute")
    parser.add_argument("--passes", type=int, default=3, help="over all of it; the best round of all of them counts")
    chosen = parser.parse_args(argv)
    load_before = os.getloadavg()[0]
    passes = [measure(["--huge"] if chosen.huge else []) for _ in range(chosen.passes)]
    every = report.merged([report.results(found) for found in passes])
    write(chosen.docs, circumstances(passes[0], load_before), every)


if __name__ == "__main__":
    main()
