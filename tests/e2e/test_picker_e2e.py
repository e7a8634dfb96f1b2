"""An endpoint picker's process behind gRPC's own client; the test plays Envoy. test_envoy.py has the real one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest

from router.epp.server import EXT_PROC
from router.epp.stream import BUFFERED
from tests.fakes.certificates import Authority
from tests.fakes.ext_proc import (
    BODY,
    CHAT,
    OK,
    destination,
    kinds,
    request_body,
    request_headers,
    response_body,
    response_headers,
    set_by,
)
from tests.fakes.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from tests.fakes.gateway_process import GatewayProcess, config, running, starting
from tests.fakes.sim_process import MODEL, SimPods
from tests.fakes.waiting import DEADLINE_S, wait_for

pytestmark = pytest.mark.slow

ASKED = BODY.replace(b'"m"', b'"%b"' % MODEL.encode())


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimPods]:
    pods = SimPods(3, tmp_path_factory.mktemp("pods") / "sim.log", "--profile", "tiny")
    yield pods
    pods.kill()


class Envoy:
    """One stream to the picker."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._sent: SimpleQueue[ProcessingRequest | None] = SimpleQueue()
        call = channel.stream_stream(
            f"/{EXT_PROC}/Process", ProcessingRequest.SerializeToString, ProcessingResponse.FromString
        )
        self.call = call(iter(self._sent.get, None), timeout=DEADLINE_S)

    def sends(self, *messages: ProcessingRequest) -> Envoy:
        for message in messages:
            self._sent.put(message)
        return self

    def takes(self, count: int) -> list[ProcessingResponse]:
        return [next(self.call) for _ in range(count)]

    def ends(self) -> None:
        """Send no more, and wait for the picker's end."""
        self._sent.put(None)
        assert list(self.call) == []


def channel(picker: GatewayProcess, secured: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    address = f"127.0.0.1:{picker.port}"
    return grpc.insecure_channel(address) if secured is None else grpc.secure_channel(address, secured)


def test_requests_are_picked_counted_and_answered(pods: SimPods, tmp_path: Path) -> None:
    settings = config(pods.urls, logging={"format": "json", "level": "info", "access": True})
    with running(settings, tmp_path, command="epp", flags=["--endpoints", "2"]) as picker, channel(picker) as to:
        stream = Envoy(to).sends(request_headers(CHAT), request_body(ASKED))
        head, body = stream.takes(2)
        first, second = destination(head).split(",")
        assert {first, second} < set(pods.addresses)
        assert body.request_body.response.body_mutation.streamed_response.body == ASKED
        assert picker.pod(first)["inflight"] == 1
        stream.sends(response_headers(OK, served=second), response_body(b"data: {}\n\n"))
        answer, _ = stream.takes(2)
        assert set_by(answer.response_headers.response.header_mutation)["x-turnout-pod"] == second
        assert (picker.pod(first)["inflight"], picker.pod(second)["inflight"]) == (0, 1)
        stream.sends(response_body(b"data: [DONE]\n\n", end=True)).takes(1)
        assert picker.inflight() == 0
        stream.ends()

        buffered = Envoy(to).sends(request_headers(CHAT, mode=BUFFERED))
        assert kinds(buffered.takes(1)) == ["request_headers"]
        buffered.sends(request_body(b'{"model": "other"}'))
        (refused,) = buffered.takes(1)
        assert refused.immediate_response.status.code == 404
        buffered.ends()

        left = Envoy(to).sends(request_headers(CHAT), request_body(ASKED))
        left.takes(2)
        left.call.cancel()
        wait_for("the load is given back", lambda: picker.inflight() == 0)
        assert picker.metric("turnout_requests_total", status="200") == 1
        assert picker.metric("turnout_requests_total", status="499") == 1


@pytest.mark.needs("openssl")
def test_a_picker_speaks_tls_to_proxies_that_show_a_certificate(pods: SimPods, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, proxy = authority.issue(), authority.issue()
    tls = {"cert_file": str(server.cert), "key_file": str(server.key), "client_ca_file": str(authority.cert)}
    trusted, *own = [path.read_bytes() for path in (authority.cert, proxy.key, proxy.cert)]
    with running(config(pods.urls, tls=tls), tmp_path / "picker", command="epp") as picker:
        with channel(picker, grpc.ssl_channel_credentials(trusted, *own)) as to:
            stream = Envoy(to).sends(request_headers(CHAT), request_body(ASKED))
            assert destination(stream.takes(2)[0]) in pods.addresses
            renewed = authority.issue()
            server.replace(renewed)
            wait_for("the new files are read", lambda: "new files" in picker.log.read_text())
            stream.sends(response_headers(OK), response_body(b"data: [DONE]\n\n", end=True)).takes(2)
            stream.ends()
        for secured in (grpc.ssl_channel_credentials(trusted), None):
            with channel(picker, secured) as to, pytest.raises(grpc.RpcError) as refused:
                Envoy(to).sends(request_headers(CHAT)).takes(1)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_picker_that_drains_finishes_the_streams_that_it_has(pods: SimPods, tmp_path: Path) -> None:
    with starting(config(pods.urls), tmp_path, "epp") as picker, channel(picker) as to:
        picker.wait_until_ready()
        stream = Envoy(to).sends(request_headers(CHAT), request_body(ASKED))
        stream.takes(2)
        picker.signal(signal.SIGTERM)
        wait_for("it drains", lambda: picker.control.get("/readyz").status_code == 503)
        stream.sends(response_headers(OK), response_body(b"data: [DONE]\n\n", end=True))
        assert kinds(stream.takes(2)) == ["response_headers", "response_body"]
        stream.ends()
        assert picker.ended() == 0
        assert picker.complaints() == []
