"""The rows of the crash matrix: where a broker dies, once or several times in a row, and what may be left of a grant.

A grant that has to be authorized anew is lost to the provider, not to us, only where the provider gave a successor that
nobody could keep and does not take the old token again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.sandbox.behaviour import RotationMode
from tests.crash.faults import STORE_AWAY, STORE_LATE

MODES: Final = (
    RotationMode.ROTATE,
    RotationMode.NONE,
    RotationMode.SAME,
    RotationMode.SIBLINGS,
    RotationMode.LAST_WINS,
)
WINDOWED: Final = (RotationMode.SAME, RotationMode.SIBLINGS, RotationMode.LAST_WINS)
"""A spent token may be presented again for a while, which the provider's configuration says."""
ROTATING: Final = (RotationMode.ROTATE, *WINDOWED)
"""There is a successor to be kept."""
UNWINDOWED: Final = (RotationMode.ROTATE, RotationMode.NONE)

UNREAD: Final = "the provider has not read it"
ANSWERED: Final = "the provider has answered"
TOLD: Final = "the caller has its token"
BY_HAND: Final = frozenset({UNREAD, ANSWERED, TOLD})
"""Points outside the broker: the test ends the process."""


@dataclass(frozen=True)
class Death:
    """One end of a process.

    Attributes:
        point: of `faults`, or one of BY_HAND.
        volume: the data folder of the process that dies.
        at_start: it comes there before it serves.
    """

    point: str
    volume: int = 0
    at_start: bool = False

    @property
    def alone(self) -> bool:
        """Whether grants come there one by one: each holds the store's one writer, or is the next of a list."""
        return self.at_start or self.point.endswith("not committed")


@dataclass(frozen=True)
class Story:
    """One row.

    Attributes:
        name: what it is called.
        deaths: one after the other.
        modes: where it can happen.
        unkept: the last process died with a successor of the token that was nowhere else.
        revoke: the grant is being revoked, not redeemed.
        replicas: it takes a process on another data volume, which SQLite cannot have.
    """

    name: str
    deaths: tuple[Death, ...]
    modes: tuple[RotationMode, ...] = MODES
    unkept: bool = False
    revoke: bool = False
    replicas: bool = False


def _dies(name: str, *points: str, unkept: bool = False, modes: tuple[RotationMode, ...] = MODES) -> Story:
    return Story(name, tuple(map(Death, points)), modes, unkept)


_BEFORE: Final = (
    _dies("TAKE: before", "Take, before"),
    _dies("TAKE: not committed", "Take, not committed"),
    _dies("TAKE: after", "Take, after"),
    _dies("BUDGET: paid", "budget, after"),
    _dies("secret: before", "secret, before"),
    _dies("secret: opened, request built", "secret opened"),
    _dies("connection ready", "connected"),
    _dies("SENT: before", "Sent, before"),
    _dies("SENT: not committed", "Sent, not committed"),
    _dies("SENT: committed, nothing written", "licence in hand"),
)
_AFTER: Final = (
    _dies("written, not read by the provider", UNREAD),
    _dies("written, the reply on its way", ANSWERED, unkept=True),
    _dies("reply read", "reply read", unkept=True),
    _dies("KEEP, LAND: before", "Land, before", unkept=True),
    _dies("KEEP, LAND: not committed", "Land, not committed", unkept=True),
    _dies("KEEP, LAND: after", "Land, after"),
    _dies("FINISH: before", "Finish, before"),
    _dies("FINISH: not committed", "Finish, not committed"),
    _dies("FINISH: after", "Finish, after"),
    _dies("outcome noted: before", "note, before"),
    _dies("outcome noted: after", "note, after"),
    _dies("audited, the caller has its token", TOLD),
)
_JOURNAL: Final = (
    _dies("journal: before, the store away", f"{STORE_AWAY}journal, before", unkept=True, modes=ROTATING),
    _dies("journal: after, the store away", f"{STORE_AWAY}journal, after", modes=ROTATING),
    _dies("journal: cleared: before", f"{STORE_LATE}clear, before", modes=ROTATING),
    _dies("journal: cleared: after", f"{STORE_LATE}clear, after", modes=ROTATING),
    *(
        Story(f"drain: {name}", (Death(f"{STORE_AWAY}journal, after"), Death(point, at_start=True)), ROTATING)
        for name, point in (
            ("before", "Land, before"),
            ("not committed", "Land, not committed"),
            ("landed", "Land, after"),
            ("cleared: before", "clear, before"),
            ("cleared: after", "clear, after"),
        )
    ),
)
_DOUBT: Final = (
    *(
        _dies(f"UNKNOWN: {when}", "licence in hand", f"Unknown, {when}")
        for when in ("before", "not committed", "after")
    ),
    *(
        _dies(f"REPLAY: {when}", ANSWERED, f"Replay, {when}", modes=WINDOWED)
        for when in ("before", "not committed", "after")
    ),
    *(
        _dies(f"REPLAY: {name}", ANSWERED, point, modes=WINDOWED)
        for name, point in (
            ("SENT committed", "licence in hand"),
            ("the reply on its way", ANSWERED),
            ("reply read", "reply read"),
            ("landed", "Land, after"),
        )
    ),
    *(
        _dies(f"PROBE: {when}", "licence in hand", f"Probe, {when}", modes=UNWINDOWED)
        for when in ("before", "not committed", "after")
    ),
    *(
        _dies(f"PROBE: {name}", "licence in hand", point, modes=UNWINDOWED, unkept=unkept)
        for name, point, unkept in (
            ("SENT not committed", "Sent, not committed", False),
            ("SENT committed", "licence in hand", False),
            ("the reply on its way", ANSWERED, True),
            ("landed", "Land, after", False),
        )
    ),
    *(
        Story(
            f"ADOPT: {when}",
            (Death(f"{STORE_AWAY}journal, after"), Death(ANSWERED, volume=1), Death(f"Adopt, {when}")),
            WINDOWED,
            replicas=True,
        )
        for when in ("before", "not committed", "after")
    ),
)
_REVOKE: Final = tuple(
    Story(f"REVOKE: {name}", (Death(point),), revoke=True)
    for name, point in (
        ("before", "Revoke, before"),
        ("not committed", "Revoke, not committed"),
        ("after", "Revoke, after"),
        ("before the provider is told", "secret opened"),
        ("the provider was told", "reply read"),
        ("token noted: not committed", "TokenRevoked, not committed"),
        ("token noted", "TokenRevoked, after"),
        ("revoked: not committed", "Revoked, not committed"),
        ("revoked", "Revoked, after"),
    )
)
STORIES: Final = (*_BEFORE, *_AFTER, *_JOURNAL, *_DOUBT, *_REVOKE)
"""The table of `core/lease.py`, step by step."""
SAMPLE: Final = ("written, the reply on its way",)
"""What an ordinary run of the tests has time for."""
