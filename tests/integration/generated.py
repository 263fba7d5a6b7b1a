"""Sessions that are made up from a seed: what they do is known before they run.

    steps = Generator(seed).steps(400)
    steps[0].who, steps[0].tells()       # 3, "simple SELECT count(*) FROM plain"

WORLD makes a schema in which little is what it seems: functions declared truly and falsely, views,
policies, triggers, rules, domains, casts and operators that call them, tables of every kind. A step
says what it is (`is_read`: nothing of it could tell a replica that is fresh from the primary), so that
a share of reads can be counted by somebody who does not ask Weir. Every step may stand in any
order, and be left out: a failing list can be made shorter. Pure Python, no connection, no clock.
"""

import random
import re

from wire import COPY_DONE, FLUSH, SYNC, bind, copy_data, copy_fail, describe_portal, execute, parse, query

CLIENTS = 6
ROLES = ("proof_a", "proof_b")

# Every table here can be read as (id, n, word).
TABLES = ["plain", "parts", "parts_low", "parent", "child", "watched", "owned", "typed", "secret", "ruled"]
VIEWS = ["v_plain", "v_deep", "v_union", "m_plain", "v_written", "v_part"]

WORLD = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS w CASCADE;
DROP SCHEMA IF EXISTS w2 CASCADE;
DROP FUNCTION IF EXISTS public.whoami;
GRANT ALL ON SCHEMA public TO PUBLIC;
CREATE SCHEMA w; CREATE SCHEMA w2;
ALTER SCHEMA w OWNER TO app_trust; ALTER SCHEMA w2 OWNER TO app_trust;
GRANT ALL ON SCHEMA w, w2 TO PUBLIC;
SET ROLE app_trust;
SET search_path = w;
CREATE TABLE plain (id int PRIMARY KEY, n int, word text);
CREATE TABLE parts (id int, n int, word text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (MAXVALUE);
CREATE TABLE parent (id int, n int, word text);
CREATE TABLE child (extra int DEFAULT 0) INHERITS (parent);
CREATE UNLOGGED TABLE quick (id int, n int, word text);
CREATE TABLE audit (n int, what text);
CREATE TABLE watched (id int, n int, word text);
CREATE TABLE owned (id int, n int REFERENCES plain ON DELETE CASCADE ON UPDATE CASCADE, word text);
CREATE TABLE secret (id int, n int, word text);
CREATE TABLE guarded (id int, n int, word text);
CREATE TABLE ruled (id int, n int, word text);
CREATE TABLE hidden (id int, n int, word text);
CREATE SEQUENCE numbers;
CREATE SEQUENCE silent;
CREATE TABLE counted (id int DEFAULT nextval('silent'), n int, word text);
CREATE FUNCTION plus(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION twice(v int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN 2 * v; END';
CREATE FUNCTION total() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT sum(n) FROM w.plain';
CREATE FUNCTION total_of(t text) RETURNS bigint STABLE LANGUAGE plpgsql AS
    $$DECLARE r bigint; BEGIN EXECUTE format('SELECT count(*) FROM w.%I', t) INTO r; RETURN r; END$$;
CREATE FUNCTION ids(lowest int) RETURNS SETOF int STABLE LANGUAGE sql AS
    'SELECT id FROM w.plain WHERE id >= lowest ORDER BY 1';
CREATE FUNCTION atomic_total() RETURNS bigint STABLE LANGUAGE sql BEGIN ATOMIC SELECT sum(n) FROM w.plain; END;
CREATE FUNCTION volatile_total() RETURNS bigint LANGUAGE sql AS 'SELECT sum(n) FROM w.plain';
CREATE FUNCTION bump(v int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'bump'); RETURN v; END$$;
CREATE FUNCTION bump_sql(v int) RETURNS int LANGUAGE sql AS
    $$INSERT INTO w.audit VALUES (v, 'bump_sql') RETURNING n$$;
CREATE FUNCTION bump_dynamic(v int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN EXECUTE 'INSERT INTO w.' || 'audit VALUES ($1, ''dynamic'')' USING v; RETURN v; END$$;
CREATE FUNCTION definer(v int) RETURNS int SECURITY DEFINER LANGUAGE sql AS
    $$UPDATE w.hidden SET n = n + v WHERE id = 1 RETURNING n$$;
CREATE FUNCTION hidden_total() RETURNS bigint STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT sum(n) FROM w.hidden';
CREATE FUNCTION catcher(v int) RETURNS text LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'catcher'); RETURN 'done';
      EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END$$;
CREATE FUNCTION liar_next() RETURNS bigint STABLE LANGUAGE sql AS $$SELECT nextval('w.numbers')$$;
CREATE FUNCTION liar_const(int) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
    $$BEGIN RETURN nextval('w.numbers'); END$$;
CREATE FUNCTION liar_bump(v int) RETURNS int STABLE LANGUAGE plpgsql AS
    $$BEGIN PERFORM w.bump(v); RETURN v; END$$;
CREATE FUNCTION liar_insert(v int) RETURNS int STABLE LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'never'); RETURN v; END$$;
CREATE FUNCTION late_liar(v int) RETURNS bigint STABLE LANGUAGE plpgsql AS
    $$BEGIN IF v = 7 THEN RETURN nextval('w.numbers'); END IF; RETURN v; END$$;
CREATE FUNCTION setter(v text) RETURNS text LANGUAGE plpgsql AS
    $$BEGIN PERFORM set_config('app.v', v, false); RETURN v; END$$;
CREATE FUNCTION node_of() RETURNS boolean STABLE LANGUAGE sql AS 'SELECT pg_is_in_recovery()';
CREATE FUNCTION made(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v';
CREATE PROCEDURE half_kept(v int) LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'kept'); COMMIT;
      INSERT INTO w.audit VALUES (v, 'lost'); ROLLBACK; END$$;
CREATE PROCEDURE told(INOUT v int) LANGUAGE sql AS 'SELECT v + 1';
CREATE FUNCTION on_watched() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (coalesce(new.n, old.n), tg_op); RETURN coalesce(new, old); END$$;
CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION on_watched();
CREATE FUNCTION on_view() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN UPDATE w.plain SET n = new.n WHERE id = old.id; RETURN new; END$$;
CREATE VIEW v_written AS SELECT * FROM plain;
CREATE TRIGGER i INSTEAD OF UPDATE ON v_written FOR EACH ROW EXECUTE FUNCTION on_view();
CREATE VIEW v_plain AS SELECT id, n, word FROM plain WHERE id < 100;
CREATE VIEW v_part AS SELECT id, n, word FROM parts;
CREATE VIEW v_deep AS SELECT id, n + 1 AS n, word FROM v_plain;
CREATE VIEW v_union AS SELECT id, n, word FROM plain UNION ALL SELECT id, n, word FROM parent;
CREATE VIEW v_quick AS SELECT id, n, word FROM quick;
CREATE VIEW v_bump AS SELECT id, w.bump(n) AS n, word FROM plain WHERE id < 3;
CREATE VIEW v_bump_deep AS SELECT id, n, word FROM v_bump;
CREATE VIEW v_liar AS SELECT id, w.late_liar(id) AS n, word FROM plain;
CREATE VIEW v_next AS SELECT 1 AS id, nextval('w.numbers')::int AS n, 'x'::text AS word;
CREATE VIEW v_node AS SELECT 1 AS id, count(*)::int AS n, 'x'::text AS word FROM pg_stat_replication;
CREATE MATERIALIZED VIEW m_plain AS SELECT id, n, word FROM plain;
CREATE MATERIALIZED VIEW m_quick AS SELECT id, n, word FROM quick;
CREATE RULE r AS ON INSERT TO ruled DO ALSO INSERT INTO w.audit VALUES (new.n, 'rule');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY; ALTER TABLE secret FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON secret USING (word IN (current_user, coalesce(current_setting('app.v', true), '')) OR id < 5)
    WITH CHECK (true);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (w.bump(id) > 0) WITH CHECK (true);
CREATE FUNCTION checked(v int) RETURNS boolean LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'domain'); RETURN v < 1000; END$$;
CREATE DOMAIN noted AS int CHECK (w.checked(VALUE));
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TABLE typed (id int, n small, word text, twin int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE TYPE tag AS (v int);
CREATE FUNCTION to_tag(v int) RETURNS tag LANGUAGE sql AS 'INSERT INTO w.audit VALUES (v, ''cast''); SELECT row(v)::w.tag';
CREATE CAST (int AS tag) WITH FUNCTION to_tag(int);
CREATE FUNCTION both_bump(a int, b int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (a, 'operator'); RETURN a + b; END$$;
CREATE OPERATOR ## (LEFTARG = int, RIGHTARG = int, FUNCTION = both_bump);
CREATE FUNCTION both_plus(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a + b';
CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = both_plus);
CREATE FUNCTION step(s int, v int) RETURNS int LANGUAGE plpgsql AS
    $$BEGIN INSERT INTO w.audit VALUES (v, 'aggregate'); RETURN s + v; END$$;
CREATE AGGREGATE bumped_sum (int) (SFUNC = step, STYPE = int, INITCOND = '0');
CREATE FUNCTION public.whoami() RETURNS text STABLE LANGUAGE sql AS 'SELECT ''public''';
CREATE FUNCTION w2.whoami() RETURNS text LANGUAGE sql AS 'INSERT INTO w.audit VALUES (0, ''w2''); SELECT ''w2''';
CREATE FUNCTION w2.upper(text) RETURNS text LANGUAGE sql AS 'INSERT INTO w.audit VALUES (0, ''upper''); SELECT $1';
CREATE TABLE w2.plain (id int, n int, word text);
INSERT INTO plain SELECT g, g * 3 % 7, 'w' || g % 4 FROM generate_series(1, 20) g;
INSERT INTO parts SELECT g, g, 'p' FROM generate_series(1, 20) g;
INSERT INTO parent VALUES (1, 1, 'one'); INSERT INTO child VALUES (2, 2, 'two', 2);
INSERT INTO quick VALUES (1, 1, 'quick'); INSERT INTO hidden VALUES (1, 1, 'hidden');
INSERT INTO secret SELECT g, g, 'proof_a' FROM generate_series(1, 8) g;
INSERT INTO guarded VALUES (1, 1, 'g'); INSERT INTO w2.plain VALUES (1, 100, 'w2');
INSERT INTO watched VALUES (1, 1, 'w'); INSERT INTO ruled VALUES (1, 1, 'r');
INSERT INTO typed (id, n, word) VALUES (1, 1, 't');
INSERT INTO owned SELECT g, g, 'o' FROM generate_series(1, 5) g;
REFRESH MATERIALIZED VIEW m_plain;
GRANT ALL ON ALL TABLES IN SCHEMA w, w2 TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA w TO PUBLIC;
REVOKE ALL ON hidden FROM PUBLIC;
ANALYZE plain, parts, parent, child, owned;
"""
UNMAKE = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS w CASCADE; DROP SCHEMA IF EXISTS w2 CASCADE; DROP FUNCTION IF EXISTS public.whoami;
"""

# Scalar functions for an integer {x} which are what they are declared to be, and read at most.
PURE_CALLS = [
    "abs({x})", "coalesce({x}, 0)", "greatest({x}, 3)", "length(word)", "lower(word)", "md5(word)",
    "w.plus({x})", "w.twice({x})", "{x} ### 2", "to_char({x}, '999')", "jsonb_build_object('k', {x})",
    "array[{x}, 2]", "row({x}, word)", "{x}::text", "{x}::numeric / 3", "{x}::w.small", "'high'::w.mood",
    "CASE WHEN {x} > 3 THEN 'big' ELSE word END", "({x}, 1) IS DISTINCT FROM (1, 1)", "format('%s', {x})",
    "extract(year FROM date '2024-01-01')", "{x} % 2 = 0", "word LIKE 'w%'", "word ~ '[0-9]'",
]  # fmt: skip
STABLE_CALLS = ["w.total()", "w.total_of('plain')", "w.atomic_total()", "w.hidden_total()", "current_user"]
# What a session may set without being any less at home on a standby.
HARMLESS_SETTINGS = [
    "SET search_path = w, public", "SET work_mem = '5MB'", "SET app.v = 'w1'", "SET TIME ZONE '+3'",
    "SET DateStyle = 'German'", "SET extra_float_digits = 0", "SET statement_timeout = '1min'",
]  # fmt: skip
# What only looks as if it could run anywhere.
FALSE_CALLS = [
    "upper(word)", "w.liar_next()", "w.liar_const({x})", "w.liar_const(1)", "w.liar_bump({x})", "w.liar_insert({x})",
    "w.late_liar({x})", "w.late_liar(7)", "w.node_of()", "w.volatile_total()", "w.bump({x})", "w.bump_sql(1)",
    "w.bump_dynamic({x})", "w.definer(1)", "w.catcher({x})", "1 OPERATOR(w.##) 2", "{x} ## 1",
    "3::w.noted", "(3::w.tag).v", "CAST({x} AS w.noted)", "nextval('w.numbers')", "w.setter('{n}')",
    "whoami()", "public.whoami()", "w2.whoami()", "w.made({x})", "pg_is_in_recovery()", "lo_creat(-1) IS NULL",
    "set_config('app.v', '{n}', false)", "set_config('app.v', '{n}', true)", "current_setting('cluster_name')",
    "txid_current_if_assigned() IS NULL", "pg_current_wal_lsn() IS NULL", "pg_last_wal_replay_lsn() IS NULL",
    "inet_server_port()", "query_to_xml('SELECT nextval(''w.numbers'')', true, true, '')::text",
    "has_table_privilege('w.plain', 'SELECT')", "pg_notify('proof', '{n}') IS NULL",
    "(SELECT count(*) FROM pg_stat_replication)", "pg_try_advisory_xact_lock({n})",
    "current_setting('transaction_read_only')", "(SELECT setting FROM pg_settings WHERE name = 'port')",
    "current_setting('in_hot_standby')", "(SELECT count(*) FROM pg_prepared_xacts)", "'w.plain'::regclass::text",
    "(SELECT last_value > 0 FROM w.numbers)", "pg_sequence_last_value('w.numbers') > 0",
]  # fmt: skip
# Relations whose reading is not only reading, or which a standby does not have.
FALSE_RELATIONS = [
    "quick", "v_quick", "m_quick", "v_bump", "v_bump_deep", "v_liar", "v_next", "v_node", "guarded", "hidden",
    "nowhere",
]  # fmt: skip
BUILTIN_READS = [
    "SELECT 1", "VALUES (1, 'a'), (2, 'b')", "TABLE w.plain", "SELECT now() = now()", "SELECT random() < 2",
    "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'w' ORDER BY 1",
    "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'w'"
    " ORDER BY 1, 2",
    "SELECT pg_get_viewdef('w.v_deep'::regclass)", "SELECT sum(g) FROM generate_series(1, 1000) g",
    "SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'w' ORDER BY 1",
    "WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT sum(n) FROM r",
    "SELECT count(*) FROM w.plain TABLESAMPLE BERNOULLI (100)", "SELECT 'DELETE FROM w.plain', $$x$$",
    "SELECT enumlabel FROM pg_enum JOIN pg_type t ON t.oid = enumtypid WHERE typname = 'mood' ORDER BY 1",
    "SELECT jsonb_agg(x ORDER BY id) FROM (SELECT id, n FROM w.plain) x",
    "SELECT to_regclass('w.plain')::text, to_regclass('w.nowhere')::text",
    "SELECT id, n, rank() OVER (PARTITION BY word ORDER BY n, id) FROM w.plain ORDER BY id",
    "SELECT word, n % 2, count(*) FROM w.plain GROUP BY ROLLUP (word, n % 2) ORDER BY 1, 2",
    "SELECT has_table_privilege('w.hidden', 'SELECT')", "SELECT pg_relation_size('w.plain') >= 0",
    "SELECT 1/0", "SELECT 'x'::int", "SELECT 100::w.small",
    "SELECT 2 WHERE EXISTS (SELECT FROM w.plain WHERE n = 3)", "SELECT '{{1,2}}'::int[]",
    "SELECT current_schema, current_setting('search_path')", "SELECT * FROM w.ids(15)",
    "SELECT xmlelement(name a, 1)::text", "SELECT string_agg(word, ',' ORDER BY id) FROM w.plain",
]  # fmt: skip
WRITES = [
    "INSERT INTO w.plain VALUES ({i}, {n}, 'i') ON CONFLICT (id) DO UPDATE SET n = excluded.n RETURNING id, n",
    "INSERT INTO w.plain VALUES ({i}, {n}, 'dup')", "UPDATE w.plain SET n = n + 1 WHERE id = {i} RETURNING n",
    "UPDATE w.plain SET word = 'u{n}' WHERE id % 5 = {n} % 5", "DELETE FROM w.plain WHERE id = {i}",
    "INSERT INTO w.{t} (id, n, word) VALUES ({i}, {s}, 'x')", "UPDATE w.{t} SET n = n + 1 WHERE id = {i}",
    "DELETE FROM w.{t} WHERE id = {i} RETURNING word", "UPDATE w.parts SET id = id + 9 WHERE id = {s}",
    "UPDATE w.v_written SET n = {n} WHERE id = {i}", "UPDATE w.v_plain SET n = {n} WHERE id = {i}",
    "INSERT INTO w.quick VALUES ({i}, {n}, 'q')", "INSERT INTO w.counted (n) VALUES ({n}) RETURNING id",
    "UPDATE w.plain SET id = id + 100 WHERE id = {s}", "UPDATE w.plain SET id = id - 100 WHERE id > 100",
    "MERGE INTO w.plain p USING (SELECT {i} AS k) s ON p.id = s.k WHEN MATCHED THEN UPDATE SET n = {n}"
    " WHEN NOT MATCHED THEN INSERT VALUES (s.k, {n}, 'm')",
    "WITH x AS (UPDATE w.plain SET n = {n} WHERE id = {i} RETURNING id) SELECT count(*) FROM x",
    "WITH x AS (DELETE FROM w.watched RETURNING n) SELECT sum(n) FROM x",
    "SELECT id FROM w.plain WHERE id = {i} FOR UPDATE", "SELECT id FROM w.plain WHERE id < 3 ORDER BY 1 FOR SHARE",
    "CALL w.half_kept({n})", "CALL w.told({n})", "DO $$BEGIN UPDATE w.plain SET n = {n} WHERE id = {i}; END$$",
    "REFRESH MATERIALIZED VIEW w.m_plain", "SELECT setval('w.numbers', {i})", "SELECT lo_from_bytea(4711, 'x')",
    "SELECT lo_put(4711, 0, 'y{n}')", "SELECT lo_get(4711)", "SELECT lo_unlink(4711)", "TABLE w.audit",
    "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO w.ruled VALUES ({i}, {n}, 'e')",
    "EXPLAIN (COSTS off) UPDATE w.plain SET n = 1", "SELECT w.bumped_sum(n) FROM w.plain WHERE id < 4",
    "INSERT INTO w.owned SELECT {i}, {i}, 'f'", "UPDATE w.typed SET n = {i} RETURNING n, twin",
    "INSERT INTO w.guarded VALUES ({i}, {n}, 'g')", "DELETE FROM w.audit", "INSERT INTO w.hidden VALUES (2, 2, 'h')",
]  # fmt: skip
# Only while nobody is in a transaction: they would wait for its locks, on a standby too.
SCHEMA_CHANGES = [
    "CREATE TABLE w.gone (id int, n int, word text)", "DROP TABLE w.gone", "DROP TABLE IF EXISTS w.gone",
    "ALTER TABLE w.plain ADD COLUMN more int DEFAULT 7", "ALTER TABLE w.plain DROP COLUMN IF EXISTS more",
    "CREATE OR REPLACE FUNCTION w.made(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v'",
    "CREATE OR REPLACE FUNCTION w.made(v int) RETURNS int LANGUAGE sql VOLATILE AS"
    " $$INSERT INTO w.audit VALUES (v, 'made'); SELECT v$$",
    "CREATE OR REPLACE FUNCTION w.made(v int) RETURNS int LANGUAGE sql STABLE AS 'SELECT v + {n}'",
    "CREATE OR REPLACE VIEW w.v_late AS SELECT id, n, word FROM w.plain WHERE n > {n}",
    "CREATE OR REPLACE VIEW w.v_late AS SELECT id, w.bump(n) AS n, word FROM w.plain WHERE id = 1",
    "DROP VIEW IF EXISTS w.v_late", "CREATE INDEX ON w.parts (n)", "COMMENT ON TABLE w.plain IS 'c{n}'",
    "GRANT SELECT ON w.hidden TO proof_a", "REVOKE ALL ON w.hidden FROM proof_a", "TRUNCATE w.watched",
    "ALTER TABLE w.ruled SET UNLOGGED", "ALTER TABLE w.ruled SET LOGGED", "ANALYZE w.plain",
    "ALTER TYPE w.mood ADD VALUE IF NOT EXISTS 'mid{n}'", "ALTER TABLE w.parts DETACH PARTITION w.parts_high",
    "ALTER TABLE w.parts ATTACH PARTITION w.parts_high FOR VALUES FROM (10) TO (MAXVALUE)",
    "CREATE TABLE w.into AS SELECT id, n, word FROM w.plain", "SELECT 1 AS id INTO w.into", "DROP TABLE IF EXISTS w.into",
    "ALTER POLICY p ON w.secret USING (id > {n})", "CREATE STATISTICS w.st ON id, n FROM w.plain",
    "DROP STATISTICS IF EXISTS w.st", "ALTER FUNCTION w.made(int) VOLATILE", "ALTER FUNCTION w.made(int) STABLE",
    "VACUUM w.plain", "CREATE TRIGGER late AFTER UPDATE ON w.parts FOR EACH ROW EXECUTE FUNCTION w.on_watched()",
    "DROP TRIGGER IF EXISTS late ON w.parts", "ALTER TABLE w.plain ALTER COLUMN n SET DEFAULT {n}",
    "CREATE FUNCTION w.gone(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT {n}'", "DROP FUNCTION IF EXISTS w.gone",
]  # fmt: skip
LATE_READS = [
    "SELECT nothing",
    "SELECT * FROM w.gone", "SELECT w.gone(1)", "SELECT * FROM w.v_late ORDER BY 1, 2", "SELECT w.made({n})",
    "SELECT count(*) FROM w.into", "SELECT obj_description('w.plain'::regclass)", "SELECT * FROM w.plain WHERE id = {i}",
    "SELECT has_table_privilege('proof_a', 'w.hidden', 'SELECT')", "SELECT enum_range(null::w.mood)",
    "SELECT count(*) FROM w.parts", "SELECT max(id) FROM w.ruled", "SELECT * FROM w.v_written WHERE id = {i}",
    "SELECT sum(n) FROM w.owned", "SELECT count(*) FROM w.audit", "SELECT n, what FROM w.audit ORDER BY 1, 2",
    "SELECT count(*), max(id) FROM w.counted", "SELECT count(*) FROM pg_class WHERE relname = 'gone'",
]  # fmt: skip
SETTINGS = [
    "SET search_path = w", "SET search_path = w2, w, public", "SET search_path = w2, pg_catalog, w",
    "RESET search_path", "SET LOCAL search_path = w, public", "SET work_mem = '{s}MB'", "SET app.v = '{n}'",
    "SET ROLE proof_a", "SET ROLE proof_b", "RESET ROLE", "SET LOCAL ROLE proof_b", "SET DateStyle = 'German'",
    "RESET ALL", "DISCARD ALL", "SET extra_float_digits = 0", "SET TIME ZONE '+{s}'", "SET nonsense = 1",
    "SHOW search_path", "SHOW transaction_read_only", "SHOW in_hot_standby", "SHOW cluster_name", "SELECT coalesce(current_setting('app.v', true), '')",
    "SET default_transaction_isolation = 'repeatable read'", "RESET default_transaction_isolation",
    "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET row_security = off",
    "RESET row_security", "SHOW transaction_isolation", "SET default_transaction_isolation = serializable",
    "SELECT set_config('default_transaction_isolation', 'serializable', false)",
]  # fmt: skip
BLOCKS = [
    "BEGIN", "COMMIT", "ROLLBACK", "COMMIT", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "END",
    "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE", "START TRANSACTION READ WRITE",
    "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY", "COMMIT AND CHAIN", "ABORT",
]  # fmt: skip
# What ends a transaction, and nothing else.
ENDS = ("COMMIT", "ROLLBACK", "END", "ABORT")
STATES = [
    "CREATE TEMP TABLE plain (id int, n int, word text)", "SELECT * FROM plain ORDER BY 1",
    "CREATE TEMP TABLE brief (a int) ON COMMIT DROP", "INSERT INTO plain VALUES ({i}, {n}, 'own')",
    "CREATE TEMP VIEW mine AS SELECT * FROM w.plain", "SELECT count(*) FROM mine", "DISCARD TEMP",
    "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM w.plain ORDER BY 1", "FETCH 2 FROM h", "CLOSE h", "CLOSE ALL",
    "DECLARE c CURSOR FOR SELECT id, n FROM w.plain ORDER BY 1", "FETCH 3 FROM c", "MOVE c", "CLOSE c",
    "PREPARE r AS SELECT id, n FROM w.plain WHERE id = $1", "EXECUTE r({i})", "PREPARE u AS UPDATE w.plain SET n = $1",
    "EXECUTE u({n})", "DEALLOCATE ALL", "EXPLAIN (COSTS off) EXECUTE r(1)", "SELECT pg_advisory_lock({k})",
    "SELECT pg_advisory_unlock({k})", "SELECT pg_advisory_unlock_all()", "DISCARD PLANS", "PREPARE f AS SELECT w.bump($1)",
    "EXECUTE f({n})", "PREPARE l AS SELECT w.made($1)", "EXECUTE l({n})", "SELECT nextval('w.numbers'), currval('w.numbers')",
]  # fmt: skip
STRINGS = [
    "SELECT 1; SELECT count(*) FROM w.plain", "SELECT 1; UPDATE w.plain SET n = {n} WHERE id = {i}",
    "BEGIN; UPDATE w.plain SET n = {n} WHERE id = {i}; COMMIT; SELECT sum(n) FROM w.plain",
    "BEGIN; UPDATE w.plain SET n = {n}; ROLLBACK; SELECT sum(n) FROM w.plain", "SELECT 1; SELECT w.bump({n}); SELECT 2",
    "UPDATE w.plain SET n = {n} WHERE id = {i}; SELECT 1/0", "BEGIN READ ONLY; SELECT sum(n) FROM w.plain; COMMIT",
    "BEGIN READ ONLY; UPDATE w.plain SET n = 1; COMMIT", "; ;", "", "SELECT 1; SELEC 2", "-- nothing",
    "BEGIN; UPDATE w.plain SET n = {n} WHERE id = {i}; COMMIT; SELECT 1/0", "SELECT 1; SELECT w.late_liar(7)",
    "SET LOCAL work_mem = '1MB'; SELECT count(*) FROM w.plain", "SELECT 1; ROLLBACK; SELECT 2",
]  # fmt: skip
# With parameters, each a small number.
PARSED = [
    ("SELECT id, n FROM w.plain WHERE id = $1", 1, True), ("SELECT $1::int + $2::int", 2, True),
    ("SELECT count(*) FROM w.parts WHERE n < $1", 1, True), ("UPDATE w.plain SET n = $1 WHERE id = $2", 2, False),
    ("SELECT w.bump($1)", 1, False), ("SELECT w.late_liar($1)", 1, False), ("INSERT INTO w.parent VALUES ($1, $2, 'p')", 2, False),
    ("SELECT * FROM w.ids($1)", 1, False), ("SELECT 10 / ($1 - 1)", 1, True), ("BEGIN", 0, False), ("COMMIT", 0, False),
    ("DELETE FROM w.child WHERE id = $1 RETURNING *", 1, False), ("SELECT word FROM w.v_deep WHERE id = $1", 1, True),
    ("SELECT nothing", 0, False), ("", 0, False), ("SELECT count(*) FROM w.quick", 0, False), ("SELECT w.made($1)", 1, False),
]  # fmt: skip


# Twins may have plans and sizes of their own there.
CATALOG = re.compile(r"FROM pg_|information_schema")
USES_FUNCTIONS = re.compile(r"w\.\w+\(|###")


class Step:
    """What one session does in one go. `kind` is simple, extended, pipeline, copy or rest (nobody does
    anything for a while); `answers` is how many ReadyForQuery it is answered with."""

    def __init__(self, who, kind, text, sent, **more):
        self.who = who
        self.kind = kind
        self.text = text
        self.sent = sent
        self.answers = more.get("answers", 1)
        # Nothing but reading, and of nothing that a standby has not.
        self.is_read = more.get("is_read", False)
        # Only while no session is in a transaction.
        self.is_alone = more.get("is_alone", False)

    def tells(self):
        return f"{self.who} {self.kind} {self.text}"


class Generator:
    """`has_functions`: reads call functions and operators of the schema, too."""

    def __init__(self, seed, clients=CLIENTS, has_functions=True):
        self.dice = random.Random(seed)
        self.clients = clients
        kept = [PURE_CALLS, STABLE_CALLS, BUILTIN_READS]
        if not has_functions:
            kept = [[one for one in texts if not USES_FUNCTIONS.search(one)] for texts in kept]
        self.pure_calls, self.stable_calls, self.builtin_reads = kept

    def pick(self, words):
        return self.dice.choice(words)

    def filled(self, text, who):
        numbers = {"i": self.dice.randint(1, 24), "n": self.dice.randint(1, 9), "s": self.dice.randint(1, 5)}
        numbers.update({"k": who, "t": self.pick(TABLES), "x": self.pick(["n", "id", "5"])})
        for name, value in numbers.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    # Reads

    def expression(self, false_share):
        roll = self.dice.random()
        if roll < false_share:
            return self.pick(FALSE_CALLS), False
        if roll < 0.3:
            return self.pick(["id", "n", "word", "n + id", "-n", "id * 2"]), True
        return self.pick(self.pure_calls if roll < 0.9 else self.stable_calls), True

    def relation(self, false_share):
        if self.dice.random() < false_share:
            return "w." + self.pick(FALSE_RELATIONS), False
        return "w." + self.pick(TABLES + VIEWS), True

    def simple_select(self, false_share):
        """One query with an ORDER BY that decides, and whether it is a read."""
        relation, is_read = self.relation(false_share)
        columns = []
        for _ in range(self.dice.randint(1, 3)):
            column, is_pure = self.expression(false_share)
            columns.append(column)
            is_read &= is_pure
        where = self.pick(["", "", " WHERE n > 2", " WHERE id = {i}", " WHERE word IS NOT NULL", " WHERE id IN (1, 2, {i})"])
        order = " ORDER BY id, n, word" + self.pick(["", "", " LIMIT 3", " DESC"])
        return f"SELECT {', '.join(columns)} FROM {relation}{where}{order}", is_read

    def joined(self):
        one, other = self.pick(TABLES), self.pick(TABLES + VIEWS)
        join = self.pick(["JOIN", "LEFT JOIN", "FULL JOIN"])
        return (
            f"SELECT a.id, b.n, count(*) FROM w.{one} a {join} w.{other} b ON a.id = b.id"
            " GROUP BY a.id, b.n ORDER BY 1, 2 LIMIT 20"
        )

    def aggregate(self):
        call = self.pick(["count(*)", "sum(n)", "max(word)", "array_agg(id ORDER BY id)", "bool_and(n > 0)", "avg(n)"])
        return f"SELECT {call} FROM w.{self.pick(TABLES + VIEWS)}" + self.pick(["", " WHERE n < {n}"])

    def read(self, false_share=0.0):
        """The text of a query and whether it only reads."""
        roll = self.dice.random()
        is_read = True
        if roll < 0.5:
            text, is_read = self.simple_select(false_share)
        elif roll < 0.6:
            text = self.joined()
        elif roll < 0.75:
            text = self.aggregate()
        else:
            text = self.pick(self.builtin_reads)
        roll = self.dice.random()
        if text.startswith("SELECT") and roll < 0.1:
            text = f"WITH x AS MATERIALIZED ({text}) SELECT count(*) FROM x"
        elif text.startswith("SELECT") and roll < 0.15 and not CATALOG.search(text):
            text = f"EXPLAIN (COSTS off{self.pick(['', ', ANALYZE, TIMING off, SUMMARY off, BUFFERS off'])}) {text}"
        elif text.startswith("SELECT") and roll < 0.2:
            text = f"({text}) UNION ALL ({text})"
        return text, is_read

    def as_sent(self, who, text, **more):
        if ";" not in text and self.dice.random() < 0.4:
            sent = parse(text) + bind() + describe_portal() + execute() + SYNC
            return Step(who, "extended", text, sent, **more)
        return Step(who, "simple", text, query(text), **more)

    def read_step(self, who, false_share=0.0):
        if self.dice.random() < 0.15:
            text, count, is_read = self.pick(PARSED[:3] + PARSED[8:9] + PARSED[12:13])
            values = [self.dice.randint(1, 9) for _ in range(count)]
            sent = parse(text) + bind(values) + describe_portal() + execute() + SYNC
            return Step(who, "bound", f"{text} {values}", sent, is_read=is_read)
        text, is_read = self.read(false_share)
        if self.dice.random() < 0.07 and text.startswith(("SELECT", "WITH")):
            text = self.filled(f"COPY ({text}) TO STDOUT", who)
            return Step(who, "simple", text, query(text), is_read=is_read)
        return self.as_sent(who, self.filled(text, who), is_read=is_read)

    # Anything

    def pipeline(self, who):
        sent, tale, is_read = b"", [], True
        for _ in range(self.dice.randint(2, 5)):
            text, count, is_pure = self.pick(PARSED)
            values = [self.dice.randint(1, 9) for _ in range(count)]
            sent += parse(text) + bind(values) + execute()
            is_read &= is_pure
            tale.append(f"{text} {values}")
            if self.dice.random() < 0.1:
                sent += FLUSH
                is_read = False
        return Step(who, "pipeline", " | ".join(tale), sent + SYNC, is_read=is_read)

    def at_once(self, who):
        texts = [self.filled(self.pick(self.pick([WRITES, LATE_READS, BUILTIN_READS])), who) for _ in range(3)]
        return Step(who, "at once", " // ".join(texts), b"".join(map(query, texts)), answers=3)

    def copy(self, who):
        into = self.pick(["plain", "parts", "watched", "quick", "typed (id, n, word)"])
        head = query(f"COPY w.{into} FROM STDIN")
        row = copy_data(f"{self.dice.randint(30, 60)}\t3\tcopied\n".encode())
        way = self.pick(["row", "row", "row", "fail", "wrong"])
        rest = {"row": row + COPY_DONE, "fail": row + copy_fail("no"), "wrong": copy_data(b"x\n") + COPY_DONE}
        return Step(who, "copy", f"into {into}, {way}", head + rest[way])

    def from_list(self, texts):
        def make(who):
            return self.as_sent(who, self.filled(self.pick(texts), who))

        return make

    def schema_change(self, who):
        return self.as_sent(who, self.filled(self.pick(SCHEMA_CHANGES), who), is_alone=True)

    def any_step(self):
        who = self.dice.randrange(self.clients)
        kinds = [
            (lambda who: self.read_step(who, 0.25), 22), (self.from_list(WRITES), 14), (self.schema_change, 5),
            (self.from_list(LATE_READS), 8), (self.from_list(SETTINGS), 6), (self.from_list(BLOCKS), 9),
            (self.from_list(STATES), 6), (self.from_list(STRINGS), 4), (self.pipeline, 5), (self.at_once, 2),
            (self.copy, 2),
        ]  # fmt: skip
        makers, weights = zip(*kinds)
        return self.dice.choices(makers, weights)[0](who)

    def steps(self, count, rest_every=0):
        """So many steps; with `rest_every` each so many are followed by a rest and by reads."""
        made = []
        while len(made) < count:
            made.append(self.any_step())
            if rest_every and len(made) % rest_every == 0:
                made.append(Step(None, "rest", "", b"", answers=0))
                reads = [self.read_step(self.dice.randrange(self.clients), 0.02) for _ in range(rest_every)]
                made += reads
        return made

    def reads(self, count):
        """So many steps that only read."""
        made = (self.read_step(self.dice.randrange(self.clients)) for _ in range(10 * count))
        return [one for one in made if one.is_read][:count]
