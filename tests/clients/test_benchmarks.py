"""Benchmarks that others wrote run against the gateway as against an engine."""

from __future__ import annotations

import json
import re

import pytest

from tests.clients.conftest import Clients
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.programs import need
from tests.fakes.sim_process import MODEL


def test_guidellm_measures_every_request(clients: Clients, gateway: GatewayProcess) -> None:
    prompts, report = clients.home / "prompts.jsonl", clients.home / "report.json"
    prompts.write_text("".join(json.dumps({"prompt": f"hello number {at}"}) + "\n" for at in range(20)))
    load = ["--rate-type", "concurrent", "--rate", "4", "--max-requests", "20", "--disable-progress"]
    files = ["--data", str(prompts), "--output-path", str(report)]
    guidellm = str(clients.python / "guidellm")
    clients.run([guidellm, "benchmark", "run", "--target", gateway.url, *files, *load], HF_HUB_OFFLINE="1")
    requests = json.loads(report.read_text())["benchmarks"][0]["requests"]
    assert [len(requests[kind]) for kind in ("successful", "errored", "incomplete")] == [20, 0, 0]


@pytest.mark.needs("ab")
def test_ab_keeps_its_http_1_0_connections(clients: Clients, gateway: GatewayProcess) -> None:
    """Case G 31."""
    body = clients.home / "body.json"
    body.write_text(json.dumps({"model": MODEL, "prompt": "hello", "max_tokens": 2}))
    load = ["-q", "-k", "-n", "200", "-c", "8", "-T", "application/json"]
    output = clients.run([need("ab"), *load, "-p", str(body), f"{gateway.url}/v1/completions"])
    counts = dict(re.findall(r"^([A-Z][\w -]+):\s+(\d+)$", output, re.MULTILINE))
    assert {name: counts.get(name) for name in ("Complete requests", "Failed requests", "Keep-Alive requests")} == {
        "Complete requests": "200",
        "Failed requests": "0",
        "Keep-Alive requests": "200",
    }
    assert "Non-2xx responses" not in counts
