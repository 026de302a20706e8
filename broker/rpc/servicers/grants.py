"""GrantsService: how grants are, and refresh tokens taken in."""

from __future__ import annotations

from aries.broker.admin.v1 import grants_pb2
from broker.flows.import_grant import ImportGrant
from broker.flows.read_config import ReadConfig
from broker.rpc.call import Call
from broker.rpc.convert import secret_of
from broker.rpc.convert_admin import attempt_message, grant_status


class GrantsServicer:
    """The service for grants."""

    def __init__(self, *, read_config: ReadConfig, import_grant: ImportGrant) -> None:
        self._read_config = read_config
        self._import_grant = import_grant

    async def get_grant(self, request: grants_pb2.GetGrantRequest, call: Call) -> grants_pb2.GetGrantResponse:
        """Answer GetGrant."""
        grant, attempts = await self._read_config.get_grant(request.name, call.trail)
        return grants_pb2.GetGrantResponse(grant=grant_status(grant), attempts=map(attempt_message, attempts))

    async def list_grants(self, request: grants_pb2.ListGrantsRequest, call: Call) -> grants_pb2.ListGrantsResponse:
        """Answer ListGrants; a page token is the last name of the page before."""
        page = await self._read_config.list_grants(request.page_token, request.page_size, call.trail)
        return grants_pb2.ListGrantsResponse(grants=map(grant_status, page.grants), next_page_token=page.next_after)

    async def import_refresh_token(
        self, request: grants_pb2.ImportRefreshTokenRequest, call: Call
    ) -> grants_pb2.ImportRefreshTokenResponse:
        """Answer ImportRefreshToken."""
        token = secret_of(request.refresh_token, "refresh_token")
        imported = await self._import_grant(request.grant, token, call.trail, replace=request.replace)
        return grants_pb2.ImportRefreshTokenResponse(rotated=imported.rotated, warnings=imported.warnings)
