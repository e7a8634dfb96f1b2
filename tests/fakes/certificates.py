"""Certificates for tests, made by the openssl program: authorities, and what they sign."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from loadtests.sim.ports import HOST
from tests.fakes.programs import need

_PAST = "20200102000000Z"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class IssuedPair(NamedTuple):
    """A certificate and its key, in files."""

    cert: Path
    key: Path

    def replace(self, other: IssuedPair) -> None:
        """Put another pair in the same files, each at once, as a mounted secret changes."""
        for mine, new in zip(self, other, strict=True):
            copy = mine.with_suffix(".new")
            copy.write_bytes(new.read_bytes())
            copy.rename(mine)


class Authority:
    """A certificate authority with files in a directory of its own."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory / name
        self._directory.mkdir()
        self._count = 0
        self.cert = self._directory / "ca.pem"
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        new = ("req", "-x509", *_KEY, "-days", "2", *usage)
        _run(*new, "-subj", f"/CN={name}", "-keyout", str(self._key), "-out", str(self.cert))

    def revocations(self, *revoked: IssuedPair, days: int = 2) -> Path:
        """A new list of revoked certificates; with negative days it is out of date."""
        self._count += 1
        database, path = self._directory / "index.txt", self._directory / f"{self._count}.crl"
        database.touch()
        settings = self._directory / "ca.cnf"
        settings.write_text(f"[ca]\ndefault_ca=own\n[own]\ndatabase={database}\ndefault_md=sha256\n")
        signing = ("-config", str(settings), "-cert", str(self.cert), "-keyfile", str(self._key))
        for pair in revoked:
            _run("ca", *signing, "-revoke", str(pair.cert))
        dates = ("-crldays", "2") if days > 0 else ("-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", _PAST)
        _run("ca", *signing, "-gencrl", *dates, "-out", str(path))
        return path

    def issue(self, san: str = f"IP:{HOST}", *, days: int = 2) -> IssuedPair:
        """A certificate for these alternative names; with negative days it has expired."""
        self._count += 1
        name = f"{self._directory}/{self._count}"
        extensions = Path(f"{name}.ext")
        extensions.write_text(
            f"subjectAltName={san}\nbasicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        )
        _run("req", *_KEY, "-subj", "/CN=pod", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ("-CA", str(self.cert), "-CAkey", str(self._key), "-CAcreateserial", "-extfile", str(extensions))
        _run("x509", "-req", "-in", f"{name}.csr", *signing, "-days", str(days), "-out", f"{name}.pem")
        return IssuedPair(Path(f"{name}.pem"), Path(f"{name}.key"))

    @property
    def _key(self) -> Path:
        return self._directory / "ca.key"


def serving(pair: IssuedPair, *, clients: Authority | None = None) -> ssl.SSLContext:
    """The context of a server with this certificate; with `clients` it asks for one of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.cert)
    return context


def _run(*arguments: str) -> None:
    done = subprocess.run([need("openssl"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
