"""The words of the model as frozen values.

Scopes here are either *product scopes* (`read trade withdraw admin`) or *wire scopes* (the provider's own words); every
name says which. Durations are seconds as float or int, instants are UTC datetimes, store times milliseconds of the
store's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from broker.core.grant_state import GrantState
from broker.core.identity import Role


class Origin(StrEnum):
    """Who owns an object's configuration: apply touches only `file`, edits by RPC only `rpc`."""

    FILE = "file"
    RPC = "rpc"


class Kind(StrEnum):
    """Kinds of configured objects, as the store and the messages name them."""

    PROVIDER = "provider"
    CLIENT = "client"
    GRANT = "grant"
    POLICY = "policy"
    LIMIT = "limit"
    ISSUER = "issuer"
    ROLE = "role"


class TokenEndpointAuth(StrEnum):
    """How we authenticate at the token endpoint; pinned per provider, never probed (RFC 7591 §2 names, plus JSON)."""

    CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105 - a method's name
    CLIENT_SECRET_POST = "client_secret_post"  # noqa: S105 - the same
    CLIENT_SECRET_JSON = "client_secret_json"  # noqa: S105 - the same
    PRIVATE_KEY_JWT = "private_key_jwt"


class NarrowingProfile(StrEnum):
    """What a provider does with `scope` on a refresh (RFC 6749 §6).

    additional: the access token is narrowed, the new refresh token keeps the whole grant (the RFC's behaviour, proved).
    sticky: the narrowing sticks to the refresh token. ignored: `scope` changes nothing. unproved: nobody looked.
    Only a provider configured as `additional`, and proved to be, is sent a `scope`: where narrowing sticks, one refresh
    with fewer scopes costs the grant the others for good.
    """

    ADDITIONAL = "additional"
    STICKY = "sticky"
    IGNORED = "ignored"
    UNPROVED = "unproved"


class ReplayKind(StrEnum):
    """What a refresh token sent again inside its provider's window brings; the redeem is right for either.

    same_token: the successor the first send brought. siblings: another one, and both live.
    """

    SAME_TOKEN = "same_token"  # noqa: S105 - a kind's name
    SIBLINGS = "siblings"


class AbsentScope(StrEnum):
    """What a reply without any statement of scope means (RFC 6749 §5.1 lets it mean "as asked")."""

    REFUSE = "refuse"
    AS_ASKED = "as_asked"


class GrantType(StrEnum):
    """How tokens of a grant are got."""

    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - a grant type's name


class Narrowing(StrEnum):
    """The label of a token: exact, narrowed (a proved proper subset of the grant's set), unverified, wider."""

    EXACT = "exact"
    NARROWED = "narrowed"
    UNVERIFIED = "unverified"
    WIDER = "wider"


@dataclass(frozen=True, slots=True)
class NarrowingProof:
    """What a refresh with fewer scopes was seen to do at a token endpoint."""

    profile: NarrowingProfile
    token_url: str


@dataclass(frozen=True, slots=True)
class Moved:
    """Where discovery found a provider's endpoints the last time, when that was not where they were.

    Attributes:
        token_url, authorize_url, revocation_url: the endpoints, as they would be used.
        unlisted: origins of endpoints that are neither the issuer's nor among the provider's `endpoint_origins`.
    """

    token_url: str
    authorize_url: str | None
    revocation_url: str | None
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """A configured authorization server and the API behind it.

    Attributes:
        id: random, never reused; a re-created name is a new id.
        name: the operator's name for it.
        origin: who owns this configuration.
        preset: `aries` or `generic`.
        issuer: the authorization server's issuer identifier; audience of client assertions.
        token_url: the token endpoint.
        authorize_url: the authorization endpoint, if people may log in.
        revocation_url: the revocation endpoint (RFC 7009), if there is one.
        token_endpoint_auth: how our client authenticates there.
        scopes: product scope → wire scopes; an empty tuple means the product scope is not supported.
        wire_scopes: further wire scopes a caller may name.
        api_origins: origins (`https://host[:port]`) a token of this provider may be sent to.
        endpoint_origins: origins, beside the issuer's, where discovery may find endpoints.
        resources: what callers may name as `resource` (RFC 8707), each an exact absolute URI.
        narrowing: what a refresh with fewer scopes does, as configured.
        proof: what it was seen to do, if anybody looked.
        absent_scope: meaning of a reply without scope.
        default_expires_in: seconds assumed when `expires_in` is absent.
        connect_login: the client with which people sign in (OpenID Connect) before they log in here, if they have to.
        login_scopes: wire scopes every login asks for beside those of its grant, such as `openid`; never an excess.
        authorize_parameters: further fixed parameters of an authorization request.
        pkce_with_secret: a code is exchanged with our client's proof beside the code verifier (RFC 7636 §4.5).
        iss_promised: callbacks name the issuer (RFC 9207 §3).
        direct_login_url: where the starter of a direct login begins, if the provider has such steps.
        subject_url: what tells whose an access token is, if there is no ID token.
        replay_window: seconds in which the same refresh token may be sent again, if the provider has such a window;
            replay_kind: what comes of that.
        refresh_kills_older_access_tokens: a refresh ends the access tokens the grant got before.
        refresh_reply_deadline, client_credentials_reply_deadline: seconds a reply is waited for; None: the broker's.
        unspent_statuses: 5xx statuses this provider answers before it reads the refresh token.
        insecure_loopback: plain http to loopback is allowed.
        frozen: held by us since discovery moved its endpoints; every grant of it answers GRANT_HELD.
        moved: where discovery found them the last time; None once it names the former place again.
    """

    id: str
    name: str
    origin: Origin
    preset: str
    issuer: str
    token_url: str
    token_endpoint_auth: TokenEndpointAuth
    scopes: Mapping[str, tuple[str, ...]]
    authorize_url: str | None = None
    revocation_url: str | None = None
    wire_scopes: frozenset[str] = frozenset()
    api_origins: tuple[str, ...] = ()
    endpoint_origins: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    narrowing: NarrowingProfile = NarrowingProfile.UNPROVED
    proof: NarrowingProof | None = None
    absent_scope: AbsentScope = AbsentScope.REFUSE
    connect_login: str | None = None
    login_scopes: tuple[str, ...] = ()
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    pkce_with_secret: bool = True
    iss_promised: bool = False
    direct_login_url: str | None = None
    subject_url: str | None = None
    default_expires_in: int = 300
    replay_window: int | None = None
    replay_kind: ReplayKind | None = None
    refresh_kills_older_access_tokens: bool = False
    refresh_reply_deadline: int | None = None
    client_credentials_reply_deadline: int | None = None
    unspent_statuses: frozenset[int] = frozenset()
    insecure_loopback: bool = False
    frozen: bool = False
    moved: Moved | None = None

    @property
    def narrows(self) -> bool:
        """Whether a refresh may be sent fewer scopes: configured so, and seen at this very token endpoint."""
        additional = NarrowingProfile.ADDITIONAL
        return self.narrowing is additional and self.proof == NarrowingProof(additional, self.token_url)


@dataclass(frozen=True, slots=True)
class Client:
    """Our registration at a provider; its secrets are versions kept beside it, sealed.

    Attributes:
        redirect_uris: where results of a login may be sent, compared as they stand (RFC 9700 §2.1).
        direct_login: terminals and the SDK may use the provider's direct steps.
    """

    id: str
    name: str
    origin: Origin
    provider: str
    client_id: str
    redirect_uris: tuple[str, ...] = ()
    direct_login: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """What may be used at a provider.

    Attributes:
        scopes: the grant's own set, as configured: product or wire scopes.
        subject: for whom, learnt at login or import; None while unknown and for client_credentials.
        person: who signed in when it was connected, with the issuer that says so; None where nobody had to.
        state: the redeem protocol's row.
    """

    id: str
    name: str
    origin: Origin
    client: str
    type: GrantType
    scopes: frozenset[str]
    subject: str | None = None
    person: str | None = None
    state: GrantState = field(default_factory=GrantState)


@dataclass(frozen=True, slots=True)
class Policy:
    """Callers × grants × scopes. Patterns are in the glob language of `core/globs.py`.

    Attributes:
        callers: patterns of printed caller ids; the kind is literal.
        grants: patterns of grant names.
        scopes: product or wire scopes allowed; a product scope allows the wire scopes it contains.
        accept_excess: scopes a token may carry beyond those asked; never withdraw or admin.
        authorize: these callers may start a login for the grants.
        any_subject: a caller pattern may match every subject of an issuer.
    """

    id: str
    name: str
    origin: Origin
    callers: tuple[str, ...]
    grants: tuple[str, ...]
    scopes: frozenset[str]
    accept_excess: frozenset[str] = frozenset()
    authorize: bool = False
    any_subject: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """An average `rate` in events per second, of which `burst` may come at once."""

    rate: Fraction
    burst: int


class LimitTarget(StrEnum):
    """What a limit applies to."""

    GET_TOKEN = "get_token"  # noqa: S105 - the RPC's name
    PROVIDER = "provider"
    ACQUIRE = "acquire"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Limit:
    """A rule: one bucket per distinct value of `key` (caller, grant, client, provider).

    Attributes:
        version: the store's, at which the rule was written last; of no meaning where it is compared or written.
    """

    id: str
    name: str
    origin: Origin
    applies_to: LimitTarget
    key: tuple[str, ...]
    windows: tuple[Window, ...]
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who may vouch for callers with a JWT; `name` becomes the kind of their caller ids.

    Exactly one of `jwks_uri` and `jwks_file` is set; `ca_file` and `token_file` serve to fetch `jwks_uri`, the way
    Kubernetes wants it.
    """

    id: str
    name: str
    origin: Origin
    issuer: str
    audience: str
    jwks_uri: str | None = None
    jwks_file: str | None = None
    ca_file: str | None = None
    token_file: str | None = None
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    require: Mapping[str, str] = field(default_factory=dict)
    extra_audiences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """Callers that hold a role; patterns as in policies, without `**` and bare `*`, none at all for admin."""

    id: str
    name: str
    origin: Origin
    role: Role
    callers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key's public part; the caller it proves is `key:<name>`.

    Attributes:
        id: the middle of `abk_<id>_<43 characters>`.
        name: the subject of the caller id.
        mac: HMAC of `core/api_keys.maced_api_key` under the MAC key `mac_key_id`.
        bootstrap_until: UTC epoch seconds; set only on the first admin key, which dies then or once another admin is
            there.
    """

    id: str
    name: str
    mac: bytes
    mac_key_id: str
    disabled: bool = False
    bootstrap_until: int | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything configured but the grants, as of one `version`; grants are many and are read one by one."""

    version: int = 0
    revision: int = 0
    providers: Mapping[str, Provider] = field(default_factory=dict)
    clients: Mapping[str, Client] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    limits: tuple[Limit, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    roles: tuple[RoleBinding, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class AccessTokenKey:
    """What makes two access tokens interchangeable: nothing less than all of this.

    Attributes:
        wire_scopes: sorted, without duplicates.
        resource: RFC 8707 resource asked for, or the empty string.
    """

    grant_id: str
    epoch: int
    client_id: str
    wire_scopes: tuple[str, ...]
    resource: str = ""
