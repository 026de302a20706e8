"""Adapters: each implements one port over one outside library."""
