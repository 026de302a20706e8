"""An issuer of JWTs on a loopback socket, whose keys and manners a test can change."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from broker.core.models import Issuer, Origin

AUDIENCE = "aries-broker"
SUBJECT = "system:serviceaccount:trading:orders"

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
RSA_KEY = rsa.generate_private_key(65537, 2048)


def jwk_of(key: Key, kid: str | None, **members: object) -> dict[str, object]:
    """Return the public JWK of a key."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        jwk = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
    jwk = {name: value for name, value in jwk.items() if name != "key_ops"}
    return {**jwk, **({} if kid is None else {"kid": kid}), **members}


def public_pem(key: Key) -> bytes:
    """Return the public key as PEM: what a key confusion would take for a secret."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class LiveIssuer:
    """The issuer; `jwks` is what it publishes."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    keys: list[dict[str, object]] = field(default_factory=list)
    status: str = "200 OK"
    body: bytes | None = None
    hang: bool = False
    fetches: int = 0
    seen: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.keys = [jwk_of(self.key, "k1", use="sig", alg="ES256"), jwk_of(RSA_KEY, "r1")]

    scheme: str = "http"

    @property
    def url(self) -> str:
        """Return its identifier."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def configured(self, **fields: object) -> Issuer:
        """Return it as the broker's operators configure it."""
        given = {"jwks_uri": f"{self.url}/keys", **fields}
        return Issuer("i1", "k8s", Origin.FILE, self.url, AUDIENCE, **given)  # type: ignore[arg-type]

    def claims(self, now: float, **claims: object) -> dict[str, object]:
        """Return good claims, with changes; None leaves one out."""
        given = {"iss": self.url, "sub": SUBJECT, "aud": AUDIENCE, "iat": int(now), "exp": int(now) + 600, **claims}
        return {name: value for name, value in given.items() if value is not None}

    def sign(
        self,
        claims: Mapping[str, object],
        *,
        key: Key | None = None,
        algorithm: str = "ES256",
        header: Mapping[str, object] | None = None,
    ) -> str:
        """Return a JWT; `kid` is k1 unless `header` says else."""
        return jwt.encode(dict(claims), key or self.key, algorithm=algorithm, headers=dict(header or {"kid": "k1"}))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.seen.append((await reader.readuntil(b"\r\n\r\n")).decode())
        self.fetches += 1
        if self.hang:
            await reader.read()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        writer.write(
            f"HTTP/1.1 {self.status}\r\ncontent-length: {len(body)}\r\nlocation: {self.url}/else\r\n"
            "connection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def live_issuer(tls: ssl.SSLContext | None = None) -> AsyncIterator[LiveIssuer]:
    """Serve an issuer."""
    issuer = LiveIssuer(scheme="https" if tls else "http")
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0, limit=2**16, ssl=tls)
    issuer.port = server.sockets[0].getsockname()[1]
    try:
        yield issuer
    finally:
        server.close()
