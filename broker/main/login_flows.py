"""Logins, wired."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from broker.adapters.subject_http import HttpSubjects
from broker.flows.complete_authorization import CompleteAuthorization
from broker.flows.connect import Connect
from broker.flows.exchange_code import ExchangeCode
from broker.flows.login_standing import LoginStanding
from broker.flows.settle_login import SettleLogin
from broker.flows.sign_in import SignIn
from broker.flows.start_authorization import StartAuthorization
from broker.flows.tend_logins import TendLogins
from broker.main.foundation import Foundation
from broker.main.token_flows import TokenFlows
from broker.rpc.servicers.authorization import AuthorizationServicer


@dataclass(frozen=True, slots=True)
class LoginFlows:
    """The flows of logins: the starter's, the browser's, and what looks after those nobody goes on with."""

    servicer: AuthorizationServicer
    connect: Connect
    exchange: ExchangeCode
    tend: TendLogins


def login_flows(
    base: Foundation, tokens: TokenFlows, public_url: str | None, is_draining: Callable[[], bool]
) -> LoginFlows:
    """Wire logins; `public_url` is the origin of the pages, None where there are none."""
    standing = LoginStanding(view=base.view, grants=base.store, keys=base.store, clock=base.clock)
    settle = SettleLogin(
        view=base.view,
        logins=base.store,
        grants=base.store,
        standing=standing,
        cipher=base.keyring,
        subjects=HttpSubjects(base.exchange),
        end_token=tokens.end_token,
        clock=base.clock,
    )
    exchange = ExchangeCode(
        logins=base.store,
        call=tokens.call,
        keep_received=tokens.keep_received,
        settle=settle,
        cipher=base.keyring,
        clock=base.clock,
        owner=base.owner,
    )
    start = StartAuthorization(
        view=base.view,
        logins=base.store,
        cipher=base.keyring,
        limiter=base.limiter,
        clock=base.clock,
        random_bytes=secrets.token_bytes,
        public_url=public_url,
    )
    complete = CompleteAuthorization(
        view=base.view,
        logins=base.store,
        grants=base.store,
        standing=standing,
        exchange=exchange,
        settle=settle,
        limiter=base.limiter,
        clock=base.clock,
        is_draining=is_draining,
    )
    sign_in = SignIn(
        view=base.view,
        logins=base.store,
        call=tokens.call,
        end_token=tokens.end_token,
        cipher=base.keyring,
        clock=base.clock,
        random_text=secrets.token_urlsafe,
        public_url=public_url or "",
    )
    connect = Connect(
        view=base.view,
        logins=base.store,
        grants=base.store,
        standing=standing,
        exchange=exchange,
        sign_in=sign_in,
        cipher=base.keyring,
        clock=base.clock,
        buckets=base.own_buckets,
        random_text=secrets.token_urlsafe,
    )
    return LoginFlows(
        AuthorizationServicer(start, complete, base.clock),
        connect,
        exchange,
        TendLogins(logins=base.store, settle=settle, clock=base.clock, owner=base.owner),
    )
