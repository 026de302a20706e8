"""Adapters that keep everything in this process: for tests and for trying things out."""

from broker.adapters.memory.store import MemoryStore

__all__ = ["MemoryStore"]
