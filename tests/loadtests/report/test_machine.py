"""The description of the machine."""

from __future__ import annotations

import sys

import pytest

from loadtests.report import machine


def test_the_processor_is_named_and_memory_is_rounded() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC: 7\nmodel name\t: other\n") == "AMD EPYC: 7"
    assert machine.cpu_model("") == "unknown"
    assert machine.memory("MemTotal:       24684144 kB\nMemFree: 1 kB\n") == "25 GB"


@pytest.mark.slow
def test_no_line_of_the_description_is_empty() -> None:
    found = machine.description(sys.executable)
    assert {"commit", "cpu", "cores", "kernel", "gateway's Python", "load average at start"} <= {*found}
    assert all(found.values())


@pytest.mark.slow
def test_a_python_reports_its_version_and_speed() -> None:
    assert "ns a step" in machine.python_build(sys.executable)
    assert machine.python_build("/nonexistent/python") == "unknown"
