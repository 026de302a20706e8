"""GrantsService: how grants are, refresh tokens taken in, grants held and ended."""

from __future__ import annotations

from aries.broker.admin.v1 import grants_pb2
from broker.core import lease
from broker.flows.hold_grant import HoldGrant
from broker.flows.import_grant import ImportGrant
from broker.flows.read_config import ReadConfig
from broker.flows.release_suspect import ReleaseSuspect
from broker.rpc.call import Call
from broker.rpc.convert import secret_of
from broker.rpc.convert_admin import attempt_message, grant_status, live_token, shown_grant, suspect_message


class GrantsServicer:
    """The service for grants."""

    def __init__(
        self,
        *,
        read_config: ReadConfig,
        import_grant: ImportGrant,
        hold_grant: HoldGrant,
        release_suspect: ReleaseSuspect,
    ) -> None:
        self._read_config = read_config
        self._import_grant = import_grant
        self._hold_grant = hold_grant
        self._release_suspect = release_suspect

    async def get_grant(self, request: grants_pb2.GetGrantRequest, call: Call) -> grants_pb2.GetGrantResponse:
        """Answer GetGrant."""
        shown, attempts = await self._read_config.get_grant(request.name, call.trail)
        return grants_pb2.GetGrantResponse(grant=shown_grant(shown), attempts=map(attempt_message, attempts))

    async def list_grants(self, request: grants_pb2.ListGrantsRequest, call: Call) -> grants_pb2.ListGrantsResponse:
        """Answer ListGrants; a page token is the last name of the page before."""
        page = await self._read_config.list_grants(request.page_token, request.page_size, call.trail)
        return grants_pb2.ListGrantsResponse(grants=map(shown_grant, page.grants), next_page_token=page.next_after)

    async def import_refresh_token(
        self, request: grants_pb2.ImportRefreshTokenRequest, call: Call
    ) -> grants_pb2.ImportRefreshTokenResponse:
        """Answer ImportRefreshToken."""
        token = secret_of(request.refresh_token, "refresh_token")
        imported = await self._import_grant(request.grant, token, call.trail, replace=request.replace)
        return grants_pb2.ImportRefreshTokenResponse(rotated=imported.rotated, warnings=imported.warnings)

    async def freeze(self, request: grants_pb2.FreezeRequest, call: Call) -> grants_pb2.FreezeResponse:
        """Answer Freeze."""
        held = await self._hold_grant(request.name, lease.Freeze(), call.trail)
        return grants_pb2.FreezeResponse(grant=grant_status(held.grant), live_tokens=map(live_token, held.live))

    async def unfreeze(self, request: grants_pb2.UnfreezeRequest, call: Call) -> grants_pb2.UnfreezeResponse:
        """Answer Unfreeze."""
        held = await self._hold_grant(request.name, lease.Unfreeze(), call.trail)
        return grants_pb2.UnfreezeResponse(grant=grant_status(held.grant))

    async def revoke_grant(self, request: grants_pb2.RevokeGrantRequest, call: Call) -> grants_pb2.RevokeGrantResponse:
        """Answer RevokeGrant."""
        held = await self._hold_grant(request.name, lease.Revoke(), call.trail)
        return grants_pb2.RevokeGrantResponse(grant=grant_status(held.grant), live_tokens=map(live_token, held.live))

    async def settle(self, request: grants_pb2.SettleRequest, call: Call) -> grants_pb2.SettleResponse:
        """Answer Settle."""
        held = await self._hold_grant(request.name, lease.Settle(), call.trail)
        return grants_pb2.SettleResponse(grant=grant_status(held.grant))

    async def list_suspects(self, request: grants_pb2.ListSuspectsRequest, _: Call) -> grants_pb2.ListSuspectsResponse:
        """Answer ListSuspects."""
        suspects = await self._release_suspect.list(request.after)
        return grants_pb2.ListSuspectsResponse(suspects=map(suspect_message, suspects))

    async def release_suspect(
        self, request: grants_pb2.ReleaseSuspectRequest, call: Call
    ) -> grants_pb2.ReleaseSuspectResponse:
        """Answer ReleaseSuspect."""
        grant = await self._release_suspect(request.name, call.trail, abandon=request.abandon_token)
        return grants_pb2.ReleaseSuspectResponse(grant=grant_status(grant))
