"""How our client proves itself to a provider: its present secret, opened for the provider's endpoints alone."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.errors import ProviderRefusedClientError
from broker.core.models import Client, Provider, TokenEndpointAuth
from broker.core.oauth.rfc6749 import ClientProof
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.client_breaker import ClientBreaker
from broker.ports import AssertionSigner, Cipher, Clock, SealBrokenError, SecretStore


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof, the version of the secret it is made with, and the secret."""

    proof: ClientProof
    version: int
    secret: Secret


class ProveClient:
    """Makes proofs."""

    def __init__(
        self, *, secrets: SecretStore, cipher: Cipher, signer: AssertionSigner, breaker: ClientBreaker, clock: Clock
    ) -> None:
        self._secrets = secrets
        self._cipher = cipher
        self._signer = signer
        self._breaker = breaker
        self._clock = clock

    async def __call__(self, provider: Provider, client: Client) -> Proved:
        """Return a proof for one request.

        Raises:
            ProviderRefusedClientError: the client has no secret that opens for the provider's token endpoint, or one
                the provider refused lately.
            StoreUnavailableError: the secret cannot be had now.
        """
        stored = await self._secrets.current_secret(client.id)
        if stored is None:
            raise ProviderRefusedClientError(
                "the grant's client has no secret yet; operators have to add one", cause="no_secret"
            )
        try:
            secret = await self._cipher.open(
                stored.sealed, client_secret_binding(client.id, stored.version, origin_of(provider.token_url))
            )
        except SealBrokenError as error:
            raise ProviderRefusedClientError(
                "the client's secret was entered for another token endpoint; operators have to enter it again",
                cause="secret_sealed_elsewhere",
            ) from error
        self._breaker.check(client, stored.version)
        method = provider.token_endpoint_auth
        assertion = None
        if method is TokenEndpointAuth.PRIVATE_KEY_JWT:
            assertion = self._signer.sign(provider, client, secret, now=self._clock.now())
        return Proved(ClientProof(method, client.client_id, secret, assertion), stored.version, secret)
