"""What must hold whatever happens: nothing burned, lost, leaked, mixed up or stuck."""

from __future__ import annotations

from broker.core import lease
from broker.core.grant_state import GrantState, Health, Hold, KeptToken, Phase, lease_over, to_revoke
from tests.model.provider import Answer
from tests.model.world import Model, World, entries, held


def broken_by_answer(world: World, token: int, answer: Answer, *, probe: bool) -> str:
    """Return what a reuse that the provider noticed broke; a probe with nothing live in hand was all that was left.

    Of a grant that is revoked, and of an older consent, there is nothing left to be broken.
    """
    wanted = any(kept.fingerprint == str(token) and kept.consent == world.grant.consent for kept in world.grant.tokens)
    if answer.killed is None or not wanted or world.grant.hold in {Hold.REVOKING, Hold.REVOKED}:
        return ""
    if answer.killed & held(world):
        return "BURNED: the provider saw a reuse while we held a live successor"
    return "" if probe else "REUSED: a spent token was sent again, and not by a probe"


def broken(model: Model, world: World) -> str:
    """Return what a world breaks by being as it is."""
    stored = {int(token.fingerprint) for token in world.grant.tokens} | {entry.token for entry in entries(world)}
    in_hand = {process.answer.token for process in world.processes if process.answer is not None}
    lost = (world.received & world.provider.live) - stored - in_hand
    if lost:
        return f"LOST: token {min(lost)} was received, is live, and nobody has it"
    families = dict(world.provider.family)
    if families[int(world.grant.current or 0)] != sorted(set(families.values()))[world.grant.consent - 1]:
        return f"MIXED: the current token {world.grant.current} is of another consent"
    refused = {int(token.fingerprint) for token in world.grant.tokens if token.refused_at is not None}
    if refused & world.provider.live:
        return f"LOST: token {min(refused & world.provider.live)} is live and called refused"
    return "" if _may_move_on(model, world) else _at_rest(model, world)


def _may_move_on(model: Model, world: World) -> bool:
    grant = world.grant
    quiet = (
        world.up
        and not world.orphans
        and all(process.doing == "idle" and not process.journal for process in world.processes)
    )
    leased = not lease_over(grant, 0) and grant.phase not in {Phase.IDLE, Phase.UNKNOWN}
    if not quiet or leased or grant.replay_until == 1 or ending_token(model, grant) is not None:
        return True
    steps: list[lease.Event] = [lease.Adopt(), lease.Revoked()]
    if grant.phase is not Phase.IDLE:
        again: list[lease.Event] = [lease.Take("x"), lease.Replay("x"), lease.Probe("x", settled=True)]
        steps += [lease.Unknown(None), *again]
    return any(model.steps(grant, event) is not None for event in steps)


def _at_rest(model: Model, world: World) -> str:
    """Return what is wrong with a world in which nothing is left to be done but new redeems."""
    grant = world.grant
    if grant.hold is Hold.REVOKING:
        return "STUCK: revoking, and nothing moves it"
    if grant.hold is Hold.REVOKED:
        live = world.received & world.provider.live
        return f"LEAKED: revoked here, and token {min(live)} is live there" if live else ""
    if grant.phase is not Phase.IDLE:
        return f"STUCK: {grant.phase}, and nothing moves it"
    beside = [
        token.fingerprint
        for token in grant.tokens
        if token.consent == grant.consent and int(token.fingerprint) in world.provider.live
    ]
    if grant.health is Health.QUARANTINED and beside:
        return f"STUCK: quarantined beside token {beside[0]}, which is live"
    beside = [token.fingerprint for token in to_revoke(grant) if int(token.fingerprint) in world.provider.live]
    return f"LEAKED: token {beside[0]} of an older consent came late and is live there" if beside else ""


def ending_token(model: Model, grant: GrantState) -> KeptToken | None:
    """Return the token the provider has to be told of next, newest first, or None when there is none."""
    working = grant.phase in {Phase.PREPARED, Phase.SENT} and not lease_over(grant, 0)
    if (grant.hold is Hold.REVOKING and working) or (grant.hold is not Hold.REVOKING and not model.rules.revoke_late):
        return None
    return next(iter(to_revoke(grant)), None)
