"""TLS files of a port: what is read, when it is read again, and who is let in; handshakes in memory."""

from __future__ import annotations

import asyncio
import logging
import ssl
import warnings
from pathlib import Path

import pytest

from router.client_settings import ServerTls
from router.ports.tls import PortTls, load, reason_of
from statesync.engines.tls import BadTlsFiles
from tests.fakes.certificates import Authority, IssuedPair

pytestmark = pytest.mark.needs("openssl")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


def copied(pair: IssuedPair, directory: Path) -> IssuedPair:
    """The pair in files of its own, which a test may replace."""
    own = IssuedPair(directory / "tls.crt", directory / "tls.key")
    own.replace(pair)
    return own


def files(pair: IssuedPair, **fields: Path) -> ServerTls:
    return ServerTls(cert_file=str(pair.cert), key_file=str(pair.key), **{name: str(at) for name, at in fields.items()})


def shake(
    server: ssl.SSLContext, trusted: Authority, shown: IssuedPair | None = None, session: ssl.SSLSession | None = None
) -> ssl.SSLObject:
    """The client's side of a connection, after both sides' handshake. Raises ssl.SSLError of the server."""
    context = ssl.create_default_context(cafile=str(trusted.cert))
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    if shown is not None:
        context.load_cert_chain(shown.cert, shown.key)
    return _shake(server, context, session)


def _shake(server: ssl.SSLContext, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLObject:
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = context.wrap_bio(back, there, session=session)
    peer = server.wrap_bio(there, back, server_side=True)
    waiting = [here, peer]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                continue
    peer.write(b"hello")
    assert here.read() == b"hello"  # with it come the session's tickets
    return here


def serial(of: ssl.SSLObject) -> str:
    certificate = of.getpeercert()
    assert certificate is not None
    return str(certificate["serialNumber"])


def taken(port: PortTls) -> bool:
    """Have the port take what changed; whether it could."""
    asyncio.run(port.files.look())
    return not port.failing


def test_a_client_gets_the_certificate_http_1_and_tls_1_3(authority: Authority) -> None:
    client = shake(load(files(authority.issue())).context, authority)
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() == "http/1.1"


def test_tls_1_1_is_refused(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError) as caught:
        _shake(load(files(authority.issue())).context, context)
    assert reason_of(caught.value) == "version"


def test_a_new_pair_is_taken_and_half_of_one_is_not(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = copied(authority.issue(days=3), tmp_path)
    port = PortTls("inference", files(pair))
    first, ends = serial(shake(port.context, authority)), port.expires_at
    new = authority.issue(days=5)
    pair.cert.write_bytes(new.cert.read_bytes())
    with caplog.at_level(logging.ERROR):
        assert not taken(port)
    assert "keeps the certificate read before" in caplog.text
    assert "the key belongs to another certificate" in caplog.text
    assert serial(shake(port.context, authority)) == first
    assert port.expires_at == ends
    assert not taken(port) and len(caplog.records) == 1, "read and logged once"
    pair.replace(new)
    assert taken(port)
    assert serial(shake(port.context, authority)) != first
    assert port.expires_at > ends


def test_a_mounted_secret_is_followed_through_its_links(authority: Authority, tmp_path: Path) -> None:
    """Kubernetes swaps the link `..data` to a new directory; the names that are configured stay."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copied(authority.issue(), tmp_path / name)
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(Path("..data", name))
    port = PortTls("inference", files(IssuedPair(tmp_path / "tls.crt", tmp_path / "tls.key")))
    first = serial(shake(port.context, authority))
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    taken(port)
    assert serial(shake(port.context, authority)) != first


def test_a_client_without_a_certificate_of_the_authority_is_refused(authority: Authority, clients: Authority) -> None:
    server = load(files(authority.issue(), client_ca_file=clients.cert)).context
    shake(server, authority, clients.issue())
    for shown, reason in (
        (None, "no_certificate"),
        (authority.issue(), "bad_certificate"),
        (clients.issue(days=-1), "expired"),
    ):
        with pytest.raises(ssl.SSLError) as caught:
            shake(server, authority, shown)
        assert reason_of(caught.value) == reason


def test_a_revoked_certificate_is_refused_once_the_list_is_read(
    authority: Authority, clients: Authority, tmp_path: Path
) -> None:
    one, other = clients.issue(), clients.issue()
    listed = tmp_path / "clients.crl"
    listed.write_bytes(clients.revocations().read_bytes())
    port = PortTls("inference", files(authority.issue(), client_ca_file=clients.cert, crl_file=listed))
    changes: list[str] = []
    port.on_clients_changed = lambda: changes.append("changed")
    session = shake(port.context, authority, one).session
    assert session is not None
    listed.write_bytes(clients.revocations(one).read_bytes())
    taken(port)
    assert changes == ["changed"]
    shake(port.context, authority, other)
    with pytest.raises(ssl.SSLError) as caught:
        shake(port.context, authority, one)
    assert reason_of(caught.value) == "revoked"


def test_a_session_ends_with_the_files_under_which_it_began(authority: Authority, tmp_path: Path) -> None:
    pair = copied(authority.issue(), tmp_path)
    port = PortTls("inference", files(pair))
    context = ssl.create_default_context(cafile=str(authority.cert))
    context.check_hostname = False
    session = _shake(port.context, context).session
    assert _shake(port.context, context, session).session_reused
    pair.replace(authority.issue())
    taken(port)
    assert not _shake(port.context, context, session).session_reused


def test_a_list_that_is_out_of_date_lets_nobody_in(authority: Authority, clients: Authority) -> None:
    old = clients.revocations(days=-1)
    server = load(files(authority.issue(), client_ca_file=clients.cert, crl_file=old)).context
    with pytest.raises(ssl.SSLError) as caught:
        shake(server, authority, clients.issue())
    assert reason_of(caught.value) == "bad_certificate"


def test_files_that_cannot_be_used_are_named(authority: Authority, clients: Authority, tmp_path: Path) -> None:
    pair, empty, away = authority.issue(), tmp_path / "empty", tmp_path / "away"
    empty.touch()
    lists = clients.revocations()
    for wrong, field in (
        (ServerTls(cert_file=str(away)), "cert_file"),
        (files(pair, client_ca_file=away), "client_ca_file"),
        (files(pair, client_ca_file=empty), "client_ca_file"),
        (files(pair, client_ca_file=lists), "client_ca_file"),
        (files(pair, client_ca_file=clients.cert, crl_file=away), "crl_file"),
        (files(pair, client_ca_file=clients.cert, crl_file=authority.cert), "crl_file"),
        (files(pair, crl_file=lists), "crl_file"),
    ):
        with pytest.raises(BadTlsFiles) as caught:
            load(wrong)
        assert caught.value.field == field


def test_a_broken_connection_and_a_slow_one_have_reasons_of_their_own() -> None:
    assert reason_of(ConnectionResetError()) == "closed"
    assert reason_of(ConnectionAbortedError()) == "timeout"
