"""The metrics of a port's TLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.client_settings import ServerTls
from router.ports.expiry import expiry_of
from router.ports.tls import PortTls
from router.telemetry.ports import tls_families
from tests.fakes.certificates import Authority


def test_without_tls_there_are_none() -> None:
    assert list(tls_families([])) == []


@pytest.mark.needs("openssl")
def test_a_port_shows_its_certificates_end_and_failed_handshakes(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue()
    port = PortTls("inference", ServerTls(cert_file=str(pair.cert), key_file=str(pair.key)))
    port.handshake_failed(ConnectionResetError())
    port.failing = True
    samples = {
        sample.name: (sample.labels, sample.value) for family in tls_families([port]) for sample in family.samples()
    }
    labels = {"port": "inference"}
    assert samples == {
        "turnout_tls_certificate_expiry_timestamp_seconds": (labels, expiry_of(pair.cert.read_bytes())),
        "turnout_tls_files_failing": (labels, 1.0),
        "turnout_tls_handshake_failures_total": ({**labels, "reason": "closed"}, 1),
    }
