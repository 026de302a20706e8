"""The authorization request and what comes back of it: RFC 6749 §4.1.1, §4.1.2, RFC 7636 §4.3, RFC 9207. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from broker.core.models import Provider
from broker.core.oauth.rfc7636 import METHOD
from broker.core.secret import Secret

MAX_CODE: Final = 4096
"""Longest code and state taken, in characters."""

OTHER_ERROR: Final = "other"
KNOWN_ERRORS: Final = frozenset(
    {
        "access_denied",
        "invalid_request",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_response_type",
        # OpenID Connect Core §3.1.2.6
        "account_selection_required",
        "consent_required",
        "interaction_required",
        "login_required",
    }
)
"""Errors that are named; any other is `other`, and never repeated."""


@dataclass(frozen=True, slots=True)
class Callback:
    """What a provider sent back with the browser; `code` and `state` are secrets, and print as such.

    Attributes:
        unverified_state: empty when there was none.
        code: None when there was none, or none that can be used.
        error: one of KNOWN_ERRORS or `other`, None when there was none.
        issuer: who says it speaks (RFC 9207), None when nobody said.
    """

    unverified_state: str = field(repr=False)
    code: Secret | None
    error: str | None
    issuer: str | None


def build_authorization_url(  # noqa: PLR0913 - the parameters of RFC 6749 §4.1.1
    provider: Provider,
    *,
    client_id: str,
    redirect_uri: str,
    scopes: tuple[str, ...],
    state: str,
    code_challenge: str,
    nonce: str | None = None,
) -> str:
    """Return where the person's browser is sent.

    `scopes` are wire scopes; the provider's own for logins and its further parameters are added. What the endpoint's
    URL has of a query stays (RFC 6749 §3.1). An ID token is to repeat the `nonce` (OpenID Connect Core §3.1.2.1).

    Raises:
        ValueError: the provider has no authorization endpoint.
    """
    if provider.authorize_url is None:
        msg = "the provider has no authorization endpoint"
        raise ValueError(msg)
    parts = urlsplit(provider.authorize_url)
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": scope_parameter(provider, scopes),
        "state": state,
        "code_challenge": code_challenge,
        "code_challenge_method": METHOD,
        **({} if nonce is None else {"nonce": nonce}),
    }
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in parameters]
    query = urlencode([*kept, *provider.authorize_parameters.items(), *parameters.items()])
    return urlunsplit(parts._replace(query=query))


def scope_parameter(provider: Provider, scopes: tuple[str, ...]) -> str:
    """Return the `scope` of an authorization request: those asked, and those the provider wants for every login."""
    return " ".join(sorted({*scopes, *provider.login_scopes}))


def parse_callback(unverified: Mapping[str, list[str]]) -> Callback:
    """Return what came back, from the query's parameters with all their values.

    A parameter that stands there twice counts as none (RFC 6749 §3.1): nobody knows which one is meant.
    """
    single = {name: values[0] for name, values in unverified.items() if len(values) == 1}
    code, error = single.get("code", ""), single.get("error")
    usable = 0 < len(code) <= MAX_CODE and all(" " <= char <= "~" for char in code)
    named = error if error in KNOWN_ERRORS else OTHER_ERROR
    return Callback(
        unverified_state=single.get("state", "")[:MAX_CODE],
        code=Secret(code) if usable else None,
        error=None if error is None and "error" not in unverified else named,
        issuer=single.get("iss", "") if "iss" in unverified else None,
    )


def issuer_is_right(callback: Callback, provider: Provider) -> bool:
    """Tell whether the provider asked is the one that answered (RFC 9207 §2.4); a promised `iss` may not be missing."""
    if callback.issuer is None:
        return not provider.iss_promised
    return callback.issuer == provider.issuer


def app_redirect(app_redirect_uri: str, answer: Mapping[str, str]) -> str:
    """Return an app's redirect URI with its answer; what it has of a query stays (RFC 6749 §3.1.2)."""
    parts = urlsplit(app_redirect_uri)
    kept = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([*((name, value) for name, value in kept if name not in answer), *answer.items()])
    return urlunsplit(parts._replace(query=query))
