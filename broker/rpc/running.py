"""How many calls run, by a key such as an address or a caller."""

from __future__ import annotations

from broker.core.errors import OverloadedError


class Running:
    """Calls running of each key; a key of which none runs is forgotten."""

    def __init__(self, most: int, told: str, delay: float) -> None:
        """Bound the calls of one key.

        Args:
            most: calls of one key that may run at once.
            told: what is told to those in excess.
            delay: seconds they are told to wait.
        """
        self._most = most
        self._told = told
        self._delay = delay
        self._running: dict[str, int] = {}

    def __len__(self) -> int:
        """Return the number of keys of which a call runs."""
        return len(self._running)

    def enter(self, key: str) -> None:
        """Count a call; it counts until `leave`, also where `check` refuses it."""
        self._running[key] = self._running.get(key, 0) + 1

    def check(self, key: str) -> None:
        """Refuse the call just counted where it is one too many.

        Raises:
            OverloadedError: too many calls of this key run.
        """
        if self._running[key] > self._most:
            raise OverloadedError(self._told, retry_after=self._delay)

    def leave(self, key: str) -> None:
        """Give back what `enter` counted."""
        left = self._running[key] - 1
        if left:
            self._running[key] = left
        else:
            del self._running[key]
