"""The counts of a trial: by arm and replica, and summed over replicas. Values and their sums; nothing is judged here.

The structs are also the format that replicas share, in msgpack. A reader ignores unknown fields, so fields are only
added, with a default, and never change their meaning; `SCHEMA` grows with every addition.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec

from router.trials.durations import added

SCHEMA: Final = 5

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Amount = Annotated[float, msgspec.Meta(ge=0.0, le=1e30)]
"""What a number of another replica may be: neither negative nor NaN, and small enough for sums."""

_log = logging.getLogger("turnout.trials")


Histogram = dict[Count, Count]
"""Durations by bucket."""
Cells = dict[Count, Count]
"""Counts by cluster; of durations by cluster and group of buckets (`clusters.cell`)."""


class ArmFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One arm of a canary, as clients see it."""

    placed: Count = 0
    """Requests given to the arm; retries are not counted."""
    ended: Count = 0
    """Of these, the ones that are over; `ended - left` is what failures are a share of."""
    failures: Count = 0
    """Ended in a status of 500 or more, or in a cut stream."""
    left: Count = 0
    """Ended because the client went away, or because another pool took the request."""
    rejections: Count = 0
    """Requests that the policy had no pod for."""
    policy_failures: Count = 0
    """The policy failed, and the safe one decided."""
    ttft: Histogram = {}
    """Times to first token of streams."""
    ttft_sum_s: Amount = 0.0
    ttft_squares: Amount = 0.0
    unserved: Histogram = {}
    """Times that streams waited which ended without a first token: lower bounds of their time to first token."""
    waiting: Histogram = {}
    """Times that streams have waited so far for their first token: lower bounds likewise."""
    queries: Amount = 0.0
    """Prompt tokens; `hits` are those that the pod was expected to hold."""
    hits: Amount = 0.0
    slo_requests: Count = 0
    """Ended requests that were promised times."""
    slo_kept: Count = 0
    """Of these, the ones for which all times were kept."""
    whole: Histogram = {}
    """Times to the end of whole answers, those that are no streams and went well; then lower bounds likewise."""
    whole_unserved: Histogram = {}
    whole_waiting: Histogram = {}
    streamed: Histogram = {}
    """Times to the end of streams that went well."""
    pods: dict[str, Count] = {}
    """Requests by the pod that was picked first."""
    placed_by: Cells = {}
    """Requests by cluster; then those that are judged, and those that failed."""
    judged_by: Cells = {}
    failures_by: Cells = {}
    fuller_by: Cells = {}
    """Requests whose first pod was fuller than the pool's average; then durations, and prompt tokens."""
    ttft_by: Cells = {}
    whole_by: Cells = {}
    queries_by: Cells = {}
    hits_by: Cells = {}
    tpot: Histogram = {}
    """Times per token after the first one: of each stream the mean, from its first token to its end."""
    tpot_sum_s: Amount = 0.0
    tpot_by: Cells = {}


class SideFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """The choices of one of the two policies of a shadow run, over the requests that both saw."""

    picks: Count = 0
    rejections: Count = 0
    tokens: Amount = 0.0
    """Tokens in flight on the pods picked, summed over picks."""
    wait_s: Amount = 0.0
    """Expected wait there, likewise."""
    hits: Amount = 0.0
    """Prompt tokens that those pods were expected to hold."""
    pods: dict[str, Count] = {}
    """Picks by pod."""
    took: dict[Count, Count] = {}
    """Duration of picks, by bucket."""
    ttft_s: Amount = 0.0
    """Expected time to first token there, summed over picks."""


class ShadowFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """A shadow compared with the policy that decides."""

    sampled: Count = 0
    """Requests put aside."""
    dropped: Count = 0
    """Of these, dropped because too many waited."""
    compared: Count = 0
    """Requests for which both sides picked a pod."""
    agreed: Count = 0
    """Of these, the ones for which both picked the same pod."""
    failures: Count = 0
    queries: Amount = 0.0
    """Prompt tokens of the requests compared."""
    live: SideFigures = SideFigures()
    shadow: SideFigures = SideFigures()


class TrialFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """The counts of one replica for one trial."""

    v: Count = SCHEMA
    baseline: ArmFigures = ArmFigures()
    canary: ArmFigures = ArmFigures()
    shadow: ShadowFigures = ShadowFigures()
    before: Histogram = {}
    """Times to first token of all streams of the pool before the trial, on this replica."""
    during: Histogram = {}
    """Likewise since it began, requests that name their policy included."""
    of: str = ""
    """The identity of what is tried (`running.identity_of`); empty from replicas of an older version."""


class TrialReading(NamedTuple):
    """One pool's trial on this replica, now."""

    pool: str
    figures: TrialFigures
    has_canary: bool
    has_shadow: bool
    broken: bool
    """The canary's guard is."""


_Figures = TypeVar("_Figures", bound=msgspec.Struct)
_encode: Final[Callable[[TrialFigures], bytes]] = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(TrialFigures).decode


def pack(figures: TrialFigures) -> bytes:
    """The figures as bytes for the other replicas."""
    return _encode(figures)


def unpack(shared: Mapping[str, bytes]) -> dict[str, TrialFigures]:
    """The figures of each replica; those that cannot be read are left out and logged."""
    read: dict[str, TrialFigures] = {}
    for replica, packed in shared.items():
        try:
            read[replica] = _decode(packed)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            _log.warning("the trial figures of replica %s cannot be read and are left out: %s", replica, error)
    return read


def summed(figures: Iterable[_Figures], empty: _Figures) -> _Figures:
    """The sum of figures of one kind, field by field."""
    whole = empty
    for each in figures:
        whole = _plus(whole, each)
    return whole


def _plus(left: _Figures, right: _Figures) -> _Figures:
    fields = {name: _sum_of(getattr(left, name), getattr(right, name)) for name in left.__struct_fields__}
    return type(left)(**fields | ({"v": SCHEMA} if "v" in fields else {}))


def _sum_of(left: object, right: object) -> object:
    if isinstance(left, msgspec.Struct) and isinstance(right, msgspec.Struct):
        return _plus(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return added(left, right)
    if isinstance(left, str):
        return left or right
    assert isinstance(left, int | float) and isinstance(right, int | float)
    return left + right
