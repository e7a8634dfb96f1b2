"""Two replicas with named tokens and one audit log: who changed what is seen on both, and a replaced token at once."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest

from loadtests.processes.redis_server import RedisServer
from router.cli.main import main
from tests.fakes.gateway_process import GatewayProcess, config, starting
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("redis-server")]

POLICY = "/admin/pools/default/policy"


class Secrets:
    """Tokens of this test, and the file with one of them."""

    def __init__(self, folder: Path) -> None:
        self.look, self.change, self.other = (secrets.token_hex(16) for _ in range(3))
        self.file = folder / "ci"
        self.file.write_text(self.change)
        self.look_file = folder / "look"
        self.look_file.write_text(self.look)

    def control(self, audit: Path) -> dict[str, object]:
        """The section of the configuration."""
        looks = {"name": "grafana", "token_sha256": sha256(self.look.encode()).hexdigest()}
        changes = {"name": "ci", "role": "operate", "token_file": str(self.file)}
        tokens = [looks, changes]
        return {"listen": "127.0.0.1:0", "tokens": tokens, "metrics_auth": True, "audit_file": str(audit)}


@pytest.fixture
def known(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path)


@pytest.fixture
def replicas(sims: SimPods, known: Secrets, tmp_path: Path) -> Iterator[list[GatewayProcess]]:
    with RedisServer(tmp_path) as redis, ExitStack() as stack:
        started = []
        for name in ("gw-a", "gw-b"):
            control = known.control(tmp_path / "audit.jsonl")
            settings = config(sims.urls[:2], state=redis.url, replica=name, control=control)
            replica = stack.enter_context(starting(settings, tmp_path / name))
            replica.wait_until_ready()
            started.append(replica)
        yield started


def change(replica: GatewayProcess, token: str, policy: str, author: str = "ada") -> int:
    headers = {"authorization": f"Bearer {token}", "x-turnout-author": author}
    return replica.control.put(POLICY, json={"policy": policy}, headers=headers).status_code


def test_who_changed_what_is_seen_on_every_replica_and_in_one_log(
    replicas: list[GatewayProcess], known: Secrets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = replicas
    assert change(first, known.change, "p2c") == 200
    assert change(second, known.look, "random") == 403
    assert change(second, "guessed", "random") == 401
    assert second.control.get("/metrics").status_code == 401

    def history() -> str:
        where = ["--control", str(second.control.base_url), "--token-file", str(known.look_file)]
        assert main(["policy", "history", "default", *where]) == 0
        return capsys.readouterr().out

    wait_for("the other replica shows who it was", lambda: "ci: ada" in history())

    replaced = tmp_path / "new"
    replaced.write_text(known.other)
    replaced.replace(known.file)
    new = {"authorization": f"Bearer {known.other}"}
    wait_for("both read it", lambda: all(each.control.get("/admin/pods", headers=new).is_success for each in replicas))
    for replica in replicas:
        assert change(replica, known.change, "random") == 401
    assert change(second, known.other, "random", author="") == 200

    for replica in replicas:
        replica.signal()
    assert [replica.ended() for replica in replicas] == [0, 0]
    text = (tmp_path / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert sorted({(line["replica"], line["who"], line["status"]) for line in lines}) == [
        ("gw-a", "ci", 200),
        ("gw-a", "no token", 401),
        ("gw-b", "ci", 200),
        ("gw-b", "grafana", 403),
        ("gw-b", "no token", 401),
    ]
    logs = "".join(replica.log.read_text() for replica in replicas)
    for secret in (known.look, known.change, known.other, "guessed"):
        assert secret not in text + logs
