"""What clients can make a real gateway hold: bytes up to a budget, descriptors up to a reserve. Others are served."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.gateway_process import PATIENT_TIMEOUTS, GatewayProcess, config, running
from tests.fakes.raw_http_client import Answer, Closed, Wire, ask, chat, post
from tests.fakes.sim_process import SimPods
from tests.fakes.waiting import wait_for

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
BUDGET: Final = 256 * MIB
MARGIN: Final = 64 * MIB
"""What the allocator keeps beyond the bytes that are held, and the kernel's pieces under way."""
CLIENTS: Final = 65
FILES: Final = 256

_MAIN: Final = (
    "import resource, sys; from router.cli.main import main;"
    f"resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES // 2}, {FILES}));"
    "sys.exit(main(['serve', '--config', *sys.argv[1:]]))"
)
FEW_FILES: Final = ("-c", _MAIN)


def upload(stack: ExitStack, port: int) -> Wire:
    """A client that announces a body of 32 MiB."""
    wire = stack.enter_context(Wire("127.0.0.1", port))
    wire.send(f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: {32 * MIB}\r\n\r\n".encode())
    return wire


def test_uploads_that_stall_take_no_more_than_the_budget(sims: SimPods, tmp_path: Path) -> None:
    """Case E 22: 65 clients send 32 MiB each and stall."""
    timeouts = PATIENT_TIMEOUTS | {"client_body_s": 0.0}
    limits = {"buffer_budget_bytes": BUDGET}
    with running(config(sims.urls[:1], limits=limits, timeouts=timeouts), tmp_path) as gateway, ExitStack() as stack:
        with Wire("127.0.0.1", gateway.port) as other:
            assert ask(other, post(chat())).status == 200
            before = gateway.rss_bytes()
            gateway.forget_peak()
            clients, refused = [upload(stack, gateway.port) for _ in range(CLIENTS)], 0
            for _ in range(31):
                for wire in list(clients):
                    if (answer := sent(wire)) is not None:
                        assert (answer.status, answer.error["code"]) == (503, "overloaded")
                        clients.remove(wire)
                        refused += 1
                assert ask(other, post(chat())).status == 200
            assert refused > CLIENTS // 2
            assert clients, "those that came first may go on"
            assert gateway.peak_rss_bytes() - before < BUDGET + MARGIN
        stack.close()
        gateway.settle()
        with Wire("127.0.0.1", gateway.port) as other:
            assert ask(other, post(b'{"model":"none","pad":"' + b"x" * 31 * MIB + b'"}')).status == 404


def sent(wire: Wire) -> Answer | None:
    """Send a MiB; the answer, if one has come."""
    with contextlib.suppress(OSError):
        wire.send(b"x" * MIB)
    return wire.answer() if wire.readable(0.0) else None


@pytest.fixture
def small(sims: SimPods, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway that may open few files."""
    gateway = GatewayProcess(config(sims.urls[:1]), tmp_path, program=FEW_FILES)
    try:
        gateway.wait_until_ready()
        yield gateway
        gateway.settle()
        gateway.signal()
        assert gateway.ended() == 0
        assert gateway.complaints() == []
    finally:
        gateway.kill()


def served(port: int) -> bool:
    with contextlib.suppress(Closed, ConnectionError), Wire("127.0.0.1", port) as wire:
        return ask(wire, post(chat())).status == 200
    return False


def test_clients_that_use_up_all_connections_leave_the_control_port_alone(small: GatewayProcess) -> None:
    """Case E 22."""
    warnings = [line["msg"] for line in small.lines() if line["level"] == "warning"]
    assert any("may open 256 files, which is enough for 96 client connections" in text for text in warnings)
    with ExitStack() as stack:
        for at in range(2 * FILES):
            stack.enter_context(Wire("127.0.0.1", small.port))
            if at % 32 == 0:
                assert small.control.get("/readyz").status_code == 200
        assert small.connections() <= FILES
        assert len(os.listdir(f"/proc/{small.pid}/fd")) <= FILES - 16
    wait_for("a request is served", lambda: served(small.port))


def test_a_gateway_without_descriptors_stays_up_and_accepts_again(small: GatewayProcess) -> None:
    """Case E 22: what else may use them up."""
    assert served(small.port)
    soft, hard = resource.prlimit(small.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{small.pid}/fd")) - 2, hard))
    for _ in range(8):
        with contextlib.suppress(Closed, ConnectionError, TimeoutError):
            with Wire("127.0.0.1", small.port, timeout_s=0.2) as wire:
                ask(wire, post(chat()))
    resource.prlimit(small.pid, resource.RLIMIT_NOFILE, (soft, hard))
    wait_for("a request is served", lambda: served(small.port))
    assert small.control.get("/readyz").status_code == 200
