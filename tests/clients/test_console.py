"""The web console in a browser: looked at, and used by mouse and by keyboard. What it changed is read from the gateway.

The pictures are kept in `.cache/console`, or where TURNOUT_CONSOLE_SHOTS says.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from tests.clients.conftest import HERE, ROOT, Clients
from tests.fakes.gateway_process import config, running
from tests.fakes.many_pods import many_pods
from tests.fakes.programs import need
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S

pytestmark = pytest.mark.needs("chromium")

PAUSE_S = 0.3
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hello " * 400}], "max_tokens": 4}
AXE = HERE / "node/node_modules/axe-core/axe.min.js"


def seen(clients: Clients, *given: str | Path) -> dict[str, Any]:
    output = clients.run([clients.python / "python", HERE / "python/console.py", need("chromium"), *given])
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


@contextmanager
def requests_to(url: str) -> Iterator[None]:
    """A few requests a second, for as long as the block runs."""
    over = Event()

    def send() -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE_S) as client:
            while not over.wait(PAUSE_S):
                client.post("/v1/chat/completions", json=CHAT).raise_for_status()

    thread = Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_operator_changes_policies_by_mouse_and_by_keyboard_on_pages_without_violations(
    clients: Clients, engines: SimPods, tmp_path: Path
) -> None:
    shots = Path(os.environ.get("TURNOUT_CONSOLE_SHOTS", ROOT / ".cache/console"))
    shots.mkdir(parents=True, exist_ok=True)
    tokens = []
    for name, role in (("ada", "operate"), ("eve", "read")):
        (tmp_path / name).write_text(f"{role}-token")
        tokens.append({"name": name, "role": role, "token_file": str(tmp_path / name)})
    settings = config(engines.urls, control={"listen": "127.0.0.1:0", "tokens": tokens})
    with running(settings, tmp_path / "gateway") as gateway:
        gateway.control.headers["authorization"] = "Bearer operate-token"
        url = str(gateway.control.base_url).rstrip("/")
        with requests_to(gateway.url):
            looked = seen(clients, url, "look", AXE, "operate-token", shots)
            operated = seen(clients, url, "operate", AXE, "operate-token", "read-token")
        history = gateway.control.get("/admin/pools/default/history").json()
        pods = gateway.pods()
    assert looked == {"violations": [], "problems": []}
    assert operated == {"violations": [], "problems": [], "read_only": True}
    assert [shape(each) for each in reversed(history)] == [
        *("least_load - -", "round_robin - -", "round_robin p2c -", "round_robin p2c least_load", "least_load - -"),
        *("least_load - -", "least_load - p2c", "least_load round_robin p2c", "round_robin - -"),
    ]
    assert {each["by"] for each in history if each["generation"]} == {"ada: console"}
    assert {each["note"] for each in history} >= {"by mouse", "by keyboard"}
    assert all(pod["routable"] for pod in pods), "what was drained was given back"


def shape(record: dict[str, Any]) -> str:
    shadow, canary = (record[part]["policy"] if record[part] else "-" for part in ("shadow", "canary"))
    return f"{record['policy']} {shadow} {canary}"


def test_of_a_thousand_pods_only_those_in_sight_are_elements(clients: Clients, tmp_path: Path) -> None:
    with many_pods(1000) as pods, running(config(pods.urls), tmp_path / "gateway") as gateway:
        gateway.wait_until_ready()
        found = seen(clients, str(gateway.control.base_url).rstrip("/"), "draw")
    sys.stdout.write(f"drawn in {found['ms']:.0f} ms\n")
    assert (found["pods"], found["problems"]) == (1000, [])
    assert 10 <= found["rows"] <= 60
