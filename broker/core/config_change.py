"""What a change of the configuration does to the objects there are.

Only configuration is compared and replaced: an object keeps its id for life, a grant its state and subject, a provider
its freeze and the proof of its narrowing. Objects of another origin are not looked at.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from broker.core.config import ConfigFile, Problem
from broker.core.config_values import Configured, kind_of
from broker.core.models import Client, Grant, GrantType, Kind, Provider
from broker.core.urls import origin_of

Name = tuple[Kind, str]
"""What an object is known by."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What has to be written; created objects have no id yet."""

    created: tuple[Configured, ...] = ()
    updated: tuple[Configured, ...] = ()
    removed: tuple[Configured, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.created or self.updated or self.removed)


def label(value: Configured) -> str:
    """Return `kind/name`."""
    return f"{kind_of(value)}/{value.name}"


def difference(stored: Collection[Configured], wanted: Collection[Configured]) -> Difference:
    """Return what makes `stored` equal to `wanted`; both hold a (kind, name) once, both of one origin."""
    there = {_name(value): value for value in stored}
    kept = {_name(value) for value in wanted}
    merged = [(there.get(_name(value)), value) for value in wanted]
    return Difference(
        created=tuple(value for old, value in merged if old is None),
        updated=tuple(new for old, value in merged if old is not None and (new := merge(old, value)) != old),
        removed=tuple(value for value in stored if _name(value) not in kept),
    )


def after(stored: Collection[Configured], change: Difference) -> tuple[Configured, ...]:
    """Return the objects as they are once a change is made."""
    touched = {_name(value) for value in (*change.updated, *change.removed)}
    return (*(value for value in stored if _name(value) not in touched), *change.updated, *change.created)


def merge(old: Configured, new: Configured) -> Configured:
    """Return `new` with everything of `old` that is no configuration."""
    if isinstance(old, Provider) and isinstance(new, Provider):
        return replace(new, id=old.id, frozen=old.frozen or new.frozen, proof=old.proof)
    if isinstance(old, Grant) and isinstance(new, Grant):
        return replace(new, id=old.id, subject=old.subject, person=old.person, state=old.state)
    return replace(new, id=old.id)


def identity_problems(config: ConfigFile, stored: Collection[Configured]) -> list[Problem]:
    """Return what an object of a name that is taken cannot become: that would be another object.

    Args:
        config: what is wanted.
        stored: the objects it replaces.
    """
    there = {value.name: value for value in stored if isinstance(value, Grant)}
    found = []
    for index, grant in enumerate(config.grants):
        old = there.get(grant.name)
        if old is None:
            continue
        if old.type != grant.type:
            found.append(Problem(f"grants[{index}].type", "a grant's type stays: give the new grant a new name"))
        elif old.client != grant.client and old.type is GrantType.REFRESH_TOKEN:
            message = "a refresh token belongs to its client: give the new grant a new name"
            found.append(Problem(f"grants[{index}].client", message))
    return found


def warnings(before: Collection[Configured], change: Difference) -> list[str]:
    """Return what a change costs: secrets that no longer open."""
    old = {_name(value): value for value in before}
    found = []
    for value in change.updated:
        stored = old[_name(value)]
        if isinstance(value, Provider) and isinstance(stored, Provider) and _moved(stored, value):
            found.append(
                f"{label(value)}: the token endpoint moved to another origin; secrets and refresh tokens sealed for "
                "the former one do not open until they are entered again"
            )
        if isinstance(value, Client) and isinstance(stored, Client) and value.provider != stored.provider:
            found.append(f"{label(value)}: it moved to another provider; its secret opens only at the same origin")
    return found


def _moved(before: Provider, after: Provider) -> bool:
    """Tell whether secrets were sealed for another place: a path at the same origin is the same place."""
    return origin_of(before.token_url) != origin_of(after.token_url)


def _name(value: Configured) -> Name:
    return kind_of(value), value.name
