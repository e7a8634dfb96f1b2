"""Metrics of the TLS of the gateway's own ports, made at scrape time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.samples import Sample

from router.ports.tls import PortTls
from router.telemetry.family import Family, Row, families_of

_GAUGES: Sequence[Row[PortTls]] = (
    (
        "turnout_tls_certificate_expiry_timestamp_seconds",
        "When the certificate in use ends, Unix time.",
        lambda port: port.expires_at,
    ),
    (
        "turnout_tls_files_failing",
        "1 while the files of the port cannot be used, and those read before are.",
        lambda port: float(port.failing),
    ),
)


def tls_families(ports: Sequence[PortTls]) -> Iterator[Family]:
    """Every family; none where no port speaks TLS."""
    if not ports:
        return
    of_ports = [({"port": port.port}, port) for port in ports]
    yield from families_of("gauge", _GAUGES, of_ports)
    refused = [
        Sample("turnout_tls_handshake_failures_total", {"port": port.port, "reason": reason}, count)
        for port in ports
        for reason, count in list(port.refused.items())
    ]
    help_text = "TLS handshakes that failed; of a client's certificate: revoked, expired, bad_certificate."
    yield Family("turnout_tls_handshake_failures", "counter", help_text, lambda: refused)
