"""Every error the broker tells, once.

    BrokerError
    ├── InvalidRequestError      INVALID_REQUEST        the request is malformed; `fields` says where
    ├── ScopeNotSupportedError   SCOPE_NOT_SUPPORTED
    ├── GrantAmbiguousError      GRANT_AMBIGUOUS        `grants`: the names this caller may choose from
    ├── UnauthenticatedError     CALLER_UNAUTHENTICATED
    ├── PolicyDeniedError        POLICY_DENIED          an unknown grant looks the same
    ├── RoleRequiredError        ROLE_REQUIRED
    ├── NotFoundError            NOT_FOUND              admins only
    ├── AlreadyExistsError       ALREADY_EXISTS         admins only
    ├── OriginConflictError      ORIGIN_CONFLICT        admins only: the object is the file's
    ├── RevisionStaleError       REVISION_STALE         admins only: the stored revision is newer
    ├── ConsentRequiredError     CONSENT_REQUIRED
    ├── GrantQuarantinedError    GRANT_QUARANTINED
    ├── GrantHeldError           GRANT_HELD
    ├── ScopeNotGrantedError     SCOPE_NOT_GRANTED      `missing`
    ├── ScopeExceededError       SCOPE_EXCEEDED
    ├── LifetimeUnattainableError LIFETIME_UNATTAINABLE
    ├── RateLimitedError         RATE_LIMITED           `retry_after`, `limit`
    ├── ScopeSetsError           SCOPE_SETS
    ├── OverloadedError          OVERLOADED
    ├── ProviderUnavailableError PROVIDER_UNAVAILABLE
    ├── ProviderRefusedClientError PROVIDER_REFUSED_CLIENT
    ├── StoreUnavailableError    STORE_UNAVAILABLE
    ├── AuditUnavailableError    AUDIT_UNAVAILABLE
    ├── GrantUncertainError      GRANT_UNCERTAIN
    ├── ScopeConflictError       SCOPE_CONFLICT
    ├── GrantConflictError       GRANT_CONFLICT
    └── DeadlineTooShortError    DEADLINE_EXCEEDED      status only, no ErrorInfo

The public text goes to the caller; `cause` is for our logs and never leaves. What is not a BrokerError is a bug of
ours and becomes INTERNAL. The status code of each reason stands in `broker/rpc/status.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Self


class Reason(StrEnum):
    """The stable names programs branch on; `ErrorReason` of the contract has the same ones with its prefix."""

    INVALID_REQUEST = "INVALID_REQUEST"
    SCOPE_NOT_SUPPORTED = "SCOPE_NOT_SUPPORTED"
    GRANT_AMBIGUOUS = "GRANT_AMBIGUOUS"
    CALLER_UNAUTHENTICATED = "CALLER_UNAUTHENTICATED"
    POLICY_DENIED = "POLICY_DENIED"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    ORIGIN_CONFLICT = "ORIGIN_CONFLICT"
    REVISION_STALE = "REVISION_STALE"
    CONSENT_REQUIRED = "CONSENT_REQUIRED"
    GRANT_QUARANTINED = "GRANT_QUARANTINED"
    GRANT_HELD = "GRANT_HELD"
    SCOPE_NOT_GRANTED = "SCOPE_NOT_GRANTED"
    SCOPE_EXCEEDED = "SCOPE_EXCEEDED"
    LIFETIME_UNATTAINABLE = "LIFETIME_UNATTAINABLE"
    RATE_LIMITED = "RATE_LIMITED"
    SCOPE_SETS = "SCOPE_SETS"
    OVERLOADED = "OVERLOADED"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_REFUSED_CLIENT = "PROVIDER_REFUSED_CLIENT"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    GRANT_UNCERTAIN = "GRANT_UNCERTAIN"
    SCOPE_CONFLICT = "SCOPE_CONFLICT"
    GRANT_CONFLICT = "GRANT_CONFLICT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"


class BrokerError(Exception):
    """An outcome the caller is told.

    Attributes:
        reason: the stable name.
        public: the text for people; holds no name the caller did not send and nothing of a provider's reply.
        cause: our own words for the log and the grant's history, from closed lists; never a secret.
        metadata: ErrorInfo metadata, its keys a closed list per reason (see error_reason.proto).
        retry_after: seconds to wait, when known; travels as RetryInfo.
        fields: wrong request fields and what is wrong with each; travels as BadRequest.
    """

    reason: ClassVar[Reason]

    def __init__(
        self,
        public: str,
        *,
        cause: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(public)
        self.public = public
        self.cause = cause
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.retry_after = retry_after
        self.fields: Mapping[str, str] = dict(fields or {})

    def again(self) -> Self:
        """Return an equal error without this one's traceback, to be raised to another caller."""
        return type(self)(
            self.public,
            cause=self.cause,
            metadata=self.metadata,
            retry_after=self.retry_after,
            fields=self.fields,
        )


class InvalidRequestError(BrokerError):
    """The request cannot be understood; it would fail again."""

    reason = Reason.INVALID_REQUEST


class ScopeNotSupportedError(BrokerError):
    """The grant's provider maps no wire scope to a scope asked for. Metadata: scope."""

    reason = Reason.SCOPE_NOT_SUPPORTED


class GrantAmbiguousError(BrokerError):
    """No grant was named and policy leaves more or fewer than one. Metadata: grants (comma-separated)."""

    reason = Reason.GRANT_AMBIGUOUS


class UnauthenticatedError(BrokerError):
    """The caller did not prove who it is; the public text never says why."""

    reason = Reason.CALLER_UNAUTHENTICATED


class PolicyDeniedError(BrokerError):
    """No policy covers the whole request, or there is no such grant: the two look alike."""

    reason = Reason.POLICY_DENIED


class RoleRequiredError(BrokerError):
    """The RPC needs a role this caller does not hold. Metadata: role."""

    reason = Reason.ROLE_REQUIRED


class NotFoundError(BrokerError):
    """No such object; told to holders of a role only. Metadata: kind, name."""

    reason = Reason.NOT_FOUND


class AlreadyExistsError(BrokerError):
    """The object is there already. Metadata: kind, name."""

    reason = Reason.ALREADY_EXISTS


class OriginConflictError(BrokerError):
    """The object came from the configuration file and is edited there, or detached first. Metadata: kind, name."""

    reason = Reason.ORIGIN_CONFLICT


class RevisionStaleError(BrokerError):
    """The configuration's revision is not greater than the stored one. Metadata: stored_revision."""

    reason = Reason.REVISION_STALE


class ConsentRequiredError(BrokerError):
    """The grant holds no refresh token: a person has to log in, or an operator import one. Metadata: grant, command."""

    reason = Reason.CONSENT_REQUIRED


class GrantQuarantinedError(BrokerError):
    """The provider refused the grant's refresh token; it is kept, for a person to log in again. Metadata: as above."""

    reason = Reason.GRANT_QUARANTINED


class GrantHeldError(BrokerError):
    """The grant is frozen or revoked here."""

    reason = Reason.GRANT_HELD


class ScopeNotGrantedError(BrokerError):
    """The provider refused the scopes or granted fewer. Metadata: missing (space-separated wire scopes)."""

    reason = Reason.SCOPE_NOT_GRANTED


class ScopeExceededError(BrokerError):
    """The provider granted more than was asked for; the token was not handed out. Metadata: excess."""

    reason = Reason.SCOPE_EXCEEDED


class LifetimeUnattainableError(BrokerError):
    """No token of this provider lives as long as `min_lifetime` wants. Metadata: attainable_seconds."""

    reason = Reason.LIFETIME_UNATTAINABLE


class RateLimitedError(BrokerError):
    """A limit is used up. Metadata: limit; RetryInfo says when to come back."""

    reason = Reason.RATE_LIMITED


class ScopeSetsError(BrokerError):
    """Too many different scope sets of one grant are alive. Metadata: maximum."""

    reason = Reason.SCOPE_SETS


class OverloadedError(BrokerError):
    """The broker sheds load; come back after the RetryInfo."""

    reason = Reason.OVERLOADED


class ProviderUnavailableError(BrokerError):
    """The provider did not answer, or not in a way that can be used; trying later may help. Metadata: failure."""

    reason = Reason.PROVIDER_UNAVAILABLE


class ProviderRefusedClientError(BrokerError):
    """The provider refused the broker's own client authentication; operators have to act. Metadata: failure."""

    reason = Reason.PROVIDER_REFUSED_CLIENT


class StoreUnavailableError(BrokerError):
    """The database did not answer in time."""

    reason = Reason.STORE_UNAVAILABLE
    _LASTING: ClassVar = frozenset({"constraint", "schema", "mac", "key", "closed"})

    @property
    def may_pass(self) -> bool:
        """Whether trying the same again later can help."""
        return self.cause not in self._LASTING


class AuditUnavailableError(BrokerError):
    """The audit event could not be made durable, so the token was withheld."""

    reason = Reason.AUDIT_UNAVAILABLE


class GrantUncertainError(BrokerError):
    """A refresh token was sent and its fate is not known yet; nothing is sent until it is."""

    reason = Reason.GRANT_UNCERTAIN


class ScopeConflictError(BrokerError):
    """Another scope set of this grant is being served and serving this one would kill its token."""

    reason = Reason.SCOPE_CONFLICT


class GrantConflictError(BrokerError):
    """Another replica changed the grant at the same moment; try again."""

    reason = Reason.GRANT_CONFLICT


class DeadlineTooShortError(BrokerError):
    """Too little of the caller's deadline was left to start."""

    reason = Reason.DEADLINE_EXCEEDED
