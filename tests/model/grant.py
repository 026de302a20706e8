"""The grant of the model: the very state and steps of the core, with time folded away so that states can be compared.

Now is always 0. A lease lives until 1 or is over at 0, a replay window likewise; times of sends and receipts keep their
order and nothing else. `step` remembers what it computed: the same grant meets the same step in very many worlds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from broker.core import lease
from broker.core.grant_state import GrantState, KeptToken, RedeemTimes
from tests.model.rules import Step

TIMES = RedeemTimes(
    lease=1,
    extend_every=1,
    refresh_reply=1,
    client_credentials_reply=1,
    replay_margin=0,
    write_within=1,
    journal_after=0,
    silent=0,
    in_flight=0,
    journal_lost=0,
    store_up=0,
)
FIRST = GrantState(
    consent=1, generation=1, current="1", tokens=(KeptToken("1", consent=1, attempt=0, generation=0, received_at=-1),)
)


class _Unknown:
    """What stands for a step that was not computed yet; None is one that does not happen."""


_UNKNOWN = _Unknown()


class Steps:
    """The core's steps, remembered."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._known: dict[tuple[GrantState, lease.Event], GrantState | None] = {}

    def __call__(self, state: GrantState, event: lease.Event) -> GrantState | None:
        """Return the grant after a step, in its folded form, or None when it does not happen."""
        asked = (state, event)
        known = self._known.get(asked, _UNKNOWN)  # one look: most of the time goes into hashing states
        if isinstance(known, _Unknown):
            after = self._step(state, event, 0, TIMES)
            known = self._known[asked] = None if after is None else folded(after)
        return known


def folded(state: GrantState) -> GrantState:
    """Return the state with its times reduced to their order."""
    sent = _ranks([state.first_sent_at, *(token.first_sent_at for token in state.tokens)])
    received = _ranks([token.received_at for token in state.tokens])
    return replace(
        state,
        first_sent_at=sent.get(state.first_sent_at),
        last_sent_at=None,
        failures=0,
        tokens=tuple(
            replace(
                token,
                received_at=received[token.received_at],
                first_sent_at=sent.get(token.first_sent_at),
                refused_at=None if token.refused_at is None else -1,
                revoked_at=None if token.revoked_at is None else -1,
            )
            for token in state.tokens
        ),
        open_sends=tuple(
            sorted((replace(send, sent_at=0) for send in state.open_sends), key=lambda send: send.attempt)
        ),
    )


def _ranks(times: Iterable[int | None]) -> dict[int | None, int]:
    """Return each time's place before now, the latest at -1."""
    ordered = sorted({time for time in times if time is not None}, reverse=True)
    return {time: -1 - place for place, time in enumerate(ordered)}
