"""`turnout policy plugins` and `turnout policy check`: the plugin files of a gateway with their check results, and the
same check of one file without a gateway."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from router.cli.control import add_control, control, print_json, print_line, print_table


def add_plugins(actions: Any) -> None:
    """Add both actions to `turnout policy`."""
    plugins = actions.add_parser("plugins", help="show the plugin files of a gateway, and what their checks said")
    add_control(plugins)
    plugins.set_defaults(run=_plugins)
    check = actions.add_parser("check", help="check a policy of your own as a gateway would; no gateway is needed")
    check.add_argument("file", metavar="FILE", type=Path)
    check.add_argument("--json", action="store_true", help="for a script")
    check.set_defaults(run=_check)


def _plugins(given: argparse.Namespace) -> int:
    with control(given) as client:
        shown: Any = client.plugins()
    if given.json:
        print_json(shown)
        return 0
    if not shown["directory"]:
        print_line("no plugin directory is configured (plugins.directory)")
    elif shown["problem"]:
        print_line(shown["problem"])
    rows = [("FILE", "DIGEST", "OFFERED AS", "CHECK")]
    for each in shown["plugins"]:
        offered = ", ".join(each["policies"]) or "-"
        result = each["problem"] or f"passed in {each['check_s']:.1f} s"
        state = result if each["present"] else "no longer in the directory"
        rows.append((each["file"], each["digest"], offered, state))
    if shown["plugins"]:
        print_table(rows)
    return 0


def _check(given: argparse.Namespace) -> int:
    from router.plugins.checking import check
    from router.plugins.directory import PluginUnreadable, read_plugin
    from router.plugins.types import CheckReport

    try:
        report = check(read_plugin(given.file), given.file.name)
    except PluginUnreadable as error:
        report = CheckReport(given.file.name, "", problem=f"it {error}")
    if given.json:
        print_json({**report._asdict(), "offered_as": list(report.names)})
    elif report.problem:
        print_line(f"{given.file}: {report.problem}")
    else:
        for name, offered in zip(report.policies, report.names, strict=True):
            costs = _costs(report.pick_us[name])
            print_line(f"{given.file}: {name} passes, and would be offered as {offered}; {costs}")
    return 1 if report.problem else 0


def _costs(pick_us: Mapping[str, float]) -> str:
    return "a pick takes " + ", ".join(f"{us:.0f} us among {pods} pods" for pods, us in pick_us.items())
