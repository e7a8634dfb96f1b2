"""`turnout`: parses the command line, runs the command, and reports a failure in one line.

Exit codes: 0 success, 1 `check` found errors, 2 any other failure. A command imports what it needs when it runs, so
that `turnout --version` loads neither a server nor a simulator.
"""

from __future__ import annotations

import argparse
import io
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from router.cli.completion import add_completion
from router.cli.control import add_control, add_pods, print_line
from router.cli.keys import add_keys
from router.cli.policy import add_policy
from router.cli.serve_flags import COMMAND_LINE, UsageError, processes, seconds, settings_for
from router.cli.version import version_line
from router.config.environment import unknown_variables
from router.config.file import STDIN, ConfigError, described, read
from router.settings import Auth, Settings
from router.workers.ipc import FAILED, WorkerChannel, place_in
from schedulers.errors import SchedulerError
from statesync.errors import StateError

_INSTEAD = {
    "--host": "--listen HOST:PORT",
    "--port": "--listen HOST:PORT",
    "--bind": "--listen HOST:PORT",
    "--url": "--pod URL",
    "--redis": "--state redis://HOST:PORT",
    "--debug": "--log-level debug",
    "--verbose": "--log-level debug",
    "--version": "turnout version",
}
"""Flags of similar programs -> what there is in their place, most of it of `turnout serve`."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        known = [word for word in message.replace("=", " ").split() if word in _INSTEAD]
        hint = "".join(f"; in place of {word} write {_INSTEAD[word]}" for word in known[:1])
        raise UsageError(f"{message}{hint} (see {self.prog} --help)")


class _ShowVersion(argparse.Action):
    """In one line for programs that read it, where argparse's own wraps it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        print_line(version_line())
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name from a file or a pod may have what a locale has not
            stream.reconfigure(errors="backslashreplace")
    try:
        given = _parser().parse_args(argv)
        given.command = _command_line(argv)
        run: Callable[[argparse.Namespace], int] = given.run
        return run(given)
    except _EXPLAINED as error:
        return _fail(_message(error))
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="turnout", description="LLM-inference request router with hot-swappable schedulers")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and the build, and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run the gateway"))
    _add_epp(commands.add_parser("epp", help="run an endpoint picker for Envoy and the Gateway API"))
    _add_passed_on(commands, "demo", "engines, gateway, traffic and a live view on this machine", _demo)
    _add_passed_on(commands, "sim", "simulated vLLM engines on 127.0.0.1", _sim)
    _add_passed_on(commands, "simulate", "recorded traffic through policies, in virtual time", _simulate)
    _add_passed_on(commands, "prove", "may a new version take the old one's place? plays the upgrade", _prove)
    add_policy(commands.add_parser("policy", help="see, try and replace a pool's policy"))
    add_pods(commands.add_parser("pods", help="pods and their load"))
    _add_top(commands.add_parser("top", help="a live view of pods and requests on this terminal"))
    add_keys(commands.add_parser("keys", help="API keys of the inference port: make, list, revoke"))
    check = commands.add_parser("check", help="say all that is wrong with a configuration")
    check.add_argument("config", metavar="CONFIG", help="YAML; `-` is standard input")
    check.set_defaults(run=_check)
    commands.add_parser("version", help="print the version and the build").set_defaults(run=_version)
    add_completion(commands.add_parser("completion", help="print a script that completes commands and flags"), parser)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.epilog = (
        "A flag wins over its variable (TURNOUT_CONFIG, TURNOUT_PODS, TURNOUT_LISTEN, ...), and a variable over the "
        "file. --pod and --policy change the file's pool `default`, or its only pool."
    )
    _add_settings(serve, "inference port")
    serve.add_argument("--workers", metavar="N", type=processes, help="processes that share the port (default 1)")
    serve.set_defaults(run=_serve)


def _add_epp(epp: argparse.ArgumentParser) -> None:
    epp.epilog = "Its settings are those of `turnout serve`: the same file, variables and flags."
    _add_settings(epp, "gRPC port")
    epp.add_argument(
        "--endpoints", metavar="N", type=processes, default=1, help="named for each request, for retries (default 1)"
    )
    epp.set_defaults(run=_epp, workers=None)


def _add_settings(command: argparse.ArgumentParser, port: str) -> None:
    command.add_argument("--config", metavar="FILE", help="YAML; `-` is standard input")
    command.add_argument(
        "--pod", metavar="URL", action="append", default=[], help="a pod, in place of the file's; repeat for more"
    )
    command.add_argument("--policy", metavar="NAME", help="the policy, in place of the file's")
    command.add_argument("--state", metavar="URL", help="memory:// (default) or redis://host:port")
    command.add_argument("--listen", metavar="HOST:PORT", help=f"{port} (default 0.0.0.0:8000)")
    command.add_argument("--control", metavar="HOST:PORT", help="control port (default 127.0.0.1:9000)")
    command.add_argument("--log-level", metavar="LEVEL", help="debug, info (default), warning or error")


def _add_top(top: argparse.ArgumentParser) -> None:
    add_control(top, answers=False)
    top.add_argument("--once", action="store_true", help="print one frame, of the next second, and end")
    top.add_argument("--interval", metavar="S", type=seconds, default=1.0, help="seconds between two frames (1)")
    top.set_defaults(run=_top)


def _add_passed_on(
    commands: argparse._SubParsersAction[_Parser], name: str, help_text: str, run: Callable[[Sequence[str]], int]
) -> None:
    """Add a command of loadtests, which has its own flags and help."""
    command = commands.add_parser(name, help=help_text, add_help=False, prefix_chars="\0")
    command.add_argument("rest", nargs=argparse.REMAINDER)
    command.set_defaults(run=lambda given: run(given.rest))


def _command_line(argv: Sequence[str] | None) -> list[str]:
    """The command line that runs this command again, in another process."""
    if argv is None:
        return [sys.executable, *sys.orig_argv[1:]]
    return [sys.executable, "-m", "router", *argv]


def _serve(given: argparse.Namespace) -> int:
    place = place_in(os.environ)
    if place is None:
        return _serve_alone(given)
    # The addresses are those of the sockets, and the settings are checked with them.
    given.listen, given.control = place.listen, place.control
    line = WorkerChannel(socket.socket(fileno=place.tether_fd))
    try:
        settings = _settings_to_serve(given, warn=lambda message: None)  # the supervisor has printed them
        from router.workers.worker import serve

        return serve(settings, place, line)
    except _EXPLAINED as error:
        line.send(FAILED, _message(error))  # the supervisor logs it
        return 2


def _serve_alone(given: argparse.Namespace) -> int:
    settings = _settings_to_serve(given)
    if (given.workers or 1) > 1:
        from router.workers.supervisor import supervise

        return supervise(settings, given.workers, given.command)
    from router.replica.process import serve

    return serve(settings)


def _epp(given: argparse.Namespace) -> int:
    settings = settings_for(given, os.environ)
    try:
        from router.epp.process import serve
    except ModuleNotFoundError as error:
        raise UsageError(f"turnout epp needs {error.name}: pip install 'turnout[epp]'") from None
    return serve(settings, given.endpoints - 1)


def _settings_to_serve(given: argparse.Namespace, **warn: Callable[[str], None]) -> Settings:
    settings = settings_for(given, os.environ, **warn)
    several = (given.workers or 1) > 1
    if several and given.config == STDIN:
        raise UsageError(f"--workers {given.workers} and --config -: each process reads the file; name a file")
    if several and settings.state.startswith("memory:"):
        raise UsageError(
            f"--workers {given.workers} needs --state redis://...: processes cannot share memory://, "
            "and each would route as if the others sent nothing"
        )
    return settings


def _demo(rest: Sequence[str]) -> int:
    from loadtests.sim.demo import main as demo

    return demo(rest)


def _sim(rest: Sequence[str]) -> int:
    from loadtests.sim.simpod.fleet import main as sim

    return sim(rest)


def _simulate(rest: Sequence[str]) -> int:
    from loadtests.sim.simulate.command import main as simulate

    return simulate(rest)


def _top(given: argparse.Namespace) -> int:
    from router.cli.top import show

    return show(given)


def _prove(rest: Sequence[str]) -> int:
    from loadtests.prove.command import main as prove

    return prove(rest)


def _version(given: argparse.Namespace) -> int:
    print_line(version_line())
    return 0


def _check(given: argparse.Namespace) -> int:
    reading = read(given.config)
    for problem in (*reading.problems, *unknown_variables(os.environ, reading.settings)):
        print_line(described(given.config, problem))
    errors = sum(problem.severity == "error" for problem in reading.problems)
    if errors:
        print_line(f"{errors} error{'s' if errors > 1 else ''}")
        return 1
    print_line("\n".join(summary(reading.settings)))
    return 0


def summary(settings: Settings) -> list[str]:
    """What `serve` would do with these settings, as lines."""
    token = " with a token" if settings.control.token or settings.control.tokens else ""
    state = settings.state.partition("://")[0]
    lines = [f"inference on {settings.listen}, control on {settings.control.listen}{token}, state in {state}://"]
    for pool in settings.pools:
        pods = f"{len(pool.pods)} pod{'s' if len(pool.pods) != 1 else ''}" if pool.pods else pool.discovery.source
        models = ", ".join(pool.models) or "whatever its pods say they serve"
        lines.append(f"pool {pool.name}: {pods}, policy {pool.policy.name}, models: {models}")
    if settings.default_pool:
        lines.append(f"any other model goes to pool {settings.default_pool}")
    if settings.auth is not None:
        tenants = ", ".join(tenant.name for tenant in settings.tenants)
        lines.append(f"clients need {_credentials(settings.auth)}; tenants: {tenants}")
    return lines


def _credentials(auth: Auth) -> str:
    """What lets a client in."""
    found = ["a key of the shared state"] if auth.keys_from else []
    found += [f"a key of {auth.keys_file}"] if auth.keys_file else []
    return " or ".join([*found, f"a token of {auth.jwt.issuer}"] if auth.jwt is not None else found)


_EXPLAINED = (UsageError, SchedulerError, StateError, ConfigError, OSError)
"""Failures that the user can correct: reported in a line, without a traceback."""


def _message(error: Exception) -> str:
    if isinstance(error, ConfigError):
        return _first_of(error)
    return _os_message(error) if isinstance(error, OSError) else str(error)


def _first_of(error: ConfigError) -> str:
    """The first error, and how to see the rest, in one line."""
    errors = [problem for problem in error.problems if problem.severity == "error"]
    message = described(error.source, errors[0])
    more = len(errors) - 1
    if not more:
        return message
    rest = f"turnout check {error.source}" if error.source not in (COMMAND_LINE, STDIN) else "fix it to see them"
    return f"{message} (and {more} more: {rest})"


def _os_message(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _fail(message: str) -> int:
    sys.stderr.write(f"turnout: {' '.join(message.split())}\n")
    return 2
