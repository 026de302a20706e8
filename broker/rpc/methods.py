"""Every RPC the broker answers: its messages, who may call it, which limits it pays. What is not here is not served.

Health and reflection are not ours and stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from google.protobuf.message import Message

from aries.broker.admin.v1 import audit_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2
from aries.broker.v1 import authorization_pb2, token_pb2
from broker.core.identity import Role
from broker.core.models import LimitTarget

POLICY_CALLERS: Final[frozenset[Role]] = frozenset()
"""No role: any authenticated caller, and policy decides."""

_ADMIN: Final = frozenset({Role.ADMIN})
_OPERATORS: Final = frozenset({Role.ADMIN, Role.OPERATOR})
_READERS: Final = frozenset({Role.ADMIN, Role.OPERATOR, Role.AUDITOR})


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: a request, and one reply or, where it streams, many.

    Attributes:
        service: full name of its service; name: the RPC's name.
        roles: a caller holding one of them may call; empty: policy decides.
        target: which configured limits a call pays.
    """

    service: str
    name: str
    request: type[Message]
    reply: type[Message]
    roles: frozenset[Role]
    target: LimitTarget
    streams: bool = False

    @property
    def full_name(self) -> str:
        """Return the full method as gRPC writes it."""
        return f"/{self.service}/{self.name}"

    @property
    def is_admin(self) -> bool:
        """Tell whether it belongs to the services for operators."""
        return self.target is LimitTarget.ADMIN


TOKEN_SERVICE: Final = "aries.broker.v1.TokenService"  # noqa: S105 - a service's name
AUTHORIZATION_SERVICE: Final = "aries.broker.v1.AuthorizationService"
CONFIG_SERVICE: Final = "aries.broker.admin.v1.ConfigService"
SECRETS_SERVICE: Final = "aries.broker.admin.v1.SecretsService"
GRANTS_SERVICE: Final = "aries.broker.admin.v1.GrantsService"
KEYS_SERVICE: Final = "aries.broker.admin.v1.KeysService"
AUDIT_SERVICE: Final = "aries.broker.admin.v1.AuditService"


def _login(name: str, request: type[Message], reply: type[Message]) -> Method:
    """Return an RPC of AuthorizationService; the flow looks at roles and policies, and pays the caller's limit."""
    return Method(AUTHORIZATION_SERVICE, name, request, reply, POLICY_CALLERS, LimitTarget.GET_TOKEN)


def _admin(service: str, name: str, request: type[Message], reply: type[Message], roles: frozenset[Role]) -> Method:
    return Method(service, name, request, reply, roles, LimitTarget.ADMIN)


_LISTED: Final = (
    Method(
        TOKEN_SERVICE,
        "GetToken",
        token_pb2.GetTokenRequest,
        token_pb2.GetTokenResponse,
        POLICY_CALLERS,
        LimitTarget.GET_TOKEN,
    ),
    Method(
        TOKEN_SERVICE,
        "WatchRevocations",
        token_pb2.WatchRevocationsRequest,
        token_pb2.WatchRevocationsResponse,
        POLICY_CALLERS,
        LimitTarget.GET_TOKEN,
        streams=True,
    ),
    _login(
        "StartAuthorization",
        authorization_pb2.StartAuthorizationRequest,
        authorization_pb2.StartAuthorizationResponse,
    ),
    _login(
        "CompleteAuthorization",
        authorization_pb2.CompleteAuthorizationRequest,
        authorization_pb2.CompleteAuthorizationResponse,
    ),
    _login("GetAuthorization", authorization_pb2.GetAuthorizationRequest, authorization_pb2.GetAuthorizationResponse),
    _login(
        "CancelAuthorization",
        authorization_pb2.CancelAuthorizationRequest,
        authorization_pb2.CancelAuthorizationResponse,
    ),
    _admin(CONFIG_SERVICE, "Apply", config_pb2.ApplyRequest, config_pb2.ApplyResponse, _ADMIN),
    _admin(CONFIG_SERVICE, "PutObject", config_pb2.PutObjectRequest, config_pb2.PutObjectResponse, _ADMIN),
    _admin(CONFIG_SERVICE, "RemoveObject", config_pb2.RemoveObjectRequest, config_pb2.RemoveObjectResponse, _ADMIN),
    _admin(CONFIG_SERVICE, "ListObjects", config_pb2.ListObjectsRequest, config_pb2.ListObjectsResponse, _READERS),
    _admin(
        CONFIG_SERVICE, "ExplainPolicy", config_pb2.ExplainPolicyRequest, config_pb2.ExplainPolicyResponse, _READERS
    ),
    _admin(
        CONFIG_SERVICE, "ProveNarrowing", config_pb2.ProveNarrowingRequest, config_pb2.ProveNarrowingResponse, _ADMIN
    ),
    _admin(
        CONFIG_SERVICE,
        "UnfreezeProvider",
        config_pb2.UnfreezeProviderRequest,
        config_pb2.UnfreezeProviderResponse,
        _ADMIN,
    ),
    _admin(
        SECRETS_SERVICE,
        "AddFirstClientSecret",
        secrets_pb2.AddFirstClientSecretRequest,
        secrets_pb2.AddFirstClientSecretResponse,
        frozenset({Role.ADMIN, Role.ROTATOR}),
    ),
    _admin(GRANTS_SERVICE, "GetGrant", grants_pb2.GetGrantRequest, grants_pb2.GetGrantResponse, _READERS),
    _admin(GRANTS_SERVICE, "ListGrants", grants_pb2.ListGrantsRequest, grants_pb2.ListGrantsResponse, _READERS),
    _admin(
        GRANTS_SERVICE,
        "ImportRefreshToken",
        grants_pb2.ImportRefreshTokenRequest,
        grants_pb2.ImportRefreshTokenResponse,
        _OPERATORS,
    ),
    _admin(GRANTS_SERVICE, "Freeze", grants_pb2.FreezeRequest, grants_pb2.FreezeResponse, _OPERATORS),
    _admin(GRANTS_SERVICE, "Unfreeze", grants_pb2.UnfreezeRequest, grants_pb2.UnfreezeResponse, _OPERATORS),
    _admin(GRANTS_SERVICE, "RevokeGrant", grants_pb2.RevokeGrantRequest, grants_pb2.RevokeGrantResponse, _OPERATORS),
    _admin(GRANTS_SERVICE, "Settle", grants_pb2.SettleRequest, grants_pb2.SettleResponse, _OPERATORS),
    _admin(GRANTS_SERVICE, "ListSuspects", grants_pb2.ListSuspectsRequest, grants_pb2.ListSuspectsResponse, _READERS),
    _admin(
        GRANTS_SERVICE,
        "ReleaseSuspect",
        grants_pb2.ReleaseSuspectRequest,
        grants_pb2.ReleaseSuspectResponse,
        _OPERATORS,
    ),
    _admin(KEYS_SERVICE, "CreateApiKey", keys_pb2.CreateApiKeyRequest, keys_pb2.CreateApiKeyResponse, _ADMIN),
    _admin(KEYS_SERVICE, "ListApiKeys", keys_pb2.ListApiKeysRequest, keys_pb2.ListApiKeysResponse, _READERS),
    _admin(KEYS_SERVICE, "DisableApiKey", keys_pb2.DisableApiKeyRequest, keys_pb2.DisableApiKeyResponse, _ADMIN),
    _admin(
        AUDIT_SERVICE,
        "ListEvents",
        audit_pb2.ListEventsRequest,
        audit_pb2.ListEventsResponse,
        frozenset({Role.ADMIN, Role.AUDITOR}),
    ),
)

METHODS: Final[Mapping[str, Method]] = MappingProxyType({method.full_name: method for method in _LISTED})
"""Full method → what it is."""

SERVICES: Final = tuple(dict.fromkeys(method.service for method in _LISTED))
"""Full names of the services, in the order of the table."""
