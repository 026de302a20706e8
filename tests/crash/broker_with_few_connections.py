"""A broker as the product wires it, but with the fewest connections to PostgreSQL it starts with: `python -m` it."""

from __future__ import annotations

from broker.adapters.sql.engine_postgres import LEAST_POOL
from broker.main import serve
from broker.main.foundation import Seams
from broker.settings import load

if __name__ == "__main__":
    serve(load(), None, Seams(pool_size=LEAST_POOL))
