"""Workloads by name, as `turnout simulate` takes them in the place of a file: `rag`, or `rag:documents=500,seed=3`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from loadtests.sim.simulate.traces import Trace, TraceError, read_trace
from loadtests.sim.workloads.adapters import Adapters, adapters
from loadtests.sim.workloads.batches import Batches, batches
from loadtests.sim.workloads.bursts import Bursts, bursts
from loadtests.sim.workloads.documents import Documents, documents
from loadtests.sim.workloads.rag import Rag, rag

SEED: Final = "seed"


class Generator(NamedTuple):
    """A workload: its shape with the usual values, and the function that makes a trace of it."""

    shape: type[msgspec.Struct]
    make: Callable[[Any, int], Trace]


WORKLOADS: Final[Mapping[str, Generator]] = MappingProxyType(
    {
        "rag": Generator(Rag, rag),
        "adapters": Generator(Adapters, adapters),
        "bursts": Generator(Bursts, bursts),
        "documents": Generator(Documents, documents),
        "batches": Generator(Batches, batches),
    }
)


def trace_of(source: str, *, seed: int = 0) -> Trace:
    """A generated workload by its name, or a recorded trace by its path. Raises TraceError, OSError.

    `seed` is that of the generator, unless the source names another, or of the spreading of a recording's stamps.
    """
    name, _, rest = source.partition(":")
    found = WORKLOADS.get(name)
    if found is None:
        return read_trace(Path(source), seed=seed)
    given: dict[str, Any] = dict(_pair(each, source) for each in rest.split(",") if each)
    try:
        seed = msgspec.convert(given.pop(SEED, seed), int, strict=False)
        shape = msgspec.convert(given, found.shape, strict=False)
    except msgspec.ValidationError as error:
        fields = ", ".join((*found.shape.__struct_fields__, SEED))
        raise TraceError(f"{source}: {error}; {name} takes {fields}") from None
    return found.make(shape, seed)


def _pair(text: str, source: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise TraceError(f"{source}: {text!r} is not key=value")
    return key, value
