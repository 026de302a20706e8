"""The durations of the redeem as tests want them: those of production, unless a test passes its own."""

from __future__ import annotations

from broker.core.grant_state import RedeemTimes

TIMES = RedeemTimes(
    lease=15_000,
    extend_every=5_000,
    refresh_reply=60_000,
    client_credentials_reply=20_000,
    replay_margin=2_000,
    write_within=1_000,
    journal_after=250,
    silent=30_000,
    in_flight=120_000,
    journal_lost=600_000,
    store_up=10_000,
)
