"""The buckets of the limits that replicas share, on PostgreSQL; beside SQLite they lie in its one process's memory.

A bucket is its TAT, in microseconds of the server's clock, the emission interval and the version of the rule it was
last spent under. What `core/gcra.py` decides about one request, `limit_spend_v1` decides about all that wait at one
moment, in one round trip:

- The buckets are locked in the order of their keys' bytes, so that no two calls wait for each other in a ring. An
  upsert that updates nothing locks those that are there, inserts those that are not, and writes no version of a row.
- Only then are they read, by a statement of its own, whose snapshot sees what was waited for; and only then is the
  clock read: an earlier reading would give the time spent waiting for locks away.
- A TAT beyond one burst from now can only come of a clock that stepped back, and is cut to that.
- A charge of an older rule than the bucket's gets NULL for its wait and spends nothing; a newer rule, or another
  emission interval, rescales what was used.
- One version of a row is written for each bucket that changed, without waiting for the disk: what a crash of the
  server forgets is a fraction of a second's spending, and every decision would wait for a flush otherwise. It is set in
  the body, since what is set at the function's head is undone before the commit.

A charge above its rule's burst is not asked: nothing would ever let it pass.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SPEND = """
CREATE FUNCTION limit_spend_v1(
    p_request integer[], p_key text[], p_interval bigint[], p_tolerance bigint[], p_cost bigint[], p_version bigint[],
    OUT waits bigint[], OUT debts bigint[], OUT newest bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    charges CONSTANT integer := array_length(p_key, 1);
    keys text[];
    place integer[];      -- of each charge: where its bucket stands in the arrays below
    tats bigint[];
    intervals bigint[];
    versions bigint[];
    asked integer[];      -- by bucket: the last request that looked at it
    before bigint[];      -- by bucket: its TAT before that request
    clock bigint;
    first integer := 1;   -- of the request's charges
    past integer;         -- behind the request's last
    at integer;
    fits boolean;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT array_agg(d.key ORDER BY d.key) INTO keys FROM (SELECT DISTINCT u COLLATE "C" AS key FROM unnest(p_key) u) d;
    INSERT INTO limit_bucket (key, tat, emission_interval, version)
        SELECT q.key, 0, 0, 0 FROM unnest(keys) WITH ORDINALITY AS q (key, number) ORDER BY q.number
        ON CONFLICT (key) DO UPDATE SET tat = limit_bucket.tat WHERE false;
    SELECT array_agg(b.tat ORDER BY b.key), array_agg(b.emission_interval ORDER BY b.key),
           array_agg(b.version ORDER BY b.key)
        INTO tats, intervals, versions FROM limit_bucket b WHERE b.key = ANY (keys);
    clock := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    SELECT array_agg(k.number ORDER BY c.number) INTO place
        FROM unnest(p_key) WITH ORDINALITY AS c (key, number) JOIN unnest(keys) WITH ORDINALITY AS k (key, number)
        ON c.key COLLATE "C" = k.key COLLATE "C";
    waits := array_fill(0::bigint, ARRAY[charges]);
    debts := waits;
    newest := waits;
    asked := array_fill(NULL::integer, ARRAY[array_length(keys, 1)]);
    before := tats;
    WHILE first <= charges LOOP
        past := first;
        fits := true;
        WHILE past <= charges AND p_request[past] = p_request[first] LOOP
            at := place[past];
            IF p_version[past] < versions[at] THEN
                waits[past] := NULL;
                fits := false;
            ELSE
                IF asked[at] IS DISTINCT FROM p_request[past] THEN
                    IF intervals[at] <> p_interval[past] AND intervals[at] > 0 AND tats[at] > clock THEN
                        tats[at] := clock + ceil((tats[at] - clock)::numeric * p_interval[past] / intervals[at]);
                    END IF;
                    intervals[at] := p_interval[past];
                    versions[at] := p_version[past];
                    tats[at] := least(tats[at], clock + p_tolerance[past]);
                    asked[at] := p_request[past];
                    before[at] := tats[at];
                END IF;
                tats[at] := greatest(tats[at], clock) + p_cost[past] * p_interval[past];
                waits[past] := greatest(tats[at] - p_tolerance[past] - clock, 0);
                fits := fits AND waits[past] = 0;
            END IF;
            past := past + 1;
        END LOOP;
        IF NOT fits THEN
            FOR i IN first .. past - 1 LOOP
                IF waits[i] IS NOT NULL THEN
                    tats[place[i]] := before[place[i]];
                END IF;
            END LOOP;
        END IF;
        first := past;
    END LOOP;
    FOR i IN 1 .. charges LOOP
        debts[i] := greatest(tats[place[i]] - clock, 0);
        newest[i] := versions[place[i]];
    END LOOP;
    UPDATE limit_bucket b SET tat = q.tat, emission_interval = q.emission_interval, version = q.version
        FROM unnest(keys, tats, intervals, versions) AS q (key, tat, emission_interval, version)
        WHERE b.key = q.key
        AND (b.tat, b.emission_interval, b.version) IS DISTINCT FROM (q.tat, q.emission_interval, q.version);
END
$$
"""

ADD = """
CREATE FUNCTION limit_add_v1(p_key text[], p_debt bigint[], p_interval bigint[], p_version bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    clock bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO limit_bucket (key, tat, emission_interval, version)
        SELECT q.* FROM (
            SELECT u.key, 0 AS tat, u.emission_interval, u.version
            FROM unnest(p_key, p_interval, p_version) AS u (key, emission_interval, version)
        ) q ORDER BY q.key COLLATE "C"
        ON CONFLICT (key) DO UPDATE SET tat = limit_bucket.tat WHERE false;
    clock := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
    UPDATE limit_bucket b SET tat = greatest(b.tat, clock) + ceil(q.debt::numeric * b.emission_interval / q.per)
        FROM unnest(p_key, p_debt, p_interval) AS q (key, debt, per) WHERE b.key = q.key;
END
$$
"""


def upgrade() -> None:
    """Create the table and the functions.

    Most of a page is left free, so that the many versions of a busy bucket stay on its page and out of the index.
    """
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "limit_bucket",
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("tat", sa.BigInteger(), nullable=False),
        sa.Column("emission_interval", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_limit_bucket"),
        postgresql_with={"fillfactor": 20},
    )
    op.execute(SPEND)
    op.execute(ADD)
