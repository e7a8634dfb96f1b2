"""The one option of the microbenchmarks."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --huge."""
    parser.addoption("--huge", action="store_true", help="also an index of 10 million blocks: 5 GB and a minute")
