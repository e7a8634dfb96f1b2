"""What requests are promised: by their pool's settings, and by their own headers. Pure; knows no pod and no policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from router.errors import BadRequest
from router.settings import Pool
from schedulers.types import Slo

TTFT: Final = b"x-turnout-slo-ttft-ms"
TPOT: Final = b"x-turnout-slo-tpot-ms"

MOST_MS: Final = 1e9
"""Longest time that a header may ask for: eleven days."""


def pool_slos(pools: Sequence[Pool]) -> Mapping[str, Slo]:
    """What the pools promise, of those that promise anything."""
    return {pool.name: Slo(pool.slo.ttft_s, pool.slo.tpot_s) for pool in pools if pool.slo.ttft_s or pool.slo.tpot_s}


def asked_slo(header_map: Mapping[bytes, bytes], pool: Slo) -> Slo | None:
    """What a request with one of the headers is promised: theirs, and the pool's where a header is absent. 0 asks for
    nothing; None where nothing is left. Raises BadRequest."""
    slo = Slo(_seconds(header_map, TTFT, pool.ttft_s), _seconds(header_map, TPOT, pool.tpot_s))
    return slo if slo.ttft_s or slo.tpot_s else None


def _seconds(header_map: Mapping[bytes, bytes], name: bytes, otherwise: float) -> float:
    value = header_map.get(name)
    if value is None:
        return otherwise
    try:
        milliseconds = float(value)
    except ValueError:
        milliseconds = -1.0
    if not 0.0 <= milliseconds <= MOST_MS:
        raise BadRequest(f"The header {name.decode()} must be a number of milliseconds, 0 for none.")
    return milliseconds / 1000
