"""What keeps a wrong client secret from being sent again and again: a provider may lock the client, or count it to us.

A version of a secret that the provider refused is tried again after half a minute, by one request; refused once more,
after twice that. Another version, or an entry again, is a new beginning. No grant is touched by any of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from broker.core.errors import ProviderRefusedClientError
from broker.core.models import Client, Provider
from broker.ports import Clock, RedeemTelemetry

FIRST_WAIT: Final = 30.0
"""Seconds after a refusal before the same secret is tried again; doubled with each in a row, up to"""
LONGEST_WAIT: Final = 600.0


@dataclass(slots=True)
class _Open:
    """A refused version; `until`, in CLOCK_BOOTTIME seconds, nobody tries it. `tried`: somebody does, since `until`."""

    version: int
    wait: float
    until: float
    tried: bool = False


class ClientBreaker:
    """One breaker for each client's present secret."""

    def __init__(self, *, clock: Clock, telemetry: RedeemTelemetry) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._open: dict[str, _Open] = {}

    def check(self, client: Client, version: int) -> None:
        """Return when this version of the client's secret may be sent.

        Raises:
            ProviderRefusedClientError: it was refused, and its time has not come.
        """
        found = self._open.get(client.id)
        if found is None or found.version != version:
            return
        left = found.until - self._clock.boottime()
        if left > 0:
            raise ProviderRefusedClientError(
                "the provider refused the client's secret; operators have to replace it by the right one",
                cause="refused_before",
                retry_after=left,
            )
        found.tried = True
        found.until = self._clock.boottime() + FIRST_WAIT  # if nothing comes of the try

    def refused(self, provider: Provider, client: Client, version: int) -> None:
        """Note that the provider did not believe our client."""
        found = self._open.get(client.id)
        wait = FIRST_WAIT
        if found is not None and found.version == version:
            if not found.tried:
                return  # one of those that were sent before it was known
            wait = min(LONGEST_WAIT, 2 * found.wait)
        self._open[client.id] = _Open(version, wait, self._clock.boottime() + wait)
        self._telemetry.client_refused(provider.name, client.name, refused=True)

    def believed(self, provider: Provider, client: Client) -> None:
        """Note that the provider believed our client."""
        if self._open.pop(client.id, None) is not None:
            self._telemetry.client_refused(provider.name, client.name, refused=False)
