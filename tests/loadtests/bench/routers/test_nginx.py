"""nginx's configuration, checked by nginx itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from loadtests.bench.routers import nginx


def test_every_engine_is_an_upstream_and_connections_are_kept_alive(tmp_path: Path) -> None:
    text = nginx.config(tmp_path, 8080, [1, 2, 3])
    assert [f"server 127.0.0.1:{port};" in text for port in (1, 2, 3)] == [True] * 3
    assert "listen 127.0.0.1:8080 " in text
    assert 'proxy_set_header Connection "";' in text
    assert "$" not in text


@pytest.mark.needs("nginx")
def test_nginx_accepts_it_and_stays_inside_its_directory(tmp_path: Path) -> None:
    command = nginx.command(tmp_path, 18080, [18081, 18082])
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr
    assert (tmp_path / "proxy").is_dir()
