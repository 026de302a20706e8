"""A client's first secret, at an endpoint; later ones come by rotation, so a restart never undoes one."""

from __future__ import annotations

from collections.abc import Mapping

from broker.core.audit import Action
from broker.core.config import Problem
from broker.core.models import Client, Kind, Provider
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.flows.trail import Trail
from broker.ports import (
    Cipher,
    ClientSecretVersion,
    Clock,
    SealBrokenError,
    SecretSource,
    SecretStore,
    SecretUnreadableError,
)

FIRST = 1
"""Version of a first secret."""

STAYS = "client/{name}: it has another secret already, which stays"


class FirstSecrets:
    """Read and store first secrets, never a second one."""

    def __init__(self, *, secrets: SecretStore, cipher: Cipher, clock: Clock) -> None:
        self._secrets = secrets
        self._cipher = cipher
        self._clock = clock

    async def read(
        self, given: Mapping[str, Secret | SecretSource], clients: Mapping[str, str], paths: Mapping[str, str]
    ) -> tuple[dict[str, Secret], list[str], list[Problem]]:
        """Return the secrets of clients that have none, warnings for the others, and what could not be read.

        Args:
            given: by client name; a source is not even looked at when the client has a secret.
            clients: ids of clients by name, empty for those that are not stored yet.
            paths: where clients stand in the configuration, by name.
        """
        first: dict[str, Secret] = {}
        warnings: list[str] = []
        problems: list[Problem] = []
        for name, secret in given.items():
            if name not in clients:
                problems.append(Problem("first_secrets", f"there is no client called {name!r}"))
                continue
            stored = await self._secrets.current_secret(clients[name]) if clients[name] else None
            if stored is not None:
                if isinstance(secret, Secret) and not await self._is_same(stored, secret):
                    warnings.append(STAYS.format(name=name))
                continue
            try:
                first[name] = secret if isinstance(secret, Secret) else secret.read()
            except SecretUnreadableError as error:
                field = f"{paths[name]}.secret" if name in paths else "first_secrets"
                problems.append(Problem(field, f"the client {name!r} has no secret yet, and {error}"))
        return first, warnings, problems

    async def wanted_version(self, client: Client, provider: Provider, *, replace: bool = False) -> int | None:
        """Return the version a secret would be that is the first for this endpoint; None when there is one that opens.

        A secret that was sealed for another origin never opens again here: it counts as none, as does any with
        `replace`.

        Raises:
            StoreUnavailableError: the store is away.
        """
        stored = await self._secrets.current_secret(client.id)
        if stored is None:
            return FIRST
        if replace:
            return stored.version + 1
        try:
            await self._cipher.open(
                stored.sealed, client_secret_binding(client.id, stored.version, origin_of(provider.token_url))
            )
        except SealBrokenError:
            return stored.version + 1
        return None

    async def store(
        self, client: Client, provider: Provider, secret: Secret, trail: Trail, version: int = FIRST
    ) -> bool:
        """Seal and store a version, bound to the provider's token endpoint; False when another came first.

        Raises:
            StoreUnavailableError: nothing was stored.
        """
        token_origin = origin_of(provider.token_url)
        sealed = await self._cipher.seal(secret, client_secret_binding(client.id, version, token_origin))
        event = trail.event(
            Action.SECRET_ADD,
            self._clock.now(),
            client=client.name,
            provider=provider.name,
            object_kind=Kind.CLIENT.value,
            object_name=client.name,
            detail=f"version {version}",
        )
        return await self._secrets.add_secret(ClientSecretVersion(client.id, version, sealed, token_origin), event)

    async def _is_same(self, stored: ClientSecretVersion, given: Secret) -> bool:
        binding = client_secret_binding(stored.client_id, stored.version, stored.token_origin)
        try:
            return await self._cipher.open(stored.sealed, binding) == given
        except SealBrokenError:
            return False
