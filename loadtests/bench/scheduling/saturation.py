"""The rate at which each workload saturates 8 pods, from `saturation.json`. It finds none: see `find_saturation.py`.

The gateway's own policies have no part in these rates, so that loads which are fractions of them favour none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from loadtests.bench.scheduling.halves import Half
from loadtests.sim.simulate.traces import TraceError

FILE: Final = Path(__file__).with_name("saturation.json")
COMMAND: Final = "python -m loadtests.bench.scheduling.find_saturation"


class Saturation(msgspec.Struct, frozen=True):
    """Of one half of a workload."""

    rate: float
    """Factor on the workload's rate, for 8 pods."""
    limit_s: float
    """The p90 of time to first token that was held."""
    by: str
    """The one that held it."""


class SaturationTable(msgspec.Struct, frozen=True):
    """The file."""

    command: str
    """What found it."""
    found: dict[str, Saturation]
    """By workload and half, such as `rag/tune`."""


def read_saturations(file: Path = FILE) -> Mapping[str, Saturation]:
    """What was found. Raises OSError, msgspec.MsgspecError."""
    return msgspec.json.decode(file.read_bytes(), type=SaturationTable).found


@cache
def saturation(name: str, half: Half) -> Saturation:
    """That of a half of a workload. Raises TraceError where none was found yet; OSError."""
    found = read_saturations().get(f"{name}/{half}")
    if found is None:
        raise TraceError(f"{FILE.name} has no rate for the {half} half of {name}: run {COMMAND} --traces {name}")
    return found
