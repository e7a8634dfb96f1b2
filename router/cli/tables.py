"""A trial's report, as the control port answers it, in lines for a terminal. Pure; a missing value is a dash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


def trial_lines(report: Report) -> Iterator[str]:
    """The running trial, or the last one: a table for its canary and one for its shadow."""
    if not report.get("running"):
        last = report.get("last")
        yield f"{report['pool']}: nothing is tried{'' if last else ', and nothing was since this replica started'}"
        if last:
            yield f"the last trial, of generation {last['generation']}, ended: {last.get('ended') or 'no note'}"
            yield from _trial(last)
        return
    replicas = len(report.get("replicas") or [1])
    counted = f"{replicas} replica{'s' if replicas != 1 else ''}, {_seconds(report.get('age_s'))}"
    yield f"{report['pool']}: {report['policy']} (generation {report['generation']}), {counted}"
    yield from _trial(report)


def _trial(report: Report) -> Iterator[str]:
    if canary := report.get("canary"):
        params = f" {json.dumps(canary['params'])}" if canary.get("params") else ""
        yield f"canary {canary['policy']}{params}, {canary['percent']:g} %: {canary.get('verdict') or 'not judged'}"
        arms = [(name, canary["arms"][name]) for name in ("baseline", "canary")]
        promised = any(arm.get("goodput") for _, arm in arms)
        yield from _table((*_ARM, _GOODPUT) if promised else _ARM, arms)
        if all("whole_s" in arm for _, arm in arms):
            yield from _table(_TIMES, arms)
        if any("tpot_s" in arm for _, arm in arms):
            yield from _table(_PACE, arms)
        if canary.get("pods"):
            yield from _table(_POD, list(canary["pods"].items()))
        yield from canary.get("words") or _comparisons(canary.get("comparisons") or {})
    if shadow := report.get("shadow"):
        agreement = _range(shadow["agreement"], _share) if shadow.get("agreement") else "-"
        yield f"shadow {shadow['policy']}: {shadow['compared']} requests compared, same pod in {agreement}"
        yield from _table(_SIDE, [("live", shadow["live"]), ("shadow", shadow["shadow"])])
        yield from _left_out(shadow)


def _comparisons(found: Mapping[str, Report]) -> Iterator[str]:
    """In place of the words, of a gateway that has none."""
    for guard, each in found.items():
        yield f"{guard}: {_range(each)}, limit {_number(each.get('limit'))}"


def _left_out(shadow: Report) -> Iterator[str]:
    counts = [f"{shadow[name]} {name}" for name in ("dropped", "failures") if shadow.get(name)]
    if counts:
        yield f"of {shadow['sampled']} sampled: {', '.join(counts)}"
    if shadow.get("off"):
        yield f"turned off: {shadow['off']}"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"


def _share(value: object) -> str:
    return f"{value:.2%}" if isinstance(value, int | float) else "-"


def _seconds(value: object) -> str:
    return f"{value:.3g} s" if isinstance(value, int | float) else "-"


def _range(found: Any, shown: Callable[[object], str] = _number) -> str:
    if not found:
        return "-"
    return f"{shown(found.get('value'))} ({shown(found.get('low'))} to {shown(found.get('high'))})"


_Column = tuple[str, Callable[[Report], str]]

_ARM: Sequence[_Column] = (
    ("REQUESTS", lambda arm: _number(arm["requests"])),
    ("FAILURES", lambda arm: _number(arm["failures"])),
    ("ERROR RATE", lambda arm: _range(arm["error_rate"], _share)),
    ("TTFT P50", lambda arm: _range(arm["ttft_s"]["p50"], _seconds)),
    ("TTFT P95", lambda arm: _range(arm["ttft_s"]["p95"], _seconds)),
    ("HIT RATE", lambda arm: _range(arm["hit_rate"], _share)),
)

_GOODPUT: _Column = ("GOODPUT", lambda arm: _range(arm.get("goodput"), _share))
"""Only where requests were promised times."""

_TIMES: Sequence[_Column] = (
    ("SESSIONS", lambda arm: _number(arm["sessions"])),
    ("HEAVIEST", lambda arm: _share(arm["heaviest_session"])),
    ("WHOLE ANSWER P50", lambda arm: _range(arm["whole_s"]["p50"], _seconds)),
    ("WHOLE ANSWER P95", lambda arm: _range(arm["whole_s"]["p95"], _seconds)),
    ("STREAM P50", lambda arm: _seconds(arm["stream_s"]["p50"])),
    ("STREAM P95", lambda arm: _seconds(arm["stream_s"]["p95"])),
)

_PACE: Sequence[_Column] = (
    ("TIME PER TOKEN P50", lambda arm: _range((arm.get("tpot_s") or {}).get("p50"), _seconds)),
    ("TIME PER TOKEN P95", lambda arm: _range((arm.get("tpot_s") or {}).get("p95"), _seconds)),
)

_POD: Sequence[_Column] = (
    ("BASELINE", lambda shares: _share(shares.get("baseline"))),
    ("CANARY", lambda shares: _share(shares.get("canary"))),
)

_SIDE: Sequence[_Column] = (
    ("TOKENS", lambda side: _number(side["predicted_tokens"])),
    ("WAIT", lambda side: _seconds(side["predicted_wait_s"])),
    ("TTFT", lambda side: _seconds(side.get("predicted_ttft_s"))),
    ("HIT RATE", lambda side: _share(side["predicted_hit_rate"])),
    ("IMBALANCE", lambda side: _number(side["imbalance"])),
    ("PICK P50", lambda side: f"{_number(side['pick_us']['p50'])} us"),
    ("PICK P99", lambda side: f"{_number(side['pick_us']['p99'])} us"),
)


def _table(columns: Sequence[_Column], rows: Sequence[tuple[str, Report]]) -> Iterator[str]:
    cells = [("", *(name for name, _ in columns))]
    cells += [(name, *(shown(row) for _, shown in columns)) for name, row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
