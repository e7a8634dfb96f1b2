"""TLS to pods: real handshakes with certificates that openssl made, good and bad, and files that change."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
from pathlib import Path

import pytest

from loadtests.processes.stream_server import Handle, stream_server
from loadtests.sim.ports import HOST
from statesync.engines.access import PoolAccess
from statesync.engines.http_get import HttpGetter, Unreadable
from statesync.engines.tls import BadTlsFiles, PodTls, make_context, reason_of
from statesync.settings import UpstreamTls
from tests.fakes.certificates import Authority, serving
from tests.fakes.engine_pages import Engine, Page
from tests.fakes.programs import need
from tests.fakes.waiting import DEADLINE_S


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def _page(files: UpstreamTls, server: ssl.SSLContext | None, handle: Handle | None = None) -> bytes:
    """A page of a pod that speaks TLS with `server`, or plain HTTP."""
    served, pages = Engine(), HttpGetter()
    served.pages["/metrics"] = Page(body=b"page")
    async with stream_server(handle or served.handle, tls=server) as port, asyncio.timeout(DEADLINE_S):
        try:
            return await pages.get(f"https://{HOST}:{port}", "/metrics", PoolAccess(tls=PodTls(files)))
        finally:
            pages.close()


def test_a_pod_is_trusted_by_its_authority_and_its_address(authority: Authority) -> None:
    """Case D 17."""
    assert asyncio.run(_page(UpstreamTls(ca_file=str(authority.cert)), serving(authority.issue()))) == b"page"


def test_a_pod_is_trusted_by_its_own_certificate(authority: Authority) -> None:
    pair = authority.issue()
    assert asyncio.run(_page(UpstreamTls(ca_file=str(pair.cert)), serving(pair))) == b"page"


def test_a_pod_is_trusted_by_the_name_that_the_setting_gives(authority: Authority) -> None:
    files = UpstreamTls(ca_file=str(authority.cert), server_name="vllm.internal")
    assert asyncio.run(_page(files, serving(authority.issue("DNS:vllm.internal")))) == b"page"


def test_a_pod_that_asks_for_a_certificate_gets_the_gateway_s(authority: Authority) -> None:
    mine = authority.issue("DNS:gateway")
    server = serving(authority.issue(), clients=authority)
    files = UpstreamTls(ca_file=str(authority.cert), cert_file=str(mine.cert), key_file=str(mine.key))
    assert asyncio.run(_page(files, server)) == b"page"


def test_without_verification_every_certificate_will_do(authority: Authority) -> None:
    assert asyncio.run(_page(UpstreamTls(verify=False), serving(authority.issue("DNS:x", days=-1)))) == b"page"


@pytest.mark.parametrize(
    ("san", "days", "trusted", "word"),
    [
        (f"IP:{HOST}", 2, False, "unable to get local issuer certificate; set upstream.tls.ca_file"),
        ("DNS:elsewhere", 2, True, "IP address mismatch"),
        (f"IP:{HOST}", -1, True, "certificate has expired"),
    ],
    ids=["unknown authority", "another name", "expired"],
)
def test_a_certificate_that_is_not_trusted_is_refused_with_the_reason(
    san: str, days: int, trusted: bool, word: str, authority: Authority
) -> None:
    files = UpstreamTls(ca_file=str(authority.cert)) if trusted else UpstreamTls()
    with pytest.raises(Unreadable, match=word):
        asyncio.run(_page(files, serving(authority.issue(san, days=days))))


def test_a_pod_that_speaks_no_tls_is_found_out(authority: Authority) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await reader.read()

    with pytest.raises(Unreadable, match="is it an http:// pod"):
        asyncio.run(_page(UpstreamTls(ca_file=str(authority.cert)), None, refuse))


def test_new_files_are_used_for_the_next_connection(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.cert.read_bytes())
    tls = PodTls(UpstreamTls(ca_file=str(trusted)))
    before = tls.context()
    assert tls.context() is before, "made once"
    assert len(before.get_ca_certs()) == 1
    trusted.write_bytes(authority.cert.read_bytes() + other.cert.read_bytes())
    assert len(tls.context().get_ca_certs()) == 2


def test_files_that_do_not_fit_yet_leave_the_old_ones_in_place(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = authority.issue("DNS:one"), authority.issue("DNS:two")
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    for to, source in ((cert, first.cert), (key, first.key)):
        to.write_bytes(source.read_bytes())
    tls = PodTls(UpstreamTls(cert_file=str(cert), key_file=str(key)))
    before = tls.context()
    with caplog.at_level(logging.INFO, "turnout.tls"):
        cert.write_bytes(second.cert.read_bytes())
        assert tls.context() is before
        assert tls.context() is before
        key.write_bytes(second.key.read_bytes())
        assert tls.context() is not before
        cert.unlink()
        assert tls.context() is not before
    kept, new, missing = [record.getMessage() for record in caplog.records]
    assert "keeps the certificates read before: key_file: the key belongs to another certificate" in kept
    assert "uses new certificates" in new
    assert "does not exist" in missing


@pytest.mark.parametrize(
    ("cert", "key", "field", "word"),
    [
        ("/nothing", "", "cert_file", "does not exist"),
        ("cert", "/nothing", "key_file", "does not exist"),
        ("cert", "", "cert_file", "is the key in a key_file of its own"),
        ("cert", "other", "key_file", "belongs to another certificate"),
        ("other", "other", "cert_file", "no certificate and key"),
        ("cert", "encrypted", "key_file", "is encrypted"),
        ("", "key", "key_file", "without a certificate"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    cert: str, key: str, field: str, word: str, authority: Authority, tmp_path: Path
) -> None:
    pair, encrypted = authority.issue(), tmp_path / "encrypted.key"
    encrypting = ["ec", "-in", str(pair.key), "-aes256", "-passout", "pass:x", "-out", str(encrypted)]
    subprocess.run([need("openssl"), *encrypting], check=True, capture_output=True)
    paths = {"cert": pair.cert, "key": pair.key, "other": authority.issue().key, "encrypted": encrypted}
    with pytest.raises(BadTlsFiles, match=word) as caught:
        make_context(UpstreamTls(cert_file=str(paths.get(cert, cert)), key_file=str(paths.get(key, key))))
    assert caught.value.field == field


def test_authorities_that_cannot_be_read_are_named(authority: Authority, tmp_path: Path) -> None:
    for path, word in ((tmp_path / "nothing", "No such file"), (authority.issue().key, "no certificates in PEM")):
        with pytest.raises(BadTlsFiles, match=word) as caught:
            make_context(UpstreamTls(ca_file=str(path)))
        assert caught.value.field == "ca_file"


def test_the_name_asked_for_is_the_setting_s_or_the_host_without_its_zone() -> None:
    assert PodTls(UpstreamTls(server_name="a")).server_name("b") == "a"
    assert PodTls(UpstreamTls()).server_name("fe80::1%eth0") == "fe80::1"


def test_a_reason_is_given_for_every_error() -> None:
    error = ssl.SSLError(1, "[SSL: X] something (_ssl.c:1)")
    error.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    assert "upstream.tls.cert_file" in reason_of(error)
    error.reason = "SOME_NEW_REASON"
    assert reason_of(error) == "some new reason"
