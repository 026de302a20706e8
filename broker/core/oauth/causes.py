"""Why an exchange with a provider went wrong: the one closed list, in our own words."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """For logs, metrics and a grant's history; nothing a provider wrote is ever a cause."""

    NONE = ""
    # No whole reply (also the causes of a SendFailure).
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    EGRESS = "egress"
    WITHHELD = "withheld"
    TIMEOUT = "timeout"
    RESET = "reset"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    # A success that cannot be used.
    STATUS_2XX = "status_2xx"
    CONTENT_TYPE = "content_type"
    ENCODED = "encoded"
    DUPLICATE_KEY = "duplicate_key"
    ERROR_IN_SUCCESS = "error_in_success"
    ACCESS_TOKEN = "access_token"  # noqa: S105 - the member's name
    TOKEN_TYPE = "token_type"  # noqa: S105 - the member's name
    EXPIRES_IN = "expires_in"
    EXPIRED = "expired"
    SCOPE = "scope"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the member's name
    SANDBOX = "sandbox"
    ECHO = "echo"
    # An error reply.
    THROTTLED = "throttled"
    UNAUTHENTICATED = "unauthenticated"
    INVALID_CLIENT = "invalid_client"
    UNAUTHORIZED_CLIENT = "unauthorized_client"
    INVALID_GRANT = "invalid_grant"
    INVALID_SCOPE = "invalid_scope"
    INVALID_TARGET = "invalid_target"
    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_GRANT_TYPE = "unsupported_grant_type"
    STATUS_3XX = "status_3xx"
    STATUS_4XX = "status_4xx"
    STATUS_5XX = "status_5xx"
    STATUS_OTHER = "status_other"

    @classmethod
    def of_failure(cls, text: str) -> Cause:
        """Return the cause of that name; any other word is MALFORMED, so that the list stays closed."""
        try:
            return cls(text or cls.MALFORMED)
        except ValueError:
            return cls.MALFORMED

    @property
    def failure(self) -> str:
        """Return the coarser word a caller is told in ErrorInfo: timeout, connect, tls, status or malformed."""
        return _FAILURES.get(self, "malformed")


_FAILURES = {
    Cause.DNS: "connect",
    Cause.CONNECT: "connect",
    Cause.EGRESS: "connect",
    Cause.WITHHELD: "connect",
    Cause.TLS: "tls",
    Cause.TIMEOUT: "timeout",
    Cause.THROTTLED: "status",
    Cause.INVALID_GRANT: "status",
    Cause.INVALID_REQUEST: "status",
    Cause.UNSUPPORTED_GRANT_TYPE: "status",
    Cause.STATUS_2XX: "status",
    Cause.STATUS_3XX: "status",
    Cause.STATUS_4XX: "status",
    Cause.STATUS_5XX: "status",
    Cause.STATUS_OTHER: "status",
}
