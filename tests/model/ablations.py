"""What each rule is for: without it, here is the provider and here are the few faults by which a grant is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from broker.core.grant_state import Hold
from broker.core.lease import Land, NotConsumed, NotSent, Probe, Replay, Sent, Take
from tests.model.provider import Mode
from tests.model.rules import (
    Rules,
    doubting_nothing,
    dropping_late_tokens,
    forgetting_open_sends,
    lying,
    without_adoption,
)
from tests.model.world import Budget


@dataclass(frozen=True)
class Ablation:
    """One rule taken away.

    Attributes:
        rules: those that are left.
        mode, budget: where that costs a grant.
        breaks: first word of what is found.
        after: moves to go through before the search begins, each by how it is told; for what lies deep.
    """

    rules: Rules
    mode: Mode
    budget: Budget
    breaks: str
    after: tuple[str, ...] = ()


SEND_0: Final = ("0: Take", "0: Sent", "0 writes")
"""The first process sends a token."""
LATE_SIBLING: Final = (
    *SEND_0,
    "provider answers 0",
    "the lease ends",
    "1: Unknown",
    "1: Replay",
    "1: Sent",
    "1 writes",
    "provider answers 1",
    "1 reads",
    "1 lands",
    "1 finishes",
)
"""The first process is paused with an answer; the second replays, and lands a sibling of what the first will bring."""
JOURNALLED_SIBLING: Final = (
    *SEND_0,
    "provider answers 0",
    "0 reads",
    "the database goes away",
    "0 writes token 2 into its journal",
    "0 crashes",
    "the database is back",
    "the lease of an owner that is gone ends",
    "1: Unknown",
    "1: Replay",
    "1: Sent",
    "1 writes",
    "provider answers 1",
    "1 reads",
    "1 lands",
    "1 finishes",
)
"""The first process died with an answer in its journal; the second replays, and lands a sibling of it."""

WITHOUT: Final[Mapping[str, Ablation]] = {
    "a probe waits until all is settled": Ablation(
        Rules(probe_waits=False), Mode.STRICT, Budget(redeems=2, lease_ends=1), "BURNED"
    ),
    "a licence ends with its lease": Ablation(
        Rules(late_write=True), Mode.SAME, Budget(redeems=2, lease_ends=1), "BURNED"
    ),
    "silence means that nobody knows": Ablation(
        Rules(doubt_silence=False), Mode.STRICT, Budget(redeems=2, losses=1), "BURNED"
    ),
    "the journal takes what the database does not": Ablation(
        Rules(journal=False), Mode.STRICT, Budget(redeems=1, outages=1), "LOST"
    ),
    "an entry stays until it was read back": Ablation(
        Rules(journal_keeps=False), Mode.STRICT, Budget(redeems=1, outages=1, crashes=1), "LOST"
    ),
    "late tokens of what was ended are revoked": Ablation(
        Rules(revoke_late=False), Mode.STRICT, Budget(redeems=1, lease_ends=1, revokes=1), "LEAKED"
    ),
    "late tokens of an older consent are revoked": Ablation(
        Rules(revoke_late=False), Mode.STRICT, Budget(redeems=1, consents=1), "LEAKED"
    ),
    "a new token is adopted before anything is sent again": Ablation(
        Rules(without_adoption), Mode.SAME, Budget(redeems=3, lease_ends=2), "BURNED"
    ),
    "a late token is kept": Ablation(
        Rules(dropping_late_tokens), Mode.SIBLINGS, Budget(redeems=2, lease_ends=1), "LOST"
    ),
    "a token that comes after the end is kept": Ablation(
        Rules(dropping_late_tokens), Mode.STRICT, Budget(redeems=1, lease_ends=1, revokes=1), "LOST"
    ),
    "open sends outlive the doubt": Ablation(
        Rules(forgetting_open_sends),
        Mode.SIBLINGS,
        Budget(redeems=4, crashes=1, outages=1, losses=1),
        "BURNED",
        JOURNALLED_SIBLING,
    ),
    "what was replaced in doubt is tried at last": Ablation(
        Rules(doubting_nothing), Mode.LAST_WINS, Budget(redeems=4, lease_ends=1, losses=1), "STUCK", LATE_SIBLING
    ),
    "Take: not while in doubt": Ablation(
        Rules(lying(Take, lambda state, event: (replace(state, first_sent_at=None, sends=0), event))),
        Mode.SAME,
        Budget(redeems=3, losses=1, lease_ends=1),
        "REUSED",
    ),
    "Sent: not while held": Ablation(
        Rules(lying(Sent, lambda state, event: (replace(state, hold=Hold.NONE), event))),
        Mode.STRICT,
        Budget(redeems=1, revokes=1),
        "HELD",
    ),
    "Sent: a replay within its window": Ablation(
        Rules(lying(Sent, lambda state, event: (replace(state, replay_until=1), event))),
        Mode.SAME,
        Budget(redeems=2, losses=1),
        "REUSED",
    ),
    "Land: of the generation it was got for": Ablation(
        Rules(lying(Land, lambda state, event: (state, replace(event, generation=state.generation)))),
        Mode.LAST_WINS,
        Budget(redeems=4, lease_ends=1, losses=1),
        "STUCK",
        LATE_SIBLING,
    ),
    "Land: of this consent": Ablation(
        Rules(
            lying(
                Land, lambda state, event: (state, replace(event, consent=state.consent, generation=state.generation))
            )
        ),
        Mode.STRICT,
        Budget(redeems=1, consents=1),
        "MIXED",
    ),
    "NotSent: of the newest attempt": Ablation(
        Rules(lying(NotSent, lambda state, event: (state, replace(event, attempt=state.attempt)))),
        Mode.STRICT,
        Budget(redeems=3, lease_ends=1),
        "BURNED",
    ),
    "NotConsumed: an earlier send stays in doubt": Ablation(
        Rules(lying(NotConsumed, lambda state, event: (replace(state, sends=1), event))),
        Mode.SAME,
        Budget(redeems=3, losses=1, unread=1),
        "REUSED",
    ),
    "Probe: again, after one without an answer": Ablation(
        Rules(lying(Probe, lambda state, event: (state, replace(event, settled=event.settled and not state.probes)))),
        Mode.NO_ROTATION,
        Budget(redeems=3, losses=2),
        "STUCK",
    ),
    "Replay: within the window": Ablation(
        Rules(lying(Replay, lambda state, event: (replace(state, replay_until=1), event))),
        Mode.SAME,
        Budget(redeems=2, losses=1),
        "REUSED",
    ),
}
"""Every rule by what it says, and how the model fares without it."""
