"""Writes that change what a read of something else shows: each has to be seen at once.

A row of CHANGES is a write, a read, and what the read answers before and after. What is written and
what is read are never the same name, or it is the catalog that changes. SCHEMA makes what they need,
anew for each run; every row has objects of its own, so that none hides what another does.
"""

from wire import COPY_DONE, SYNC, bind, copy_data, execute, parse, query


class Change:
    """`write` and `read` are texts, or lists of messages that are each answered with one ReadyForQuery;
    `before` and `after` are the first column of the answer's last row, or a SQLSTATE."""

    def __init__(self, name, write, read, before, after, **more):
        self.name = name
        self.write = write
        self.read = read
        self.before = before
        self.after = after
        # True: the read runs on the primary in any case, so nobody can be told what is old.
        self.is_never_old = more.get("never_old", False)
        self.setup = more.get("setup", "")


def group(*statements):
    return b"".join(parse(one) + bind() + execute() for one in statements)


SCHEMA = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS c CASCADE;
CREATE SCHEMA c; GRANT ALL ON SCHEMA c TO PUBLIC; ALTER SCHEMA c OWNER TO app_trust;
GRANT CREATE ON DATABASE app TO app_trust;
SET ROLE app_trust; SET search_path = c;
"""
CLEAN = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS c CASCADE; DROP SCHEMA IF EXISTS changed_s CASCADE;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 4712;
REVOKE CREATE ON DATABASE app FROM app_trust;
"""

BASE = "CREATE TABLE {n}_a (id int PRIMARY KEY, v int); INSERT INTO {n}_a VALUES (1, 1), (2, 2);"
TWO = BASE + "CREATE TABLE {n}_b (id int, v int); INSERT INTO {n}_b VALUES (1, 1);"
BELOW = (
    BASE + "CREATE TABLE {n}_b (id int, a int REFERENCES {n}_a ON DELETE {what} ON UPDATE CASCADE);"
    " INSERT INTO {n}_b VALUES (1, 1), (2, 2);"
)
TRIGGER = """
CREATE FUNCTION {n}_f() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN {body}; RETURN coalesce(new, old); END$f$;
CREATE TRIGGER t {when} FOR EACH ROW EXECUTE FUNCTION {n}_f();
"""


def below(n, what):
    return BELOW.replace("{n}", n).replace("{what}", what)


def trigger(n, body, when):
    return TRIGGER.replace("{n}", n).replace("{body}", body).replace("{when}", when)


def made():
    """All rows. `c.NAME_a` and `c.NAME_b` are the tables of row NAME."""
    rows = []

    def add(name, setup, write, read, before, after, **more):
        texts = [one.replace("{n}", f"c.{name}") if isinstance(one, str) else one for one in (setup, write, read)]
        rows.append(Change(name, texts[1], texts[2], before, after, setup=texts[0], **more))

    # Foreign keys
    add("cascade", below("{n}", "CASCADE"), "DELETE FROM {n}_a WHERE id = 1", "SELECT count(*) FROM {n}_b", "2", "1")
    add("set_null", below("{n}", "SET NULL"), "DELETE FROM {n}_a WHERE id = 1", "SELECT count(a) FROM {n}_b", "2", "1")
    add("on_update", below("{n}", "CASCADE"), "UPDATE {n}_a SET id = 9 WHERE id = 1", "SELECT max(a) FROM {n}_b", "2", "9")
    add("truncated", below("{n}", "CASCADE"), "TRUNCATE {n}_a CASCADE", "SELECT count(*) FROM {n}_b", "2", "0")
    add(
        "cascade_trigger",
        below("{n}", "CASCADE") + "CREATE TABLE {n}_c (v int);"
        + trigger("{n}", "INSERT INTO {n}_c VALUES (1)", "AFTER DELETE ON {n}_b"),
        "DELETE FROM {n}_a WHERE id = 1", "SELECT count(*) FROM {n}_c", "0", "1",
    )  # fmt: skip

    # Triggers and rules
    into_b = "UPDATE {n}_b SET v = new.v"
    add("trigger", TWO + trigger("{n}", into_b, "AFTER UPDATE ON {n}_a"),
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("dynamic_trigger", TWO + trigger("{n}", "EXECUTE 'UPDATE {n}_' || 'b SET v = 7'", "BEFORE UPDATE ON {n}_a"),
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("chain", TWO + "CREATE TABLE {n}_c (v int);" + trigger("{n}", into_b, "AFTER UPDATE ON {n}_a")
        + trigger("{n}_b", "INSERT INTO {n}_c VALUES (new.v)", "AFTER UPDATE ON {n}_b").replace("FUNCTION c.{n}", "FUNCTION {n}"),
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT count(*) FROM {n}_c", "0", "1")  # fmt: skip
    add("deferred", TWO + trigger("{n}", into_b, "AFTER UPDATE ON {n}_a DEFERRABLE INITIALLY DEFERRED").replace(
            "CREATE TRIGGER", "CREATE CONSTRAINT TRIGGER"),
        "BEGIN; UPDATE {n}_a SET v = 7 WHERE id = 1; COMMIT", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("by_copy", TWO + trigger("{n}", into_b, "AFTER INSERT ON {n}_a"),
        [query("COPY c.by_copy_a FROM STDIN") + copy_data(b"3\t7\n") + COPY_DONE], "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("rule_also", TWO + "CREATE RULE r AS ON UPDATE TO {n}_a DO ALSO UPDATE {n}_b SET v = new.v;",
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("rule_instead", TWO + "CREATE VIEW {n}_v AS SELECT 1 AS v;"
        " CREATE RULE r AS ON UPDATE TO {n}_v DO INSTEAD UPDATE {n}_b SET v = new.v;",
        "UPDATE {n}_v SET v = 7", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("instead_of", TWO + "CREATE VIEW {n}_v AS SELECT * FROM {n}_a;"
        + trigger("{n}", into_b, "INSTEAD OF UPDATE ON {n}_v"),
        "UPDATE {n}_v SET v = 7 WHERE id = 1", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip

    # Views
    views = BASE + "CREATE VIEW {n}_v AS SELECT * FROM {n}_a WHERE id = 1; CREATE VIEW {n}_w AS SELECT v FROM {n}_v;"
    add("view", views, "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT v FROM {n}_w", "1", "7")
    add("through_view", views, "UPDATE {n}_v SET v = 7", "SELECT v FROM {n}_a WHERE id = 1", "1", "7")
    add("view_of_function", BASE + "CREATE FUNCTION {n}_f() RETURNS bigint STABLE LANGUAGE plpgsql AS"
        " 'BEGIN RETURN (SELECT sum(v) FROM {n}_a); END'; CREATE VIEW {n}_v AS SELECT {n}_f();",
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT * FROM {n}_v", "3", "9")  # fmt: skip
    add("matview", BASE + "CREATE MATERIALIZED VIEW {n}_m AS SELECT sum(v) FROM {n}_a; UPDATE {n}_a SET v = 7 WHERE id = 1;",
        "REFRESH MATERIALIZED VIEW {n}_m", "SELECT * FROM {n}_m", "3", "9")  # fmt: skip
    add("view_of_matview", BASE + "CREATE MATERIALIZED VIEW {n}_m AS SELECT sum(v) FROM {n}_a;"
        " CREATE VIEW {n}_v AS SELECT * FROM {n}_m; UPDATE {n}_a SET v = 7 WHERE id = 1;",
        "REFRESH MATERIALIZED VIEW {n}_m", "SELECT * FROM {n}_v", "3", "9")  # fmt: skip

    # Functions that write
    for name, language, body in [
        ("sql", "sql", "UPDATE c.by_sql_b SET v = 7"),
        ("plpgsql", "plpgsql", "BEGIN UPDATE c.by_plpgsql_b SET v = 7; END"),
        ("dynamic", "plpgsql", "BEGIN EXECUTE 'UPDATE c.by_dynamic_' || 'b SET v = 7'; END"),
    ]:
        function = TWO + f"CREATE FUNCTION {{n}}_f() RETURNS void LANGUAGE {language} AS $f${body}$f$;"
        add(f"by_{name}", function, "SELECT {n}_f() FROM {n}_a LIMIT 1", "SELECT v FROM {n}_b", "1", "7")
    seven = "CREATE FUNCTION {n}_f() RETURNS int LANGUAGE plpgsql AS 'BEGIN UPDATE {n}_b SET v = 7; RETURN 7; END';"
    add("definer", TWO + seven + "ALTER FUNCTION {n}_f SECURITY DEFINER SET work_mem = '5MB';",
        "SELECT {n}_f()", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("default", TWO + seven + "ALTER TABLE {n}_a ALTER v SET DEFAULT {n}_f();",
        "INSERT INTO {n}_a (id) VALUES (5)", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("domain", TWO + seven + "CREATE FUNCTION {n}_g(int) RETURNS boolean LANGUAGE sql AS 'SELECT {n}_f() = 7';"
        " CREATE DOMAIN {n}_d AS int CHECK ({n}_g(VALUE)); ALTER TABLE {n}_a ADD COLUMN d {n}_d;"
        " UPDATE {n}_b SET v = 1;",
        "UPDATE {n}_a SET d = 3", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("lying_default", TWO + "CREATE FUNCTION {n}_f() RETURNS int STABLE LANGUAGE sql AS 'SELECT {n}_g()';".replace(
            "CREATE", "CREATE FUNCTION {n}_g() RETURNS int LANGUAGE plpgsql AS 'BEGIN UPDATE {n}_b SET v = 7; RETURN 7; END'; CREATE", 1),
        "SELECT {n}_f()", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("constraint", TWO + seven + "ALTER TABLE {n}_a ADD CHECK ({n}_f() = 7); UPDATE {n}_b SET v = 1;",
        "INSERT INTO {n}_a VALUES (5, 5)", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("policy_writes", TWO + seven + "ALTER TABLE {n}_a ENABLE ROW LEVEL SECURITY; ALTER TABLE {n}_a FORCE ROW LEVEL"
        " SECURITY; CREATE POLICY p ON {n}_a USING ({n}_f() = 7);",
        "SELECT count(*) FROM {n}_a", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("view_writes", TWO + seven + "CREATE VIEW {n}_v AS SELECT {n}_f();",
        "SELECT * FROM {n}_v", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("operator", TWO + "CREATE FUNCTION {n}_f(int, int) RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE {n}_b SET v = 7; RETURN 7; END';"
        " CREATE OPERATOR c.@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = {n}_f);",
        "SELECT 1 OPERATOR(c.@@@) 2", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("cast", TWO + "CREATE TYPE {n}_t AS (v int); CREATE FUNCTION {n}_f(int) RETURNS {n}_t LANGUAGE sql AS"
        " 'UPDATE {n}_b SET v = 7; SELECT row($1)::{n}_t'; CREATE CAST (int AS {n}_t) WITH FUNCTION {n}_f(int);",
        "SELECT 5::{n}_t", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip

    # Functions that read
    for name, options, body in [
        ("sql", "STABLE LANGUAGE sql", "SELECT sum(v) FROM c.read_by_sql_a"),
        ("plpgsql", "STABLE LANGUAGE plpgsql", "BEGIN RETURN (SELECT sum(v) FROM c.read_by_plpgsql_a); END"),
        ("false", "IMMUTABLE LANGUAGE plpgsql", "BEGIN RETURN (SELECT sum(v) FROM c.read_by_false_a); END"),
        ("volatile", "LANGUAGE plpgsql", "BEGIN RETURN (SELECT sum(v) FROM c.read_by_volatile_a); END"),
        ("dynamic", "STABLE LANGUAGE plpgsql",
         "DECLARE r bigint; BEGIN EXECUTE 'SELECT sum(v) FROM c.read_by_dynamic_' || 'a' INTO r; RETURN r; END"),
    ]:  # fmt: skip
        setup = BASE + f"CREATE FUNCTION {{n}}_f() RETURNS bigint {options} AS $f${body}$f$;"
        add(f"read_by_{name}", setup, "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT {n}_f()", "3", "9", never_old=None)
    add("read_by_atomic", BASE + "CREATE FUNCTION {n}_f() RETURNS bigint STABLE LANGUAGE sql BEGIN ATOMIC"
        " SELECT sum(v) FROM {n}_a; END;", "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT {n}_f()", "3", "9", never_old=None)  # fmt: skip
    add("read_by_xml", BASE, "UPDATE {n}_a SET v = 7 WHERE id = 1",
        "SELECT query_to_xml('SELECT v FROM {n}_a WHERE id = 1', false, true, '')::text LIKE '%7%'", "f", "t", never_old=True)  # fmt: skip
    add("read_by_operator", BASE + "CREATE FUNCTION {n}_f(int, int) RETURNS bigint STABLE LANGUAGE sql AS"
        " 'SELECT sum(v) FROM {n}_a'; CREATE OPERATOR c.@@@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = {n}_f);",
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT 1 OPERATOR(c.@@@@) 2", "3", "9", never_old=None)  # fmt: skip
    add("policy", TWO + "ALTER TABLE {n}_b ENABLE ROW LEVEL SECURITY; ALTER TABLE {n}_b FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON {n}_b USING (EXISTS (SELECT FROM {n}_a x WHERE x.v = 7));",
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT count(*) FROM {n}_b", "0", "1")  # fmt: skip
    add("policy_function", TWO + "CREATE FUNCTION {n}_f() RETURNS boolean STABLE LANGUAGE plpgsql AS"
        " 'BEGIN RETURN EXISTS (SELECT FROM {n}_a x WHERE x.v = 7); END';"
        " ALTER TABLE {n}_b ENABLE ROW LEVEL SECURITY; ALTER TABLE {n}_b FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY p ON {n}_b USING ({n}_f());",
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT count(*) FROM {n}_b", "0", "1")  # fmt: skip

    # Partitions and children
    parts = (
        "CREATE TABLE {n}_a (id int, v int) PARTITION BY RANGE (id);"
        " CREATE TABLE {n}_l PARTITION OF {n}_a FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);"
        " CREATE TABLE {n}_ll PARTITION OF {n}_l FOR VALUES FROM (0) TO (5);"
        " CREATE TABLE {n}_lh PARTITION OF {n}_l FOR VALUES FROM (5) TO (10);"
        " CREATE TABLE {n}_h (id int, v int); INSERT INTO {n}_a VALUES (1, 1), (6, 1);"
    )
    add("partition_up", parts, "UPDATE {n}_ll SET v = 7", "SELECT max(v) FROM {n}_a", "1", "7")
    add("partition_down", parts, "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT max(v) FROM {n}_ll", "1", "7")
    add("partition_moves", parts, "UPDATE {n}_a SET id = 7 WHERE id = 1", "SELECT count(*) FROM {n}_lh", "1", "2")
    add("attach", parts + "INSERT INTO {n}_h VALUES (12, 5);",
        "ALTER TABLE {n}_a ATTACH PARTITION {n}_h FOR VALUES FROM (10) TO (20)", "SELECT max(v) FROM {n}_a", "1", "5")  # fmt: skip
    add("detach", parts, "ALTER TABLE {n}_l DETACH PARTITION {n}_lh", "SELECT count(*) FROM {n}_a", "2", "1")
    child = BASE + "CREATE TABLE {n}_k () INHERITS ({n}_a); INSERT INTO {n}_k VALUES (3, 3);"
    add("child", child, "UPDATE {n}_k SET v = 7", "SELECT max(v) FROM {n}_a", "3", "7")
    add("parent", child, "UPDATE {n}_a SET v = 7", "SELECT max(v) FROM {n}_k", "3", "7")
    add("trigger_of_partition", parts + "CREATE TABLE {n}_b (v int); INSERT INTO {n}_b VALUES (1);"
        + trigger("{n}", into_b, "AFTER UPDATE ON {n}_ll"),
        "UPDATE {n}_a SET v = 7 WHERE id = 1", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip

    # Ways to write that hide the table
    for name, write in [
        ("with", "WITH x AS (UPDATE {n}_b SET v = 7 RETURNING v) SELECT id FROM {n}_a LIMIT 1"),
        ("merge", "MERGE INTO {n}_b b USING {n}_a a ON a.id = b.id AND a.id = 1 WHEN MATCHED THEN UPDATE SET v = 7"),
        ("update_from", "UPDATE {n}_b b SET v = 7 FROM {n}_a a WHERE a.id = b.id"),
        ("explained", "EXPLAIN ANALYZE UPDATE {n}_b SET v = 7"),
        ("copy_of_update", "COPY (UPDATE {n}_b SET v = 7 RETURNING v) TO STDOUT"),
        ("do", "DO $$BEGIN EXECUTE 'UPDATE {n}_' || 'b SET v = 7'; END$$"),
        ("do_commits", "DO $$BEGIN UPDATE {n}_b SET v = 7; COMMIT; PERFORM 1; END$$"),
        ("prepared", "PREPARE {n}x AS UPDATE {n}_b SET v = 7; EXECUTE {n}x; DEALLOCATE {n}x".replace("{n}x", "changes_p")),
        ("two_writes", "BEGIN; UPDATE {n}_a SET v = 5; UPDATE {n}_b SET v = 7; COMMIT"),
        ("savepoint", "BEGIN; UPDATE {n}_b SET v = 7; SAVEPOINT s; UPDATE {n}_a SET v = 9; ROLLBACK TO s; COMMIT"),
        ("temporary", "BEGIN; CREATE TEMP TABLE changes_t ON COMMIT DROP AS SELECT 7 AS v;"
                      " UPDATE {n}_b SET v = t.v FROM changes_t t; COMMIT"),
        ("unflushed", "BEGIN; SET LOCAL synchronous_commit = off; UPDATE {n}_b SET v = 7; COMMIT"),
        ("error_behind", "BEGIN; UPDATE {n}_b SET v = 7; COMMIT; SELECT 1/0"),
        ("chain_commit", "BEGIN; UPDATE {n}_b SET v = 7; COMMIT AND CHAIN; SELECT 1; ROLLBACK"),
        ("delete_using", "DELETE FROM {n}_b b USING {n}_a a WHERE a.id = b.id; INSERT INTO {n}_b VALUES (1, 7)"),
        ("cursor", "BEGIN; DECLARE d CURSOR FOR SELECT * FROM {n}_b FOR UPDATE; FETCH d;"
                   " UPDATE {n}_b SET v = 7 WHERE CURRENT OF d; COMMIT"),
    ]:  # fmt: skip
        add(name, TWO, write, "SELECT v FROM {n}_b", "1", "7")
    pipeline = group("BEGIN", "UPDATE c.pipeline_b SET v = 7", "COMMIT", "SELECT 1") + SYNC
    add("pipeline", TWO, [pipeline], "SELECT v FROM {n}_b", "1", "7")
    in_two = [query("BEGIN; UPDATE c.two_phase_b SET v = 7; PREPARE TRANSACTION 'changes'")]
    add("two_phase", TWO, in_two + [query("COMMIT PREPARED 'changes'")], "SELECT v FROM {n}_b", "1", "7")
    failing = group("UPDATE c.failing_b SET v = 7", "COMMIT", "SELECT 1/0") + SYNC
    add("failing", TWO, [group("BEGIN") + SYNC, failing], "SELECT v FROM {n}_b", "1", "7")
    add("call", TWO + "CREATE PROCEDURE {n}_p() LANGUAGE plpgsql AS 'BEGIN UPDATE {n}_b SET v = 7; COMMIT; PERFORM 1; END';"
        " CREATE PROCEDURE {n}_q() LANGUAGE plpgsql AS 'BEGIN CALL {n}_p(); END';",
        "CALL {n}_q()", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip
    add("call_fails", TWO + "CREATE PROCEDURE {n}_p() LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE {n}_b SET v = 7; COMMIT; PERFORM 1/0; END';",
        "CALL {n}_p()", "SELECT v FROM {n}_b", "1", "7")  # fmt: skip

    # Ways to read that hide the table
    for name, read in [
        ("sub_select", "SELECT (SELECT v FROM {n}_b) FROM {n}_a LIMIT 1"),
        ("exists", "SELECT 7 FROM {n}_a WHERE EXISTS (SELECT FROM {n}_b WHERE v = 7) LIMIT 1"),
        ("copied", "COPY (SELECT v FROM {n}_b) TO STDOUT"),
        ("with_read", "WITH x AS (TABLE {n}_b) SELECT v FROM x"),
        ("read_only", "BEGIN READ ONLY; SELECT v FROM {n}_b; COMMIT"),
        ("several", "SELECT 1; SELECT v FROM {n}_b"),
        ("joined", "SELECT b.v FROM {n}_a a LEFT JOIN {n}_b b USING (id) WHERE id = 1"),
        ("lateral", "SELECT x.v FROM {n}_a a, LATERAL (SELECT v FROM {n}_b b WHERE b.id = a.id) x"),
        ("values", "VALUES ((SELECT v FROM {n}_b))"),
        ("union", "SELECT v FROM {n}_b WHERE v > 1 UNION ALL SELECT 1 WHERE NOT EXISTS (SELECT FROM {n}_b WHERE v > 1)"),
        ("explain_analyze", "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) SELECT FROM {n}_b WHERE v = 7"),
        ("at_one_s_own_path", "SET search_path = c; SELECT v FROM at_one_s_own_path_b"),
    ]:
        before, after = ("1", "7") if name not in ("exists", "explain_analyze") else (None, None)
        add(f"{name}", TWO, "UPDATE {n}_b SET v = 7", read, before, after)
    return rows


CHANGES = made()

# What changes the catalog itself; the reads need what the standbys have not yet.
SCHEMA_CHANGES = [
    Change("create", "CREATE TABLE c.create_a AS SELECT 7 AS v", "SELECT v FROM c.create_a", "42P01", "7"),
    Change("into", "SELECT 7 AS v INTO c.into_a", "SELECT v FROM c.into_a", "42P01", "7"),
    Change("drop", "DROP TABLE c.drop_a", "SELECT v FROM c.drop_a", "7", "42P01", setup="CREATE TABLE c.drop_a AS SELECT 7 AS v"),
    Change("rename", "ALTER TABLE c.rename_a RENAME TO rename_b", "SELECT v FROM c.rename_b", "42P01", "7",
           setup="CREATE TABLE c.rename_a AS SELECT 7 AS v"),
    Change("add_column", "ALTER TABLE c.add_a ADD COLUMN v int DEFAULT 7", "SELECT v FROM c.add_a", "42703", "7",
           setup="CREATE TABLE c.add_a AS SELECT 1 AS id"),
    Change("drop_column", "ALTER TABLE c.drop_c DROP COLUMN v", "SELECT v FROM c.drop_c", "7", "42703",
           setup="CREATE TABLE c.drop_c AS SELECT 7 AS v"),
    Change("view", "CREATE VIEW c.made_v AS SELECT 7 AS v", "SELECT v FROM c.made_v", "42P01", "7"),
    Change("replace_view", "CREATE OR REPLACE VIEW c.replaced_v AS SELECT 7 AS v", "SELECT v FROM c.replaced_v", "1", "7",
           setup="CREATE VIEW c.replaced_v AS SELECT 1 AS v"),
    Change("function", "CREATE FUNCTION c.made_f() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 7'", "SELECT c.made_f()", "42883", "7"),
    Change("replace_function", "CREATE OR REPLACE FUNCTION c.replaced_f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 7'",
           "SELECT c.replaced_f()", "1", "7", setup="CREATE FUNCTION c.replaced_f() RETURNS int STABLE LANGUAGE sql AS 'SELECT 1'",
           never_old=None),
    Change("schema", "CREATE SCHEMA changed_s CREATE TABLE t (v int)", "SELECT count(*) FROM changed_s.t", "42P01", "0"),
    Change("type", "CREATE TYPE c.made_t AS ENUM ('x', 'y')", "SELECT 'x'::c.made_t", "42704", "x"),
    Change("enum", "ALTER TYPE c.mood ADD VALUE 'z'", "SELECT 'z'::c.mood", "22P02", "z", setup="CREATE TYPE c.mood AS ENUM ('x')"),
    Change("comment", "COMMENT ON SCHEMA c IS 'seven'", "SELECT obj_description('c'::regnamespace)", None, "seven"),
    Change("grant", "REVOKE ALL ON c.granted_a FROM PUBLIC, app_trust", "SELECT v FROM c.granted_a", "7", "42501",
           setup="CREATE TABLE c.granted_a AS SELECT 7 AS v"),
    Change("policy", "CREATE POLICY p ON c.ruled_a USING (v = 7)", "SELECT count(*) FROM c.ruled_a", "0", "1",
           setup="CREATE TABLE c.ruled_a AS SELECT 7 AS v; ALTER TABLE c.ruled_a ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
    Change("catalog", "CREATE TABLE c.listed_a ()", "SELECT count(*) FROM pg_class WHERE relname = 'listed_a'", "0", "1"),
    Change("information_schema", "CREATE TABLE c.told_a ()",
           "SELECT count(*) FROM information_schema.tables WHERE table_name = 'told_a'", "0", "1"),
    Change("sequence", "SELECT nextval('c.counted_s')", "SELECT last_value FROM c.counted_s", "5", "6", never_old=True,
           setup="CREATE SEQUENCE c.counted_s START 5; SELECT nextval('c.counted_s')"),
    Change("in_a_block", "DO $$BEGIN EXECUTE 'CREATE TABLE c.blocked_a AS SELECT 7 AS v'; END$$", "SELECT v FROM c.blocked_a", "42P01", "7"),
    Change("in_a_transaction", "BEGIN; CREATE TABLE c.late_a (v int); INSERT INTO c.late_a VALUES (7); COMMIT",
           "SELECT v FROM c.late_a", "42P01", "7"),
    Change("constraint", "ALTER TABLE c.tied_a ADD CONSTRAINT seven CHECK (v = 7)",
           "SELECT conname FROM pg_constraint WHERE conname = 'seven'", None, "seven", setup="CREATE TABLE c.tied_a AS SELECT 7 AS v"),
    Change("large_object", "SELECT lo_from_bytea(4712, 'seven')", "SELECT lo_get(4712)", "42704", "\\x736576656e", never_old=True),
]  # fmt: skip
