"""`python -m broker.cli` is `aries-broker`."""

from __future__ import annotations

from broker.cli import main

main()
