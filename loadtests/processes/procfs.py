"""What processes and cores used, read from /proc. It starts and ends nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used here."""

    parent: int
    cpu_s: float
    """User plus system time."""


class Usage(NamedTuple):
    """Readings at one moment, or the difference of two."""

    cpu_s: float
    """User and system time of the processes."""
    rss_bytes: int
    cores_s: tuple[float, ...]
    """Busy time of each core, by any process."""

    def since(self, before: Usage) -> Usage:
        """Times from `before` to this reading; the memory is this reading's."""
        cores = tuple(now - then for now, then in zip(self.cores_s, before.cores_s, strict=True))
        return Usage(self.cpu_s - before.cpu_s, self.rss_bytes, cores)


def parse_stat(text: str) -> Stat:
    """Read /proc/PID/stat. The name in brackets may itself hold brackets and blanks: the last bracket ends it."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), cpu_s=(int(fields[11]) + int(fields[12])) * TICK_S)


def stats() -> dict[int, Stat]:
    """All present processes by pid."""
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = parse_stat(Path(entry.path, "stat").read_text())
            except OSError:
                continue  # it ended since the directory was read
    return found


def family(pid: int, every: dict[int, Stat]) -> Iterator[int]:
    """`pid` and all its descendants."""
    yield pid
    for child, stat in every.items():
        if stat.parent == pid:
            yield from family(child, every)


def read(pids: Sequence[int]) -> Usage:
    """What `pids` have used so far. Processes that have ended count as zero."""
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
