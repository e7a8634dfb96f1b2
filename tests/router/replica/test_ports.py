"""A replica's ports, from its settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.replica.ports import read_ports
from router.settings import Control, ServerTls, Settings
from statesync.engines.tls import BadTlsFiles
from tests.fakes.certificates import Authority


def test_by_default_both_speak_http_alone() -> None:
    ports = read_ports(Settings())
    assert ports.inference.plain
    assert list(ports.tls) == []


def test_with_the_proxy_protocol_trusted_proxies_send_a_header() -> None:
    proxies = read_ports(Settings(trusted_proxies=["10.0.0.0/8"], proxy_protocol=True)).inference.proxies
    assert proxies is not None
    assert [proxies(address) for address in ("10.1.2.3", "11.1.2.3")] == [True, False]
    assert read_ports(Settings(trusted_proxies=["10.0.0.0/8"])).inference.plain


@pytest.mark.needs("openssl")
def test_each_port_has_its_own_tls(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue()
    tls = ServerTls(cert_file=str(pair.cert), key_file=str(pair.key))
    ports = read_ports(Settings(tls=tls, control=Control(tls=tls)))
    assert [port.port for port in ports.tls] == ["inference", "control"]
    assert b"x-forwarded-proto: https\r\n" in ports.proxies.lines("203.0.113.9", {})
    with pytest.raises(BadTlsFiles):
        read_ports(Settings(tls=ServerTls(cert_file=str(tmp_path / "away"))))
