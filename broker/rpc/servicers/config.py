"""ConfigService: everything configured."""

from __future__ import annotations

from aries.broker.admin.v1 import config_pb2
from broker.flows.apply_config import ApplyConfig
from broker.flows.edit_object import EditObject
from broker.flows.explain_policy import ExplainPolicy
from broker.flows.prove_narrowing import ProveNarrowing
from broker.flows.read_config import ReadConfig
from broker.flows.unfreeze_provider import UnfreezeProvider
from broker.rpc.call import Call
from broker.rpc.convert_config import config_file, first_secrets, kind_of, object_message, one_object


class ConfigServicer:
    """The service for configuration."""

    def __init__(  # noqa: PLR0913 - each is a flow
        self,
        *,
        apply_config: ApplyConfig,
        edit_object: EditObject,
        read_config: ReadConfig,
        explain_policy: ExplainPolicy,
        prove_narrowing: ProveNarrowing,
        unfreeze_provider: UnfreezeProvider,
    ) -> None:
        self._apply_config = apply_config
        self._edit_object = edit_object
        self._read_config = read_config
        self._explain_policy = explain_policy
        self._prove_narrowing = prove_narrowing
        self._unfreeze_provider = unfreeze_provider

    async def apply(self, request: config_pb2.ApplyRequest, call: Call) -> config_pb2.ApplyResponse:
        """Answer Apply."""
        secrets = first_secrets(request.first_secrets)
        config = config_file(request.config)
        applied = await self._apply_config(config, secrets, call.trail, dry_run=request.dry_run, remote=True)
        return config_pb2.ApplyResponse(
            version=applied.version,
            created=applied.created,
            updated=applied.updated,
            removed=applied.removed,
            warnings=applied.warnings,
            first_secrets=applied.first_secrets,
        )

    async def put_object(self, request: config_pb2.PutObjectRequest, call: Call) -> config_pb2.PutObjectResponse:
        """Answer PutObject."""
        put = await self._edit_object.put(one_object(request.object), call.trail, detach=request.detach)
        return config_pb2.PutObjectResponse(version=put.version, created=put.created, warnings=put.warnings)

    async def remove_object(
        self, request: config_pb2.RemoveObjectRequest, call: Call
    ) -> config_pb2.RemoveObjectResponse:
        """Answer RemoveObject."""
        kind = kind_of(request.kind)
        version = await self._edit_object.remove(kind, request.name, call.trail, detach=request.detach)
        return config_pb2.RemoveObjectResponse(version=version)

    async def list_objects(self, request: config_pb2.ListObjectsRequest, call: Call) -> config_pb2.ListObjectsResponse:
        """Answer ListObjects."""
        listing = await self._read_config.list_objects(kind_of(request.kind), call.trail)
        return config_pb2.ListObjectsResponse(
            objects=map(object_message, listing.objects), revision=listing.revision, version=listing.version
        )

    async def explain_policy(
        self, request: config_pb2.ExplainPolicyRequest, call: Call
    ) -> config_pb2.ExplainPolicyResponse:
        """Answer ExplainPolicy."""
        told = await self._explain_policy(request.caller, request.grant, tuple(request.scopes), call.trail)
        return config_pb2.ExplainPolicyResponse(
            allowed=told.allowed, policy=told.policy, reason=told.reason, considered=told.considered
        )

    async def prove_narrowing(
        self, request: config_pb2.ProveNarrowingRequest, call: Call
    ) -> config_pb2.ProveNarrowingResponse:
        """Answer ProveNarrowing."""
        proof = await self._prove_narrowing(request.grant, call.trail)
        return config_pb2.ProveNarrowingResponse(narrowing=proof.profile.value, observations=proof.observations)

    async def unfreeze_provider(
        self, request: config_pb2.UnfreezeProviderRequest, call: Call
    ) -> config_pb2.UnfreezeProviderResponse:
        """Answer UnfreezeProvider."""
        done = await self._unfreeze_provider(request.name, call.trail)
        return config_pb2.UnfreezeProviderResponse(
            version=done.version, token_origin=done.token_origin, left_to_do=done.left_to_do
        )
