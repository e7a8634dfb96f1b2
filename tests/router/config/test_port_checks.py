"""What `turnout check` says of TLS files and the PROXY protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.config.edge_checks import port_problems
from router.settings import Control, ServerTls, Settings
from tests.fakes.certificates import Authority


def found(settings: Settings) -> list[tuple[str, str]]:
    return [(".".join(map(str, problem.path)), problem.severity) for problem in port_problems(settings)]


def test_ports_without_tls_have_no_problem() -> None:
    assert found(Settings()) == []


@pytest.mark.needs("openssl")
def test_files_that_cannot_be_used_are_named_by_their_setting(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue()
    good = ServerTls(cert_file=str(pair.cert), key_file=str(pair.key))
    away = ServerTls(cert_file=str(pair.cert), key_file=str(tmp_path / "away"))
    uncertain = ServerTls(cert_file=str(pair.cert), key_file=str(pair.key), crl_file=str(pair.cert))
    assert found(Settings(tls=good, control=Control(tls=good))) == []
    assert found(Settings(tls=away, control=Control(tls=uncertain))) == [
        ("tls.key_file", "error"),
        ("control.tls.crl_file", "error"),
    ]


@pytest.mark.needs("openssl")
def test_an_expired_certificate_is_a_warning(tmp_path: Path) -> None:
    pair = Authority(tmp_path).issue(days=-1)
    tls = ServerTls(cert_file=str(pair.cert), key_file=str(pair.key))
    assert found(Settings(tls=tls)) == [("tls.cert_file", "warning")]


def test_the_proxy_protocol_needs_proxies() -> None:
    assert found(Settings(proxy_protocol=True)) == [("proxy_protocol", "error")]
    assert found(Settings(proxy_protocol=True, trusted_proxies=["10.0.0.1"])) == []
