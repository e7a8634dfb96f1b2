"""The audit log over a real control port: who did what, what was before and after, and no secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.control.audit import REFUSED_BURST, Attempt, AuditLog
from router.control.author import author_of, made_by
from router.control.tokens import Caller, Role
from router.settings import Control, ControlToken
from schedulers.types import Pod, PodId
from statesync.discovery.ranks import ranks_of
from tests.fakes.control_port import POD, Replica, talk_to
from tests.router.control.test_tokens import hashed

TOKENS = [
    ControlToken(name="grafana", token_sha256=hashed("secret-look")),
    ControlToken(name="ci", role="operate", token_sha256=hashed("secret-change")),
]
LOOK, CHANGE = ({"authorization": f"Bearer secret-{kind}"} for kind in ("look", "change"))
POLICY = "/admin/pools/default/policy"


def audited(tmp_path: Path, tokens: list[ControlToken] = TOKENS) -> Replica:
    return Replica(control=Control(tokens=tokens, audit_file=str(tmp_path / "audit.jsonl")))


def written(replica: Replica, tmp_path: Path) -> list[dict[str, Any]]:
    assert replica.audit is not None
    replica.audit.stop()
    text = (tmp_path / "audit.jsonl").read_text()
    assert "secret" not in text
    return [json.loads(line) for line in text.splitlines()]


def test_a_change_is_a_line_with_who_what_before_and_after(tmp_path: Path) -> None:
    replica = audited(tmp_path)

    async def talk(client: httpx.AsyncClient) -> None:
        said = httpx.Headers({**CHANGE, "x-request-id": "r-7", "x-turnout-author": "Jörg"}, encoding="utf-8")
        put = await client.put(POLICY, json={"policy": "random"}, headers=said, params={"note": "why", "x": "secret"})
        assert put.status_code == 200

    talk_to(replica, talk)
    (line,) = written(replica, tmp_path)
    before, after = line.pop("before"), line.pop("after")
    assert line == {
        "at": "2023-11-14T22:13:20.000Z",
        "replica": "r-1",
        "request_id": "r-7",
        "who": "ci",
        "author": "Jörg",
        "address": "127.0.0.1",
        "method": "PUT",
        "path": POLICY,
        "status": 200,
    }
    assert (before["policy"], before["generation"]) == ("p2c", 0)
    assert (after["policy"], after["generation"], after["note"], after["by"]) == ("random", 1, "why", "ci: Jörg")
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_break_behind_the_path_hides_no_change(tmp_path: Path) -> None:
    replica = audited(tmp_path, [])

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.put(f"{POLICY}%0A", json={"policy": "random"})).status_code == 200

    talk_to(replica, talk)
    (line,) = written(replica, tmp_path)
    assert (line["before"]["policy"], line["after"]["policy"]) == ("p2c", "random")


def test_every_kind_of_change_shows_what_it_is_about(tmp_path: Path) -> None:
    replica = audited(tmp_path, [])

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.post(f"/admin/pods/{POD}/drain")).status_code == 200
        assert (await client.delete(f"/admin/pods/{POD}/drain")).status_code == 200
        assert (await client.put("/admin/pools/default/shadow", json={"policy": "random"})).status_code == 200
        assert (await client.delete("/admin/pools/default/shadow")).status_code == 200
        replica.ready()
        assert (await client.post("/admin/drain")).status_code == 202

    talk_to(replica, talk)
    lines = written(replica, tmp_path)
    assert {line["who"] for line in lines} == {"no token"}
    assert [line["before"].get("blockers") for line in lines[:2]] == [[], ["draining"]]
    assert [line["after"]["blockers"] for line in lines[:2]] == [["draining"], []]
    assert [line["before"]["shadow"] for line in lines[2:4]] == [None, {"policy": "random", "params": {}}]
    assert (lines[4]["before"], lines[4]["after"]) == ({"phase": "ready"}, {"phase": "settling"})


def test_the_drain_of_a_pod_with_ranks_shows_the_rank_that_the_answer_shows(tmp_path: Path) -> None:
    replica = audited(tmp_path, [])
    replica.view.set_pods("ranked", ranks_of(Pod(PodId("r:1"), "r:1"), 2))

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.post("/admin/pods/r:1/drain")).status_code == 200

    talk_to(replica, talk)
    (line,) = written(replica, tmp_path)
    assert (line["before"], line["after"]["id"]) == ({"id": "r:1@1", "blockers": []}, "r:1@1")


def test_a_change_that_fails_is_a_line_with_the_reason_and_reading_is_none(tmp_path: Path) -> None:
    replica = audited(tmp_path)

    async def talk(client: httpx.AsyncClient) -> None:
        await client.get("/admin/pods", headers=LOOK)
        await client.get("/metrics")
        await client.put(POLICY, json={"policy": "nonesuch", "params": {"x": "secret"}}, headers=CHANGE)
        await client.put("/admin/pools/nonesuch/policy", json={"policy": "p2c"}, headers=CHANGE)
        await client.put(POLICY, content=b"{", headers=CHANGE)

    talk_to(replica, talk)
    lines = written(replica, tmp_path)
    assert [(line["status"], line["error"]) for line in lines] == [
        (422, "unknown_policy"),
        (404, "pool_not_found"),
        (422, "invalid_request"),
    ]
    assert lines[1]["before"] is None
    assert all("after" not in line for line in lines)


def test_refused_attempts_are_lines_up_to_a_rate(tmp_path: Path) -> None:
    replica = audited(tmp_path)

    async def talk(client: httpx.AsyncClient) -> None:
        await client.post("/admin/drain", headers=LOOK)
        await client.post("/admin/drain", headers={**CHANGE, "origin": "https://evil.example"})
        for number in range(REFUSED_BURST + 10):
            await client.get("/admin/pods", headers={"authorization": f"Bearer secret-{number}"})
        replica.now += 100.0
        await client.get("/admin/pods?token=secret")

    talk_to(replica, talk)
    lines = written(replica, tmp_path)
    assert (lines[0]["who"], lines[0]["status"], lines[0]["error"]) == ("grafana", 403, "permission_denied")
    assert (lines[1]["who"], lines[1]["error"]) == ("no token", "foreign_origin")
    assert [line["error"] for line in lines[2:-1]] == ["invalid_token"] * (REFUSED_BURST - 1)
    assert (lines[-1]["path"], lines[-1]["error"], lines[-1]["suppressed"]) == ("/admin/pods", "invalid_token", 11)
    assert replica.drains == 0


def test_a_full_disk_stops_no_change_and_is_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica(control=Control(tokens=TOKENS, audit_file="/dev/full"))

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.put(POLICY, json={"policy": "random"}, headers=CHANGE)).status_code == 200

    with caplog.at_level(logging.WARNING):
        talk_to(replica, talk)
        assert replica.audit is not None
        replica.audit.stop()
    assert replica.audit.lost == 1
    assert "/dev/full: 1 audit lines were not written: [Errno 28] No space left on device" in caplog.text
    assert replica.policies.record("default").name == "random"


def test_fields_that_hold_secrets_and_long_ones_are_not_written_as_they_are(tmp_path: Path) -> None:
    control = Control(audit_file=str(tmp_path / "audit.jsonl"))
    audit = AuditLog(control, "r-1", wall=lambda: 0.0, clock=lambda: 0.0)
    attempt = Attempt("r", "a", "PUT", "/" * 9000, "b" * 9000, Caller("ci", Role.OPERATE))
    before = {"params": {"api_key": "secret", "token": "secret", "weight": 2}}
    audit.changed(attempt, before=before, status=200, answer={"note": "Bearer secret"})
    audit.stop()
    text = (tmp_path / "audit.jsonl").read_text()
    assert "secret" not in text
    assert json.loads(text)["before"]["params"]["weight"] == 2
    assert len(text) < 2000


def test_the_history_names_the_token_before_what_the_caller_calls_itself() -> None:
    ci, open_to_all = Caller("ci", Role.OPERATE), Caller("", Role.OPERATE)
    assert [made_by(ci, "ada"), made_by(ci, ""), made_by(open_to_all, "ada")] == ["ci: ada", "ci", "ada"]
    assert made_by(ci, "root: ada") == "ci: root: ada"
    assert author_of("J\xc3\xb6rg") == "Jörg"
    assert author_of("J\xf6rg") == "J\xf6rg"
