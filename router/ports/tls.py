"""TLS of the gateway's own ports: the files of one port, as a context that follows them. Knows files and `ssl`; accepts
no connection.

Each change makes a new context, which connections take from then on. Nothing of the one before is kept: a session
ticket that it gave out is not taken, so a client whose certificate was revoked does not come back with one.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from router.client_settings import ServerTls
from router.followed_files import FollowedFiles
from router.ports.expiry import expiry_of
from statesync.engines.tls import BadTlsFiles, RecordReader, load_certificate

_log = logging.getLogger("turnout.tls")

_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "UNSUPPORTED_PROTOCOL": "version",
    "NO_SHARED_CIPHER": "cipher",
}
"""Label of a failed handshake by OpenSSL's reason; others are `other`."""

_REVOKED: Final = 23
_CERTIFICATES: Final = {_REVOKED: "revoked", 10: "expired"}
"""Label of a client's certificate that is refused, by OpenSSL's X509_V_ERR code; others are `bad_certificate`."""


class HandshakeFailed(ssl.SSLError):
    """A handshake failed. asyncio closes the connection then, and drops the alert that says why."""

    def __init__(self, cause: ssl.SSLError, alert: bytes) -> None:
        super().__init__(*cause.args)
        self.cause = cause
        self.alert = alert
        """For the client."""


class _Connection(RecordReader):
    """The server's side of a connection."""

    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """See ssl.SSLObject."""
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise HandshakeFailed(error, self.outgoing.read()) from error


class _Context(ssl.SSLContext):
    """Makes connections whose failed handshakes keep their alert."""

    sslobject_class = _Connection

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *given: Any, **named: Any) -> ssl.SSLObject:
        """See ssl.SSLContext."""
        made = super().wrap_bio(incoming, outgoing, *given, **named)
        if isinstance(made, _Connection):
            made.outgoing = outgoing
        return made


class LoadedTls(NamedTuple):
    """What was read of a port's files."""

    context: ssl.SSLContext
    expires_at: float
    """When the certificate ends, Unix time."""
    clients: bytes
    """The authorities and revocations, as they are in the files."""


def load(files: ServerTls, protocols: Sequence[str] = ("http/1.1",)) -> LoadedTls:
    """Read the files; `protocols` are the names of what is spoken, in ALPN. Raises BadTlsFiles."""
    context = _Context(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    load_certificate(context, files.cert_file, files.key_file)
    clients = b""
    if files.client_ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # `client_ca_file` may hold an intermediate
        clients += _add(context, "client_ca_file", files.client_ca_file, "x509", "certificates")
    if files.crl_file:
        if not files.client_ca_file:
            raise BadTlsFiles("crl_file", "revokes certificates that no client is asked for: set client_ca_file, too")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        clients += _add(context, "crl_file", files.crl_file, "crl", "revocation lists")
    return LoadedTls(context, expiry_of(_read("cert_file", files.cert_file)), clients)


def _add(context: ssl.SSLContext, field: str, path: str, kind: str, named: str) -> bytes:
    """Have the context hold what is in this file, which may be of this kind only: a certificate in place of a
    revocation list would be an authority."""
    text = _read(field, path)
    before = context.cert_store_stats()
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        raise BadTlsFiles(field, f"{path} has no {named} in PEM form") from None
    except OSError as error:
        raise BadTlsFiles(field, f"{path} cannot be read: {error.strerror}") from None
    added = {name: count - before[name] for name, count in context.cert_store_stats().items()}
    if not added[kind] or any(added[name] for name in ("x509", "crl") if name != kind):
        raise BadTlsFiles(field, f"{path} has something else than {named}")
    return text


def _read(field: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadTlsFiles(field, f"{path} cannot be read: {error.strerror}") from None


class PortTls:
    """The TLS of one port."""

    def __init__(self, port: str, files: ServerTls, protocols: Sequence[str] = ("http/1.1",)) -> None:
        """`port` is its name in logs and metrics; for `protocols` see `load`. Reads the files. Raises BadTlsFiles."""
        self.port = port
        self.failing = False
        """Whether the files that are there now cannot be used."""
        self.refused: dict[str, int] = {}
        """Handshakes that failed, by reason."""
        self.on_clients_changed: Callable[[], None] | None = None
        """Called when other clients than before may be let in."""
        self._loaded: LoadedTls | None = None
        paths = files.cert_file, files.key_file, files.client_ca_file, files.crl_file
        self.files = FollowedFiles(paths, partial(load, files, protocols), self._use, keep=self._keep)
        """To be run."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        assert self._loaded is not None
        return self._loaded.context

    @property
    def expires_at(self) -> float:
        """When the certificate in use ends, Unix time."""
        return self._loaded.expires_at if self._loaded is not None else 0.0

    def _use(self, found: LoadedTls) -> None:
        """New connections get it; open ones stay as they are."""
        before, self._loaded, self.failing = self._loaded, found, False
        if before is None:
            return
        _log.info("TLS of the %s port: new files, certificate valid until %s", self.port, _date(self.expires_at))
        if found.clients != before.clients and self.on_clients_changed is not None:
            self.on_clients_changed()

    def _keep(self, error: Exception) -> None:
        """The files that are there now cannot be used."""
        self.failing = True
        why = f"{error.field}: {error}" if isinstance(error, BadTlsFiles) else repr(error)
        until = _date(self.expires_at)
        _log.error("TLS of the %s port keeps the certificate read before, valid until %s: %s", self.port, until, why)

    def handshake_failed(self, error: OSError) -> None:
        """Count a handshake that failed with this error."""
        reason = reason_of(error)
        self.refused[reason] = self.refused.get(reason, 0) + 1
        _log.debug("TLS handshake on the %s port failed: %s: %s", self.port, reason, error)


def reason_of(error: OSError) -> str:
    """Why a handshake failed, as a label."""
    if isinstance(error, HandshakeFailed):
        return reason_of(error.cause)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code, "bad_certificate")
    if isinstance(error, ssl.SSLError):
        return _REASONS.get(error.reason or "", "other")
    return "timeout" if isinstance(error, ConnectionAbortedError) else "closed"


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
