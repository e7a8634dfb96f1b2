"""The values that pass between the gateway and a policy.

Only frozen values live here; nothing here reads a clock, draws random numbers or does I/O. They are NamedTuples rather
than frozen dataclasses because they are built per request: 0.5 us against 2.5 us for a `RequestInfo` (a frozen
dataclass sets each field through `object.__setattr__`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, NewType, TypeVar

from schedulers.ttft import IDLE_PACE_S, PRIOR, outlook

_T = TypeVar("_T")

PodId = NewType("PodId", str)
"""Stable identity of a pod: its address, or its UID in Kubernetes. Also the metric label and the header value."""

Role = Literal["both", "prefill", "decode"]

PREFIX_BLOCK_TOKENS: Final = 64
"""Prompt tokens a block, the unit of `RequestInfo.prefix_hits`."""

BYTES_PER_TOKEN: Final = 4
"""Prompt bytes a token, for estimates without a tokenizer (English text and code with current vocabularies)."""

DECODE_TOKENS_EACH: Final = 64.0
"""Tokens by which one request in flight delays the next prompt, beside its own tokens: a small term for near-ties.

A decode step shares the engine with a prefill chunk. At the published 6 ms + 0.35 ms a running request and 8k prefill
tokens a second, one more running request delays a prefill by the time of a few dozen tokens.
"""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_NO_HITS: Mapping[PodId, int] = MappingProxyType({})
NOWHERE: Mapping[str, str] = {}  # no proxy: snapshots are copied and pickled


class Pod(NamedTuple):
    """One engine instance that can be routed to."""

    id: PodId
    address: str
    """`host:port`, IPv6 hosts in brackets."""
    models: frozenset[str] = frozenset()
    """Models the pod serves; empty means those of its pool."""
    role: Role = "both"
    labels: Mapping[str, str] = _NOTHING
    """Free labels such as `cluster` and `zone`."""
    max_inflight: int | None = None
    """Most requests in flight at a time; None is no limit, 0 is learned."""
    unready: str = ""
    """Why discovery keeps the pod out of the rotation: `not_ready`, `terminating`; empty if it does not. Such a pod
    keeps its streams and its recorded state, and is never a candidate."""


class Adapters(NamedTuple):
    """LoRA adapters in an engine, from its report."""

    active: frozenset[str] = frozenset()
    """Used by requests in its batch."""
    waiting: frozenset[str] = frozenset()
    """Needed by requests in its queue."""
    limit: int = 0
    """Most adapters active at a time; 0 if not reported."""


NO_ADAPTERS = Adapters()

Promised = tuple[tuple[float, float], ...]
"""Seconds between two tokens that requests were promised, and the sum of those requests' weights (`slo.weight`)."""


class PodLoad(NamedTuple):
    """A pod's load, over all replicas. Counts are never negative. Fields marked "report" come from the engine."""

    queued: int = 0
    """Report: requests that wait inside the engine."""
    running: int = 0
    """Report: requests in the engine's batch."""
    kv_usage: float = 0.0
    """Report: share of the engine's KV cache in use, 0..1."""
    inflight: int = 0
    """Requests dispatched and not finished."""
    inflight_tokens: int = 0
    """Prompt plus expected answer tokens of those requests."""
    pending_prefill_tokens: int = 0
    """Uncached prompt tokens of requests whose first token has not come back yet."""
    ttft_ewma_s: float = 0.0
    """Moving average of the time to first token; 0.0 before the first answer."""
    reported_at: float = 0.0
    """Time of the last report, on the replica's monotonic clock; 0.0 before the first."""
    prefilling: int = 0
    """Requests whose first token has not come back yet."""
    prefill_work: int = 0
    """Their prefill work, in token equivalents (`ttft.prefill_work`)."""
    head_since: float = 0.0
    """When the engine began with the first of them, on the replica's monotonic clock; meaningless if there is none."""
    pace_s: float = IDLE_PACE_S
    """Seconds a token equivalent takes on this pod, decode steps meanwhile included (`ttft.pace`)."""
    kv_capacity_tokens: int = 0
    """Report: tokens the engine's KV cache holds; 0 if not reported."""
    e2e_ewma_s: float = 0.0
    """Moving average of a request's time on this pod, in seconds; 0.0 before the first has ended."""
    adapters: Adapters = NO_ADAPTERS
    """Report: LoRA adapters in use."""
    foreign: int = 0
    """Report: requests in the engine that no gateway sent."""
    promised: Promised = ()
    """What the requests in flight there were promised."""
    step_s: float = PRIOR.step_s
    """Seconds a decode step of its requests takes."""
    kv_share: float = 1.0
    """KV tokens for a token of `inflight_tokens`, from reports: below 1 where requests share prefixes."""


class Candidate(NamedTuple):
    """A pod that a policy may pick, and its load."""

    pod: Pod
    load: PodLoad


def expected_outlook(load: PodLoad) -> tuple[float, float]:
    """When the pod could begin with one more prompt, and the least wait until then: `ttft.outlook`."""
    return outlook(load.prefilling, load.prefill_work, load.head_since, load.pace_s, load.step_s)


def token_load(load: PodLoad) -> float:
    """A pod's load, in tokens: tokens in flight, plus 64 a request in flight and a foreign request.

    Tokens, because a prompt of 100,000 tokens and one of ten are both one request: on a production trace, routing by
    tokens in flight halves the mean time to first token against p2c on requests. A request's cost beside its tokens (a
    row in every decode step) is `DECODE_TOKENS_EACH`. Foreign requests count at that rate, since their tokens are not
    known. The engine's reported queue does not count: it is up to a scrape old and mostly in flight anyway. When it
    did, a pod scraped in the middle of a burst got nothing of the next one.
    """
    return load.inflight_tokens + DECODE_TOKENS_EACH * (load.inflight + load.foreign)


def queue_length(load: PodLoad) -> float:
    """The larger of the engine's reported queue and the requests whose first token has not come back. The report is up
    to a scrape old; by the report alone, a burst in between would go to one pod."""
    return float(load.queued if load.queued > load.prefilling else load.prefilling)


class Columns(NamedTuple):
    """One number of each candidate, in the candidates' order, so that a policy takes a minimum at C speed."""

    tokens: tuple[float, ...]
    """`token_load`."""
    until: tuple[float, ...]
    """When the candidate could begin with one more prompt (`ttft.outlook`)."""
    wait: tuple[float, ...]
    """Seconds that one more prompt waits there at least."""
    pace: tuple[float, ...]
    """`PodLoad.pace_s`."""
    queue: tuple[float, ...]
    """`queue_length`."""
    kv_usage: tuple[float, ...]
    """`PodLoad.kv_usage`."""


def columns_of(loads: Sequence[PodLoad]) -> Columns:
    """The columns of candidates with these loads. `loads` is not empty."""
    until, wait = zip(*[expected_outlook(load) for load in loads], strict=True)
    return Columns(
        tokens=tuple([token_load(load) for load in loads]),
        until=until,
        wait=wait,
        pace=tuple([load.pace_s for load in loads]),
        queue=tuple([queue_length(load) for load in loads]),
        kv_usage=tuple([load.kv_usage for load in loads]),
    )


class LoadSnapshot(NamedTuple):
    """A pool's routable pods and their load at one moment; never empty.

    The gateway's load view keeps the columns up to date and hands them out. Everything else makes a snapshot by
    `LoadSnapshot.of`, which computes them from the candidates.
    """

    pool: str
    generation: int
    """Counts the changes of the pool's membership."""
    taken_at: float
    """Seconds on the replica's monotonic clock."""
    unseen: float
    """Estimated dispatches of other replicas that the loads do not show yet: their rate times the view's age."""
    candidates: tuple[Candidate, ...]
    columns: Columns
    """The candidates' numbers by column."""
    pending_s: float
    """Seconds of prefill that wait on the pool's average pod, about."""
    pace_s: float
    """Seconds a token equivalent takes on the pool's average pod, about."""
    home: Mapping[str, str] = NOWHERE
    """Labels of the gateway itself, such as its `zone`; compared with `Pod.labels` to stay near."""
    positions: Mapping[PodId, int] | None = None
    """What `position_of` answers, where it is known already."""
    inflight: int | None = None
    """What `total_inflight` answers, where it is known already."""

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        *,
        pool: str = "default",
        generation: int = 1,
        taken_at: float = 0.0,
        unseen: float = 0.0,
        home: Mapping[str, str] = NOWHERE,
    ) -> LoadSnapshot:
        """A snapshot of these candidates, its columns computed from their loads. `candidates` is not empty."""
        loads = [load for _, load in candidates]
        return LoadSnapshot(
            pool=pool,
            generation=generation,
            taken_at=taken_at,
            unseen=unseen,
            candidates=tuple(candidates),
            columns=columns_of(loads),
            pending_s=sum([load.prefill_work * load.pace_s for load in loads]) / len(loads),
            pace_s=sum([load.pace_s for load in loads]) / len(loads),
            home=home,
            positions={pod.id: at for at, (pod, _) in enumerate(candidates)},
            inflight=sum([load.inflight for load in loads]),
        )

    def total_inflight(self) -> int:
        """Requests in flight on all candidates."""
        return sum([load.inflight for _, load in self.candidates]) if self.inflight is None else self.inflight

    def position_of(self) -> Mapping[PodId, int]:
        """The index of each pod in `candidates`."""
        if self.positions is not None:
            return self.positions
        return {pod.id: at for at, (pod, _) in enumerate(self.candidates)}

    def without(self, tried: frozenset[PodId]) -> LoadSnapshot | None:
        """The same snapshot less the pods in `tried`; None if none is left. Itself when `tried` is empty."""
        if not tried:
            return self
        positions = self.position_of()
        gone = sorted([positions[pod] for pod in tried if pod in positions])
        if len(gone) == len(self.candidates):
            return None
        # Columns are cut around the few that are gone: 12 us at 1,000 pods, 170 if each pod were looked at.
        return self._with(_cut(self.candidates, gone), Columns(*[_cut(column, gone) for column in self.columns]))

    def only(self, at: Sequence[int]) -> LoadSnapshot:
        """The same snapshot with the candidates at these positions alone, in that order. `at` is not empty."""
        return self._with(_picked(self.candidates, at), Columns(*[_picked(column, at) for column in self.columns]))

    def _with(self, candidates: tuple[Candidate, ...], columns: Columns) -> LoadSnapshot:
        """The same snapshot with some of its candidates."""
        return self._replace(candidates=candidates, columns=columns, positions=None, inflight=None)


def _picked(column: tuple[_T, ...], at: Sequence[int]) -> tuple[_T, ...]:
    """The entries at these positions."""
    # 10 us for 900 of 1,000, 20 in a comprehension; of one position it gives no tuple.
    return itemgetter(*at)(column) if len(at) > 1 else (column[at[0]],)


def _cut(column: tuple[_T, ...], gone: Sequence[int]) -> tuple[_T, ...]:
    """The column without these positions, which ascend: one, nearly always."""
    if len(gone) == 1:  # 0.3 us less than below
        return column[: gone[0]] + column[gone[0] + 1 :]
    left: list[_T] = []
    start = 0
    for at in gone:
        left += column[start:at]
        start = at + 1
    left += column[start:]
    return tuple(left)


class Slo(NamedTuple):
    """What a request's client was promised; 0.0 promises nothing."""

    ttft_s: float = 0.0
    """Seconds to the first token."""
    tpot_s: float = 0.0
    """Mean seconds between two tokens after it."""

    def met(self, ttft_s: float, tpot_s: float) -> bool:
        """Whether an answer that took this long kept both."""
        return not (0.0 < self.ttft_s < ttft_s or 0.0 < self.tpot_s < tpot_s)


NO_SLO: Final = Slo()


class RequestInfo(NamedTuple):
    """All that a policy may know of a request, its random bits (`entropy`) and clock (`arrived_at`) included."""

    id: str
    model: str
    prompt_tokens: int
    """An estimate (bytes / 4); at least 1."""
    max_tokens: int
    """Answer tokens the client allows; 0 if it sets no limit."""
    arrived_at: float
    """Seconds on the replica's monotonic clock."""
    entropy: int
    """64 random bits: the only randomness a policy may use."""
    sequence: int
    """Counts the requests of this pool on this replica."""
    session_key: str = ""
    """Identifies a conversation; empty if the client gave none."""
    priority: int = 0
    """Higher goes first."""
    deadline: float | None = None
    """Seconds on the replica's monotonic clock."""
    prefix_hits: Mapping[PodId, int] = _NO_HITS
    """Leading blocks (`PREFIX_BLOCK_TOKENS` each) of the prompt that each pod is expected to hold; absent: none."""
    tried: frozenset[PodId] = frozenset()
    """Pods that already failed this request; a policy never picks one."""
    slo: Slo = NO_SLO
    """The times it was promised: its own, else its pool's."""


class Decision(NamedTuple):
    """The pod that gets the request."""

    pod: PodId
    policy: str
    score: float = 0.0
    """The pod's cost or score; comparable only within one policy."""
    reason: str = ""
    """A short constant for logs and tests, such as `soonest`."""


class Rejection(NamedTuple):
    """No pod gets the request now."""

    reason: str
    """Machine-readable: `no_untried_pod`, `saturated`, ..."""
    retry_after_s: float = 1.0


NO_UNTRIED_POD = Rejection("no_untried_pod")
"""Every pod of the snapshot already failed this request."""
