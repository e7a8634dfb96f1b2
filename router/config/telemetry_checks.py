"""Checks of the section `telemetry`: where traces go, and whether the packages that send them are installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from urllib.parse import urlsplit

from router.config.problems import Problem
from router.settings import Telemetry

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def telemetry_problems(telemetry: Telemetry) -> Iterator[Problem]:
    """Problems of the section; none where traces are off."""
    endpoint = telemetry.otlp_endpoint
    if not endpoint:
        return
    if wrong := _url_problem(endpoint):
        yield Problem(("telemetry", "otlp_endpoint"), f"{wrong}; write it as http://collector:4318")
    if not _installed(EXPORTER):
        yield Problem(
            ("telemetry", "otlp_endpoint"),
            "needs packages that are not installed: pip install 'turnout[otel]', or leave it empty",
        )


def _url_problem(endpoint: str) -> str:
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        return "is no URL"
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        return "is no http or https URL"
    if url.username is not None or url.query or url.fragment:
        return "may have no login, query or fragment: credentials go into OTEL_EXPORTER_OTLP_HEADERS"
    return ""


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False
