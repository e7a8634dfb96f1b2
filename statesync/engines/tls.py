"""TLS to pods: the files of one pool, as a context that follows them. Knows files and `ssl`; opens no connection.

A certificate is replaced while the gateway runs. So each new connection compares the files with those that the context
was made from, by what `stat` says of them: 3 us beside a handshake of a millisecond. Files that cannot be used yet,
such as a new certificate whose key is still to come, leave the last good context in place.
"""

from __future__ import annotations

import logging
import os
import ssl
from typing import Any, Final

from statesync.engines.file_stamp import FileStamp, stamp_of
from statesync.settings import UpstreamTls

_log = logging.getLogger("turnout.tls")

HTTP: Final = "http/1.1"
_RECORD_BYTES: Final = 16384
"""Most bytes of one record."""


class BadTlsFiles(Exception):
    """The files cannot be used. `field` is the one at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class RecordReader(ssl.SSLObject):
    """One side of a connection. It reads a record at a time, which is all that OpenSSL gives at once."""

    def read(self, len: int = _RECORD_BYTES, buffer: Any = None) -> bytes:
        """See ssl.SSLObject. uvloop asks for 256 KB; to allocate those cost 20 to 50 us a request."""
        return super().read(min(len, _RECORD_BYTES), buffer)


def make_context(files: UpstreamTls, protocol: str = HTTP) -> ssl.SSLContext:
    """The context of these files; `protocol` is what is spoken, by its name in ALPN. Raises BadTlsFiles."""
    context = _trusting(files)
    context.sslobject_class = RecordReader
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # `ca_file` may hold an intermediate, or a pod's own
    context.set_alpn_protocols([protocol])  # a server that prefers HTTP/2 must know where it is not spoken
    if files.key_file and not files.cert_file:
        raise BadTlsFiles("key_file", "is a key without a certificate: set cert_file, too")
    if files.cert_file:
        load_certificate(context, files.cert_file, files.key_file)
    if files.server_name:
        _ask_for(context, files.server_name)
    return context


def _ask_for(context: ssl.SSLContext, name: str) -> None:
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except ValueError:  # of which UnicodeError is one
        raise BadTlsFiles("server_name", f"{name!r} is no name of a host, such as pods.example.com") from None


def _trusting(files: UpstreamTls) -> ssl.SSLContext:
    if not files.ca_file:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=files.ca_file)
    except ssl.SSLError:
        raise BadTlsFiles("ca_file", f"{files.ca_file} has no certificates in PEM form") from None
    except OSError as error:
        raise BadTlsFiles("ca_file", f"{files.ca_file} cannot be read: {error.strerror}") from None


def load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    """Have connections of this context show a certificate; with `key_file` empty its key is in `cert_file`. Raises
    BadTlsFiles."""
    for field, path in (("cert_file", cert_file), ("key_file", key_file)):
        if path and not os.access(path, os.R_OK):
            why = "cannot be read: no permission" if os.path.exists(path) else "does not exist"
            raise BadTlsFiles(field, f"{path} {why}")
    try:
        # Without a `password` OpenSSL would ask for one on the terminal.
        context.load_cert_chain(cert_file, key_file or None, password=_no_password)
    except _EncryptedKey:
        raise BadTlsFiles("key_file", "the key is encrypted: write it without a passphrase") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise BadTlsFiles("key_file", "the key belongs to another certificate than cert_file") from None
        wrong = f"{cert_file} has no certificate with its key, in PEM form; is the key in a key_file of its own?"
        if key_file:
            wrong = f"{cert_file} and {key_file} are no certificate and key in PEM form"
        raise BadTlsFiles("cert_file", f"{wrong} ({error.reason or error})") from None
    except OSError as error:
        raise BadTlsFiles("cert_file", f"cannot be read: {error.strerror}") from None


class _EncryptedKey(Exception):
    """OpenSSL asked for a passphrase."""


def _no_password() -> str:
    raise _EncryptedKey


class PodTls:
    """The context of one pool, made anew when its files change."""

    def __init__(self, files: UpstreamTls, protocol: str = HTTP) -> None:
        """For `protocol` see `make_context`. Raises BadTlsFiles."""
        self._files = files
        self._protocol = protocol
        self._stamp = self._look()
        self._context = make_context(files, protocol)
        self._refused: tuple[FileStamp, ...] = ()
        """The files that could not be used, so that they are read and logged once."""

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        stamp = self._look()
        if stamp not in (self._stamp, self._refused):
            self._reload(stamp)
        return self._context

    def server_name(self, host: str) -> str:
        """The name to ask a pod at this host for, and to look for in its certificate."""
        return self._files.server_name or host.partition("%")[0]

    def _reload(self, stamp: tuple[FileStamp, ...]) -> None:
        try:
            self._context = make_context(self._files, self._protocol)
        except BadTlsFiles as error:
            self._refused = stamp
            _log.warning("TLS to pods keeps the certificates read before: %s: %s", error.field, error)
        else:
            self._stamp, self._refused = stamp, ()
            _log.info("TLS to pods uses new certificates from %s", ", ".join(self._named()))

    def _named(self) -> list[str]:
        files = self._files
        return [path for path in (files.ca_file, files.cert_file, files.key_file) if path]

    def _look(self) -> tuple[FileStamp, ...]:
        return tuple(stamp_of(path) for path in self._named())


def reason_of(error: ssl.SSLError) -> str:
    """Why a handshake failed, and where it helps what to do, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}{_ADVICE.get(error.verify_code, '')}"
    reason = error.reason or ""
    return _REASONS.get(reason) or (reason.lower().replace("_", " ") if reason else str(error) or "unknown error")


_UNTRUSTED = "; set upstream.tls.ca_file to the authority that signed it"
_MISNAMED = "; set upstream.tls.server_name to a name that it has"
_ADVICE = {18: _UNTRUSTED, 19: _UNTRUSTED, 20: _UNTRUSTED, 21: _UNTRUSTED, 62: _MISNAMED, 64: _MISNAMED}
"""What to do, by OpenSSL's X509_V_ERR codes: self-signed, no issuer, other name, other address."""

_REASONS = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS; is it an http:// pod?",
    "HTTP_REQUEST": "it does not speak TLS; is it an http:// pod?",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate of the gateway; set upstream.tls.cert_file",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the handshake; it may want upstream.tls.cert_file",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of upstream.tls.cert_file",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses upstream.tls.cert_file",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "upstream.tls.cert_file has expired",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS version that is allowed here",
    "TLSV1_UNRECOGNIZED_NAME": "it does not serve this name; set upstream.tls.server_name",
}
