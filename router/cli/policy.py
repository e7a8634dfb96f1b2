"""`turnout policy ...`: calls a control port and prints the answer as a line or a table. Nothing is decided here."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from router.cli.control import add_control, control, print_json, print_line, print_table
from router.cli.plugins import add_plugins
from router.cli.serve_flags import UsageError
from router.cli.tables import trial_lines

AUTHOR_VARIABLE = "TURNOUT_AUTHOR"
"""The environment variable with the author of changes."""

_Actions = Any
"""What `add_subparsers` gives; argparse does not name its type."""


def add_policy(policy: argparse.ArgumentParser) -> None:
    """The actions of `turnout policy`."""
    actions: _Actions = policy.add_subparsers(required=True, metavar="ACTION")
    _add(actions, "get", "show a pool's policy, and what is tried beside it", _get)
    _add(actions, "history", "show what a pool's policy was before, newest first", _history)
    _add(actions, "report", "show how a pool's shadow and canary do, over all replicas", _report)
    put = _add(actions, "set", "replace a pool's policy on every replica, under load", _set)
    put.add_argument("name", metavar="NAME")
    _add_params(put)
    _add_how(put)
    shadow = _add(actions, "shadow", "let a policy see what the pool's policy sees, and decide nothing", _shadow)
    _add_candidate(shadow)
    _add_how(shadow)
    _add_canary(actions)
    promote = _add(actions, "promote", "make the canary's candidate the policy", _promote)
    promote.add_argument("--force", action="store_true", help="also against what its trial found")
    _add_how(promote)
    rollback = _add(actions, "rollback", "back to the policy before; again goes further back", _rollback)
    rollback.add_argument("--to", metavar="N", type=int, help="the generation whose policy it is to be")
    _add_how(rollback)
    add_plugins(actions)


def _add_canary(actions: _Actions) -> None:
    help_text = "let a policy decide a share of the sessions, and take it back if it does badly"
    canary = _add(actions, "canary", help_text, _canary)
    _add_candidate(canary)
    canary.add_argument("--percent", metavar="P", type=float, help="of the sessions, above 0 and below 100")
    canary.add_argument(
        "--switchback",
        metavar="S",
        type=float,
        help="draw spans of S seconds in place of sessions: the whole pool follows one policy during each",
    )
    for flag, kind, help_text in _GUARD:
        canary.add_argument(f"--{flag}", metavar="X", type=kind, help=help_text)
    _add_how(canary)


_GUARD = (
    ("max-error-rate", float, "taken back if it fails this much more often, as a share of requests (0.01; 0 is off)"),
    ("max-ttft-p50-ratio", float, "taken back if its median time to first token is this many times the other's (2)"),
    ("max-ttft-ratio", float, "taken back if its p95 of the time to first token is this many times the other's (1.5)"),
    ("max-e2e-ratio", float, "taken back if its p95 of whole answers' time is this many times the other's (1.5)"),
    ("max-tpot-ratio", float, "taken back if its median time per later token is this many times the other's (1.5)"),
    ("max-pool-ratio", float, "taken back if it crowds pods and the pool's p95 is this many times what it was (3)"),
    ("min-requests", int, "it is not within its limits before each arm has had this many (50)"),
    ("confidence", float, "that a candidate at its limits is not taken back, however often looked at (0.95)"),
)
_GUARD_FIELDS = {
    "max_error_rate": "error_rate",
    "max_ttft_p50_ratio": "ttft_p50_ratio",
    "max_ttft_ratio": "ttft_p95_ratio",
    "max_e2e_ratio": "e2e_p95_ratio",
    "max_tpot_ratio": "tpot_p50_ratio",
    "max_pool_ratio": "pool_p95_ratio",
    "min_requests": "min_requests",
    "confidence": "confidence",
}


def _add(
    actions: _Actions, name: str, help_text: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = actions.add_parser(name, help=help_text)
    command.add_argument("pool", metavar="POOL")
    add_control(command)
    command.set_defaults(run=run)
    return command


def _add_candidate(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?")
    command.add_argument("--off", action="store_true", help="end it")
    _add_params(command)


def _add_params(command: argparse.ArgumentParser) -> None:
    command.add_argument("--param", metavar="KEY=VALUE", type=_param, action="append", default=[], help="repeat")
    command.add_argument("--params", metavar="JSON", type=_params, default={}, help="all of them as one JSON object")


def _add_how(command: argparse.ArgumentParser) -> None:
    command.add_argument("--if-generation", metavar="N", type=int, help="only if nothing has changed since")
    command.add_argument("--note", metavar="TEXT", default="", help="why, for the history")
    command.add_argument("--by", metavar="NAME", default="", help="who, for the history (TURNOUT_AUTHOR)")
    command.add_argument("--dry-run", action="store_true", help="say what would be, change nothing")
    command.add_argument(
        "--local-only",
        action="store_true",
        help="while the shared state is away: on this replica alone, until it is back",
    )


def _param(text: str) -> tuple[str, object]:
    """`key=value`: a value in JSON (3, 0.5, true, [1]) is parsed, any other is text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value


def _params(text: str) -> dict[str, object]:
    try:
        return msgspec.json.decode(text, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise argparse.ArgumentTypeError(f"not a JSON object: {error}") from None


def _get(given: argparse.Namespace) -> int:
    with control(given) as client:
        _print_policy(given, client.policy(given.pool))
    return 0


def _history(given: argparse.Namespace) -> int:
    with control(given) as client:
        records = client.history(given.pool)
    if given.json:
        print_json(records)
        return 0
    dated = any(record.get("at") for record in records)
    rows = [(*(("TIME (UTC)", "BY") if dated else ()), "GENERATION", "POLICY", "SHADOW", "CANARY", "NOTE")]
    for record in records:
        canary = record["canary"]
        share = f"{_choice(canary)} {_percent(canary)}" if canary else "-"
        shadow = _choice(record["shadow"]) if record["shadow"] else "-"
        made = (_time(record.get("at")), str(record.get("by") or "-")) if dated else ()
        rows.append((*made, str(record["generation"]), _choice(record), shadow, share, str(record["note"])))
    print_table(rows)
    return 0


def _time(at: Any) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def _report(given: argparse.Namespace) -> int:
    with control(given) as client:
        report = client.policy(given.pool, "trial")
    if given.json:
        print_json(report)
    else:
        for line in trial_lines(report):
            print_line(line)
    return 0


def _set(given: argparse.Namespace) -> int:
    return _change(given, "PUT", "policy", _chosen(given))


def _shadow(given: argparse.Namespace) -> int:
    if _is_off(given):
        return _change(given, "DELETE", "shadow")
    return _change(given, "PUT", "shadow", _chosen(given))


def _canary(given: argparse.Namespace) -> int:
    if _is_off(given):
        return _change(given, "DELETE", "canary")
    if given.percent is None:
        raise UsageError("a canary needs its share of the sessions: --percent P")
    limits = {field: getattr(given, flag) for flag, field in _GUARD_FIELDS.items()}
    guard = {field: limit for field, limit in limits.items() if limit is not None}
    body = {**_chosen(given), "percent": given.percent, "guard": guard}
    return _change(given, "PUT", "canary", body | ({"switchback_s": given.switchback} if given.switchback else {}))


def _promote(given: argparse.Namespace) -> int:
    return _change(given, "POST", "promote", **({"force": "true"} if given.force else {}))


def _rollback(given: argparse.Namespace) -> int:
    return _change(given, "POST", "rollback", {"to": given.to} if given.to is not None else None)


def _is_off(given: argparse.Namespace) -> bool:
    if given.off == (given.name is not None):
        raise UsageError("name a policy, or say --off")
    return bool(given.off)


def _chosen(given: argparse.Namespace) -> dict[str, object]:
    return {"policy": given.name, "params": {**given.params, **dict(given.param)}}


def _change(given: argparse.Namespace, method: str, part: str, body: object | None = None, **options: str) -> int:
    if given.note:
        options["note"] = given.note
    for flag, name in (("dry_run", "dry_run"), ("local_only", "local")):
        if getattr(given, flag):
            options[name] = "true"
    with control(given) as client:
        generation = given.if_generation
        author = given.by or os.environ.get(AUTHOR_VARIABLE, "")
        answer = client.change(method, given.pool, part, body, if_generation=generation, options=options, author=author)
        _print_policy(given, answer)
    return 0


def _print_policy(given: argparse.Namespace, answer: Mapping[str, object]) -> None:
    if given.json:
        print_json(answer)
    else:
        print_line(policy_line(given.pool, answer))


def policy_line(pool: str, answer: Mapping[str, object]) -> str:
    """A pool's policy with its shadow, canary and state, in a line."""
    line = f"{pool}: {_choice(answer)} (generation {answer['generation']})"
    if answer.get("shadow"):
        line += f", shadow {_choice(answer['shadow'])}"
    if answer.get("canary"):
        line += f", canary {_choice(answer['canary'])} for {_percent(answer['canary'])}"
    for key, remark in _REMARKS.items():
        if answer.get(key):
            line += f"; {remark.format(answer[key])}"
    return line


_REMARKS = {
    "note": "{}",
    "local": "on this replica alone, until the shared state is back",
    "waits_for": "waits for {}",
    "taken_out": "taken out: {}",
    "dry_run": "nothing was changed",
}


def _choice(shown: Any) -> str:
    return f"{shown['policy']} {msgspec.json.encode(shown['params']).decode()}"


def _percent(canary: Any) -> str:
    return f"{float(canary['percent']):g} %"
