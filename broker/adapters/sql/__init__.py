"""The store over SQLAlchemy Core: SQLite in the data folder, or PostgreSQL."""

from broker.adapters.sql.database import SqlDatabase, SqlStore, open_database
from broker.adapters.sql.errors import StoreRefusedError
from broker.adapters.sql.migrate import migrate

__all__ = ["SqlDatabase", "SqlStore", "StoreRefusedError", "migrate", "open_database"]
