"""Ray's dashboard in memory: the answer that Ray 2.60 gave on one node, which tests change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).resolve().parents[1] / "data" / "ray-2.60-serve.json"


class RayDashboard:
    """Answers every request with `details`, or as `page` or `error` says."""

    def __init__(self) -> None:
        self.details: dict[str, Any] = json.loads(RECORDED.read_text())
        self.page: bytes | None = None
        self.error: Exception | None = None
        self.asked: list[tuple[str, str, str]] = []
        """Address, path and file of the token of each request."""

    @property
    def application(self) -> dict[str, Any]:
        """The only one, `llm`."""
        found: dict[str, Any] = self.details["applications"]["llm"]
        return found

    def proxies(self, **status: str) -> None:
        """Proxies are at these addresses, such as `ip_10_0_0_1`, and have these states."""
        self.details["proxies"] = {
            f"node-{name}": {"node_ip": name.removeprefix("ip_").replace("_", "."), "status": state}
            for name, state in status.items()
        }

    async def read(self, address: str, path: str, token_file: str) -> bytes:
        """The answer; a `ReadPage`."""
        self.asked.append((address, path, token_file))
        if self.error is not None:
            raise self.error
        return json.dumps(self.details).encode() if self.page is None else self.page
