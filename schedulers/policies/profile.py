"""`profile`: filters, weighted scorers and a picker, composed by the configuration alone.

The parts, and how a spec becomes one, are in `schedulers/profile.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from schedulers.params import check, made_by, parameter
from schedulers.profile import Composition, compose
from schedulers.sampling import drawn
from schedulers.types import NO_UNTRIED_POD, Decision, LoadSnapshot, Rejection, RequestInfo

Spec = Mapping[str, object]


def _llm_d() -> Sequence[Spec]:
    """llm-d's default profile."""
    return [{"name": "queue", "weight": 2}, {"name": "kv_usage", "weight": 2}, {"name": "prefix", "weight": 3}]


@dataclass(frozen=True, slots=True)
class Profile:
    """The pod that passes the filters, scores well and is taken by the picker.

    Formula: `picker(sum(weight * score) / sum(weight))` over the pods that pass every filter; each score is 0 to 1.
    Inputs: those of the scorers and filters that are named.
    Parameters: `filters`, `scorers`, `picker`: each by name, with its own parameters; `sample`: of more candidates than
    that, only this many random ones are scored, beside the least loaded and those with the longest cached prefix; 0
    scores all.
    When: a preference that no other policy has: a zone, an adapter, a kind of GPU, a limit. The weights have to be
    found by experiment; `prefix_aware` weighs cache against load in seconds and needs none.
    Source: llm-d's endpoint picker (Gateway API inference extension); its default profile is the default here.
    """

    name: ClassVar[str] = "profile"

    filters: Sequence[Spec] = made_by(tuple, "list of filters")
    scorers: Sequence[Spec] = made_by(_llm_d, "list of scorers")
    picker: Mapping[str, object] = made_by(lambda: {"name": "best"}, "picker")
    sample: int = parameter(0, low=0)
    parts: Composition = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check(self)
        made = compose(self.name, self.filters, self.scorers, self.picker, self.sample)
        object.__setattr__(self, "parts", made)

    @property
    def reads_sessions(self) -> bool:
        """Whether one of its scorers looks at the request's session."""
        return any(getattr(scorer, "reads_sessions", False) for _, scorer in self.parts.scorers)

    def pick(self, request: RequestInfo, snapshot: LoadSnapshot, /) -> Decision | Rejection:
        """The picker's choice among those left, of the pods not tried yet."""
        untried = snapshot.without(request.tried)
        if untried is None:
            return NO_UNTRIED_POD
        parts = self.parts
        left = parts.left(request, untried)
        if isinstance(left, Rejection):
            return left
        if self.sample and len(left.candidates) > self.sample:
            left = left.only(drawn(request, left, self.sample))
        scores = parts.weighed(request, left)
        at = parts.picker.pick(scores, request.entropy)
        return Decision(left.candidates[at].pod.id, self.name, scores.of(at), parts.picker.name)
