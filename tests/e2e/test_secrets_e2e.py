"""No key, credential or word of a prompt is in anything that the gateway writes: logs at `debug`, access log, metrics,
admin answers, recordings, traces. Every way to fail is taken, with a secret wherever a client can put one.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.plugins.loading import digest_of
from tests.fakes.gateway_process import PATIENT_PLUGINS, GatewayProcess, config, pool, running
from tests.fakes.leaks import CANARY, leaks, leaks_in_files
from tests.fakes.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.spoiling_pod import KINDS, spoiling_pod
from tests.fakes.spoiling_pod import MODEL as SPOILT
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

CONTROL = f"{CANARY}-control-token-long-enough"
SESSION = "a-session"
STRANGE = 77
"""Tokens of the request that the policy cannot place."""
QUERY = f"api_key={CANARY}-in-the-query"
CRASHING = f"""\
from dataclasses import dataclass
from typing import ClassVar
from schedulers import entropy
from schedulers.types import NO_UNTRIED_POD, Decision


@dataclass(frozen=True, slots=True)
class Mine:
    name: ClassVar[str] = "mine"

    def pick(self, request, snapshot):
        if request.max_tokens == {STRANGE}:
            raise ValueError(f"cannot place {{request!r}}")
        left = snapshot.without(request.tried)
        if left is None:
            return NO_UNTRIED_POD
        return Decision(left.candidates[entropy.index(request.entropy, len(left.candidates))].pod.id, self.name)
"""


def created(file: Path) -> str:
    """A new key of the tenant `search`."""
    command = [sys.executable, "-m", "router", "keys", "create", "--file", str(file), "--tenant", "search"]
    return subprocess.run([*command, "--name", "ci"], capture_output=True, text=True, check=True).stdout.strip()


class Scene:
    """A gateway with all that could write something, and its clients."""

    def __init__(self, gateway: GatewayProcess, directory: Path, receiver: OtlpReceiver, key: str) -> None:
        self.gateway, self.directory, self.receiver, self.key = gateway, directory, receiver, key
        self.answers: list[str] = []

    def ask(self, model: str = MODEL, kind: str = "", max_tokens: int = 2, **headers: str) -> None:
        """A chat with a secret in every place; whatever comes back."""
        body = {
            "model": model,
            "stream": True,
            "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": f"{CANARY} prompt kind-{kind}"}],
            "metadata": {"note": f"{CANARY}-metadata"},
            "user": f"{CANARY}-user",
        }
        self.send(json=body, **headers)

    def send(self, method: str = "POST", path: str = "/v1/chat/completions", **more: Any) -> None:
        """One request with the key."""
        fields = {name: more.pop(name) for name in ("json", "content") if name in more}
        headers = {"authorization": f"Bearer {self.key}", "cookie": f"s={CANARY}", "x-custom": f"{CANARY}-header"}
        with suppress(httpx.HTTPError):
            httpx.request(
                method,
                f"{self.gateway.url}{path}?{QUERY}",
                headers=headers | {name.replace("_", "-"): value for name, value in more.items()},
                timeout=DEADLINE_S,
                trust_env=False,
                **fields,
            )

    def raw(self, data: bytes) -> None:
        """Bytes that may be no request."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.gateway.port), DEADLINE_S) as connection:
            connection.sendall(data)
            connection.recv(65536)

    def control(self, method: str, path: str, token: str = CONTROL, accept: str = "*/*", **more: Any) -> httpx.Response:
        """A request to the control port."""
        headers = {"authorization": f"Bearer {token}", "accept": accept}
        return self.gateway.control.request(method, path, headers=headers, **more)

    def written(self) -> Iterator[tuple[str, str]]:
        """All that it wrote and shows, by where."""
        for path in ("/metrics", "/admin/pods", "/admin/state", "/admin/plugins", "/admin/pools/default/policy"):
            yield path, self.control("GET", path).text
        yield "with exemplars", self.control("GET", "/metrics", accept="application/openmetrics-text").text
        for file in (*self.directory.rglob("*.log"), *self.directory.rglob("*.jsonl*")):
            yield file.name, file.read_text(errors="replace")
        for body in self.receiver.bodies:
            yield "traces", body.decode("latin-1")


@pytest.fixture
def scene(sims: SimPods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("TURNOUT_CONTROL_TOKEN", CONTROL)
    plugins, files = tmp_path / "plugins", tmp_path / "gateway"
    plugins.mkdir()
    files.mkdir()
    (plugins / "mine.py").write_text(CRASHING)
    (tmp_path / "engine-key").write_text(f"{CANARY}-engine-key")
    key = created(tmp_path / "keys.yaml")
    with otlp_receiver() as receiver, spoiling_pod() as spoilt:
        settings = config(
            [],
            pools=[
                pool("default", sims.urls[:2], upstream={"api_key_file": str(tmp_path / "engine-key")}),
                pool("spoilt", [spoilt], models=[SPOILT]),
            ],
            control={"listen": "127.0.0.1:0"},
            auth={"keys_file": str(tmp_path / "keys.yaml")},
            tenants=[{"name": "search"}],
            logging={"format": "json", "level": "debug", "access": True},
            telemetry={"otlp_endpoint": receiver.url, "sample_ratio": 1.0},
            recording={"path": str(files / "traffic.jsonl")},
            plugins=PATIENT_PLUGINS | {"directory": str(plugins), "interval_s": 0.1},
        )
        with running(settings, files) as gateway:
            gateway.control.headers["authorization"] = f"Bearer {CONTROL}"
            yield Scene(gateway, files, receiver, key)


def every_failure(scene: Scene, sims: SimPods) -> None:
    """Take every way to fail."""
    scene.ask()
    scene.ask(authorization=f"Bearer {CANARY}-wrong-key")
    scene.ask(authorization=f"Basic {CANARY}", x_api_key=f"{CANARY}-other")
    scene.ask(model="unknown-model")
    scene.ask(x_turnout_priority=f"{CANARY}")
    scene.ask(x_turnout_deadline_ms=f"{CANARY}")
    scene.ask(traceparent=f"00-{CANARY}", tracestate=f"v={CANARY}", baggage=f"key={CANARY}")
    secret = CANARY.encode()
    for body in (b'{"model": "%b', b'{"prompt": "%b"}', b"\xff%b"):
        scene.send(content=body % secret, content_type="application/json")
    scene.send(content=secret, content_encoding="gzip")
    scene.send("DELETE", "/v1/models")
    for kind in KINDS:
        scene.ask(SPOILT, kind)
    for fault in ("http_500", "http_503", "garbage", "reset_midstream", "truncated_sse", "close_before_first_byte"):
        for pod in sims.addresses[:2]:
            sims.fault(pod, fault)
        scene.ask()
    sims.well()
    head = b"authorization: Bearer %b\r\nx-note: %b\r\n" % (secret, secret)
    for line in (b"POST /v1/x?key=%b HTTP/9.9\r\n", b"GET /?%b\r\n", b"%b\r\n", b"POST /v1/%%2e%%2e/%b HTTP/1.1\r\n"):
        scene.raw(line % secret + b"host: a\r\n" + head + b"\r\n")
    scene.raw(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %b\r\n%b\r\n" % (secret, head))
    scene.raw(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: %b\r\n%b\r\n" % (secret, head))
    scene.raw(b"POST /v1/completions HTTP/1.1\r\nhost: %b\x01\r\n%b bad: %b\r\n\r\n" % (secret, head, secret))
    scene.raw(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\n%bcontent-length: 90000000\r\n\r\n" % head)


def control_failures(scene: Scene) -> None:
    """The same at the control port."""
    scene.control("GET", "/admin/pods", f"{CANARY}-wrong")
    scene.control("GET", f"/admin/pods/{CANARY}")
    scene.control("PUT", "/admin/pools/default/policy", content=f'{{"policy": "{CANARY}')
    scene.control("PUT", "/admin/pools/default/policy", json={"policy": "p2c", "note": 1})
    scene.control("GET", f"/metrics?token={CANARY}")


def crash_a_policy(scene: Scene) -> None:
    """A plugin raises with all that it knows of the request."""
    name = f"mine@{digest_of(CRASHING.encode())}"

    def offered() -> bool:
        shown = scene.control("GET", "/admin/plugins").json()["plugins"]
        assert not [each for each in shown if each["problem"] not in ("", "is being checked")], shown
        return scene.control("PUT", "/admin/pools/default/policy", json={"policy": name}).status_code == 200

    wait_for("the plugin is the policy", offered, 2 * DEADLINE_S)
    scene.ask(max_tokens=STRANGE, x_session_id=SESSION)
    wait_for("the failure is logged", lambda: "cannot place" in scene.gateway.log.read_text())


def test_no_secret_is_in_anything_that_the_gateway_writes(scene: Scene, sims: SimPods) -> None:
    every_failure(scene, sims)
    control_failures(scene)
    crash_a_policy(scene)
    wait_for("the recording is written", lambda: list(scene.directory.glob("*.jsonl")))
    wait_for("spans came", lambda: scene.receiver.bodies)
    found = [f"{where}: {leak}" for where, text in scene.written() for leak in leaks(text, [scene.key])]
    assert found == []
    log = scene.gateway.log.read_text()
    assert log.count("/v1/chat/completions") > len(KINDS), "the access log was written"
    assert leaks_in_files([scene.gateway.log], [scene.key]) == []
