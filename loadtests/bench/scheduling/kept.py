"""Rows of earlier runs, by everything that decides them: an interrupted bench goes on, and where only a policy of the
gateway changed, the peers' rows are taken from the run before. It plays nothing.

A row's name is a digest of its job and of the sources and traces that it is played with.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from loadtests.bench.scheduling.cases import Job
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.summary import Row

ROOT: Final = Path(__file__).parents[3]
SIMULATOR: Final = (
    "loadtests/sim/engine",
    "loadtests/sim/peers",
    "loadtests/sim/simulate",
    "loadtests/sim/workloads",
    "loadtests/traces",
    "loadtests/bench/scheduling/halves.py",
    "loadtests/bench/scheduling/play.py",
    "loadtests/bench/scheduling/suite.py",
    "schedulers/types.py",
)
"""What every run is played with."""
GATEWAY: Final = (*SIMULATOR, "schedulers", "statesync")
"""What a run of the gateway's own policies is played with."""


class KeptRows:
    """A folder of rows; without one, nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def find(self, job: Job) -> Row | None:
        """The row of an equal job with the same sources."""
        file = self._file(job)
        return msgspec.json.decode(file.read_bytes(), type=Row) if file is not None and file.exists() else None

    def keep(self, job: Job, row: Row) -> None:
        """For later runs."""
        file = self._file(job)
        if file is not None:
            written = file.with_suffix(".new")
            written.write_bytes(msgspec.json.encode(row))
            written.replace(file)

    def _file(self, job: Job) -> Path | None:
        if self._folder is None:
            return None
        sources = digest(ROOT, SIMULATOR if job.policy in PEERS else GATEWAY)
        return self._folder / f"{hashlib.sha256(f'{job!r} {sources}'.encode()).hexdigest()[:32]}.json"


NONE_KEPT: Final = KeptRows(None)


@cache
def digest(root: Path, paths: tuple[str, ...]) -> str:
    """Of the files at these paths and below them."""
    found = hashlib.sha256()
    for path in paths:
        under = root / path
        for file in sorted(under.rglob("*")) if under.is_dir() else [under]:
            if file.is_file() and file.suffix != ".pyc":
                found.update(f"{file.relative_to(root)}\n".encode())
                found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
