"""Which refresh tokens would be lost with their grant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.grant_state import GrantState, Health, Hold, KeptToken, Phase, holds_live_token

FIRST = KeptToken("t0", consent=1, attempt=1, generation=0, received_at=-9000)
USED = replace(FIRST, first_sent_at=-8000)
SECOND = KeptToken("t1", consent=1, attempt=2, generation=1, received_at=-7000)
REFUSED = replace(SECOND, first_sent_at=-6000, refused_at=-5000)
OF_LOGIN = KeptToken("t2", consent=2, attempt=3, generation=2, received_at=-4000)
BASE = GrantState(consent=1, generation=1, attempt=2, current="t1", tokens=(USED, SECOND))

LIVING = {
    "current": BASE,
    "current, used": replace(BASE, current="t0", tokens=(USED,)),
    "on its way": replace(BASE, phase=Phase.SENT, owner="me", lease_until=9000, first_sent_at=-100, sends=1),
    "in doubt": replace(BASE, phase=Phase.UNKNOWN, first_sent_at=-100, sends=1),
    "frozen": replace(BASE, hold=Hold.FROZEN),
    "being revoked": replace(BASE, hold=Hold.REVOKING),
    "doubted": replace(BASE, doubted="t0", health=Health.QUARANTINED, tokens=(USED, REFUSED)),
    "quarantined beside one never sent": replace(BASE, health=Health.QUARANTINED, tokens=(FIRST, REFUSED)),
    "the last one of an older login": replace(
        BASE, consent=2, current="t2", health=Health.QUARANTINED, tokens=(USED, replace(OF_LOGIN, refused_at=-1))
    ),
}
SPENT = {
    "never any": GrantState(),
    "revoked": replace(BASE, hold=Hold.REVOKED),
    "refused, after one that was spent": replace(BASE, health=Health.QUARANTINED, tokens=(USED, REFUSED)),
    "told to the provider": replace(BASE, tokens=(USED, replace(SECOND, revoked_at=-1))),
}


@pytest.mark.parametrize("state", LIVING.values(), ids=LIVING)
def test_a_token_nobody_refused_revoked_or_spent_lives(state: GrantState) -> None:
    """Whatever the redeem and whoever holds the grant: its provider may still honour the token."""
    assert holds_live_token(state)


@pytest.mark.parametrize("state", SPENT.values(), ids=SPENT)
def test_tokens_refused_revoked_or_spent_do_not_live(state: GrantState) -> None:
    """Nothing is lost with them; a token that was rotated away is spent though nobody refused it."""
    assert not holds_live_token(state)
