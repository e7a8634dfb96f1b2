"""Coding agents without a terminal: Claude Code and Codex answer the same through the gateway as from an engine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.conftest import Clients
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.sim_process import MODEL, SimPods

pytestmark = pytest.mark.needs("node")

CODEX = """
model = "{model}"
model_provider = "turnout"
[model_providers.turnout]
name = "turnout"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "KEY"
"""


def claude(clients: Clients, url: str, *more: str) -> dict[str, Any]:
    """The result of one question to Claude Code."""
    output = clients.run(
        [clients.node / "claude", "-p", "say hello", "--output-format", "json", "--model", MODEL, *more],
        ANTHROPIC_BASE_URL=url,
        ANTHROPIC_API_KEY="none",
        ANTHROPIC_SMALL_FAST_MODEL=MODEL,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        DISABLE_AUTOUPDATER="1",
        DISABLE_TELEMETRY="1",
    )
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def codex(clients: Clients, url: str) -> list[dict[str, Any]]:
    """The items of one turn of Codex."""
    home = clients.home / "codex"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CODEX.format(model=MODEL, url=url))
    output = clients.run(
        [clients.node / "codex", "exec", "--skip-git-repo-check", "--json", "say hello"],
        CODEX_HOME=str(home),
        KEY="none",
    )
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_claude_code_answers_the_same_through_the_gateway(
    clients: Clients, engines: SimPods, gateway: GatewayProcess
) -> None:
    direct, through = claude(clients, engines.urls[0]), claude(clients, gateway.url)
    assert not direct["is_error"]
    assert (through["is_error"], through["result"]) == (False, direct["result"])


def test_a_resumed_session_of_claude_code_goes_to_the_pod_that_has_its_prompts(
    clients: Clients, gateway: GatewayProcess
) -> None:
    """Case G 33: session_affinity knows the session by its own names."""
    gateway.control.put("/admin/pools/default/policy", json={"policy": "session_affinity"}).raise_for_status()
    try:
        session = claude(clients, gateway.url)["session_id"]
        before = {pod["id"]: gateway.metric("turnout_requests_total", pod=pod["id"]) for pod in gateway.pods()}
        for _ in range(3):
            assert not claude(clients, gateway.url, "--resume", session)["is_error"]
        after = {pod["id"]: gateway.metric("turnout_requests_total", pod=pod["id"]) for pod in gateway.pods()}
        assert sum(after[pod] > before[pod] for pod in before) == 1
    finally:
        gateway.control.put("/admin/pools/default/policy", json={"policy": "least_load"}).raise_for_status()


def test_codex_answers_the_same_through_the_gateway_and_no_request_counts_as_cut(
    clients: Clients, engines: SimPods, gateway: GatewayProcess
) -> None:
    """Case G 34: Codex closes at response.completed, before the last chunk."""

    def messages(items: list[dict[str, Any]]) -> list[str]:
        done = [each["item"] for each in items if each["type"] == "item.completed"]
        return [item["text"] for item in done if item["type"] == "agent_message"]

    left = gateway.metric("turnout_requests_total", code="499")
    direct, through = codex(clients, engines.urls[0]), codex(clients, gateway.url)
    assert messages(direct)
    assert messages(through) == messages(direct)
    assert gateway.metric("turnout_requests_total", code="499") == left
