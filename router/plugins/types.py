"""A check's job and its report: the values between the gateway and the process that checks."""

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
    """`sys.path` of the gateway, so that the file can import the same modules here."""
    memory_bytes: int
    timeout_s: float
    recorded: Sequence[Example] = ()
    """Requests of the gateway, with their snapshots."""


class CheckReport(NamedTuple):
    """The result of a check."""

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
    """How many requests of the gateway were replayed."""
    took_s: float = 0.0
    """Seconds of the whole check."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which its policies are offered."""
        return tuple(f"{name}@{self.digest}" for name in self.policies)


def packed(job: CheckJob) -> bytes:
    """The job as bytes for the pipe."""
    buffer = io.BytesIO()
    _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(job)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Replaces read-only mappings, which cannot be pickled, by dicts."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, Mapping) and not isinstance(thing, dict):
            return dict, (dict(thing),)
        return NotImplemented
