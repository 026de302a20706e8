"""A stand-in for Aries: token endpoint and API, that can be told to misbehave.

It exists so that the broker can be tried, tested and shown without Aries. It knows nothing of the
broker, keeps all state in memory, answers on loopback only, and marks every reply `Aries-Sandbox: 1`.

What it answers
    `POST /v1/oauth2/token` (JSON and form; client_credentials, refresh_token, authorization_code),
    `GET /oauth2/authorize`: the login of a person on pages, in which a client's redirect URI is compared as it stands,
    `POST /v1/oauth2/authorize`, `…/mfa`, `…/confirm`: the same without a browser,
    `POST /v1/oauth2/revoke` (RFC 7009; a refresh token ends its whole family with the access tokens given to it),
    `GET /.well-known/oauth-authorization-server` (RFC 8414; the issuer is the root, unless it was configured),
    `/health`, users, accounts, balances, positions, and orders: place, replace, cancel, preview, list.
    Undocumented points are decided the way the RFCs say. There is no market: an accepted order rests as
    `NEW` until it is replaced or cancelled.

How it can misbehave (`Behaviour`, set at start or through the admin endpoint)
    narrowing           what a narrower `scope` on a refresh does: `additional` (RFC 6749 §6), `sticky`, `ignored`
    rotation            what a spent refresh token gives when it is presented again
                        `rotate`     nothing: it is refused
                        `same`       within `grace_seconds` of its first use, the token that it gave then
                        `siblings`   within the same, one more new token each time, and all of them live
                        `last_wins`  within the same, a new token each time, in place of those it gave before:
                                     they are refused from then on, with all that descends from them
                        `none`       it is never spent: a refresh names no new token
    reuse_detection     whether a spent token that is presented outside that rule ends its whole family (true), or is
                        refused alone
    refresh_kills_access_tokens
                        whether a refresh makes the access tokens given to its family before unknown to the API
    revocation          `on`, `off` (404), `unsupported` (400 unsupported_token_type)
    metadata            `on`, `off` (404)
    scope_reply         what is granted: `honest`, `ignore` (all the client has), `wider`, `narrower`
    reply_scope         the reply's `scope` field: what was `granted`, what was `asked`, or `absent`
    scope_claim         the access token's `scope` claim: `string`, `list` or `absent`
    unregistered_scope  a scope the client is not registered for: `refuse` or `drop`
    access_token_seconds, refresh_token_seconds, grace_seconds, wider_scopes
    reply_overrides     any field of the token reply set to any value; null leaves it out (`expires_in: null`)
    code_seconds        how long an authorization code is good; 0: it has expired when it is exchanged
    code_refresh_token  whether the exchange of a code names a refresh token
    code_subject        the user that codes are exchanged for, in place of who logged in; null: nobody else
    iss                 whether a redirect names the issuer (RFC 9207): `on`, `off`; the metadata promises it, and it is
                        `wrong` or `missing`
    state_reply         the `state` in a redirect is `kept`, `altered` or `missing`
    redirect_error      the `error` that a person is sent back with after consenting, in place of a code; any text
    plain_challenge     whether the PKCE method `plain` is taken beside `S256`
    password_tries, mfa_tries
                        how many wrong passwords for an address, and wrong codes of a person, lock them for 15 minutes
    api_requests, api_window_seconds
                        each client's allowance at the API; past it 429 with Retry-After
    clock_skew_seconds  how far iat, nbf and exp of access tokens and the Date of replies are off, at most a day ahead
                        or (negative) behind; what the sandbox decides, it decides by its true clock

How it can fail (`Failure`, scripted for the next N calls of a target: `token`, `revoke` or `api`)
    Any status and headers, with a body that is flat, nested, rfc, empty, html, huge, echo, truncated, drip,
    hang, cut or drop; before the request is looked at, or after it took effect (a spent refresh token
    stays spent, and the answer is lost). With `delay_seconds` the reply is sent that much later, and the
    connection closes without it when failures are cleared meanwhile or the sandbox stops. The body `true` is the
    true reply, unchanged, which needs `when=after`: so a good answer comes late.

The admin endpoint (`/sandbox/admin/…`, loopback and bearer token)
    GET, PATCH behaviour; POST, DELETE failures; GET, POST refresh-tokens; POST refresh-tokens/revoke,
    refresh-tokens/inspect; POST codes; POST access-tokens/revoke; GET counters; POST reset.
    The list of refresh tokens says of each its `family`, and whether it is `used`, `revoked` (its family ended) or
    `live` (would be redeemed now). The counters say how calls went, and `reuses` how often a spent token was
    presented outside the rule, `families_ended` how often that ended a family.
"""

from __future__ import annotations

from broker.sandbox.app import create_app
from broker.sandbox.behaviour import Behaviour
from broker.sandbox.config import AccountSeed, ClientSeed, PositionSeed, SandboxConfig, UserSeed
from broker.sandbox.script import Failure
from broker.sandbox.seed import load_seed, with_flags
from broker.sandbox.server import RunningSandbox, run, serve

__all__ = [
    "AccountSeed",
    "Behaviour",
    "ClientSeed",
    "Failure",
    "PositionSeed",
    "RunningSandbox",
    "SandboxConfig",
    "UserSeed",
    "create_app",
    "load_seed",
    "run",
    "serve",
    "with_flags",
]
