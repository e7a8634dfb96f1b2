"""How peers are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.bench import nginx
from loadtests.bench.peers import Missing, Place, start_nginx, start_turnout


def test_turnout_is_started_as_a_user_would_with_prefix_aware(tmp_path: Path) -> None:
    start = start_turnout(Place(tmp_path, 8123, [7001, 7002]))
    line = " ".join(start.command)
    assert "serve --policy prefix_aware --listen 127.0.0.1:8123 --control 127.0.0.1:" in line
    assert line.endswith("--pod http://127.0.0.1:7001 --pod http://127.0.0.1:7002")
    assert start.ready == "http://127.0.0.1:8123/readyz"


def test_a_peer_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "program", lambda: None)
    with pytest.raises(Missing, match="apt-get install nginx"):
        start_nginx(Place(tmp_path, 8123, [7001]))
