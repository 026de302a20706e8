"""`/.well-known/oauth-authorization-server`: where and how its endpoints are used (RFC 8414)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.behaviour import Iss, Metadata, Revocation
from broker.sandbox.client_auth import ALGORITHMS
from broker.sandbox.codes import PLAIN, S256
from broker.sandbox.config import AuthMethod
from broker.sandbox.errors import http_error
from broker.sandbox.login_visit import AUTHORIZATION_PATH
from broker.sandbox.revocation_endpoint import REVOCATION_PATH
from broker.sandbox.state import state_of
from broker.sandbox.token_endpoint import TOKEN_PATH

METADATA_PATH = "/.well-known/oauth-authorization-server"


async def metadata(request: Request) -> Response:
    """Return the metadata document, whose addresses are at the root that the request was sent to."""
    state = state_of(request)
    if state.behaviour.metadata is Metadata.OFF:
        return http_error(HTTPStatus.NOT_FOUND)
    root = str(request.base_url).rstrip("/")
    document: dict[str, Any] = {
        "issuer": state.config.issuer,
        "authorization_endpoint": f"{root}{AUTHORIZATION_PATH}",
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        "code_challenge_methods_supported": [S256, PLAIN] if state.behaviour.plain_challenge else [S256],
        "authorization_response_iss_parameter_supported": state.behaviour.iss is not Iss.OFF,
        **_endpoint("token", f"{root}{TOKEN_PATH}"),
    }
    if state.behaviour.revocation is not Revocation.OFF:
        document |= _endpoint("revocation", f"{root}{REVOCATION_PATH}")
    return JSONResponse(document)


def _endpoint(name: str, url: str) -> dict[str, Any]:
    return {
        f"{name}_endpoint": url,
        f"{name}_endpoint_auth_methods_supported": [method.value for method in AuthMethod],
        f"{name}_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
    }
