import subprocess
from pathlib import Path

import pytest

from loadtests.upgrade.haproxy import config, parse, program

STATS = """# pxname,svname,status,wretr,
inference,FRONTEND,OPEN,,
replicas,replica-0,UP,1,
replicas,replica-1,DOWN,,
replicas,BACKEND,UP,,
numbers,FRONTEND,OPEN,,
"""


def test_every_replica_has_a_slot_and_only_readiness_decides() -> None:
    text = config(1, 2, {"replica-0": 10, "replica-1": 11})
    assert "server replica-0 127.0.0.1:10\n" in text
    assert "server replica-1 127.0.0.1:11\n" in text
    assert "option httpchk GET /readyz" in text


def test_only_a_failed_connection_attempt_is_retried() -> None:
    text = config(1, 2, {})
    assert "no option redispatch" in text
    assert "retry-on conn-failure\n" in text


@pytest.mark.needs("haproxy")
def test_haproxy_accepts_the_configuration_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(config(18000, 18001, {"replica-0": 18002}))
    checked = subprocess.run([program() or "", "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stdout + checked.stderr


def test_only_the_slots_are_read_from_its_statistics() -> None:
    assert [(row["svname"], row["status"]) for row in parse(STATS)] == [("replica-0", "UP"), ("replica-1", "DOWN")]
