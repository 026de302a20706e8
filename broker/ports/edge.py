"""What surrounds the flows: telemetry, TLS, signatures of callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.core.models import Issuer
from broker.core.secret import Secret


class Telemetry(Protocol):
    """What is counted and told to operators of calls; no method raises, waits, or is given a caller's name."""

    def request_finished(self, method: str, code: str, reason: str, seconds: float) -> None:
        """Count one RPC by full method, status code and reason (empty for success)."""

    def denials_dropped(self, count: int) -> None:
        """Count denials whose audit event found no room or no store."""

    def certificate_served(self, serial: str, not_after: float) -> None:
        """Say which server certificate is served now, and its end in UTC epoch seconds."""

    def certificate_refused(self) -> None:
        """Count one set of changed TLS files that was not taken."""


class RedeemTelemetry(Protocol):
    """What is counted and told to operators of redeems; no method raises, waits, or is given a grant's name."""

    def token_issued(self, source: str) -> None:
        """Count one token handed out, by where it came from: memory, store or provider."""

    def redeem_finished(self, provider: str, client: str, outcome: str, cause: str) -> None:
        """Count one redeem attempt, by provider and outcome (an Outcome's value); tell operators why one failed."""

    def store_refused(self, grant_id: str, step: str, cause: str) -> None:
        """Say that the store took a step of a grant for good not: operators have to look after it."""

    def journal_holds(self, entries: int) -> None:
        """Say how many received tokens the journal holds, which the store has not taken yet."""

    def journal_failed(self, grant_id: str) -> None:
        """Say that this process's disk did not take an entry of the journal."""

    def rolled_back(self, grants: int) -> None:
        """Say that the store was rolled back, and how many grants are held for that."""

    def evidence_failed(self) -> None:
        """Say that the place for evidence did not take what was to be noted."""

    def revocation_finished(self, provider: str, client: str, told: str) -> None:
        """Count one token a provider was told of, by how that went (`core/oauth/rfc7009.Told`)."""

    def client_refused(self, provider: str, client: str, *, refused: bool) -> None:
        """Say whether a provider refuses a client's credentials."""


class LimitTelemetry(Protocol):
    """What is counted and told to operators of limits that replicas share; no method raises or waits."""

    def limits_cut_off(self, cause: str) -> None:
        """Say that a lane keeps to this replica's share of the limits from now on, and why."""

    def limits_shared_again(self) -> None:
        """Say that such a lane shares its limits with the other replicas again."""

    def limit_decided_by_share(self) -> None:
        """Count one request that was decided by this replica's share alone."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """One verified set of TLS files; all of it or none is served.

    Attributes:
        version: grows with every swap.
        certificate_chain: PEM, leaf first; private_key: its key, PEM.
        client_ca: PEM bundle that client certificates must chain to, or None where none are asked for.
    """

    version: int
    certificate_chain: bytes
    private_key: Secret
    client_ca: bytes | None


class ServerTls(Protocol):
    """The TLS material served now."""

    def current(self) -> TlsMaterial:
        """Return the material in use; cheap; may be called from any thread."""

    def trusts_client(self, unverified_chain: bytes, now: float) -> bool:
        """Tell whether a PEM chain (leaf first) is valid at `now` (UTC seconds) under the current client CA bundle."""


class CallerSignatures(Protocol):
    """Signatures of caller JWTs, under the keys their issuers publish."""

    @property
    def generation(self) -> int:
        """Grows whenever any issuer's keys were seen to change."""

    async def verify(self, issuer: Issuer, unverified_jwt: str, algorithm: str, kid: str | None) -> None:
        """Return when the JWT is signed with `algorithm` by the issuer's key of that id; within five seconds.

        Without `kid` the issuer must have exactly one key for the algorithm.

        Raises:
            UnauthenticatedError: it is not, or the issuer's keys cannot be had; the cause says which.
        """
