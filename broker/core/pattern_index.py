"""Which patterns cover which, found by what they begin with, not by comparing each with each; and within bounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from broker.core.globs import is_glob, literal_prefix, matches

_CHARACTERS: Final = 4
"""Characters of a pattern and a text that are compared in about a step."""
_LOOKS: Final = 8
"""Looks into a table that take about a step."""


class TooMuchError(Exception):
    """The steps allowed are used up."""


class Allowance:
    """How many steps may be taken; one takes about a microsecond."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Take steps.

        Raises:
            TooMuchError: there are fewer left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooMuchError


class PatternIndex:
    """Lists of patterns, each the list of an owner, who is known by its number.

    A pattern covers itself, and as a glob every text it matches; whether one glob covers another is not found out.
    """

    def __init__(self, lists: Sequence[Iterable[str]], allowance: Allowance) -> None:
        self._allowance = allowance
        self._lists = [frozenset(patterns) for patterns in lists]
        self._owners: dict[str, set[int]] = defaultdict(set)
        for owner, patterns in enumerate(self._lists):
            for pattern in patterns:
                self._owners[pattern].add(owner)
        self._globs: dict[str, list[str]] = defaultdict(list)
        for pattern in filter(is_glob, self._owners):
            self._globs[literal_prefix(pattern)].append(pattern)
        self._lengths = sorted({len(prefix) for prefix in self._globs})
        self._known: dict[str, frozenset[str]] = {}

    def covers(self, owner: int, texts: Iterable[str]) -> bool:
        """Tell whether each of some patterns or literal texts is covered by a pattern of the owner's.

        Raises:
            TooMuchError: that would take more steps than are left.
        """
        has = self._lists[owner]
        for text in texts:
            covering = self._covering(text)
            self._allowance.spend(1 + min(len(covering), len(has)) // _LOOKS)
            if covering.isdisjoint(has):
                return False
        return True

    def owners(self, text: str) -> Collection[AbstractSet[int]]:
        """Return the owners of each pattern that covers a pattern or literal text.

        Raises:
            TooMuchError: that would take more steps than are left.
        """
        return [self._owners[pattern] for pattern in self._covering(text)]

    def fewest_owners(self, texts: Iterable[str]) -> Collection[AbstractSet[int]]:
        """Return the same of that one of some patterns or literal texts which the fewest cover.

        Raises:
            TooMuchError: that would take more steps than are left.
        """
        return min(map(self.owners, texts), key=lambda owners: sum(map(len, owners)), default=())

    def _covering(self, text: str) -> frozenset[str]:
        if text not in self._known:
            self._known[text] = frozenset(self._find(text))
        return self._known[text]

    def _find(self, text: str) -> Iterator[str]:
        self._allowance.spend(1 + len(self._lengths) // _LOOKS)
        if text in self._owners:
            yield text
        if is_glob(text):
            return
        for length in self._lengths:
            for pattern in self._globs.get(text[:length], ()):
                self._allowance.spend(1 + (len(pattern) + len(text)) // _CHARACTERS)
                if matches(pattern, text):
                    yield pattern


def in_both(
    some: Collection[AbstractSet[int]], others: Collection[AbstractSet[int]], allowance: Allowance
) -> list[int]:
    """Return, in order, the numbers that are in one of `some` and in one of `others`.

    Raises:
        TooMuchError: that would take more steps than are left.
    """
    found: set[int] = set()
    for one in some:
        for other in others:
            allowance.spend(1 + min(len(one), len(other)) // _LOOKS)
            found |= one & other
    return sorted(found)
