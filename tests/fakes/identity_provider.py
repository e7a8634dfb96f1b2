"""An identity provider: real keys, a key set as a file, and tokens signed with them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from router.settings import JwtAuth

ISSUER: Final = "https://id.example.com"
AUDIENCE: Final = "turnout"

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class IdentityProvider:
    """Signs with the keys it makes, each under its `kid`."""

    def __init__(self) -> None:
        self.keys: dict[str, Private] = {"one": ec.generate_private_key(ec.SECP256R1())}

    def rotate(self, kid: str, bits: int = 0) -> None:
        """Sign with another key from now on; `bits` makes it one of RSA."""
        new = rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1())
        self.keys = {kid: new}

    def key_set(self) -> dict[str, Any]:
        """The public keys."""
        return {"keys": [self._public(kid, key) for kid, key in self.keys.items()]}

    def write(self, path: Path) -> JwtAuth:
        """Write the key set, and return settings that accept these tokens."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(self.key_set()))
        new.rename(path)
        return JwtAuth(issuer=ISSUER, audience=AUDIENCE, jwks_file=str(path))

    def token(self, *, headers: dict[str, Any] | None = None, without: str = "", **claims: Any) -> str:
        """A token of the tenant `search` that is valid for an hour, but for these claims."""
        (kid, key), *_ = self.keys.items()
        now = time.time()
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant": "search", "iat": now, "exp": now + 3600}
        given = {name: value for name, value in (said | claims).items() if name != without}
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(given, key, algorithm, {"kid": kid} if headers is None else headers)

    def public_pem(self) -> bytes:
        """The first key, as text that everyone may know."""
        public = next(iter(self.keys.values())).public_key()
        return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def _public(self, kid: str, key: Private) -> dict[str, Any]:
        if isinstance(key, rsa.RSAPrivateKey):
            return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
        return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
