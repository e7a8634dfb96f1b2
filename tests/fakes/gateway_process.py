"""The gateway as users run it: a process with a configuration file, observed through its ports and its log.

Tests use `running`. After the test it asserts what must hold after any traffic: nothing in
flight, no client connection left, no unexpected error in the log, exit status 0; and, whatever happened, no secret in
any file that it wrote.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.fakes.leaks import leaks_in_files, secrets_of
from tests.fakes.waiting import DEADLINE_S, wait_for

_BOUND = re.compile(r"inference on (\S+), control on (\S+)$")

PATIENT_HEALTH: Final[dict[str, float]] = {"timeout_s": DEADLINE_S}
PATIENT_TIMEOUTS: Final[dict[str, float]] = {"connect_s": DEADLINE_S, "client_header_s": DEADLINE_S}
PATIENT_SYNC: Final[dict[str, float]] = {"timeout_s": 30.0, "lease_s": 60.0}
PATIENT_GUARD: Final[dict[str, float]] = {"slow_s": 5.0, "stuck_s": 10.0}
PATIENT_PLUGINS: Final[dict[str, float]] = {"check_timeout_s": DEADLINE_S}
"""These sections with patient limits, for tests that set other fields of them."""


def config(pods: Sequence[str], **sections: Any) -> dict[str, Any]:
    """A configuration with one pool, `default`, of these pods; `sections` replace or add whole sections.

    Timeouts after which the gateway counts a failure are long, so that a busy machine causes none.
    """
    return {
        "listen": "127.0.0.1:0",
        "control": {"listen": "127.0.0.1:0"},
        "pools": [pool("default", pods)],
        "drain": {"settle_s": 0.0, "timeout_s": DEADLINE_S},
        "health": PATIENT_HEALTH,
        "timeouts": PATIENT_TIMEOUTS,
        "sync": PATIENT_SYNC,
        "scrape": {"timeout_s": DEADLINE_S},
        "policy_guard": PATIENT_GUARD,
        "warmup_timeout_s": DEADLINE_S,
        "logging": {"format": "json", "level": "info"},
    } | sections


def pool(name: str, pods: Sequence[str], **fields: Any) -> dict[str, Any]:
    """A pool of a configuration."""
    return {"name": name, "pods": list(pods), "policy": {"name": "least_load"}} | fields


class GatewayProcess:
    """`turnout serve` on ports chosen by the system."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        directory: Path,
        *,
        program: Sequence[str] = ("-m", "router", "serve", "--config"),
        flags: Sequence[str] = (),
    ) -> None:
        """Run Python with `program`, the configuration file's name and `flags`."""
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "turnout.yaml"
        file.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        self.log = directory / "gateway.log"
        self._secrets = list(secrets_of(settings))
        python = os.environ.get("TURNOUT_TESTED_PYTHON", sys.executable)
        command = [python, "-P", *program, str(file), *flags]
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        try:
            self.host, self.port, control = self._bound()
        except BaseException:
            self._end()
            raise
        scheme, control_scheme = ("https" if of.get("tls") else "http" for of in (settings, settings["control"]))
        self.url = f"{scheme}://{self.host}:{self.port}"
        self.control = httpx.Client(
            base_url=f"{control_scheme}://{control}",
            trust_env=False,
            verify=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=DEADLINE_S,
        )

    def _bound(self) -> tuple[str, int, str]:
        """The addresses on which it listens, read from its log."""
        found = wait_for("the gateway says where it listens", self._said_where)
        host, _, port = found[1].rpartition(":")
        return host, int(port), found[2]

    def _said_where(self) -> re.Match[str] | None:
        assert self._process.poll() is None, f"the gateway ended:\n{self.log.read_text()}"
        found = [_BOUND.search(str(line.get("msg", ""))) for line in self.lines() if line.get("whole")]
        return next(filter(None, found), None)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def wait_until_ready(self) -> None:
        """Wait until /readyz answers 200."""
        wait_for("the gateway is ready", lambda: self.control.get("/readyz").status_code == 200)

    def pods(self) -> list[dict[str, Any]]:
        """GET /admin/pods."""
        listed: list[dict[str, Any]] = self.control.get("/admin/pods").raise_for_status().json()
        return listed

    def pod(self, address: str) -> dict[str, Any]:
        """The entry of GET /admin/pods for `address`."""
        return next(pod for pod in self.pods() if pod["address"] == address)

    def inflight(self) -> int:
        """Requests in flight, summed over all pods."""
        return sum(pod["inflight"] for pod in self.pods())

    def connections(self) -> int:
        """The number of open client connections."""
        return int(self.control.get("/admin/state").raise_for_status().json()["connections"])

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0.0 if there are none."""
        total = 0.0
        for line in self.control.get("/metrics").raise_for_status().text.splitlines():
            sample, _, value = line.rpartition(" ")
            if sample.partition("{")[0] == name and all(f'{key}="{each}"' in sample for key, each in labels.items()):
                total += float(value)
        return total

    def rss_bytes(self) -> int:
        """Resident memory."""
        return self._memory("VmRSS")

    def peak_rss_bytes(self) -> int:
        """Peak resident memory since its start, or since `forget_peak`."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Reset the peak to the current value."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) * 1024

    def lines(self) -> Iterator[dict[str, Any]]:
        """The log's lines; one that is not JSON (a traceback not from the logger) is `{"msg": line}` of level `raw`."""
        for line in self.log.read_text(errors="replace").splitlines(keepends=True):
            try:
                yield json.loads(line) | {"whole": line.endswith("\n")}
            except ValueError:
                yield {"level": "raw", "msg": line}

    def complaints(self, expected: Sequence[str] = ()) -> list[dict[str, Any]]:
        """Log lines that match no pattern of `expected`: errors, exceptions and lines not written by the logger."""
        return [
            line
            for line in self.lines()
            if (line["level"] in ("error", "critical", "raw") or "exc" in line)
            and not any(re.search(pattern, f"{line['msg']} {line.get('exc', '')}") for pattern in expected)
        ]

    def settle(self) -> None:
        """Wait until nothing is in flight and no client is connected."""
        wait_for("nothing in flight", lambda: self.inflight() == 0)
        wait_for("no client connected", lambda: self.connections() == 0)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process."""
        self._process.send_signal(number)

    def ended(self) -> int:
        """Wait until it has ended; returns its exit status."""
        return self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        """Make sure that it is gone, and all that it started. Asserts that nothing it wrote has a secret."""
        self.control.close()
        self._end()
        found = leaks_in_files([self.log, *self.log.parent.glob("*.jsonl*")], self._secrets)
        assert found == [], found[:5]

    def _end(self) -> None:
        if self._process.poll() is None:
            # It leads a session of its own, so its process group is it and its children only.
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(DEADLINE_S)


@contextmanager
def starting(
    settings: Mapping[str, Any], directory: Path, command: str = "serve", flags: Sequence[str] = ()
) -> Iterator[GatewayProcess]:
    """A gateway for the block, without assertions. It may not be ready yet; it is ended after the block. `command`:
    `epp` for an endpoint picker."""
    gateway = GatewayProcess(settings, directory, program=("-m", "router", command, "--config"), flags=flags)
    try:
        yield gateway
    finally:
        gateway.kill()


@contextmanager
def running(
    settings: Mapping[str, Any],
    directory: Path,
    expected: Sequence[str] = (),
    *,
    command: str = "serve",
    flags: Sequence[str] = (),
) -> Iterator[GatewayProcess]:
    """A ready gateway for the block, then the assertions listed above. `expected`: errors it may log."""
    with starting(settings, directory, command, flags) as gateway:
        gateway.wait_until_ready()
        yield gateway
        gateway.settle()
        gateway.signal()
        assert gateway.ended() == 0, gateway.log.read_text()[-2000:]
        complaints = gateway.complaints(expected)
        assert complaints == [], complaints
