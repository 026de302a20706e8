"""GetToken wired."""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom

from broker.adapters.client_assertion import ClientAssertionSigner
from broker.adapters.provider_http import ProviderHttp
from broker.core.models import GrantType
from broker.flows.get_token import GetToken
from broker.flows.lookout import Lookout
from broker.flows.obtain import Obtain
from broker.flows.prove_narrowing import ProveNarrowing
from broker.flows.provider_call import ProviderCall
from broker.flows.receive import Receive
from broker.flows.redeem_client_credentials import RedeemClientCredentials
from broker.flows.redeem_now import RedeemNow
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.token_cache import TokenCache
from broker.main.foundation import TIMES, Foundation


@dataclass(frozen=True, slots=True)
class TokenFlows:
    """The flows that hand out tokens, and the one that must be waited for at the end."""

    get_token: GetToken
    obtain: Obtain
    redeem_now: RedeemNow
    prove_narrowing: ProveNarrowing


def token_flows(base: Foundation, *, refuse_sandbox: bool) -> TokenFlows:
    """Wire GetToken and what it stands on."""
    random = SystemRandom()
    receive = Receive(base.keyring, base.clock)
    cache = TokenCache()
    call = ProviderCall(
        secrets=base.store,
        cipher=base.keyring,
        endpoint=ProviderHttp(base.exchange),
        signer=ClientAssertionSigner(),
        buckets=base.buckets,
        clock=base.clock,
        telemetry=base.metrics,
        limits=lambda: base.view.catalog.limits,
        refuse_sandbox=refuse_sandbox,
    )
    redeem_refresh_token = RedeemRefreshToken(
        grants=base.store,
        call=call,
        receive=receive,
        cipher=base.keyring,
        clock=base.clock,
        times=TIMES,
        owner=base.owner,
    )
    redeem_client_credentials = RedeemClientCredentials(
        grants=base.store, call=call, receive=receive, clock=base.clock, times=TIMES, owner=base.owner
    )
    obtain = Obtain(
        grants=base.store,
        cache=cache,
        receive=receive,
        lookout=Lookout(base.store, base.clock, random),
        redeem={
            GrantType.REFRESH_TOKEN: redeem_refresh_token,
            GrantType.CLIENT_CREDENTIALS: redeem_client_credentials,
        },
        clock=base.clock,
    )
    get_token = GetToken(
        view=base.view,
        cache=cache,
        obtain=obtain,
        buckets=base.buckets,
        audit=base.audit,
        clock=base.clock,
        telemetry=base.metrics,
        random=random,
    )
    return TokenFlows(
        get_token=get_token,
        obtain=obtain,
        redeem_now=RedeemNow(view=base.view, catalog_store=base.store, grants=base.store, obtain=obtain),
        prove_narrowing=ProveNarrowing(
            view=base.view, catalogs=base.store, grants=base.store, redeem=redeem_refresh_token, clock=base.clock
        ),
    )
