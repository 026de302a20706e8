"""Versioned client secrets, sealed."""

from __future__ import annotations

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change, Unchanged, change
from broker.adapters.sql.part import Part
from broker.adapters.sql.tables import client_secrets
from broker.core.audit import AuditEvent
from broker.core.models import Kind
from broker.core.sealing import Sealed
from broker.ports import ClientSecretVersion


class SqlSecrets(Part):
    """The SecretStore port."""

    async def current_secret(self, client: str) -> ClientSecretVersion | None:
        """Return the newest version, or None."""

        async def work(connection: AsyncConnection) -> ClientSecretVersion | None:
            statement = (
                select(client_secrets)
                .where(client_secrets.c.client_id == client)
                .order_by(client_secrets.c.version.desc())
                .limit(1)
            )
            row = (await connection.execute(statement)).one_or_none()
            if row is None:
                return None
            return ClientSecretVersion(row.client_id, row.version, Sealed(row.key_id, row.ciphertext), row.token_origin)

        return await self.lanes.read(work)

    async def add_secret(self, secret: ClientSecretVersion, event: AuditEvent) -> bool:
        """Store a client's next secret with its event and a new version; False when another one came first."""

        async def work(under_way: Change) -> None:
            connection = under_way.connection
            newest = select(func.max(client_secrets.c.version)).where(client_secrets.c.client_id == secret.client_id)
            if ((await connection.execute(newest)).scalar_one() or 0) + 1 != secret.version:
                raise Unchanged
            await connection.execute(
                insert(client_secrets).values(
                    client_id=secret.client_id,
                    version=secret.version,
                    key_id=secret.sealed.key_id,
                    ciphertext=secret.sealed.ciphertext,
                    token_origin=secret.token_origin,
                )
            )
            under_way.touched.add((Kind.CLIENT, secret.client_id))

        try:
            await change(self.lanes, work, event)
        except Unchanged:
            return False
        return True
