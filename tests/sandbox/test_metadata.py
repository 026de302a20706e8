"""The metadata document (RFC 8414)."""

from __future__ import annotations

import httpx2
import pytest

from broker.sandbox import SandboxConfig, create_app
from tests.sandbox.browser import browser
from tests.sandbox.logins import REDIRECT
from tests.sandbox.requests import CREDENTIALS, ask
from tests.support.sandbox import SandboxDriver

WELL_KNOWN = "/.well-known/oauth-authorization-server"


async def test_the_document_leads_to_the_endpoints(sandbox: SandboxDriver) -> None:
    """The issuer is the root, and what stands at the addresses answers."""
    document = (await sandbox.http.get(WELL_KNOWN)).json()
    assert (sandbox.url, sandbox.token_url) == (document["issuer"], document["token_endpoint"])
    given = await sandbox.http.post(
        document["token_endpoint"], json={**CREDENTIALS, "grant_type": "client_credentials"}
    )
    token = given.json()["access_token"]
    await sandbox.http.post(document["revocation_endpoint"], json={**CREDENTIALS, "token": token})
    assert {"access_token/ended": 1} == (await sandbox.counters())["revocations"]["outcomes"]


async def test_every_grant_type_named_is_one(sandbox: SandboxDriver) -> None:
    """None of them is answered as unsupported; three are named."""
    named = (await sandbox.http.get(WELL_KNOWN)).json()["grant_types_supported"]
    errors = [(await ask(sandbox, grant_type=name)).json().get("error") for name in named]
    assert (3, False) == (len(named), "unsupported_grant_type" in errors)


async def test_the_ways_to_authenticate_are_named_for_each_endpoint(sandbox: SandboxDriver) -> None:
    """Both lists hold the registered names and Aries' own; with private_key_jwt come its algorithms (RFC 8414 §2)."""
    document = (await sandbox.http.get(WELL_KNOWN)).json()
    methods = ["client_secret_basic", "client_secret_post", "client_secret_json", "private_key_jwt", "none"]
    for endpoint in ("token", "revocation"):
        assert methods == document[f"{endpoint}_endpoint_auth_methods_supported"]
        assert "ES256" in document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]


async def test_the_document_leads_to_the_login(sandbox: SandboxDriver) -> None:
    """What stands at the address shows the first page for a code, the one response type there is."""
    document = (await sandbox.http.get(WELL_KNOWN)).json()
    async with browser(sandbox) as ada:
        query = {"client_id": "desk-app", "redirect_uri": REDIRECT, "response_type": "code"}
        await ada.open(document["authorization_endpoint"], {**query})
        assert (["code"], "password") == (document["response_types_supported"], ada.step)


@pytest.mark.parametrize(("taken", "methods"), [(False, ["S256"]), (True, ["S256", "plain"])])
async def test_the_methods_of_pkce_are_those_taken(sandbox: SandboxDriver, taken: bool, methods: list[str]) -> None:
    """`plain` is named only where it works."""
    await sandbox.behave(plain_challenge=taken)
    assert methods == (await sandbox.http.get(WELL_KNOWN)).json()["code_challenge_methods_supported"]


@pytest.mark.parametrize(("iss", "promised"), [("off", False), ("on", True), ("wrong", True), ("missing", True)])
async def test_an_issuer_in_redirects_is_promised(sandbox: SandboxDriver, iss: str, promised: bool) -> None:
    """Also where the promise is not kept (RFC 9207 §3)."""
    await sandbox.behave(iss=iss)
    document = (await sandbox.http.get(WELL_KNOWN)).json()
    assert promised is document["authorization_response_iss_parameter_supported"]


@pytest.mark.parametrize(("revocation", "named"), [("on", True), ("unsupported", True), ("off", False)])
async def test_no_revocation_endpoint_is_named_where_there_is_none(
    sandbox: SandboxDriver,
    revocation: str,
    named: bool,
) -> None:
    """With revocation off nothing of it is in the document."""
    await sandbox.behave(revocation=revocation)
    document = (await sandbox.http.get(WELL_KNOWN)).json()
    assert named is any(name.startswith("revocation") for name in document)


async def test_the_document_can_be_missing(sandbox: SandboxDriver) -> None:
    """With metadata off the path answers like one that never was."""
    await sandbox.behave(metadata="off")
    answers = [await sandbox.http.get(path) for path in (WELL_KNOWN, "/nowhere")]
    assert [404, 404] == [answer.status_code for answer in answers]
    assert ["NOT_FOUND", "NOT_FOUND"] == [answer.json()["error"]["code"] for answer in answers]


async def test_a_configured_issuer_does_not_lead_elsewhere() -> None:
    """The issuer is what tokens name; the addresses stay with the sandbox that was asked."""
    app = create_app(SandboxConfig(issuer="https://aries.example"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://sandbox") as http:
        document = (await http.get(WELL_KNOWN)).json()
    assert ("https://aries.example", "http://sandbox/v1/oauth2/token") == (
        document["issuer"],
        document["token_endpoint"],
    )
