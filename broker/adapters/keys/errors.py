"""What goes wrong with keys before the broker serves."""

from __future__ import annotations


class KeyringError(Exception):
    """Keys cannot be had, so the broker must not start; the text is a sentence for the operator, without secrets."""
