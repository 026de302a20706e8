"""GetToken wired."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random, SystemRandom

from broker.adapters.client_assertion import ClientAssertionSigner
from broker.core.evidence import Landmark
from broker.core.models import GrantType
from broker.flows.client_breaker import ClientBreaker
from broker.flows.decide import Decide
from broker.flows.drain_journal import DrainJournal
from broker.flows.end_token import EndToken
from broker.flows.get_token import GetToken
from broker.flows.keep_received import KeepReceived
from broker.flows.lease_grant import LeaseGrant
from broker.flows.lookout import Lookout
from broker.flows.obtain import Obtain
from broker.flows.prospects import Prospects
from broker.flows.prove_client import ProveClient
from broker.flows.prove_narrowing import ProveNarrowing
from broker.flows.provider_call import ProviderCall
from broker.flows.receive import Receive
from broker.flows.redeem_client_credentials import RedeemClientCredentials
from broker.flows.redeem_now import RedeemNow
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.redeem_under_lease import RedeemUnderLease
from broker.flows.renew import Renew
from broker.flows.revoke_tokens import RevokeTokens
from broker.flows.tend_grants import TendGrants
from broker.flows.token_cache import TokenCache
from broker.flows.watch_for_rollback import WatchForRollback
from broker.flows.watch_revocations import WatchRevocations
from broker.main.foundation import Foundation


@dataclass(frozen=True, slots=True)
class TokenFlows:
    """The flows that hand out tokens, and those that must be waited for at the end."""

    get_token: GetToken
    obtain: Obtain
    redeem_now: RedeemNow
    prove_narrowing: ProveNarrowing
    drain_journal: DrainJournal
    tend_grants: TendGrants
    renew: Renew
    rollback: WatchForRollback
    watch_revocations: WatchRevocations
    call: ProviderCall
    keep_received: KeepReceived
    end_token: EndToken

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for redeems that run and tokens the store has not taken yet."""
        await self.renew.aclose()
        await asyncio.gather(
            self.obtain.aclose(grace),
            self.prove_narrowing.aclose(grace),
            self.tend_grants.aclose(grace),
            self.drain_journal.aclose(grace),
        )


def token_flows(base: Foundation, *, refuse_sandbox: bool) -> TokenFlows:
    """Wire GetToken and what it stands on."""
    random = SystemRandom()
    receive = Receive(base.keyring, base.clock, random)
    cache = TokenCache()
    breaker = ClientBreaker(clock=base.clock, telemetry=base.metrics)
    prove_client = ProveClient(
        secrets=base.store, cipher=base.keyring, signer=ClientAssertionSigner(), breaker=breaker, clock=base.clock
    )
    call = ProviderCall(
        prove_client=prove_client,
        breaker=breaker,
        endpoint=base.endpoint,
        limiter=base.limiter,
        clock=base.clock,
        telemetry=base.metrics,
        refuse_sandbox=refuse_sandbox,
    )
    end_token = EndToken(prove_client=prove_client, breaker=breaker, endpoint=base.endpoint, telemetry=base.metrics)
    rollback = WatchForRollback(
        store=base.store, evidence=base.evidence, clock=base.clock, telemetry=base.metrics, owner=base.owner
    )
    lease_grant = LeaseGrant(grants=base.store, heart=base.heart, times=base.times, owner=base.owner)
    keep_received = KeepReceived(
        grants=base.store, logins=base.store, journal=base.journal, telemetry=base.metrics, times=base.times
    )
    redeem_refresh_token = _redeem_refresh_token(base, call, keep_received, receive, lease_grant, random, rollback.note)
    redeem_client_credentials = RedeemClientCredentials(
        grants=base.store,
        access_tokens=base.store,
        heart=base.heart,
        call=call,
        receive=receive,
        clock=base.clock,
        times=base.times,
        owner=base.owner,
    )
    obtain = Obtain(
        access_tokens=base.store,
        prospects=Prospects(base.store),
        cache=cache,
        receive=receive,
        lookout=Lookout(base.store, base.clock, random),
        redeem={
            GrantType.REFRESH_TOKEN: redeem_refresh_token,
            GrantType.CLIENT_CREDENTIALS: redeem_client_credentials,
        },
        clock=base.clock,
    )
    renew = Renew(
        view=base.view,
        access_tokens=base.store,
        obtain=obtain,
        receive=receive,
        cache=cache,
        buckets=base.buckets,
        callers_wait=call.is_waited_for,
        clock=base.clock,
        random=random,
    )
    get_token = GetToken(
        view=base.view,
        decide=Decide(base.view),
        cache=cache,
        obtain=obtain,
        limiter=base.limiter,
        buckets=base.buckets,
        audit=base.audit,
        clock=base.clock,
        telemetry=base.metrics,
        handed_out=renew.handed_out,
        random=random,
    )
    return TokenFlows(
        get_token=get_token,
        obtain=obtain,
        redeem_now=RedeemNow(view=base.view, catalog_store=base.store, grants=base.store, obtain=obtain),
        prove_narrowing=ProveNarrowing(
            view=base.view, catalogs=base.store, grants=base.store, redeem=redeem_refresh_token, clock=base.clock
        ),
        drain_journal=DrainJournal(
            grants=base.store,
            logins=base.store,
            replicas=base.store,
            journal=base.journal,
            heart=base.heart,
            telemetry=base.metrics,
            owner=base.owner,
        ),
        tend_grants=TendGrants(
            view=base.view,
            grants=base.store,
            lease_grant=lease_grant,
            redeem=redeem_refresh_token,
            revoke_tokens=RevokeTokens(
                view=base.view,
                grants=base.store,
                access_tokens=base.store,
                receive=receive,
                cipher=base.keyring,
                end_token=end_token,
                clock=base.clock,
            ),
            clock=base.clock,
            random=random,
        ),
        renew=renew,
        rollback=rollback,
        watch_revocations=WatchRevocations(view=base.view, access_tokens=base.store, clock=base.clock),
        call=call,
        keep_received=keep_received,
        end_token=end_token,
    )


def _redeem_refresh_token(  # noqa: PLR0913 - what is shared with others
    base: Foundation,
    call: ProviderCall,
    keep_received: KeepReceived,
    receive: Receive,
    lease_grant: LeaseGrant,
    random: Random,
    noted: Callable[[str, Landmark], None],
) -> RedeemRefreshToken:
    under_lease = RedeemUnderLease(
        grants=base.store,
        access_tokens=base.store,
        call=call,
        keep_received=keep_received,
        receive=receive,
        cipher=base.keyring,
        telemetry=base.metrics,
        clock=base.clock,
        times=base.times,
        owner=base.owner,
        random=random,
        noted=noted,
    )
    return RedeemRefreshToken(
        grants=base.store,
        access_tokens=base.store,
        lease_grant=lease_grant,
        under_lease=under_lease,
        heart=base.heart,
        clock=base.clock,
    )
