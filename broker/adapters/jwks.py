"""Keys of the issuers that vouch for callers: a JWKS (RFC 7517) by HTTPS or from a file, and signatures under them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final, NoReturn

import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from broker.adapters.egress import Resolve
from broker.adapters.host_names import HostNames
from broker.adapters.http_exchange import HttpExchange, Outgoing
from broker.core.caller_jwt import refuse
from broker.core.models import Issuer
from broker.core.urls import origin_of
from broker.ports import Clock, NotSentError, ReplyLostError

MAX_JWKS: Final = 256 * 1024
MAX_KEYS: Final = 100
MIN_RSA_BITS: Final = 2048
FETCH_SECONDS: Final = 4.0
"""The whole of a fetch; a call that waits for it has five seconds."""

REFETCH_SECONDS: Final = 30.0
"""An unknown key id makes one fetch per issuer in this time, so that nobody can have us hammer an issuer."""

RETRY_SECONDS: Final = 5.0
"""An issuer that did not answer is not asked again for this long."""

FRESH_SECONDS: Final = 300.0
"""Keys are fetched anew after this, so that a withdrawn key ends."""

STALE_SECONDS: Final = 3600.0
"""Keys of an issuer that cannot be reached are used this long: its short outage must not stop every caller."""

FAMILIES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""First letters of an algorithm → key type; a key is never used with another family's algorithm."""

log = structlog.get_logger("broker.jwks")


class JwksError(Exception):
    """The keys cannot be had; the text is from a closed list."""


@dataclass(frozen=True, slots=True)
class _Key:
    kid: str | None
    type: str
    algorithm: str | None
    jwk: Mapping[str, object]


@dataclass(slots=True)
class _Issuer:
    """What is held for one issuer as configured; times are CLOCK_BOOTTIME seconds."""

    keys: tuple[_Key, ...] = ()
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    unknown_at: float = float("-inf")
    digest: bytes = b""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Jwks:
    """`CallerSignatures` over the issuers' JWKS."""

    def __init__(self, clock: Clock, *, resolve: Resolve | None = None) -> None:
        """Know no key yet.

        Args:
            clock: tells how old keys are.
            resolve: how names become addresses; `HostNames` of its own unless given, so that providers whose names
                hang keep no caller from proving who it is.
        """
        self._clock = clock
        self._resolve = resolve or HostNames()
        self._issuers: dict[tuple[str | None, ...], _Issuer] = {}
        self._generation = 0
        self._refreshing: set[asyncio.Task[None]] = set()

    @property
    def generation(self) -> int:
        """Grows whenever any issuer's keys were seen to change."""
        return self._generation

    async def verify(self, issuer: Issuer, unverified_jwt: str, algorithm: str, kid: str | None) -> None:
        """Return when the JWT's signature is the issuer's.

        Raises:
            UnauthenticatedError: it is not, or the keys cannot be had.
        """
        held = self._issuers.setdefault(
            (issuer.id, issuer.issuer, issuer.jwks_uri, issuer.jwks_file, issuer.ca_file, issuer.token_file), _Issuer()
        )
        await self._keep_fresh(issuer, held)
        key = _choose(held.keys, algorithm, kid)
        if key is None:
            await self._look_for_unknown(issuer, held)
            key = _choose(held.keys, algorithm, kid)
        if key is None:
            refuse("jwt_key" if held.keys else "jwks_unavailable")
        _check_signature(unverified_jwt, key, algorithm)

    async def _keep_fresh(self, issuer: Issuer, held: _Issuer) -> None:
        """Fetch what is not fresh; keys in hand are used meanwhile, so that a slow issuer slows nobody."""
        now = self._clock.boottime()
        if now - held.fetched_at >= STALE_SECONDS:
            held.keys = ()
        if now - held.fetched_at < FRESH_SECONDS or now - held.tried_at < RETRY_SECONDS:
            return
        if not held.keys:
            async with held.lock:
                if now - held.tried_at >= RETRY_SECONDS:
                    await self._fetch_keys(issuer, held)
            return
        held.tried_at = now
        task = asyncio.create_task(self._fetch_keys(issuer, held))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _look_for_unknown(self, issuer: Issuer, held: _Issuer) -> None:
        async with held.lock:
            now = self._clock.boottime()
            if held.keys and now - held.unknown_at >= REFETCH_SECONDS:
                held.unknown_at = now
                await self._fetch_keys(issuer, held)

    async def _fetch_keys(self, issuer: Issuer, held: _Issuer) -> None:
        held.tried_at = self._clock.boottime()
        try:
            document = await _load(issuer, self._resolve)
            keys = _parse(document)
        except JwksError as error:
            log.warning("jwks_unavailable", issuer=issuer.name, problem=str(error))
            return
        held.keys, held.fetched_at = keys, self._clock.boottime()
        digest = hashlib.sha256(document).digest()
        if digest != held.digest:
            held.digest = digest
            self._generation += 1


async def _load(issuer: Issuer, resolve: Resolve) -> bytes:
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            if issuer.jwks_file is not None:
                return await asyncio.to_thread(_read, Path(issuer.jwks_file))
            return await _fetch(issuer, resolve)
    except (TimeoutError, NotSentError, ReplyLostError, OSError, ValueError):
        msg = "cannot be read" if issuer.jwks_file is not None else "cannot be reached"
        raise JwksError(msg) from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_JWKS + 1)
    if len(content) > MAX_JWKS:
        _fail("too large")
    return content


async def _fetch(issuer: Issuer, resolve: Resolve) -> bytes:
    """GET the JWKS under the rules of every way out of the broker; plain http is for loopback only."""
    url = issuer.jwks_uri or ""
    fields = {"accept": "application/jwk-set+json, application/json"}
    if issuer.token_file is not None:
        token = (await asyncio.to_thread(_read, Path(issuer.token_file))).decode("ascii").strip()
        fields["authorization"] = f"Bearer {token}"
    trusted = {}
    if issuer.ca_file is not None:
        await asyncio.to_thread(_check_authorities, issuer.ca_file)
        trusted = {origin_of(url): issuer.ca_file}
    exchange = HttpExchange(trusted, resolve=resolve)
    outgoing = Outgoing("GET", url, fields, b"", insecure_loopback=True)
    reply = await exchange(outgoing, before_write=_nothing, reply_deadline=FETCH_SECONDS)
    if reply.status != HTTPStatus.OK:
        _fail("not 200")
    return reply.unverified_body


def _check_authorities(ca_file: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(ca_file)
    except OSError:
        _fail(f"the ca_file {ca_file} cannot be read, or holds no certificate: name a PEM file of authorities")


async def _nothing() -> None:
    """A GET needs no licence to be written."""


def _parse(document: bytes) -> tuple[_Key, ...]:
    """Return the public signature keys of a JWK set; others in it are passed over (RFC 7517 §5)."""
    try:
        found = json.loads(document)
        listed = found["keys"]
        if not isinstance(listed, list):
            _fail("no JWK set")
    except (ValueError, KeyError, TypeError, RecursionError):
        _fail("no JWK set")
    keys = []
    for jwk in listed[:MAX_KEYS]:
        if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig" or jwk.get("kty") not in FAMILIES.values():
            continue
        kid, algorithm = jwk.get("kid"), jwk.get("alg")
        if isinstance(kid, str | None) and isinstance(algorithm, str | None):
            keys.append(_Key(kid, jwk["kty"], algorithm, jwk))
    if not keys:
        _fail("no keys")
    return tuple(keys)


def _choose(keys: tuple[_Key, ...], algorithm: str, kid: str | None) -> _Key | None:
    """Return the one key this JWT may be signed with, or None when there is none or several."""
    fitting = [
        key
        for key in keys
        if key.type == FAMILIES[algorithm[:2]]
        and key.algorithm in {None, algorithm}
        and (kid is None or key.kid == kid)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _check_signature(unverified_jwt: str, key: _Key, algorithm: str) -> None:
    from jwt import PyJWK, PyJWS, PyJWTError  # noqa: PLC0415 - a twentieth of a start's imports, for issuers alone

    try:
        public = PyJWK(dict(key.jwk), algorithm)
        if isinstance(public.key, RSAPublicKey) and public.key.key_size < MIN_RSA_BITS:
            refuse("jwt_key")
        PyJWS(algorithms=[algorithm]).decode(unverified_jwt, public, algorithms=[algorithm])
    except PyJWTError:
        refuse("jwt_signature")


def _fail(problem: str) -> NoReturn:
    raise JwksError(problem)
