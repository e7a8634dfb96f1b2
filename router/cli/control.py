"""What the commands with a control port share, and `turnout pods`. Knows the command line, not the gateway."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from router.address import parse_listen
from router.cli.serve_flags import UsageError
from router.config.environment import CONTROL_VARIABLE, TOKEN_VARIABLE
from statesync.settings import UpstreamTls

if TYPE_CHECKING:
    from router.cli.client import ControlClient

DEFAULT_CONTROL = "http://127.0.0.1:9000"


def add_control(command: argparse.ArgumentParser, *, answers: bool = True) -> None:
    """Add the flags of a command that calls a control port. `answers`: it may print them as they are."""
    command.add_argument(
        "--control",
        metavar="URL",
        help=f"control port of any replica (default {CONTROL_VARIABLE}, or {DEFAULT_CONTROL}); "
        f"token from {TOKEN_VARIABLE}",
    )
    command.add_argument("--ca-file", metavar="FILE", help="authorities of an https:// control port, PEM")
    command.add_argument("--cert-file", metavar="FILE", help="certificate to show it, PEM")
    command.add_argument("--key-file", metavar="FILE", help="its key, unless it is in --cert-file")
    command.add_argument("--token-file", metavar="FILE", default="", help=f"the token, in place of {TOKEN_VARIABLE}")
    if answers:
        command.add_argument("--json", action="store_true", help="as the control API answers it")


@contextlib.contextmanager
def control(given: argparse.Namespace) -> Iterator[ControlClient]:
    """A client of the control port in the flags. Raises UsageError for each of its failures."""
    # httpx takes longer to import than everything else here together.
    from router.cli.client import ControlClient, ControlFailure

    try:
        if (given.control or "").isdigit():
            raise UsageError(
                f"--control: {given.control!r} is not a URL or host:port, such as 127.0.0.1:{given.control}"
            )
        ca_file, cert_file, key_file = given.ca_file or "", given.cert_file or "", given.key_file or ""
        tls = UpstreamTls(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        url = given.control or control_url(os.environ)
        with ControlClient(url, os.environ, tls, token_file=given.token_file) as client:
            yield client
    except ControlFailure as error:
        raise UsageError(str(error)) from None


def control_url(environ: Mapping[str, str]) -> str:
    """The control port of the environment, or the default. Where it listens on every address, this machine's own."""
    text = environ.get(CONTROL_VARIABLE, "")
    try:
        listen = parse_listen(text)
    except ValueError:
        return text or DEFAULT_CONTROL
    own = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return str(listen._replace(host=own.get(listen.host, listen.host)))


def print_line(line: str) -> None:
    """Print a line."""
    sys.stdout.write(line + "\n")


def print_json(answer: object) -> None:
    """Print the answer as JSON, for scripts."""
    print_line(msgspec.json.format(msgspec.json.encode(answer)).decode())


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table with columns as wide as needed; the first row has their names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def add_pods(pods: argparse.ArgumentParser) -> None:
    """`turnout pods`."""
    add_control(pods)
    pods.set_defaults(run=_pods)


def _pods(given: argparse.Namespace) -> int:
    with control(given) as client:
        pods = client.pods()
        pools = [] if given.json else client.pools()
    if given.json:
        print_json(pods)
        return 0
    rows = [("POOL", "POD", "STATE", "INFLIGHT", "QUEUED", "RUNNING", "KV")]
    for pod in pods:
        kv = f"{float(str(pod['kv_usage'])):.0%}"
        inflight, queued, running = (str(pod[key]) for key in ("inflight", "queued", "running"))
        rows.append((str(pod["pool"]), str(pod["id"]), _state(pod), inflight, queued, running, kv))
    rows += [(str(pool["name"]), "-", "no pods", "-", "-", "-", "-") for pool in pools if not pool["pods"]]
    print_table(rows)
    return 0


def _state(pod: Mapping[str, object]) -> str:
    if not pod["routable"]:
        return ",".join(map(str, _list(pod["blockers"]))) or "not routable"
    return "failing (kept)" if pod.get("kept") else "routable"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
