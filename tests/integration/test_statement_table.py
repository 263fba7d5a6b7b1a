"""Each kind of statement of PostgreSQL: the node that runs it, and that its answer is the primary's.

A row is a conversation of one client of its own; where it runs is said of all of it.
"""

import time

import pytest

from pooler import PATIENCE
from routed import Watch, start_routed
from wire import SYNC, Client, bind, describe_portal, execute, parse

pytestmark = pytest.mark.weir_only

CLEAN = """
DROP TABLE IF EXISTS stated, stated_parts, stated_parent, stated_heir, stated_made CASCADE;
DROP TABLE IF EXISTS stated_unlogged, stated_guarded CASCADE;
DROP FUNCTION IF EXISTS stated_bump, stated_guard, stated_pure;
DROP PROCEDURE IF EXISTS stated_proceed;
DROP SEQUENCE IF EXISTS stated_numbers CASCADE;
DROP DOMAIN IF EXISTS stated_domain;
"""

SCHEMA = """
CREATE TABLE stated (id int PRIMARY KEY, n int, doc jsonb DEFAULT '{"a": [1, 2]}');
INSERT INTO stated SELECT g, g % 3 FROM generate_series(1, 50) g;
CREATE TABLE stated_parts (id int, n int) PARTITION BY RANGE (id);
CREATE TABLE stated_parts_1 PARTITION OF stated_parts FOR VALUES FROM (0) TO (100);
INSERT INTO stated_parts SELECT g, g FROM generate_series(1, 10) g;
CREATE TABLE stated_parent (id int);
CREATE TABLE stated_heir (n int) INHERITS (stated_parent);
INSERT INTO stated_heir VALUES (1, 2);
CREATE UNLOGGED TABLE stated_unlogged (id int);
INSERT INTO stated_unlogged VALUES (1);
CREATE SEQUENCE stated_numbers;
CREATE VIEW stated_view AS SELECT id, n FROM stated;
CREATE VIEW stated_counting AS SELECT nextval('stated_numbers') > 0 AS n;
CREATE MATERIALIZED VIEW stated_kept AS SELECT count(*) AS n FROM stated;
CREATE MATERIALIZED VIEW stated_empty AS SELECT count(*) AS n FROM stated WITH NO DATA;
CREATE FUNCTION stated_bump() RETURNS boolean LANGUAGE sql AS $$ SELECT nextval('stated_numbers') > 0 $$;
CREATE FUNCTION stated_guard() RETURNS boolean LANGUAGE plpgsql STABLE
    AS $$ BEGIN PERFORM nextval('stated_numbers'); RETURN true; END $$;
CREATE FUNCTION stated_pure(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 + 1 $$;
CREATE PROCEDURE stated_proceed() LANGUAGE sql AS $$ SELECT 1 $$;
CREATE DOMAIN stated_domain AS int CHECK (VALUE > 0);
CREATE TABLE stated_guarded (id int);
INSERT INTO stated_guarded VALUES (1);
ALTER TABLE stated_guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY guard ON stated_guarded USING (stated_guard());
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
"""

P, R = "primary", "replica"
# What the second run answers otherwise: only that the first one has no error is looked at.
ONCE = "primary, once"
# What the catalog has to tell: a replica may be asked first, but the answer is the primary's.
CATALOG = "primary in the end"


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql(CLEAN + SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(CLEAN)


# where, statements
ROWS = [
    # Plain reads
    (R, "SELECT id, n FROM stated WHERE id < 5 ORDER BY id"),
    (R, "TABLE stated_parent"),
    (R, "VALUES (1, 'a'), (2, 'b')"),
    (R, "WITH x AS (SELECT n, count(*) AS c FROM stated GROUP BY n) SELECT * FROM x ORDER BY n"),
    (R, "SELECT * FROM stated_view ORDER BY id LIMIT 3"),
    (R, "SELECT count(*) FROM stated_parts"),
    (R, "SELECT * FROM stated_kept"),
    (R, "SELECT * FROM stated_empty"),
    (R, "SELECT count(*) > 0 FROM stated TABLESAMPLE SYSTEM (100)"),
    (R, "SELECT id FROM stated WHERE id < 3 UNION ALL SELECT 7 EXCEPT SELECT 1 ORDER BY 1"),
    (R, "SELECT id, rank() OVER (ORDER BY n, id) FROM stated ORDER BY id LIMIT 3"),
    (R, "SELECT n, count(*) FROM stated GROUP BY CUBE (n) ORDER BY n"),
    (R, "SELECT x FROM XMLTABLE('/a/b' PASSING '<a><b>1</b></a>' COLUMNS x int PATH '.')"),
    (R, "WITH RECURSIVE r(i) AS (SELECT 1 UNION SELECT i + 1 FROM r WHERE i < 4) TABLE r"),
    (R, "SELECT doc #>> '{a,0}', doc @> '{\"a\": [1]}' FROM stated LIMIT 1"),
    (R, "SELECT relname FROM pg_class WHERE relname = 'stated'"),
    (R, "SELECT table_name FROM information_schema.tables WHERE table_name = 'stated'"),
    (R, "SELECT current_setting('search_path'), now() = statement_timestamp()"),
    (R, "SELECT random() < 2, clock_timestamp() > now(), pg_sleep(0)"),
    (R, "SELECT 1/0"),
    (CATALOG, "SELECT absent FROM stated"),
    # Locks
    (P, "SELECT id FROM stated WHERE id = 1 FOR UPDATE"),
    (P, "SELECT id FROM stated WHERE id = 1 FOR NO KEY UPDATE SKIP LOCKED"),
    (P, "SELECT id FROM stated WHERE id = 1 FOR SHARE NOWAIT"),
    (P, "SELECT * FROM (SELECT id FROM stated WHERE id = 1 FOR KEY SHARE) x"),
    (P, "SELECT 1 FOR UPDATE"),
    # Writes within reads
    (P, "WITH x AS (INSERT INTO stated_parent VALUES (1) RETURNING id) SELECT * FROM x"),
    (P, "WITH x AS (UPDATE stated SET n = n RETURNING id) SELECT count(*) FROM x"),
    (P, "WITH x AS (DELETE FROM stated WHERE false RETURNING id) SELECT count(*) FROM x"),
    (P, "SELECT 1 AS one INTO stated_made", "DROP TABLE stated_made"),
    (P, "SELECT nextval('stated_numbers') > 0"),
    (P, "SELECT stated_bump()"),
    (P, "SELECT id FROM stated WHERE id = 1 AND stated_bump()"),
    (P, "SELECT 1 FROM (VALUES (stated_bump())) v"),
    (P, "SELECT id FROM stated ORDER BY stated_bump(), id LIMIT 1"),
    (P, "SELECT count(*) FILTER (WHERE stated_bump()) FROM stated"),
    (CATALOG, "SELECT * FROM stated_counting"),
    (CATALOG, "SELECT * FROM stated_guarded"),
    (CATALOG, "SELECT * FROM stated_unlogged"),
    (P, "SELECT last_value > 0 FROM stated_numbers"),
    (P, "SELECT count(*) FROM pg_sequences WHERE sequencename = 'stated_numbers'"),
    (CATALOG, "SELECT 1::stated_domain"),
    (CATALOG, "SELECT * FROM stated_absent"),
    (P, "SELECT stated_absent(1)"),
    # Writes
    (P, "INSERT INTO stated_parent VALUES (2) RETURNING id"),
    (P, "UPDATE stated SET n = n WHERE id = 1"),
    (ONCE, "DELETE FROM stated_parent WHERE id < 3"),
    (P, "MERGE INTO stated USING (SELECT 1 AS k) x ON id = k WHEN MATCHED THEN UPDATE SET n = n"),
    (P, "MERGE INTO stated USING (SELECT 1 AS k) x ON id = k WHEN MATCHED THEN DO NOTHING"),
    (P, "TRUNCATE stated_made_not"),
    (P, "INSERT INTO stated_view (id) VALUES (1)"),
    # Schema
    (ONCE, "CREATE TABLE stated_made (id int)"),
    (ONCE, "CREATE INDEX IF NOT EXISTS stated_made_id ON stated_made (id)"),
    (P, "CREATE UNLOGGED TABLE IF NOT EXISTS stated_made (id int)"),
    (ONCE, "ALTER TABLE stated_made ADD COLUMN IF NOT EXISTS n int"),
    (P, "COMMENT ON TABLE stated_made IS 'made'"),
    (P, "GRANT SELECT ON stated_made TO PUBLIC"),
    (P, "REVOKE SELECT ON stated_made FROM PUBLIC"),
    (P, "TRUNCATE stated_made"),
    (P, "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"),
    (P, "ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC"),
    (ONCE, "DROP TABLE IF EXISTS stated_made"),
    (ONCE, "CREATE TABLE stated_made AS SELECT 1 AS id"),
    (ONCE, "DROP TABLE stated_made"),
    (P, "CREATE TABLE pg_temp.stated_mine (id int)"),
    (P, "SECURITY LABEL ON TABLE stated IS 'x'"),
    (P, "REASSIGN OWNED BY app_trust TO app_trust"),
    (P, "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c"),
    (P, "ALTER SYSTEM SET work_mem = '4MB'"),
    (P, "CREATE LANGUAGE plpgsql"),
    (P, "REFRESH MATERIALIZED VIEW stated_kept"),
    # Maintenance
    (P, "VACUUM stated_parent"),
    (P, "ANALYZE stated_parent"),
    (P, "CLUSTER stated_parent"),
    (P, "REINDEX TABLE stated_parent"),
    (P, "CHECKPOINT"),
    (P, "LOAD 'plpgsql'"),
    (P, "LOCK TABLE stated"),
    # Transactions; the first of each goes with the next, and is not counted
    (R, "COMMIT"),
    (R, "ROLLBACK"),
    (R, "SAVEPOINT a"),
    (R, "RELEASE a"),
    (R, "ROLLBACK TO a"),
    (P, "BEGIN", "SELECT 1"),
    (R, "BEGIN READ ONLY", "SELECT 1"),
    (R, "BEGIN READ ONLY", "SAVEPOINT a"),
    (P, "BEGIN READ WRITE", "SELECT 1"),
    (R, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY", "SHOW search_path"),
    (P, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"),
    (P, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "SELECT 1"),
    (P, "BEGIN READ ONLY", "SET TRANSACTION READ WRITE"),
    (P, "BEGIN READ ONLY", "SET transaction_read_only = off"),
    (P, "BEGIN READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    (P, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SET TRANSACTION SNAPSHOT '0-0-0'"),
    (P, "BEGIN", "LOCK TABLE stated IN ACCESS SHARE MODE"),
    (P, "BEGIN", "SET CONSTRAINTS ALL DEFERRED"),
    (P, "BEGIN READ ONLY", "NOTIFY stated"),
    (P, "BEGIN READ ONLY", "INSERT INTO stated_parent VALUES (3)"),
    (P, "PREPARE TRANSACTION 'stated'"),
    (P, "COMMIT PREPARED 'stated'"),
    (P, "ROLLBACK PREPARED 'stated'"),
    # The session
    (P, "SET search_path = public"),
    (R, "SET LOCAL work_mem = '4MB'"),
    (P, "RESET search_path"),
    (P, "RESET ALL"),
    (P, "SET TIME ZONE 'UTC'"),
    (P, "SET NAMES 'UTF8'"),
    (P, "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
    (R, "SHOW search_path"),
    (R, "SHOW TimeZone"),
    (R, "SHOW server_version"),
    (P, "SHOW transaction_read_only"),
    (P, "SHOW in_hot_standby"),
    (P, "SHOW work_mem"),
    (P, "SET transaction_read_only = off"),
    (P, "PREPARE stated_read AS SELECT 1", "EXECUTE stated_read"),
    (P, "PREPARE stated_write AS INSERT INTO stated_parent VALUES (4)", "EXECUTE stated_write"),
    (P, "DEALLOCATE ALL"),
    (P, "EXECUTE stated_nothing"),
    (P, "DISCARD PLANS"),
    (P, "DISCARD SEQUENCES"),
    (P, "LISTEN stated"),
    (P, "UNLISTEN *"),
    (P, "NOTIFY stated"),
    # Cursors
    (R, "BEGIN READ ONLY", "DECLARE c CURSOR FOR SELECT id FROM stated ORDER BY id", "FETCH 2 FROM c"),
    (R, "BEGIN READ ONLY", "DECLARE c SCROLL CURSOR FOR TABLE stated", "MOVE 2 FROM c", "CLOSE c"),
    (P, "BEGIN", "DECLARE c CURSOR FOR SELECT id FROM stated ORDER BY id", "FETCH 2 FROM c"),
    (P, "BEGIN", "DECLARE c CURSOR FOR SELECT id FROM stated FOR UPDATE", "FETCH 1 FROM c"),
    (P, "BEGIN READ ONLY", "DECLARE c CURSOR FOR SELECT nextval('stated_numbers')", "FETCH c"),
    (P, "FETCH 1 FROM c"),
    (P, "CLOSE c"),
    # COPY
    (R, "COPY stated_heir TO STDOUT"),
    (R, "COPY (SELECT id FROM stated WHERE id < 4 ORDER BY id) TO STDOUT WITH (FORMAT csv)"),
    (P, "COPY (SELECT stated_bump()) TO STDOUT"),
    (ONCE, "COPY (DELETE FROM stated_parent WHERE id > 2 RETURNING 1) TO STDOUT"),
    (P, "COPY (UPDATE stated SET n = n WHERE id = 1 RETURNING id) TO STDOUT"),
    (CATALOG, "COPY stated_unlogged TO STDOUT"),
    (P, "COPY stated TO '/tmp/stated'"),
    (P, "COPY stated TO PROGRAM 'cat'"),
    (P, "COPY stated FROM '/nowhere'"),
    # Programs
    (P, "CALL stated_proceed()"),
    (P, "DO $$ BEGIN PERFORM 1; END $$"),
    # EXPLAIN
    (R, "EXPLAIN (COSTS off) SELECT id FROM stated WHERE id = 1"),
    (R, "EXPLAIN (COSTS off, TIMING off, SUMMARY off, ANALYZE) SELECT 1"),
    (R, "EXPLAIN (ANALYZE false, COSTS off) SELECT 1"),
    (R, "EXPLAIN VERBOSE SELECT 1"),
    (P, "EXPLAIN (COSTS off) INSERT INTO stated_parent VALUES (5)"),
    (P, "EXPLAIN (COSTS off) SELECT id FROM stated FOR UPDATE"),
    (P, "EXPLAIN (COSTS off) CREATE TABLE stated_made AS SELECT 1"),
    (CATALOG, "EXPLAIN (COSTS off) SELECT * FROM stated_unlogged"),
    (P, "EXPLAIN (COSTS off) SELECT nextval('stated_numbers')"),
    (ONCE, "EXPLAIN ANALYZE DELETE FROM stated_parent WHERE false"),
    (P, "EXPLAIN (COSTS off, SUMMARY off, TIMING off, ANALYZE on) UPDATE stated SET n = n WHERE id = 1"),
    (P, "EXPLAIN (COSTS off, SUMMARY off, TIMING off, ANALYZE 1) DELETE FROM stated WHERE false"),
    # Nothing, and nonsense
    (R, ""),
    (R, ";"),
    (R, "-- nothing"),
    (R, "/* nothing */ ;;"),
    (P, "SELEC 1"),
    (P, "SELECT 1 FRM stated"),
]  # fmt: skip

SIMPLE = [
    (R, "SELECT 1; SELECT 2"),
    (R, "SELECT 1; SELECT 1/0; SELECT 2"),
    (R, "; ; SELECT 3;"),
    (P, "SELECT 1; INSERT INTO stated_parent VALUES (6)"),
    (P, "INSERT INTO stated_parent VALUES (7); SELECT 1"),
    (P, "SELECT 1; SELECT stated_bump()"),
    (P, "SELECT 1; SELEC 2"),
    (P, "BEGIN; SELECT 1; COMMIT"),
    (R, "BEGIN READ ONLY; SELECT 1; COMMIT"),
    (R, "BEGIN READ ONLY; SELECT 1", "SELECT 2", "COMMIT"),
    (R, "BEGIN READ ONLY; SELECT 1/0", "SELECT 2", "COMMIT"),
    (P, "BEGIN READ ONLY; SELECT 1; COMMIT; INSERT INTO stated_parent VALUES (8)"),
    (P, "BEGIN READ ONLY; SELECT 1; COMMIT; BEGIN", "INSERT INTO stated_parent VALUES (9)", "COMMIT"),
    (P, "BEGIN; SAVEPOINT a; SELECT 1/0", "ROLLBACK TO a; SELECT 1", "COMMIT; SELECT 2"),
    (P, "SELECT 1; VACUUM stated_parent"),
    (P, "SELECT 1; SET work_mem = '4MB'; SHOW work_mem"),
    (R, "SELECT 1; COMMIT; SELECT 2"),
]  # fmt: skip


def ask_simple(client, sql):
    return client.query(sql)


def ask_extended(client, sql):
    return client.ask(parse(sql), bind(), describe_portal(), execute(), SYNC)


def told(answer):
    """What a client makes of an answer."""
    errors = [(error["C"], error["M"]) for error in answer.errors]
    notices = [(notice["C"], notice["M"]) for notice in answer.notices]
    copied = [message.body for message in answer.of("d")]
    return answer.rows, copied, answer.tags, errors, notices, answer.status


# With session_state = track a name is known for what it is.
TRACKED = {"PREPARE stated_read AS SELECT 1": {P, R}}


def is_where(where, state, statements, ran):
    if where == CATALOG:
        return set(ran) <= {P, R}
    usual = {P if where == ONCE else where}
    return set(ran) == (TRACKED.get(statements[0], usual) if state == "track" else usual)


@pytest.mark.parametrize(
    ("ask", "state"), [(ask_simple, "off"), (ask_extended, "off"), (ask_simple, "track")]
)
def test_the_table(start_pooler, cluster, ask, state):
    """Answers are compared with the primary's own, where each row runs a second time."""
    settings = {"read_consistency": "eventual", "session_state": state}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    wrong = []
    rows = ROWS + (SIMPLE if ask is ask_simple else [])
    for where, *statements in rows:
        # While the catalog is read again, after the DDL of rows before, reads run on the primary.
        deadline = time.monotonic() + (5 * PATIENCE if where == R else 0)
        while True:
            watch.settle()
            with routed.client() as client:
                found = [told(ask(client, sql)) for sql in statements]
                ran = watch.by_role()
            is_right = is_where(where, state, statements, ran)
            if is_right or time.monotonic() >= deadline:
                break
            time.sleep(0.02)
        if not is_right:
            wrong.append((statements, "ran", ran))
        watch.queries()
        if where == ONCE:
            cluster.wait_replayed()
            wrong += [(sql, *one) for sql, one in zip(statements, found) if one[3]]
            continue
        with Client((cluster.primary.host, cluster.primary.port)) as direct:
            direct.login("app_trust", None, "app")
            expected = [told(ask(direct, sql)) for sql in statements]
        pairs = zip(statements, found, expected)
        wrong += [(sql, one, other) for sql, one, other in pairs if one != other]
    assert not wrong, "\n".join(map(str, wrong))
