"""`turnout simulate`: reads its command line, runs each policy over the trace in virtual time, reports the results.

The result goes to stdout, as a table or as JSON; progress goes to stderr, and only if that is a terminal.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from loadtests.sim.engine.profiles import H100_8B
from loadtests.sim.peers.catalog import PEERS
from loadtests.sim.simulate.best import BEST, envelope
from loadtests.sim.simulate.contenders import contender, title
from loadtests.sim.simulate.events import FORM, EventError, PodEvent, parse_event
from loadtests.sim.simulate.fleet import FleetError, parse_fleet
from loadtests.sim.simulate.page import page
from loadtests.sim.simulate.replicas import Sharing
from loadtests.sim.simulate.runs import Case, Run, simulate, with_kv_tokens
from loadtests.sim.simulate.slo_classes import BadSlo, SloClass, read_class, with_classes
from loadtests.sim.simulate.summary import NOTES, Row, Table, lines, summarise, table
from loadtests.sim.simulate.traces import Trace, TraceError
from loadtests.sim.workloads.catalog import WORKLOADS, trace_of
from router.plugins.directory import PluginUnreadable, read_plugin
from router.plugins.loading import PluginError, load
from schedulers import registry
from schedulers.errors import SchedulerError

PODS = 8
"""Simulated engines, if neither `--pods` nor `--profile` says how many."""

NOTES_WIDTH = 80
"""Of the text below the table."""

SHOWN_EVERY = 100
"""Requests between two steps of the progress bar."""

Watch = Callable[[str, int], Callable[[int], None]]
"""Begins a bar for a policy and its number of requests; returns a function that takes how many have arrived."""


def main(argv: Sequence[str] | None = None) -> int:
    """`turnout simulate`: returns the exit status; 2 for an error the user can correct."""
    given = _parser().parse_args(argv)
    try:
        registry.load_entry_points()
        for file in given.plugin:
            _load(file)
        for policy in given.policy:
            if policy != BEST:
                contender(policy)  # so that a misspelt name is reported before the first policy has run
        case = _case(given)
        trace = _trace(given)
        runs = _runs(trace, given.policy, case)
        rows = _rows(given.policy, runs, case)
        found = table(Path(given.trace).name, case, rows, given.limit)
        if given.report is not None:
            shown = [run for policy, run in runs.items() if policy in given.policy]
            given.report.write_text(page(found, shown), encoding="utf-8")
    except (TraceError, BadSlo, FleetError, EventError, SchedulerError, PluginError, OSError) as error:
        sys.stderr.write(f"turnout simulate: {_message(error)}\n")
        return 2
    sys.stdout.write(_json(found) if given.json else _text(found))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="turnout simulate",
        description="Recorded traffic through the gateway's own policies, in virtual time, beside other routers'.",
        epilog=f"Peers, by name: {', '.join(PEERS)}; {BEST} is the best of them in each figure.",
    )
    add = parser.add_argument
    add(
        "trace",
        metavar="TRACE",
        help="Mooncake JSONL, CSV with lengths, or a gateway's recording; .gz too. Or a generated workload: "
        f"{', '.join(WORKLOADS)}, with NAME:KEY=VALUE,... for another shape or seed",
    )
    add(
        "--policy",
        action="append",
        required=True,
        metavar="[TITLE=]NAME[:KEY=VALUE,...|:{JSON}]",
        help="a policy or a peer; repeat to compare",
    )
    add(
        "--plugin",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="load policies from a file, by their own names; repeat",
    )
    add("--closed-loop", action="store_true", help="a session's next request waits for its last answer")
    _add_fleet(parser)
    _add_gateways(parser)
    _add_promises(parser)
    add("--limit", type=_at_least_one, metavar="N", help="only the trace's first N requests")
    add("--seed", type=int, default=0, metavar="S", help="of all random numbers (default 0)")
    add("--json", action="store_true", help="JSON instead of a table")
    add("--report", type=_html, metavar="FILE.html", help="write a page with charts, complete in one file")
    return parser


def _add_fleet(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pods", type=_at_least_one, metavar="N", help=f"simulated engines (default {PODS})")
    add(
        "--prefill-pods",
        type=_at_least_one,
        default=0,
        metavar="N",
        help="the first N pods only compute prompts for the others",
    )
    add("--rate", type=_above_zero, default=1.0, metavar="X", help="factor on the trace's request rate (default 1)")
    add(
        "--profile",
        default=H100_8B.name,
        metavar="NAME[:COUNT,NAME:COUNT...]",
        help=f"the engines (default {H100_8B.name}); with counts, several kinds of them",
    )
    add("--kv-tokens", type=_at_least_one, metavar="N", help="KV cache of an engine, instead of the profile's")
    add("--no-cached-tokens", action="store_true", help="answers do not report the cached tokens of their prompts")
    add(
        "--event",
        action="append",
        default=[],
        type=_event,
        metavar="SECOND:pod-N:WHAT",
        help=f"something that happens to a pod: {FORM}; repeat",
    )


def _add_gateways(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--replicas", type=_at_least_one, default=1, metavar="R", help="gateways that share the traffic (default 1)")
    add(
        "--age-ms",
        type=_not_negative,
        default=5.0,
        metavar="MS",
        help="age of their view of each other (default 5)",
    )
    add("--kv-events", action="store_true", help="they follow the KV events of the pods")
    add("--unshared", action="store_true", help="they share no state")
    add("--restart-at", type=_not_negative, metavar="S", help="replace one replica by a new one at that second")


def _add_promises(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--slo",
        action="append",
        default=[],
        type=_slo_class,
        metavar="[share=S,][priority=P,]ttft=S,tpot=S",
        help="promise requests these seconds to the first token, and between two; repeat for other shares",
    )
    add("--engine-priority", action="store_true", help="the engines schedule by priority")


def _load(file: Path) -> None:
    """Load without the checks a gateway makes: `turnout policy check` makes them."""
    try:
        loaded = load(read_plugin(file), str(file), f"turnout_plugin_{file.stem}")
    except (PluginError, PluginUnreadable) as error:
        raise PluginError(f"{file}: {error}") from None
    for policy in loaded.policies.values():
        registry.register(policy)


def _case(given: argparse.Namespace) -> Case:
    fleet = parse_fleet(given.profile, given.pods, PODS)
    if given.kv_tokens is not None:
        fleet = [with_kv_tokens(profile, given.kv_tokens) for profile in fleet]
    if given.engine_priority:
        fleet = [profile._replace(by_priority=True) for profile in fleet]
    sharing = Sharing(
        given.replicas, given.age_ms / 1000 if given.replicas > 1 else 0.0, not given.unshared, given.kv_events
    )
    usage = not given.no_cached_tokens
    mixed = tuple(fleet) if len(set(fleet)) > 1 else ()
    case = Case(
        len(fleet),
        given.rate,
        fleet[0],
        sharing,
        given.restart_at,
        given.seed,
        usage,
        mixed,
        given.event,
        given.closed_loop,
        given.prefill_pods,
    )
    _check_pairs(case)
    case.fleet()  # so that an impossible event is reported before the first policy has run
    return case


def _check_pairs(case: Case) -> None:
    if not case.prefill_pods:
        return
    if case.prefill_pods >= case.pods:
        raise FleetError(f"--prefill-pods {case.prefill_pods} leaves none of {case.pods} pods to generate answers")
    if case.events or case.sharing.replicas > 1 or case.restart_at_s is not None:
        raise FleetError("--prefill-pods is played with one gateway and without events")


def _trace(given: argparse.Namespace) -> Trace:
    trace = trace_of(given.trace, seed=given.seed)
    trace = trace.first(given.limit) if given.limit else trace
    return with_classes(trace, given.slo, given.seed) if given.slo else trace


def _runs(trace: Trace, policies: Sequence[str], case: Case) -> dict[str, Run]:
    """Each policy's run; with `best` those of all peers, too."""
    wanted = [policy for policy in policies if policy != BEST]
    with _bars() as bars:
        return {
            policy: simulate(trace, policy, case, bars(title(policy), len(trace.arrivals)))
            for policy in [*wanted, *(PEERS if BEST in policies else ())]
        }


def _rows(policies: Sequence[str], runs: Mapping[str, Run], case: Case) -> list[Row]:
    """In the order in which they were asked for."""
    rows = {policy: summarise(run, case) for policy, run in runs.items()}
    if BEST in policies:
        rows[BEST] = envelope([rows[peer] for peer in PEERS])
    return [rows[policy] for policy in policies]


@contextlib.contextmanager
def _bars() -> Iterator[Watch]:
    """A bar for each policy; none if stderr is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:

        def begin(policy: str, total: int) -> Callable[[int], None]:
            bar = progress.add_task(policy, total=total)
            return lambda done: None if done % SHOWN_EVERY else progress.update(bar, completed=done)

        yield begin


def _json(found: Table) -> str:
    return msgspec.json.format(msgspec.json.encode(found)).decode() + "\n"


def _text(found: Table) -> str:
    columns = [[head, *cells] for head, cells in lines(found).items()]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    shown = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join([*shown, "", textwrap.fill(NOTES, NOTES_WIDTH)]) + "\n"


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _above_zero(text: str) -> float:
    value = _not_negative(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return value


def _event(text: str) -> PodEvent:
    try:
        return parse_event(text)
    except EventError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _slo_class(text: str) -> SloClass:
    try:
        return read_class(text)
    except BadSlo as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _html(text: str) -> Path:
    """Only HTML: drawing a PNG would take a library that nothing else here needs; a browser makes one of the page."""
    path = Path(text)
    if path.suffix != ".html":
        raise argparse.ArgumentTypeError(f"{text!r}: a report is an .html file (a browser saves it as a picture)")
    return path
