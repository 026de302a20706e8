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


class Place:
    """Where one call is counted: among all, and as its address's until its caller is known, then as its caller's."""

    def __init__(self, everybody: Running, of_peer: Running, of_caller: Running, address: str) -> None:
        """Count it."""
        self.address = address
        self._of_caller = of_caller
        self._counted: list[tuple[Running, str]] = [(everybody, ""), (of_peer, address)]
        for running, key in self._counted:
            running.enter(key)

    def check(self) -> None:
        """Refuse the call where it is one too many.

        Raises:
            OverloadedError: too many run.
        """
        for running, key in self._counted:
            running.check(key)

    def becomes_of(self, caller: str) -> None:
        """Count the call as its caller's from here on.

        Raises:
            OverloadedError: too many of this caller run.
        """
        of_peer, address = self._counted[1]
        of_peer.leave(address)
        self._counted[1] = (self._of_caller, caller)
        self._of_caller.enter(caller)
        self._of_caller.check(caller)

    def leave(self) -> None:
        """Count it no more; may be said twice."""
        counted, self._counted = self._counted, []
        for running, key in counted:
            running.leave(key)
