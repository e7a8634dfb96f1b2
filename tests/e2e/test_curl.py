"""Plain curl against the gateway: simple commands, and what curl does by itself (Expect, chunks, upgrades)."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.echo_pod import echo_pod
from tests.fakes.gateway_process import GatewayProcess, config, pool, running
from tests.fakes.raw_http_client import chat, events
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S

pytestmark = [pytest.mark.slow, pytest.mark.needs("curl")]

JSON = ("-H", "content-type: application/json")
LIMIT = f"{DEADLINE_S:g}"


class Said(NamedTuple):
    """The output of curl."""

    out: bytes
    verbose: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="module")
def gateway(all_sims: SimPods, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with echo_pod() as echo:
        settings = config((), pools=[pool("sims", all_sims.urls[:2]), pool("echo", [echo])])
        with running(settings, tmp_path_factory.mktemp("gateway")) as gateway:
            yield gateway


def curl(*arguments: str | Path) -> Said:
    """Run curl, verbosely; fails if curl does."""
    command = ["curl", "-sS", "-v", "--max-time", LIMIT, "--noproxy", "*", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, timeout=2 * DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return Said(done.stdout, done.stderr.decode(errors="replace"))


def test_a_chat_is_answered(gateway: GatewayProcess) -> None:
    said = curl(f"{gateway.url}/v1/chat/completions", *JSON, "-d", json.dumps(chat()))
    assert said.json()["choices"][0]["message"]["content"]
    assert "< x-turnout-pod: 127.0.0.1:" in said.verbose
    assert "< x-turnout-attempts: 1" in said.verbose


def test_a_stream_arrives_unbuffered_and_whole(gateway: GatewayProcess) -> None:
    body = json.dumps(chat(stream=True, max_tokens=20))
    said = curl("-N", f"{gateway.url}/v1/chat/completions", *JSON, "-d", body)
    assert "< content-type: text/event-stream" in said.verbose
    assert events(said.out)[-1] == "[DONE]"
    assert len(events(said.out)) >= 3


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(gateway: GatewayProcess) -> None:
    body = json.dumps(chat(stream=True, max_tokens=20))
    url = f"{gateway.url}/v1/chat/completions"
    said = curl("--http1.0", "-N", url, *JSON, "-d", body)
    assert "transfer-encoding" not in said.verbose.lower()
    assert "< connection: close" in said.verbose
    assert said.out == curl("-N", url, *JSON, "-d", body).out


def test_a_large_body_that_expects_100_continue_gets_it(gateway: GatewayProcess, tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    large.write_text(json.dumps(chat("x" * 2_000_000, model="echo")))
    said = curl(
        *(
            f"{gateway.url}/v1/chat/completions",
            *JSON,
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            f"{DEADLINE_S:g}",
        ),
        *("--data-binary", f"@{large}"),
    )
    assert "< HTTP/1.1 100 Continue" in said.verbose
    assert said.json()["body"] == large.read_text()


def test_a_chunked_upload_reaches_the_pod_with_its_length(gateway: GatewayProcess, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps(chat("y" * 100_000, model="echo")))
    said = curl(
        *(f"{gateway.url}/v1/chat/completions", *JSON, "-H", "Transfer-Encoding: chunked"),
        *("--data-binary", f"@{body}"),
    )
    received = said.json()
    assert received["body"] == body.read_text()
    assert received["headers"]["content-length"] == str(len(body.read_text()))
    assert "transfer-encoding" not in received["headers"]


def test_a_form_with_a_model_is_passed_on_byte_for_byte(gateway: GatewayProcess, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    sound.write_bytes(bytes(range(256)) * 200)
    said = curl(
        f"{gateway.url}/v1/audio/transcriptions?language=en", "-F", "model=echo", "-F", f"file=@{sound};type=audio/wav"
    )
    received = said.json()
    assert received["target"] == "/v1/audio/transcriptions?language=en"
    assert received["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert (bytes(range(256)) * 200).decode("latin-1") in received["body"]


def test_hop_by_hop_headers_are_dropped_and_others_passed_on(gateway: GatewayProcess) -> None:
    headers = ("TE: trailers", "Keep-Alive: 5", "Connection: keep-alive, X-Private", "X-Private: 1", "X-Public: 2")
    flags = [part for header in headers for part in ("-H", header)]
    said = curl(f"{gateway.url}/v1/chat/completions", *JSON, *flags, "-d", json.dumps(chat(model="echo")))
    received = said.json()["headers"]
    assert received["x-public"] == "2"
    assert not received.keys() & {"te", "keep-alive", "x-private", "connection"}
    assert "timeout=5" not in said.verbose


def test_engine_paths_outside_v1_reach_the_pods(gateway: GatewayProcess) -> None:
    said = curl(f"{gateway.url}/tokenize", *JSON, "-d", json.dumps({"model": MODEL, "prompt": "some words"}))
    assert said.json()["count"] == len(said.json()["tokens"]) > 0


def test_head_has_the_length_and_no_body(gateway: GatewayProcess) -> None:
    said = curl("-I", f"{gateway.url}/v1/models")
    assert said.out.startswith(b"HTTP/1.1 200 OK\r\n")
    length = len(curl(f"{gateway.url}/v1/models").out)
    assert b"content-length: %d\r\n" % length in said.out


def test_one_connection_serves_many_requests(gateway: GatewayProcess) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    said = curl(url, url, url, *JSON, "-d", json.dumps(chat()), "-w", "\nconnections made: %{num_connects}\n")
    assert said.verbose.count("< HTTP/1.1 200 OK") == 3
    assert re.findall(rb"connections made: (\d)", said.out) == [b"1", b"0", b"0"]


def test_an_offer_of_http_2_is_declined_and_the_request_served(gateway: GatewayProcess) -> None:
    said = curl("--http2", f"{gateway.url}/v1/chat/completions", *JSON, "-d", json.dumps(chat()))
    assert "> Upgrade: h2c" in said.verbose
    assert "< HTTP/1.1 200 OK" in said.verbose
    assert said.json()["model"] == MODEL
    assert len(curl("--http2", f"{gateway.url}/v1/models").json()["data"]) == 2


def test_an_upgrade_offer_hides_no_header_from_the_pod(gateway: GatewayProcess) -> None:
    ask = (*JSON, "-H", "X-Public: 2", "-H", "X-Session-Id: s", "-d", json.dumps(chat(model="echo")))
    url = f"{gateway.url}/v1/chat/completions"
    plain, offered = curl(url, *ask).json(), curl("--http2", url, *ask).json()
    for received in (plain, offered):
        del received["headers"]["x-request-id"]
    assert offered == plain


def test_probes_answer_curl(gateway: GatewayProcess) -> None:
    for path in ("/livez", "/readyz", "/health"):
        assert "< HTTP/1.1 200 OK" in curl(f"{gateway.url}{path}").verbose
