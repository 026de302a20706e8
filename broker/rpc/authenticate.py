"""Who calls: a client certificate's SPIFFE ID, a JWT of a configured issuer, or an API key; exactly one of them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

from broker.core import caller_jwt
from broker.core.api_keys import maced_api_key, parse_api_key_id
from broker.core.caller_jwt import refuse
from broker.core.identity import CallerId, Role
from broker.core.models import ApiKey, Catalog
from broker.core.secret import Secret
from broker.core.spiffe import workload_of
from broker.ports import CallerSignatures, Clock, KeyStore, MacKeys, ServerTls, UnknownMacKeyError

Tag: TypeAlias = tuple[int, int, int]
"""What an authentication rests on: the store's version, the catalogue's, and the generation of the issuers' keys."""

API_KEY_KIND: Final = "key"
API_KEY_PREFIX: Final = "abk_"
MAX_BEARER: Final = caller_jwt.MAX_JWT
MAX_CACHED: Final = 10_000
"""Credentials remembered; a caller has one, so this is a firm's worth of callers."""

CACHED_SECONDS: Final = 300.0
"""An authentication is done anew after this, so that keys an issuer withdrew are missed where nothing else moves."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one credential of a call, not yet proved: a bearer or a certificate chain with its SPIFFE ID."""

    unverified_bearer: Secret | None = None
    unverified_chain: bytes = b""
    unverified_spiffe_id: str = ""

    @classmethod
    def of(cls, metadata: Mapping[str, tuple[str | bytes, ...]], auth_context: Mapping[str, Iterable[bytes]]) -> Self:
        """Find the credential of a call.

        Raises:
            UnauthenticatedError: there is none, or more than one.
        """
        bearers = metadata.get("authorization", ())
        leaf = b"".join(auth_context.get("x509_pem_cert", ()))
        if len(bearers) + bool(leaf) != 1:
            refuse("several_credentials" if bearers else "no_credential")
        if bearers:
            return cls(unverified_bearer=_bearer_of(bearers[0]))
        ids = list(auth_context.get("peer_spiffe_id", ()))
        if len(ids) != 1:
            refuse("certificate_without_spiffe_id")
        between = b"".join(auth_context.get("x509_pem_cert_chain", ()))  # what a server sees lacks the leaf
        return cls(unverified_chain=leaf + between, unverified_spiffe_id=ids[0].decode("ascii", "replace"))


def _bearer_of(value: str | bytes) -> Secret:
    """Return the token of `Bearer <token>` (RFC 6750 §2.1)."""
    scheme, _, token = (value if isinstance(value, str) else "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > MAX_BEARER or not token.isascii() or " " in token:
        refuse("bearer_malformed")
    return Secret(token)


@dataclass(frozen=True, slots=True)
class Proof:
    """Who calls, and what that rests on."""

    caller: CallerId
    tag: Tag


@dataclass(frozen=True, slots=True)
class _Remembered:
    proof: Proof
    until: float


class Authenticate:
    """Proves callers; one per process.

    Successes are remembered by the SHA-256 of the credential, bounded, and only for the tag they were proved under;
    failures never.
    """

    def __init__(  # noqa: PLR0913 - each way to authenticate has its port
        self,
        *,
        catalog: Callable[[], Catalog],
        version: Callable[[], int],
        keys: KeyStore,
        macs: MacKeys,
        signatures: CallerSignatures,
        clock: Clock,
        tls: ServerTls | None = None,
        trust_domain: str | None = None,
    ) -> None:
        """Wire the ports.

        Args:
            catalog: returns what is configured.
            version: returns the newest version of the store this process knows of; `catalog` may be older.
            keys: API keys.
            macs: proves API keys.
            signatures: proves JWTs.
            clock: time.
            tls: where client certificates are asked for.
            trust_domain: whose SPIFFE IDs are callers; goes with `tls`.
        """
        self._catalog = catalog
        self._version = version
        self._keys = keys
        self._macs = macs
        self._signatures = signatures
        self._clock = clock
        self._tls = tls
        self._trust_domain = trust_domain
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def tag(self) -> Tag:
        """Return what an authentication of this moment rests on."""
        return self._version(), self._catalog().version, self._signatures.generation

    async def __call__(self, credentials: Credentials) -> Proof:
        """Prove the caller.

        Raises:
            UnauthenticatedError: the credential proves nobody; the cause says why, the public text does not.
            StoreUnavailableError: the store that knows the API keys is away.
        """
        if credentials.unverified_bearer is None:
            return Proof(self._prove_certificate(credentials), self.tag())
        return await self._prove_bearer(credentials.unverified_bearer)

    def _prove_certificate(self, credentials: Credentials) -> CallerId:
        """Prove a certificate anew on every call: it may have ended, or its CA have left, since the handshake."""
        if self._tls is None or self._trust_domain is None:
            refuse("certificate_unexpected")
        caller = workload_of(credentials.unverified_spiffe_id, self._trust_domain)
        if caller is None:
            refuse("spiffe_id_foreign")
        if not self._tls.trusts_client(credentials.unverified_chain, self._clock.now()):
            refuse("certificate_untrusted")
        return caller

    async def _prove_bearer(self, unverified_bearer: Secret) -> Proof:
        tag = self.tag()  # read first: what moves while we look makes the result old, not new
        digest = hashlib.sha256(unverified_bearer.reveal().encode()).digest()
        known = self._remembered.get(digest)
        if known is not None and known.proof.tag == tag and self._clock.boottime() < known.until:
            self._remembered.move_to_end(digest)
            return known.proof
        self._remembered.pop(digest, None)
        if unverified_bearer.reveal().startswith(API_KEY_PREFIX):
            caller, ends_in = await self._prove_api_key(unverified_bearer)
        else:
            caller, ends_in = await self._prove_jwt(unverified_bearer.reveal())
        proof = Proof(caller, tag)
        if ends_in > 0:
            self._remembered[digest] = _Remembered(proof, self._clock.boottime() + min(ends_in, CACHED_SECONDS))
            if len(self._remembered) > MAX_CACHED:
                self._remembered.popitem(last=False)
        return proof

    async def _prove_jwt(self, unverified_jwt: str) -> tuple[CallerId, float]:
        unverified = caller_jwt.parse(unverified_jwt)
        issuer = caller_jwt.issuer_of(unverified, self._catalog().issuers)
        algorithm, kid = caller_jwt.check_header(unverified, issuer)
        await self._signatures.verify(issuer, unverified_jwt, algorithm, kid)
        now = self._clock.now()
        verified = caller_jwt.check_claims(unverified.claims, issuer, now)
        return verified.caller, verified.expires_at - now

    async def _prove_api_key(self, unverified_key: Secret) -> tuple[CallerId, float]:
        key_id = parse_api_key_id(unverified_key)
        if key_id is None:
            refuse("api_key_malformed")
        key = await self._keys.find_api_key(key_id)
        if key is None:
            self._macs.mac(maced_api_key(unverified_key, "", None))  # a wrong id costs what a wrong key costs
            refuse("api_key_unknown")
        maced = maced_api_key(unverified_key, key.name, key.bootstrap_until)
        if not await self._is_right(key, maced):
            refuse("api_key_wrong")
        if key.disabled:
            refuse("api_key_disabled")
        caller = CallerId(API_KEY_KIND, key.name)
        if key.bootstrap_until is None:
            return caller, CACHED_SECONDS
        ends_in = key.bootstrap_until - self._clock.now()
        if ends_in <= 0 or await self._has_other_admin(caller):
            refuse("bootstrap_key_over")
        return caller, ends_in

    async def _is_right(self, key: ApiKey, maced: bytes) -> bool:
        try:
            return self._macs.verify(key.mac_key_id, maced, key.mac)
        except UnknownMacKeyError:
            await self._macs.load(key.mac_key_id)
        return self._macs.verify(key.mac_key_id, maced, key.mac)

    async def _has_other_admin(self, bootstrap: CallerId) -> bool:
        """Tell whether somebody else can act as admin now; a name for which no key was made yet is nobody."""
        catalog = self._catalog()
        admins = {caller for binding in catalog.roles if binding.role is Role.ADMIN for caller in binding.callers}
        admins.discard(str(bootstrap))
        kinds = {admin.partition(":")[0] for admin in admins}
        vouched = {issuer.name for issuer in catalog.issuers} | ({"spiffe"} if self._trust_domain else set())
        if kinds & vouched:
            return True
        return API_KEY_KIND in kinds and any(
            f"{API_KEY_KIND}:{key.name}" in admins and _opens(key) for key in await self._keys.list_api_keys()
        )


def _opens(key: ApiKey) -> bool:
    return not key.disabled and key.bootstrap_until is None
