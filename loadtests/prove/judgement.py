"""From rounds and scenes to a verdict with its reasons, in words and as JSON. Pure.

Each figure is "by how much NEW is worse". NEW is worse where the lower bound of that is above what is `tolerated`; it
passes where the upper bound is below what is `too_much`; otherwise more rounds are needed. So a NEW that is no worse
than tolerated is called worse, and one that is worse by `too_much` passes, at most with the stated error rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from loadtests.prove.confidence import Interval, chance_of, interval
from loadtests.prove.pairs import Round
from loadtests.prove.scene import Scene

ERROR_RATE: Final = 0.01
"""Of a whole run: the chance of a false alarm, and, apart from it, of a miss."""
PASSED, WORSE, UNDECIDED = 0, 1, 2
"""Exit statuses, and what is known of one figure."""
NAMES: Final = {PASSED: "pass", WORSE: "regression", UNDECIDED: "undecided"}


class Measure(NamedTuple):
    """A figure of a round, and its limits; larger is worse."""

    name: str
    of: Callable[[Round], float]
    tolerated: float
    too_much: float
    say: Callable[[float], str]


def _percent(value: float) -> str:
    return f"{math.exp(value) - 1:+.1%}"


def _points(value: float) -> str:
    return f"{-value * 100:+.1f} points"


def _bytes(value: float) -> str:
    return f"{value / 1024:+.1f} KiB"


MEASURES: Final = (
    Measure("CPU time of a request", lambda r: r.cpu_log_ratio, math.log(1.05), math.log(1.25), _percent),
    Measure("time to first token", lambda r: r.ttft_log_ratio, math.log(1.10), math.log(1.50), _percent),
    Measure("prompt tokens found in cache", lambda r: r.old.hit_rate - r.new.hit_rate, 0.02, 0.10, _points),
    Measure(
        "memory kept of a request",
        lambda r: (r.new.growth_bytes - r.old.growth_bytes) / r.new.requests,
        1024.0,
        16384.0,
        _bytes,
    ),
)


class Finding(NamedTuple):
    """What is known of one thing."""

    what: str
    status: int
    words: str
    bounds: Interval | None = None


def measured(rounds: Sequence[Round], looks: int) -> list[Finding]:
    """Every figure over the rounds so far, of which `looks` looks will be taken at most."""
    level = ERROR_RATE / (len(MEASURES) * looks)
    findings = [_finding(measure, interval([measure.of(each) for each in rounds], level)) for measure in MEASURES]
    return [*findings, _steady(rounds, level)]


def _finding(measure: Measure, bounds: Interval) -> Finding:
    status = WORSE if bounds.low > measure.tolerated else PASSED if bounds.high < measure.too_much else UNDECIDED
    say = measure.say
    words = f"{say(bounds.mean)} (between {say(bounds.low)} and {say(bounds.high)})"
    if status == WORSE:
        words += f": worse by more than the tolerated {say(measure.tolerated)}"
    if status == UNDECIDED:
        words += f": too uncertain to exclude {say(measure.too_much)}; use more rounds, or a calmer machine"
    return Finding(measure.name, status, words, bounds)


def _steady(rounds: Sequence[Round], level: float) -> Finding:
    """Requests that failed, or stayed in flight, in the rounds, where nothing goes wrong."""
    faults = sum((Counter(each.new.faults) for each in rounds), Counter[str]())
    new = faults.total() + sum(each.new.stuck for each in rounds)
    old = sum(sum(each.old.faults.values()) + each.old.stuck for each in rounds)
    what = "requests in steady traffic"
    if not new:
        return Finding(what, PASSED, f"all {sum(each.new.requests for each in rounds)} of NEW answered whole and right")
    kinds = ", ".join(f"{count} {kind}" for kind, count in faults.items()) or "counted in flight after their end"
    words = f"{new} of NEW failed or stayed in flight, {old} of OLD ({kinds})"
    return Finding(what, WORSE if chance_of(new, old) <= level else UNDECIDED, words)


def seen(first: Scene, again: Scene | None = None, control: Scene | None = None) -> Finding:
    """The upgrade under load. After a fault it was played `again`, and with OLD in both places as `control`: NEW is
    charged with what OLD does not do by itself, if a second run has such faults, too."""
    what = "the upgrade under load"
    if not first.faults or again is None:
        words = f"{first.requests} requests whole and right, but for {first.excused} in the hands of what was killed"
        return Finding(what, UNDECIDED if first.faults else PASSED, words)
    own = Counter(fault.kind for fault in control.faults) if control is not None else Counter[str]()
    both = [[fault for fault in scene.faults if fault.kind not in own] for scene in (first, again)]
    if not any(both):
        return Finding(what, PASSED, f"OLD alone has the same faults: {_listed(own)}")
    kinds = Counter(fault.kind for faults in both for fault in faults)
    example = next(fault for faults in both for fault in faults)
    detail = f"{_listed(kinds)}; for example {example.replica}: {example.detail}"
    if all(both):
        return Finding(what, WORSE, detail)
    return Finding(what, UNDECIDED, f"once, and not when it was repeated: {detail}")


def _listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} ({count})" if count > 1 else kind for kind, count in kinds.most_common(6))


def status_of(findings: Sequence[Finding]) -> int:
    """Of the whole run: a regression outweighs what is undecided."""
    statuses = {each.status for each in findings}
    return next((status for status in (WORSE, UNDECIDED) if status in statuses), PASSED)


_HEADS: Final = {
    PASSED: "PASS: NEW may take OLD's place.",
    WORSE: "REGRESSION: keep OLD.",
    UNDECIDED: "UNDECIDED: this run neither clears NEW nor convicts it. Keep OLD, and run it again.",
}
_MARKS: Final = {PASSED: "ok", WORSE: "WORSE", UNDECIDED: "unclear"}


def words(findings: Sequence[Finding]) -> str:
    """The verdict, and a line for each finding, the worst first."""
    order = sorted(findings, key=lambda each: (WORSE, UNDECIDED, PASSED).index(each.status))
    return "\n".join([_HEADS[status_of(findings)], *(f"  {_MARKS[f.status]:8}{f.what}: {f.words}" for f in order)])


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs. Bounds are as measured: logarithms of ratios, shares, bytes."""
    return {
        "verdict": NAMES[status_of(findings)],
        "error_rate": ERROR_RATE,
        "findings": [
            {
                "what": each.what,
                "verdict": NAMES[each.status],
                "words": each.words,
                **({"bounds": each.bounds._asdict()} if each.bounds is not None else {}),
            }
            for each in findings
        ],
    }
