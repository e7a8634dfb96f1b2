"""Settings that come from environment variables: their names, their effect, and variables that look like one and are
none.

One order of precedence for all settings: a flag of `turnout serve`, then the variable, then the file, then the default.
Knows neither the file nor the command line. An empty variable counts as unset.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import msgspec

from router.config.problems import Problem
from router.settings import Settings

TOKEN_VARIABLE = "TURNOUT_CONTROL_TOKEN"
"""Holds the control port's token."""

PASSWORD_VARIABLE = "TURNOUT_STATE_PASSWORD"
"""Holds the password of a `state` in Redis, as plain text that is not URL-encoded."""

REPLICA_VARIABLE = "TURNOUT_REPLICA"
"""Holds the replica's name: many replicas read one file."""

LABELS_VARIABLE = "TURNOUT_LABELS"
"""Holds labels of the gateway, `zone=eu-1a,cluster=a`: replicas in several zones read one file. It wins over the file
label by label; one without a value is left out."""

CONTROL_VARIABLE = "TURNOUT_CONTROL"
"""Holds the address of the control port: where `serve` listens, and where commands such as `turnout pods` connect."""

FLAGS: Mapping[str, str] = {
    "TURNOUT_CONFIG": "--config",
    "TURNOUT_PODS": "--pod",
    "TURNOUT_POLICY": "--policy",
    "TURNOUT_STATE": "--state",
    "TURNOUT_LISTEN": "--listen",
    CONTROL_VARIABLE: "--control",
    "TURNOUT_WORKERS": "--workers",
    "TURNOUT_LOG_LEVEL": "--log-level",
}
"""Variable -> the flag of `turnout serve` that it stands for. TURNOUT_PODS lists pods, with spaces or commas."""

SETTINGS = frozenset({TOKEN_VARIABLE, PASSWORD_VARIABLE, REPLICA_VARIABLE, LABELS_VARIABLE, *FLAGS})
"""Every variable that holds a setting."""

ENVIRONMENT = "environment"
"""The source of problems with variables, in messages."""

_OTHERS = frozenset(
    {
        "TURNOUT_WORKER",  # from the supervisor to a worker
        "TURNOUT_COMPILE",  # of the build
        "TURNOUT_API_KEY",  # of the load generator
        "TURNOUT_IMAGE",  # these are of the tests
        "TURNOUT_SEED",
        "TURNOUT_TESTED_PYTHON",
        "TURNOUT_VLLM_RESTART",
        "TURNOUT_VLLM_SERVE",
        "TURNOUT_VLLM_URLS",
    }
)

_SERVICE = re.compile(r"TURNOUT(_\w+)?_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""Variables that Kubernetes sets for a Service whose name begins with `turnout`."""
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://")
"""The value of a Service's variable `..._PORT`."""

_INSTEAD = {"TURNOUT_HOST": "TURNOUT_LISTEN", "TURNOUT_PORT": "TURNOUT_LISTEN", "TURNOUT_POD": "TURNOUT_PODS"}

_LOGIN = re.compile(
    r"(?P<scheme>(?:redis|unix)[^:]*://)(?:(?P<user>[^:@/?]*)(?::(?P<password>[^@/?]*))?@)?(?P<rest>.*)", re.DOTALL
)
"""The parts of a state URL around its password; memory:// has none."""


def with_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """The settings with the values of the variables that no flag stands for."""
    replace = msgspec.structs.replace
    if token := environ.get(TOKEN_VARIABLE, ""):
        settings = replace(settings, control=replace(settings.control, token=token))
    if password := environ.get(PASSWORD_VARIABLE, ""):
        settings = replace(settings, state=_with_password(settings.state, password))
    if replica := environ.get(REPLICA_VARIABLE, ""):
        settings = replace(settings, replica=replica)
    if labels := environ.get(LABELS_VARIABLE, ""):
        settings = replace(settings, labels={**settings.labels, **_labels(labels)})
    return settings


def attributed(problem: Problem, environ: Mapping[str, str]) -> Problem:
    """A problem of a value that one of these variables set names the variable, not a line of the file."""
    variable = ""
    if problem.path == ("control", "token") and environ.get(TOKEN_VARIABLE, ""):
        variable = TOKEN_VARIABLE
    elif problem.path[:1] == ("labels",) and problem.path[-1] in _labels(environ.get(LABELS_VARIABLE, "")):
        variable = LABELS_VARIABLE
    return problem._replace(line=None, origin=variable) if variable else problem


def with_login(url: str, environ: Mapping[str, str]) -> str:
    """A state URL with the password of the environment, unless it has one of its own."""
    match = _LOGIN.fullmatch(url)
    password = environ.get(PASSWORD_VARIABLE, "")
    return url if not password or match is None or match["password"] is not None else _with_password(url, password)


def unknown_variables(environ: Mapping[str, str], settings: Settings) -> Iterator[Problem]:
    """A warning for each variable TURNOUT_* that sets nothing; one that a setting names, such as a key's, is known."""
    strangers = sorted(name for name in environ if name.startswith("TURNOUT_") and name not in SETTINGS | _OTHERS)
    named = set(_texts(msgspec.to_builtins(settings))) if strangers else set()
    for name in strangers:
        from_kubernetes = _SERVICE.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.match(environ[name]))
        if name not in named and not from_kubernetes:
            near = [_INSTEAD[name]] if name in _INSTEAD else difflib.get_close_matches(name, sorted(SETTINGS), 1)
            hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(SETTINGS))}"
            yield Problem((), f"{name} sets nothing{hint}", "warning", origin=ENVIRONMENT)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _labels(text: str) -> dict[str, str]:
    """A pair without `=` is kept with an empty value, which the checks report."""
    pairs = [pair.strip().partition("=") for pair in text.split(",") if pair.strip()]
    return {name.strip(): value.strip() for name, equals, value in pairs if value.strip() or not equals}


def _with_password(url: str, password: str) -> str:
    match = _LOGIN.fullmatch(url)
    if match is None:
        return url
    return f"{match['scheme']}{match['user'] or ''}:{quote(password, safe='')}@{match['rest']}"
