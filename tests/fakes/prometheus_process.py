"""A real Prometheus on a free port of this machine, observed through its API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from loadtests.processes.owned import ANY_CORE, Owned
from loadtests.sim.ports import HOST, free_ports
from tests.fakes.waiting import DEADLINE_S


class Prometheus:
    """The constructor starts it with this configuration; `stop` ends it."""

    def __init__(self, config: Mapping[str, Any], directory: Path, *flags: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self.port = free_ports(1)[0]
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
            *flags,
        ]
        self.process = Owned(command, ANY_CORE, directory / "prometheus.log")
        self._client = httpx.Client(
            base_url=f"http://{HOST}:{self.port}", trust_env=False, verify=False, timeout=DEADLINE_S
        )

    def ready(self) -> bool:
        """Whether it answers. Raises AssertionError with the end of its log if it has ended."""
        assert not self.process.ended(), self.process.log.read_text()[-2000:]
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def healthy_targets(self) -> int:
        """Targets whose last scrape succeeded."""
        found = self._get("/api/v1/targets")["activeTargets"]
        return sum(target["health"] == "up" for target in found)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The expression's value now. Raises AssertionError with its message for an invalid expression."""
        return list(self._get("/api/v1/query", query=expr)["result"])

    def exemplars(self, series: str) -> list[str]:
        """The trace ids of the exemplars that are kept of these series."""
        whole = {"start": "0", "end": "4000000000"}
        found = self._data("/api/v1/query_exemplars", query=series, **whole)
        return [mark["labels"]["trace_id"] for each in found for mark in each["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule and its health."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str, **params: str) -> dict[str, Any]:
        return dict(self._data(path, **params))

    def _data(self, path: str, **params: str) -> Any:
        answer = self._client.get(path, params=params)
        content = answer.json()
        assert content["status"] == "success", f"{params}: {content.get('error')}"
        return content["data"]

    def stop(self) -> None:
        """Stop the process."""
        self._client.close()
        self.process.stop()
