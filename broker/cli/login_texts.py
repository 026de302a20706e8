"""What people are told of a login: where it is, why it failed and what to do then, what became of cancelling it."""

from __future__ import annotations

from typing import Final

from aries.broker.v1 import authorization_pb2

STAGES: Final = {
    authorization_pb2.AUTHORIZATION_STATE_STARTED: "waiting for the page to be opened and the code to be typed",
    authorization_pb2.AUTHORIZATION_STATE_CONFIRMED: "waiting for the login at the provider",
    authorization_pb2.AUTHORIZATION_STATE_EXCHANGING: "taking in what the provider gave",
    authorization_pb2.AUTHORIZATION_STATE_RECEIVED: "making it the grant's",
}
"""The states of a login that goes on."""
AWAY: Final = "no news from the broker: asking again"

_AGAIN: Final = "run the command again"
FAILURES: Final = {
    "CANCELLED": f"the login was cancelled: {_AGAIN} when it is wanted",
    "EXPIRED": f"the login took too long: {_AGAIN}",
    "TOO_MANY_TRIES": f"the code was typed wrongly too often: {_AGAIN}, for another code",
    "DENIED": f"the person, or the provider, did not allow it: ask them, then {_AGAIN}",
    "PROVIDER_ERROR": f"the provider sent the browser back with an error: {_AGAIN}, or look at its configuration",
    "WRONG_ISSUER": "another server than the provider answered: look into that before the login is tried again",
    "CODE_REFUSED": f"the provider did not take its own code back: {_AGAIN}",
    "CLIENT_REFUSED": "the provider refuses the client's secret: renew it with `admin clients add-secret --replace`",
    "PROVIDER_UNAVAILABLE": f"the provider did not answer: {_AGAIN} a little later",
    "UNUSABLE_REPLY": "the provider's answer cannot be used: the broker's log says why",
    "NO_REFRESH_TOKEN": "the provider gave no refresh token: it may want `login_scopes` or `authorize_parameters`",
    "SCOPE_NOT_GRANTED": "less was allowed than the grant needs: allow all of it, or use a grant with fewer scopes",
    "SUBJECT_MISMATCH": "the grant is another person's: with --any-subject an admin lets it become this one's",
    "GRANT_UNAVAILABLE": f"the grant, its client or its provider was changed or held: see to it, then {_AGAIN}",
    "NOT_COMPLETED": f"the login was not completed in time: {_AGAIN}",
}
"""Every AuthorizationFailure, and what to do next."""

CANCELLED: Final = "the login is cancelled"
NOT_CANCELLED: Final = "the broker could not be told to cancel: the login ends by itself once its time is over"


def describe_cancelled(login: authorization_pb2.Authorization) -> str:
    """Return what became of a login that was to be cancelled: one that the provider answered goes on."""
    if login.state == authorization_pb2.AUTHORIZATION_STATE_CONNECTED:
        return "too late to cancel: the grant is connected"
    if login.state != authorization_pb2.AUTHORIZATION_STATE_FAILED:
        return "too late to cancel: the provider has answered, and the broker goes on with that"
    if login.failure == authorization_pb2.AUTHORIZATION_FAILURE_CANCELLED:
        return CANCELLED
    return "there was nothing to cancel: the login had failed already"


def describe_failure(login: authorization_pb2.Authorization) -> str:
    """Return why a login failed, in a sentence, with the failure's name behind it."""
    name = authorization_pb2.AuthorizationFailure.Name(login.failure).removeprefix("AUTHORIZATION_FAILURE_")
    return f"{FAILURES.get(name, 'the broker does not say why')} [{name}]"
