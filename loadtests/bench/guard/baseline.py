"""Counts against the stored ones: what changed, and whether that is too much. Pure, but for reading and writing the
baseline's file.

Counts depend on the interpreter's build as much as on our code, so a baseline belongs to a Python version and a
machine, and the calibration shows whether it is the same build.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

LIMIT = 0.10
"""More instructions than the baseline's by this share fail."""

SAME_BUILD = 0.02
"""Largest difference of the calibration at which two counts can be compared."""

FILE = Path(__file__).with_name("baseline.json")


class Counts(NamedTuple):
    """Instructions, as counted on one interpreter."""

    calibration: int
    each: Mapping[str, float]
    """By what is counted: a request of a phase, or a chunk."""


class _Entry(TypedDict):
    calibration: int
    each: dict[str, float]


class Change(NamedTuple):
    """One count, before and now."""

    name: str
    before: float | None
    """None for what the baseline does not have."""
    now: float

    @property
    def share(self) -> float:
        """0.1 for a tenth more; 0.0 where there is nothing to compare with."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def too_much(self) -> bool:
        """Whether it fails."""
        return self.share > LIMIT


def changes(before: Counts, now: Counts) -> list[Change]:
    """Every count of `now` against the baseline."""
    return [Change(name, before.each.get(name), count) for name, count in now.each.items()]


def comparable(before: Counts, now: Counts) -> bool:
    """Whether both were counted on the same build of the interpreter."""
    return abs(now.calibration / before.calibration - 1) <= SAME_BUILD


def table(rows: list[Change]) -> str:
    """The report, line by line."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'instructions for each':{width}}  {'baseline':>10}  {'now':>10}  change"]
    for row in rows:
        before = f"{row.before:>10,.0f}" if row.before else f"{'-':>10}"
        verdict = f"  MORE THAN +{LIMIT:.0%}" if row.too_much else ""
        change = f"{row.share:+7.2%}" if row.before else "    new"
        lines.append(f"{row.name:{width}}  {before}  {row.now:>10,.0f}  {change}{verdict}")
    return "\n".join(lines)


def load(key: str, file: Path = FILE) -> Counts | None:
    """The baseline of `key`; None where there is none."""
    found = _read(file).get(key)
    return None if found is None else Counts(found["calibration"], found["each"])


def save(key: str, counts: Counts, file: Path = FILE) -> None:
    """Make `counts` the baseline of `key`; those of other keys stay."""
    every = _read(file) | {key: _Entry(calibration=counts.calibration, each=dict(counts.each))}
    file.write_text(json.dumps(every, indent=1, sort_keys=True) + "\n")


def _read(file: Path) -> dict[str, _Entry]:
    if not file.exists():
        return {}
    found: dict[str, _Entry] = json.loads(file.read_text())
    return found
