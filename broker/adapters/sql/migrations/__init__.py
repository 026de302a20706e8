"""Alembic's migrations, shipped with the broker; run by `broker.adapters.sql.migrate`."""
