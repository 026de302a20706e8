"""Logging in without a browser: password, code, consent, and a code that the real token endpoint takes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from aries_exchange import AriesAPIError, AriesClient, AriesConnectionError, ConsentRefusedError
from tests.exchange.conftest import REDIRECT, Build, Sandbox
from tests.exchange.login_steps import ADA, GRACE, PASSWORDS, LoginSteps, watched_steps
from tests.support.canary import MFA_CODE

READ = ("account:information", "order:information", "position:information", "user:information")


@pytest.fixture
def steps(sandbox: Sandbox) -> Iterator[LoginSteps]:
    """The sandbox's steps, watched."""
    with watched_steps(sandbox.driver.running.app) as steps:
        yield steps


class Person:
    """Somebody who is asked, and what they were asked."""

    def __init__(self, *, answer: object = True) -> None:
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, scopes: tuple[str, ...]) -> bool:
        """Answer."""
        self.asked.append(scopes)
        return self.answer  # type: ignore[return-value]  # also what is no truth value


def test_with_a_code_from_the_phone(client: AriesClient) -> None:
    """Password, code, consent, exchange: tokens of the person."""
    ada = Person()
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=ada)
    result = client.oauth2.verify_mfa(code=MFA_CODE, session_token=response.session_token)
    tokens = client.oauth2.exchange_code(code=result.authorization_code, redirect_uri=REDIRECT)

    assert (True, "") == (response.mfa_required, response.authorization_code)
    assert ([READ], READ, 3600) == (ada.asked, tokens.scope, tokens.expires_in)
    client.bearer_token = tokens.access_token
    assert ADA == client.users.get_current_user().email


def test_without_a_code(client: AriesClient) -> None:
    """One call goes the whole way."""
    grace = Person()
    response = client.oauth2.authorize(GRACE, PASSWORDS[GRACE], REDIRECT, ["read"], consent=grace)
    tokens = client.oauth2.exchange_code(response.authorization_code, REDIRECT)

    assert (False, "", [READ], READ) == (response.mfa_required, response.session_token, grace.asked, tokens.scope)
    client.bearer_token = tokens.access_token
    assert GRACE == client.users.get_current_user().email


def test_what_is_sent(client: AriesClient, steps: LoginSteps) -> None:
    """The documented fields, and each step's id once."""
    response = client.oauth2.authorize(
        ADA, PASSWORDS[ADA], REDIRECT, ["trade"], consent=Person(), code_challenge="c" * 43
    )
    client.oauth2.verify_mfa(MFA_CODE, response.session_token)
    authorize = {
        "response_type": "code",
        "client_id": "desk-app",
        "email": ADA,
        "password": PASSWORDS[ADA],
        "redirect_uri": REDIRECT,
        "scope": "order:execution",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }

    ids = [reply.get("next_step_auth_id") for reply in steps.replies]
    assert [
        ("", authorize),
        ("/mfa", {"next_step_auth_id": ids[0], "verification_code": MFA_CODE}),
        ("/confirm", {"next_step_auth_id": ids[1]}),
    ] == steps.received


@pytest.mark.parametrize("email", [ADA, GRACE])
@pytest.mark.parametrize("answer", [False, None, "yes", 1], ids=repr)
def test_only_a_yes_is_a_yes(client: AriesClient, steps: LoginSteps, answer: object, email: str) -> None:
    """Whoever does not agree in so many words has not agreed, and nothing is confirmed."""
    with pytest.raises(ConsentRefusedError) as caught:
        _log_in(client, Person(answer=answer), email)

    assert 403 == caught.value.status_code
    assert "/confirm" not in [path for path, _ in steps.received]


def _log_in(client: AriesClient, person: Person, email: str = ADA) -> None:
    """Log in as far as it goes."""
    response = client.oauth2.authorize(email, PASSWORDS[email], REDIRECT, ["read"], consent=person)
    if response.mfa_required:
        client.oauth2.verify_mfa(MFA_CODE, response.session_token)


def test_without_anybody_to_ask_it_is_a_no(client: AriesClient) -> None:
    """By itself the client agrees to nothing in the name of a person."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"])
    with pytest.raises(ConsentRefusedError):
        client.oauth2.verify_mfa(MFA_CODE, response.session_token)


def test_somebody_else_may_be_asked_with_the_code(client: AriesClient) -> None:
    """In place of whom the beginning named."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"])
    ada = Person()
    client.oauth2.verify_mfa(MFA_CODE, response.session_token, consent=ada)

    assert [READ] == ada.asked


def test_who_agreed_before_is_not_asked_again(client: AriesClient) -> None:
    """Aries says so."""
    first, again = Person(), Person(answer=False)
    _log_in(client, first)
    _log_in(client, again)

    assert ([READ], []) == (first.asked, again.asked)


@pytest.mark.parametrize("said", [None, "false", 0, 1], ids=repr)
def test_what_is_not_clearly_a_no_asks_the_person(client: AriesClient, steps: LoginSteps, said: object) -> None:
    """A reply that does not say whether consent is required is no consent."""
    _log_in(client, Person())
    steps.changes["/mfa"] = {"consent_required": said}
    ada = Person()
    _log_in(client, ada)

    assert [READ] == ada.asked


def test_a_wrong_password_is_a_401(client: AriesClient, steps: LoginSteps) -> None:
    """It is not sent again by itself, and a message that quotes it is not passed on."""
    steps.changes[""] = {"error": "hunter2hunter2 is wrong"}
    with pytest.raises(AriesAPIError) as caught:
        client.oauth2.authorize(ADA, "hunter2hunter2", REDIRECT, ["read"])

    assert (401, "Unauthorized", 1) == (caught.value.status_code, caught.value.message, len(steps.received))


def test_a_wrong_code_may_be_followed_by_the_right_one(client: AriesClient) -> None:
    """With the same session token."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=Person())
    with pytest.raises(AriesAPIError) as caught:
        client.oauth2.verify_mfa("000000", response.session_token)
    result = client.oauth2.verify_mfa(MFA_CODE, response.session_token)

    assert (401, "wrong code") == (caught.value.status_code, caught.value.message)
    assert 3600 == client.oauth2.exchange_code(result.authorization_code, REDIRECT).expires_in


def test_the_limit_of_wrong_codes_is_aries(sandbox: Sandbox, client: AriesClient) -> None:
    """After the last one the login is locked, and the right code comes too late."""
    sandbox.behave(mfa_tries=3)
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=Person())
    statuses = []
    for code in [*["000000"] * 3, MFA_CODE]:
        with pytest.raises(AriesAPIError) as caught:
            client.oauth2.verify_mfa(code, response.session_token)
        statuses.append(caught.value.status_code)

    assert [401, 401, 423, 400] == statuses


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", " 123456", "\u0661\u0662\u0663\u0664\u0665\u0666"])
def test_a_code_that_cannot_be_one_costs_no_try(client: AriesClient, steps: LoginSteps, code: str) -> None:
    """It is not sent."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=Person())
    with pytest.raises(AriesAPIError) as caught:
        client.oauth2.verify_mfa(code, response.session_token)

    assert (400, 1) == (caught.value.status_code, len(steps.received))


@pytest.mark.parametrize("token", ["", "another's", "made-up"])
def test_a_session_that_this_client_did_not_begin_is_refused(build: Build, client: AriesClient, token: str) -> None:
    """Its redirect URI and its person are not known here."""
    another = build("desk-app", "desk-app-secret").oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"])
    token = another.session_token if token == "another's" else token
    with pytest.raises(ValueError, match=r"^session_token must be that of a login"):
        client.oauth2.verify_mfa(MFA_CODE, token)


def test_a_session_is_over_with_its_code(client: AriesClient) -> None:
    """The token is good for one login."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=Person())
    client.oauth2.verify_mfa(MFA_CODE, response.session_token)
    with pytest.raises(ValueError, match=r"^session_token must be that of a login"):
        client.oauth2.verify_mfa(MFA_CODE, response.session_token)


def test_two_people_log_in_at_once(client: AriesClient) -> None:
    """Each is asked about their own scopes."""
    people = {"read": Person(), "trade": Person()}
    begun = {
        scope: client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, [scope], consent=somebody)
        for scope, somebody in people.items()
    }
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda each: client.oauth2.verify_mfa(MFA_CODE, each.session_token), begun.values()))

    assert {"read": [READ], "trade": [("order:execution",)]} == {
        scope: somebody.asked for scope, somebody in people.items()
    }


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("", {"next_step_auth_id": None}),
        ("/mfa", {"next_step_auth_id": None}),
        ("/mfa", {"next_step_auth_id": ["a"]}),
        ("/confirm", {"code": None}),
        ("/confirm", {"redirect_uri": "https://attacker.example/"}),
    ],
    ids=str,
)
def test_a_reply_that_is_not_what_is_documented_is_an_error(
    client: AriesClient, steps: LoginSteps, path: str, changes: dict[str, object]
) -> None:
    """Also a code for another redirect URI than the one begun with."""
    steps.changes[path] = changes
    with pytest.raises(AriesAPIError) as caught:
        _log_in(client, Person())

    assert 200 == caught.value.status_code


def test_no_cookie_goes_from_one_login_to_another(client: AriesClient, steps: LoginSteps) -> None:
    """What a reply sets is not sent back: several people may log in through one client."""
    _log_in(client, Person())

    assert [None, None, None] == steps.cookies


def test_no_step_is_sent_twice(build: Build) -> None:
    """A password that nobody answers is sent once."""
    nowhere = build("desk-app", "desk-app-secret", base_url="http://127.0.0.1:1")
    with pytest.raises(AriesConnectionError, match="nothing was sent"):
        nowhere.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT)


def test_what_opens_a_login_is_not_shown(client: AriesClient) -> None:
    """Neither session token nor code, nor the password in what the client keeps."""
    response = client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, ["read"], consent=Person())
    result = client.oauth2.verify_mfa(MFA_CODE, response.session_token)
    shown = f"{response!r} {result!r}"
    secrets = (response.session_token, result.authorization_code, PASSWORDS[ADA])

    assert [] == [secret for secret in secrets if not secret or secret in shown]
