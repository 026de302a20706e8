"""What the SDK asks a broker when people log in, over a real socket; the broker answers what a test wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from aries.broker.v1 import authorization_pb2 as pb
from aries.broker.v1 import authorization_pb2_grpc, token_pb2, token_pb2_grpc
from aries_exchange import AriesAPIError, AriesClient
from tests.clients.conftest import ScriptedTokenService, refusal
from tests.exchange.conftest import REDIRECT, FakeTiming, Sandbox
from tests.exchange.login_steps import ADA, GRACE, PASSWORDS, PATH, LoginSteps, watched_steps
from tests.support.canary import MFA_CODE

READ = ["account:information", "order:information", "position:information", "user:information"]
CHALLENGE = "c" * 43
VERIFIER = "v" * 43


class ScriptedLogins(authorization_pb2_grpc.AuthorizationServiceServicer):
    """Remembers requests; answers what was written down."""

    def __init__(self) -> None:
        self.requests: list[Message] = []
        self.credentials: list[str | bytes] = []
        self.start = pb.StartAuthorizationResponse(
            flow_id="flow-1", authorization_url="https://broker.example/connect/1"
        )
        self.end = pb.Authorization(
            grant="desk", state=pb.AUTHORIZATION_STATE_CONNECTED, provider_scopes=[*READ, "order:execution"]
        )

    def StartAuthorization(  # noqa: N802 - the RPC's name
        self, request: pb.StartAuthorizationRequest, context: grpc.ServicerContext
    ) -> pb.StartAuthorizationResponse:
        self._remember(request, context)
        return self.start

    def CompleteAuthorization(  # noqa: N802 - the RPC's name
        self, request: pb.CompleteAuthorizationRequest, context: grpc.ServicerContext
    ) -> pb.CompleteAuthorizationResponse:
        self._remember(request, context)
        return pb.CompleteAuthorizationResponse(authorization=self.end)

    def GetAuthorization(  # noqa: N802 - the RPC's name
        self, request: pb.GetAuthorizationRequest, context: grpc.ServicerContext
    ) -> pb.GetAuthorizationResponse:
        raise NotImplementedError

    def CancelAuthorization(  # noqa: N802 - the RPC's name
        self, request: pb.CancelAuthorizationRequest, context: grpc.ServicerContext
    ) -> pb.CancelAuthorizationResponse:
        raise NotImplementedError

    def _remember(self, request: Message, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.credentials.append(dict(context.invocation_metadata()).get("authorization", ""))


@pytest.fixture
def logins() -> ScriptedLogins:
    """The broker's logins."""
    return ScriptedLogins()


@pytest.fixture
def tokens(sandbox: Sandbox) -> ScriptedTokenService:
    """The broker's tokens."""
    service = ScriptedTokenService()
    service.response = token_pb2.GetTokenResponse(
        access_token="at-1",
        lifetime=Duration(seconds=900),
        renew_after=Duration(seconds=700),
        fingerprint="fp-1",
        provider_scopes=READ,
        api_origins=[sandbox.url],
    )
    return service


@pytest.fixture
def broker(logins: ScriptedLogins, tokens: ScriptedTokenService, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the broker, and a credential for it."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    authorization_pb2_grpc.add_AuthorizationServiceServicer_to_server(logins, server)
    token_pb2_grpc.add_TokenServiceServicer_to_server(tokens, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("BROKER_API_KEY", "abk_1_key")
    yield f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


@pytest.fixture
def client(broker: str, time: FakeTiming) -> Iterator[AriesClient]:
    """A client of the grant `desk`."""
    with AriesClient(broker=broker, grant="desk", timing=time.timing) as built:
        yield built


def refused(call: Callable[[], object]) -> AriesAPIError:
    """Return the error that a call ends in."""
    with pytest.raises(AriesAPIError) as caught:
        call()
    return caught.value


def test_the_url_is_the_brokers_page(client: AriesClient, logins: ScriptedLogins) -> None:
    """It keeps the app's redirect, state and challenge, and the scopes as the SDK calls them."""
    url = client.oauth2.get_authorization_url(
        redirect_uri=REDIRECT, scope=["read", "trade"], state="random", code_challenge=CHALLENGE
    )

    assert "https://broker.example/connect/1" == url
    app = pb.AppRedirect(redirect_uri=REDIRECT, state="random", code_challenge=CHALLENGE)
    assert [pb.StartAuthorizationRequest(grant="desk", scopes=["read", "trade"], app=app)] == logins.requests
    assert ["Bearer abk_1_key"] == logins.credentials


def test_the_code_of_the_redirect_is_the_brokers(
    client: AriesClient, logins: ScriptedLogins, tokens: ScriptedTokenService
) -> None:
    """The broker takes code, redirect and verifier; what comes back is an access token and a handle."""
    got = client.oauth2.exchange_code(code="one-time", redirect_uri=REDIRECT, code_verifier=VERIFIER)

    code = pb.AppCode(code="one-time", redirect_uri=REDIRECT, code_verifier=VERIFIER)
    assert [pb.CompleteAuthorizationRequest(app=code)] == logins.requests
    assert [(["read", "trade"], "desk")] == [(list(each.scopes), each.grant) for each in tokens.requests]
    assert ("at-1", "broker-grant:desk", 900) == (got.access_token, got.refresh_token, got.expires_in)


@pytest.mark.parametrize(
    ("granted", "expected"),
    [(READ, ["read"]), (["order:execution"], ["trade"]), (["market:information"], ["market:information"])],
    ids=["read", "trade", "neither"],
)
def test_the_token_has_what_was_granted(
    client: AriesClient,
    logins: ScriptedLogins,
    tokens: ScriptedTokenService,
    granted: list[str],
    expected: list[str],
) -> None:
    """Nothing else is asked for, now and when the handle is shown later."""
    logins.end.ClearField("provider_scopes")
    logins.end.provider_scopes.extend(granted)
    got = client.oauth2.exchange_code("one-time", REDIRECT)
    client.oauth2.refresh_token(got.refresh_token or "")

    assert [expected, expected] == [list(each.scopes) for each in tokens.requests]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (pb.AUTHORIZATION_FAILURE_DENIED, 403),
        (pb.AUTHORIZATION_FAILURE_EXPIRED, 400),
        (pb.AUTHORIZATION_FAILURE_CANCELLED, 400),
        (pb.AUTHORIZATION_FAILURE_CODE_REFUSED, 400),
        (pb.AUTHORIZATION_FAILURE_SCOPE_NOT_GRANTED, 403),
        (pb.AUTHORIZATION_FAILURE_SUBJECT_MISMATCH, 403),
        (pb.AUTHORIZATION_FAILURE_PROVIDER_UNAVAILABLE, 503),
        (pb.AUTHORIZATION_FAILURE_NO_REFRESH_TOKEN, 500),
    ],
)
def test_a_login_that_failed_is_an_error(
    client: AriesClient, logins: ScriptedLogins, failure: pb.AuthorizationFailure.ValueType, status: int
) -> None:
    """The status says whose turn it is."""
    logins.end.state, logins.end.failure = pb.AUTHORIZATION_STATE_FAILED, failure

    assert status == refused(lambda: client.oauth2.exchange_code("one-time", REDIRECT)).status_code


def test_a_login_that_is_not_settled_yet_is_a_503(client: AriesClient, logins: ScriptedLogins) -> None:
    """The broker has what it brought, and no token is asked for before it is the grant's."""
    logins.end.state = pb.AUTHORIZATION_STATE_RECEIVED
    error = refused(lambda: client.oauth2.exchange_code("one-time", REDIRECT))

    assert (503, True) == (error.status_code, "goes on with it" in error.message)


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "SCOPE_NOT_SUPPORTED", 400),
        (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", 401),
        (grpc.StatusCode.PERMISSION_DENIED, "POLICY_DENIED", 403),
        (grpc.StatusCode.FAILED_PRECONDITION, "GRANT_HELD", 403),
        (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_REQUIRED", 401),
        (grpc.StatusCode.FAILED_PRECONDITION, "GRANT_QUARANTINED", 401),
        (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", 404),
        (grpc.StatusCode.ABORTED, "SCOPE_CONFLICT", 409),
        (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", 504),
        (grpc.StatusCode.INTERNAL, "", 500),
    ],
)
def test_a_refusal_of_the_broker_reads_like_one_of_aries(
    client: AriesClient, tokens: ScriptedTokenService, status: grpc.StatusCode, reason: str, expected: int
) -> None:
    """Code that handles the documented statuses needs no other for the broker."""
    tokens.refusal = refusal(status, "no", ErrorInfo(reason=reason, domain="broker.aries"))
    error = refused(client.users.get_current_user)

    assert (expected, "broker: no") == (error.status_code, error.message)
    assert (expected in {503, 504}) == (len(tokens.requests) > 1)


def test_a_limit_of_the_broker_says_how_long_to_wait(
    client: AriesClient, tokens: ScriptedTokenService, time: FakeTiming
) -> None:
    """By the header that a limit of Aries has."""
    wait = RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))
    tokens.refusal = refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow", wait)
    error = refused(client.users.get_current_user)

    assert (429, "2.500") == (error.status_code, error.headers.get("retry-after"))
    assert [2.5] * 3 == time.waits


def test_the_broker_is_told_of_the_token_that_was_refused(client: AriesClient, tokens: ScriptedTokenService) -> None:
    """So that it does not hand out the same one; by its fingerprint."""
    refused(client.users.get_current_user)

    assert ["", "fp-1"] == [each.rejected_fingerprint for each in tokens.requests]


def test_a_token_the_caller_was_refused_is_not_given_again(client: AriesClient, tokens: ScriptedTokenService) -> None:
    """The documented way to handle a 401 asks with the handle."""
    client.bearer_token = client.oauth2.refresh_token("broker-grant:desk").access_token
    refused(client.users.get_current_user)
    client.oauth2.refresh_token("broker-grant:desk")

    assert ["", "", "fp-1"] == [each.rejected_fingerprint for each in tokens.requests]


def test_without_a_grant_nobody_can_log_in(broker: str) -> None:
    """Tokens may come of the one grant that policy leaves; a login names it."""
    with AriesClient(broker=broker) as client, pytest.raises(ValueError, match="people log in for a grant"):
        client.oauth2.get_authorization_url(REDIRECT, state="s")


@pytest.fixture
def steps(sandbox: Sandbox, logins: ScriptedLogins) -> Iterator[LoginSteps]:
    """Aries' steps, which the broker knows of."""
    logins.start.direct.MergeFrom(
        pb.DirectLoginStart(
            url=sandbox.url + PATH,
            client_id="desk-app",
            redirect_uri=REDIRECT,
            scope="user:information",
            code_challenge=CHALLENGE,
        )
    )
    with watched_steps(sandbox.driver.running.app) as steps:
        yield steps


@pytest.mark.parametrize("email", [ADA, GRACE])
def test_a_login_without_a_browser_goes_past_the_broker(
    client: AriesClient, logins: ScriptedLogins, steps: LoginSteps, email: str
) -> None:
    """Password and code are sent to Aries alone, with the broker's challenge; the broker gets what comes of it."""
    password = PASSWORDS[email]
    response = client.oauth2.authorize(email, password, REDIRECT, ["read"], consent=lambda _: True)
    code = response.authorization_code
    if response.mfa_required:
        code = client.oauth2.verify_mfa(MFA_CODE, response.session_token).authorization_code
    got = client.oauth2.exchange_code(code, REDIRECT)

    direct = pb.DirectLogin(redirect_uri=REDIRECT)
    brought = pb.DirectCode(flow_id="flow-1", code=code, redirect_uri=REDIRECT)
    assert [
        pb.StartAuthorizationRequest(grant="desk", scopes=["read"], direct=direct),
        pb.CompleteAuthorizationRequest(direct=brought),
    ] == logins.requests
    assert (CHALLENGE, "user:information", password) == tuple(
        steps.received[0][1][name] for name in ("code_challenge", "scope", "password")
    )
    assert "broker-grant:desk" == got.refresh_token
    assert [] == [each for each in logins.requests if password in str(each) or MFA_CODE in str(each)]


def test_the_password_goes_nowhere_in_plaintext(client: AriesClient, logins: ScriptedLogins) -> None:
    """Even where the broker says so."""
    logins.start.direct.url = "http://aries.example/v1/oauth2/authorize"
    with pytest.raises(ValueError, match="must be https"):
        client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT)


def test_a_challenge_of_the_apps_own_has_no_place_in_a_direct_login(
    client: AriesClient, logins: ScriptedLogins
) -> None:
    """The broker, which exchanges the code, has the verifier."""
    with pytest.raises(ValueError, match="the challenge is the broker's own"):
        client.oauth2.authorize(ADA, PASSWORDS[ADA], REDIRECT, code_challenge=CHALLENGE)

    assert [] == logins.requests


@pytest.mark.parametrize("scope", ["read", ["two words"], [""]], ids=repr)
def test_scopes_that_are_none_are_refused(client: AriesClient, logins: ScriptedLogins, scope: list[str]) -> None:
    """As without a broker, and before it is asked."""
    with pytest.raises((TypeError, ValueError), match=r"^(scope is a list|a scope is a word)"):
        client.oauth2.get_authorization_url(REDIRECT, scope, "state")

    assert [] == logins.requests


def test_pkce_that_proves_nothing_is_refused(client: AriesClient, logins: ScriptedLogins) -> None:
    """As without a broker: plain nowhere, and no verifier that is none."""
    with pytest.raises(ValueError, match="code_challenge_method must be S256"):
        client.oauth2.get_authorization_url(REDIRECT, None, "state", CHALLENGE, "plain")
    with pytest.raises(ValueError, match="code_verifier must have 43 to 128"):
        client.oauth2.exchange_code("one-time", REDIRECT, "short")

    assert [] == logins.requests
