"""Errors that only a person who logs in can mend: they say for which grant, and with which command."""

from __future__ import annotations

from broker.core.errors import ConsentRequiredError, GrantQuarantinedError
from broker.core.models import Grant


def consent_required(grant: Grant, cause: str = "") -> ConsentRequiredError:
    """Return what is told of a grant without a refresh token that can be used."""
    return ConsentRequiredError(
        f"the grant has no refresh token: let a person log in with `{_command(grant)}`, or import one",
        cause=cause,
        metadata=_metadata(grant),
    )


def quarantined(grant: Grant, cause: str = "") -> GrantQuarantinedError:
    """Return what is told of a grant that its provider refused."""
    return GrantQuarantinedError(
        f"the provider refused the grant, which is kept: let a person log in again with `{_command(grant)}`",
        cause=cause,
        metadata=_metadata(grant),
    )


def _command(grant: Grant) -> str:
    return f"aries-broker login {grant.name}"


def _metadata(grant: Grant) -> dict[str, str]:
    return {"grant": grant.name, "command": _command(grant)}
