"""A provider as the model knows it: what it makes of a refresh token presented to it, in each of its modes."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Mode(StrEnum):
    """What a spent token is answered inside the replay window.

    strict: there is no window. same: the successor there is, again. siblings: one more successor beside it.
    last_wins: a new successor, which kills the others. no_rotation: refresh tokens stay as they are.
    """

    STRICT = "strict"
    SAME = "same"
    SIBLINGS = "siblings"
    LAST_WINS = "last_wins"
    NO_ROTATION = "no_rotation"


WINDOWED = frozenset({Mode.SAME, Mode.SIBLINGS, Mode.LAST_WINS})


class Provider(NamedTuple):
    """All families of one subject; tokens are numbers, and a family is known by its members.

    Attributes:
        live: tokens that are worth something.
        spent: pairs of a token and its successor.
        window: spent tokens that may still be presented again.
        family: pairs of a token and its family.
        next_token: the number the next token gets.
    """

    live: frozenset[int]
    spent: frozenset[tuple[int, int]] = frozenset()
    window: frozenset[int] = frozenset()
    family: frozenset[tuple[int, int]] = frozenset({(1, 1)})
    next_token: int = 2


class Answer(NamedTuple):
    """What came of presenting a token.

    Attributes:
        refused: invalid_grant; else an access token.
        token: the refresh token that comes with it, if any.
        killed: live tokens of the family that ended because the provider saw a reuse; None when it saw none.
    """

    refused: bool
    token: int | None = None
    killed: frozenset[int] | None = None


def present(provider: Provider, mode: Mode, token: int) -> tuple[Provider, Answer]:
    """Return the provider after a token was presented, and its answer."""
    if token in provider.live:
        if mode is Mode.NO_ROTATION:
            return provider, Answer(refused=False)
        return _rotated(provider, token, window=mode in WINDOWED)
    spent = dict(provider.spent)
    if token not in spent:
        return provider, Answer(refused=True)
    relatives = _relatives(provider, token)
    if token in provider.window and provider.live & relatives:
        return _again(provider, mode, token, spent[token], relatives)
    return provider._replace(live=provider.live - relatives), Answer(True, killed=provider.live & relatives)  # noqa: FBT003 - a named tuple


def consent(provider: Provider) -> tuple[Provider, int]:
    """Return the provider after a login, and the first token of the new family."""
    token = provider.next_token
    after = provider._replace(
        live=provider.live | {token}, family=provider.family | {(token, token)}, next_token=token + 1
    )
    return after, token


def revoke(provider: Provider, token: int) -> Provider:
    """Return the provider after it was told that a token ends; the least a provider may do is end that one alone."""
    return provider._replace(live=provider.live - {token})


def _relatives(provider: Provider, token: int) -> frozenset[int]:
    families = dict(provider.family)
    return frozenset(other for other, family in provider.family if family == families[token])


def _rotated(provider: Provider, token: int, *, window: bool) -> tuple[Provider, Answer]:
    new = provider.next_token
    after = Provider(
        live=(provider.live - {token}) | {new},
        spent=provider.spent | {(token, new)},
        window=provider.window | {token} if window else provider.window,
        family=provider.family | {(new, dict(provider.family)[token])},
        next_token=new + 1,
    )
    return after, Answer(refused=False, token=new)


def _again(
    provider: Provider, mode: Mode, token: int, successor: int, relatives: frozenset[int]
) -> tuple[Provider, Answer]:
    if mode is Mode.SAME:
        return provider, Answer(refused=False, token=successor)
    new = provider.next_token
    living = provider.live - relatives if mode is Mode.LAST_WINS else provider.live
    after = provider._replace(
        live=living | {new},
        family=provider.family | {(new, dict(provider.family)[token])},
        next_token=new + 1,
    )
    return after, Answer(refused=False, token=new)
