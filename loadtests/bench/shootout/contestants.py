"""Who takes part: how each is started, and which policy of the simulator stands for it. One row of the table each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from loadtests.bench.routers import wheels
from loadtests.bench.routers.peers import Place, Start, nginx_version, start_nginx, start_rust, start_turnout
from loadtests.bench.routers.wheels import Missing

COMPILED: Final = Path(".venv-compiled/bin/python")
STAMP: Final = Path(".venv-compiled/.turnout-compiled")
"""Is there while the build is whole."""
STRETCHES: Final = 3


class Contestant(NamedTuple):
    """A row of the report."""

    start: Callable[[Place], Start]
    """Raises Missing."""
    version: Callable[[], str]
    what: str
    twin: str = ""
    """The policy or peer of `turnout simulate` that is to decide as it does; empty where there is none."""
    stretches: int = STRETCHES
    """Of each traffic."""
    ours: bool = False

    @property
    def rival(self) -> bool:
        """Whether it routes for language models, as this gateway does."""
        return bool(self.twin) and not self.ours


def start_compiled(place: Place) -> Start:
    """This gateway as `make compiled` builds it. Raises Missing where that was not done."""
    if not STAMP.exists():
        raise Missing(f"there is no whole build in {STAMP.parent} here: run `make compiled` first")
    return start_turnout("turnout", place._replace(python=str(COMPILED.absolute())))


def _ours(start: Callable[[Place], Start], what: str) -> Contestant:
    return Contestant(start, functools.partial(version, "turnout"), what, "prefix_aware", ours=True)


def _wheel(name: str, what: str, twin: str = "") -> Contestant:
    return Contestant(functools.partial(start_rust, name, ""), functools.partial(wheels.version, name), what, twin)


CONTESTANTS: Final[Mapping[str, Contestant]] = MappingProxyType(
    {
        "turnout": _ours(functools.partial(start_turnout, "turnout"), "prefix_aware, default settings, pure Python"),
        "sglang-router": _wheel("sglang-router", "its default, cache_aware", "sglang_cache_aware"),
        "vllm-router": _wheel("vllm-router", "its default, cache_aware", "sglang_cache_aware"),
        "smg": _wheel("smg", "its default, cache_aware", "smg_cache_aware"),
        "turnout-compiled": _ours(start_compiled, "the same, its hot modules compiled"),
        "nginx": Contestant(
            functools.partial(start_nginx, method="least_conn"), nginx_version, "least_conn, no prefixes", stretches=1
        ),
    }
)
"""By the name in the report, the most important first."""
