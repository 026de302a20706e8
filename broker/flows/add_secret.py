"""Adding the first secret of a client that has none that opens at its token endpoint, or one in place of another."""

from __future__ import annotations

from broker.core.errors import AlreadyExistsError, NotFoundError
from broker.core.models import Kind
from broker.core.secret import Secret
from broker.flows.first_secrets import FirstSecrets
from broker.flows.trail import Trail
from broker.ports import CatalogStore


class AddFirstSecret:
    """Store a client's first secret for its endpoint."""

    def __init__(self, *, catalogs: CatalogStore, first_secrets: FirstSecrets) -> None:
        self._catalogs = catalogs
        self._first_secrets = first_secrets

    async def __call__(self, client_name: str, secret: Secret, trail: Trail, *, replace: bool = False) -> int:
        """Return the stored version: 1, or a later one where there was a secret.

        Args:
            client_name: the client.
            secret: as its provider knows it.
            trail: who adds it.
            replace: also when there is one that opens; it is used no more from the commit on.

        Raises:
            NotFoundError: no such client.
            AlreadyExistsError: it has a secret that opens, or got another at the same moment.
            StoreUnavailableError: nothing was stored.
        """
        metadata = {"kind": Kind.CLIENT.value, "name": client_name}
        trail.client = client_name
        catalog = await self._catalogs.load_catalog()
        client = catalog.clients.get(client_name)
        provider = None if client is None else catalog.providers.get(client.provider)
        if client is None or provider is None:
            raise NotFoundError("there is no such client", metadata=metadata)
        version = await self._first_secrets.wanted_version(client, provider, replace=replace)
        if version is None or not await self._first_secrets.store(client, provider, secret, trail, version):
            raise AlreadyExistsError("the client has a secret already; `replace` puts another there", metadata=metadata)
        return version
