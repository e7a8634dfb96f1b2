"""The profile names the gateway's own functions."""

from __future__ import annotations

import pytest

from loadtests.bench.guard import profile


def test_the_profile_shows_the_stages_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    profile.main(["stream of 1", "--turns", "20", "--top", "200"])
    text = capsys.readouterr().out
    assert all(f"{name}.py" in text for name in ("edge", "dispatch", "relay", "upstream_connection"))
