"""What is to be checked, and what came of it: the values between the gateway and the process that checks."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from router.plugins.examples import Example


class CheckJob(NamedTuple):
    """One file to check."""

    source: bytes
    filename: str
    """For messages; the file is not read."""
    path: Sequence[str]
    """`sys.path` of the gateway: what the file may import there it may import here."""
    memory_bytes: int
    timeout_s: float
    recorded: Sequence[Example] = ()
    """Requests and snapshots that the gateway has had."""


class CheckReport(NamedTuple):
    """What came of it."""

    file: str
    digest: str
    policies: tuple[str, ...] = ()
    """Their own names."""
    problem: str = ""
    """Why the file is not offered; empty if it is."""
    load_s: float = 0.0
    pick_us: Mapping[str, Mapping[str, float]] = {}
    """By policy and number of pods: the quickest of some picks."""
    replayed: int = 0
    """Requests of the gateway that it was shown."""
    took_s: float = 0.0
    """The whole check."""

    @property
    def names(self) -> tuple[str, ...]:
        """What its policies are offered as."""
        return tuple(f"{name}@{self.digest}" for name in self.policies)


def packed(job: CheckJob) -> bytes:
    """For the pipe."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(job)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Read-only mappings cannot be pickled; a dict does for a copy."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Mapping) and not isinstance(thing, dict):
            return dict, (dict(thing),)
        return NotImplemented
