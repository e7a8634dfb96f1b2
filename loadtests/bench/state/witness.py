"""The server's own counters, to check those of the stores. It uses redis-py, which the store does not."""

from __future__ import annotations

from typing import Any, NamedTuple

import redis

from statesync.store.redis.keys import RedisKeys

KEYS = RedisKeys("turnout")


class Reading(NamedTuple):
    """Counters of the server."""

    scripts: int
    """EVALSHA and EVAL: the stores' exchanges, but for those while they start."""
    commands: int
    """All commands, including those of scripts."""
    net_in_bytes: int
    net_out_bytes: int
    cpu_s: float
    used_bytes: int

    def since(self, before: Reading) -> Reading:
        """The difference to an earlier reading, memory included."""
        return Reading(
            scripts=self.scripts - before.scripts,
            commands=self.commands - before.commands,
            net_in_bytes=self.net_in_bytes - before.net_in_bytes,
            net_out_bytes=self.net_out_bytes - before.net_out_bytes,
            cpu_s=self.cpu_s - before.cpu_s,
            used_bytes=self.used_bytes - before.used_bytes,
        )


class Witness:
    """A separate connection; the server counts its commands too, but none is a script."""

    def __init__(self, port: int) -> None:
        self._link: Any = redis.Redis(port=port, socket_timeout=30.0)

    def read(self) -> Reading:
        """The counters now."""
        info, calls = self._link.info("everything"), self._link.info("commandstats")
        return Reading(
            scripts=sum(calls.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")),
            commands=sum(each["calls"] for each in calls.values()),
            net_in_bytes=info["total_net_input_bytes"],
            net_out_bytes=info["total_net_output_bytes"],
            cpu_s=info["used_cpu_user"] + info["used_cpu_sys"],
            used_bytes=info["used_memory"],
        )

    def version(self) -> str:
        """Of the server."""
        return str(self._link.info("server")["redis_version"])

    def checkpoint(self) -> str:
        """The name of the valid checkpoint, or empty."""
        found = self._link.hget(KEYS.checkpoint, "name")
        return found.decode() if found else ""

    def checkpoint_bytes(self) -> int:
        """Its memory in the server."""
        return int(self._link.memory_usage(KEYS.pages(self.checkpoint()), samples=0) or 0)

    def log_bytes(self) -> tuple[int, int]:
        """The log's memory and number of entries."""
        return int(self._link.memory_usage(KEYS.log, samples=0) or 0), int(self._link.xlen(KEYS.log))

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
