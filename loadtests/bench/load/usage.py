"""What processes and cores used, read from /proc. It starts and ends nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.load.process import TICK_S, parse_stat

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Readings at one moment, or what lies between two."""

    cpu_s: float
    """User and system time of the processes."""
    rss_bytes: int
    cores_s: tuple[float, ...]
    """Time that each core was busy, whoever kept it so."""

    def since(self, before: Usage) -> Usage:
        """Times from `before` to here; the memory is what it is now."""
        cores = tuple(now - then for now, then in zip(self.cores_s, before.cores_s, strict=True))
        return Usage(self.cpu_s - before.cpu_s, self.rss_bytes, cores)


def read(pids: Sequence[int]) -> Usage:
    """What `pids` used so far. Those that are gone count for nothing."""
    cpu_s, pages = 0.0, 0
    for pid in pids:
        try:
            cpu_s += parse_stat(Path(f"/proc/{pid}/stat").read_text()).cpu_s
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return Usage(cpu_s, pages * PAGE_BYTES, busy(Path("/proc/stat").read_text()))


def busy(text: str) -> tuple[float, ...]:
    """Seconds that each core of /proc/stat was busy: all its columns but idle and iowait."""
    cores = [line.split()[1:9] for line in text.splitlines() if line.startswith("cpu") and not line.startswith("cpu ")]
    return tuple((sum(map(int, each)) - int(each[3]) - int(each[4])) * TICK_S for each in cores)
