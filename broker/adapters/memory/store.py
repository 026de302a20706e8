"""The store in memory: the core's own steps on dictionaries, one event loop, nothing survives the process."""

from __future__ import annotations

from broker.adapters.memory.access_tokens import MemoryAccessTokens
from broker.adapters.memory.catalog import MemoryCatalog
from broker.adapters.memory.grants import MemoryGrants
from broker.adapters.memory.logins import MemoryLogins
from broker.adapters.memory.secrets import MemorySecrets
from broker.adapters.memory.suspects import MemorySuspects


class MemoryStore(MemoryCatalog, MemoryGrants, MemoryAccessTokens, MemorySuspects, MemorySecrets, MemoryLogins):
    """The ports of a store in one process's memory."""
