"""Certificates made by openssl, and what openssl says of their end."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from router.ports.expiry import expiry_of
from tests.fakes.certificates import Authority, IssuedPair
from tests.fakes.programs import need


def said(pair: IssuedPair) -> float:
    command = [need("openssl"), "x509", "-noout", "-enddate", "-dateopt", "iso_8601", "-in", str(pair.cert)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return datetime.strptime(text, "notAfter=%Y-%m-%d %H:%M:%SZ").replace(tzinfo=UTC).timestamp()


@pytest.mark.needs("openssl")
@pytest.mark.parametrize("days", [2, -1, 3650, 40_000])
def test_it_is_what_openssl_reads(tmp_path: Path, days: int) -> None:
    pair = Authority(tmp_path).issue(days=days)
    assert expiry_of(pair.cert.read_bytes()) == said(pair)


@pytest.mark.needs("openssl")
def test_of_a_chain_it_is_that_of_the_first(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue(days=1)
    text = b"a comment\n" + pair.cert.read_bytes() + authority.cert.read_bytes()
    assert expiry_of(text) == said(pair)


@pytest.mark.parametrize("content", ["", "MAA=", "MIIB", "////", "MAMCAQA="])
def test_what_is_no_certificate_has_none(content: str) -> None:
    assert expiry_of(b"") == 0.0
    pem = f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"
    assert expiry_of(pem.encode()) == 0.0
