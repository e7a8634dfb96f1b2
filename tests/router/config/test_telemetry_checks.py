"""Wrong values of `telemetry` are named with what is right, and so is a library that is missing."""

from __future__ import annotations

import sys

import pytest

from router.config.checks import problems_in
from router.config.telemetry_checks import EXPORTER, telemetry_problems
from router.settings import Pool, Settings, Telemetry
from tests.fakes.each_case import each_case


def said(endpoint: str) -> list[str]:
    return [problem.message for problem in telemetry_problems(Telemetry(otlp_endpoint=endpoint))]


@pytest.mark.parametrize(
    "endpoint", ["", "http://collector:4318", "https://otel.example.com/base", "http://[::1]:4318"]
)
def test_a_base_url_is_right(endpoint: str) -> None:
    assert said(endpoint) == []


@each_case("endpoint", ["collector:4318", "grpc://collector:4317", "http://", "http://a:b:c", "http://[::1", "x"])
def test_what_is_no_url_is_named(endpoint: str) -> None:
    (message,) = said(endpoint)
    assert "URL; write it as http://collector:4318" in message


def test_credentials_have_another_place() -> None:
    (message,) = said("http://me:secret@collector:4318")
    assert "OTEL_EXPORTER_OTLP_HEADERS" in message
    assert "secret" not in message


def test_a_missing_library_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(1, EXPORTER.count(".") + 2):
        monkeypatch.setitem(sys.modules, ".".join(EXPORTER.split(".")[:part]), None)
    settings = Settings(
        pools=[Pool("main", pods=["http://a:1"])], telemetry=Telemetry(otlp_endpoint="http://collector:4318")
    )
    (problem,) = problems_in(settings)
    assert problem.path == ("telemetry", "otlp_endpoint")
    assert "pip install 'turnout[otel]'" in problem.message


def test_a_ratio_is_a_share() -> None:
    pools = [Pool("main", pods=["http://a:1"])]
    for ratio in (-0.1, 1.5):
        (problem,) = problems_in(Settings(pools=pools, telemetry=Telemetry(sample_ratio=ratio)))
        assert problem.path == ("telemetry", "sample_ratio")
