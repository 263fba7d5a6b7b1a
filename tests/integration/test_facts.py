"""What the catalog says decides where statements run, and which of them have to be fresh.

The schema has all that a statement can hide: functions that write, behind views, policies, operators,
casts, domains and columns; relations that a standby does not have; and writes that reach further
than the table they name.
"""

import time

import pytest

from console import wait_until
from pooler import PATIENCE
from routed import Watch, entry_of, replay_paused, start_routed, stopped
from wire import COPY_DONE, SYNC, bind, copy_data, execute, parse, query

pytestmark = pytest.mark.weir_only

SCHEMA = """
CREATE SCHEMA facts; CREATE SCHEMA other;
SET search_path = facts;
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE);
CREATE TABLE items (id int PRIMARY KEY, orders int REFERENCES orders ON DELETE SET NULL, n int);
CREATE TABLE plain (id serial PRIMARY KEY, n int);
CREATE TABLE log (n int);
CREATE TABLE audited (id int PRIMARY KEY, n int);
CREATE TABLE stamped (id int PRIMARY KEY, n int, at timestamptz);
CREATE TABLE ruled (n int);
CREATE TABLE guarded (n int);
CREATE TABLE events (id int, day int) PARTITION BY LIST (day);
CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
CREATE TABLE events_2 PARTITION OF events FOR VALUES IN (2);
CREATE TABLE parent (n int);
CREATE TABLE child () INHERITS (parent);
CREATE UNLOGGED TABLE fleeting (n int);
CREATE SEQUENCE numbers;
CREATE TABLE other.plain (n int);

CREATE FUNCTION bump() RETURNS bigint LANGUAGE sql AS 'SELECT nextval(''facts.numbers'')';
CREATE FUNCTION honest(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n + 1';
CREATE FUNCTION counts() RETURNS bigint LANGUAGE plpgsql STABLE
    AS 'BEGIN RETURN (SELECT count(*) FROM facts.log); END';
CREATE FUNCTION atomic() RETURNS bigint STABLE BEGIN ATOMIC SELECT count(*) FROM log; END;
CREATE FUNCTION liar() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT facts.bump()';
CREATE FUNCTION setter() RETURNS text LANGUAGE sql STABLE
    AS 'SELECT set_config(''work_mem'', ''1MB'', false)';
CREATE FUNCTION locker() RETURNS void LANGUAGE sql STABLE AS 'SELECT pg_advisory_lock(7)';
CREATE FUNCTION upper(int) RETURNS bigint LANGUAGE sql AS 'SELECT facts.bump()';
CREATE FUNCTION public.full_name(customers) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.name';
CREATE FUNCTION public.touched(customers) RETURNS bigint LANGUAGE sql AS 'SELECT facts.bump()';
CREATE FUNCTION plus_bump(int, int) RETURNS bigint LANGUAGE sql AS 'SELECT facts.bump()';
CREATE FUNCTION is_good(int) RETURNS boolean LANGUAGE sql AS 'SELECT facts.bump() > 0';
CREATE FUNCTION add_up(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT facts.bump()';
CREATE OPERATOR ##! (LEFTARG = int, RIGHTARG = int, FUNCTION = plus_bump);
CREATE AGGREGATE adding(int) (SFUNC = add_up, STYPE = bigint);
CREATE DOMAIN good AS int CHECK (is_good(VALUE));

CREATE VIEW on_bump AS SELECT bump();
CREATE VIEW on_view AS SELECT * FROM on_bump;
CREATE VIEW on_builtin AS SELECT pg_try_advisory_lock(8) AS got;
CREATE VIEW on_locks AS SELECT * FROM pg_locks;
CREATE VIEW on_fleeting AS SELECT * FROM fleeting;
CREATE VIEW on_orders AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = customer;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM plain;
CREATE VIEW writable AS SELECT id, n FROM plain;

CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN INSERT INTO facts.log VALUES (new.n); RETURN new; END';
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION audit();
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN IF TG_OP = ''UPDATE'' THEN new.at := clock_timestamp(); END IF; RETURN new; END';
CREATE TRIGGER stamp BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE RULE spread AS ON INSERT TO ruled DO ALSO INSERT INTO log VALUES (new.n);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY watch ON guarded USING (bump() > 0);

INSERT INTO customers VALUES (1, 'a'), (2, 'b');
INSERT INTO orders VALUES (1, 1), (2, 2);
INSERT INTO items VALUES (1, 1, 1), (2, 2, 2);
INSERT INTO stamped VALUES (1, 1);
INSERT INTO audited VALUES (1, 1);
INSERT INTO events VALUES (1, 1), (2, 2);
GRANT USAGE ON SCHEMA facts, other TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA facts, other TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA facts TO PUBLIC;
"""

READS = [
    "SELECT * FROM facts.plain",
    "SELECT facts.honest(1)",
    "SELECT facts.counts()",
    "SELECT facts.atomic()",
    "SELECT pg_catalog.upper('a')",
    "SELECT c.full_name FROM facts.customers c",
    "SELECT * FROM facts.on_orders",
    "SELECT * FROM facts.kept",
    "SELECT * FROM facts.events",
    "SELECT n + 1 FROM facts.parent",
    "WITH nowhere AS (SELECT 1 AS n) SELECT * FROM nowhere",
    "SELECT '1'::int, 1 = ANY (ARRAY[1, 2]), 'x' LIKE 'y'",
    "SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace",
    "SELECT column_name FROM information_schema.columns LIMIT 1",
    "COPY (SELECT * FROM facts.plain) TO STDOUT",
    "EXPLAIN SELECT * FROM facts.on_orders",
]

# With a word of the reason
PRIMARY = [
    ("SELECT facts.bump()", "calls facts.bump(), volatile"),
    ("SELECT facts.liar()", "calls facts.liar(), through facts.bump(), volatile"),
    ("SELECT facts.setter()", "calls what is not for replicas"),
    ("SELECT facts.locker()", "calls what is not for replicas"),
    ("SELECT upper('a')", "calls facts.upper(), volatile"),
    ("SELECT facts.upper(1)", "calls facts.upper(), volatile"),
    ("SELECT c.touched FROM facts.customers c", "calls public.touched(), volatile"),
    ("SELECT (c).touched FROM facts.customers c", "calls public.touched(), volatile"),
    ("SELECT 1 OPERATOR(facts.##!) 2", "through facts.plus_bump(), volatile"),
    ("SELECT facts.adding(1)", "through facts.add_up(), volatile"),
    ("SELECT 1::facts.good", "through facts.is_good(), volatile"),
    ("SELECT * FROM facts.on_bump", "reads facts.on_bump, through facts.bump(), volatile"),
    ("SELECT * FROM facts.on_view", "reads facts.on_view, through facts.bump(), volatile"),
    ("SELECT * FROM facts.on_builtin", "pg_try_advisory_lock()"),
    ("SELECT * FROM facts.on_locks", "shows one node only"),
    ("SELECT * FROM facts.on_fleeting", "through facts.fleeting, an unlogged table"),
    ("SELECT * FROM facts.fleeting", "reads facts.fleeting, an unlogged table"),
    ("SELECT * FROM facts.guarded", "reads facts.guarded, through facts.bump(), volatile"),
    ("SELECT last_value FROM facts.numbers", "reads facts.numbers, a sequence"),
    ("SELECT * FROM facts.nowhere", "is not in the catalog"),
    ("SELECT facts.nothing()", "is not known to be harmless"),
    ("EXPLAIN SELECT * FROM facts.fleeting", "an unlogged table"),
]


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql(SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql("DROP SCHEMA facts, other CASCADE")


@pytest.fixture
def routed(start_pooler, cluster):
    return start_routed(start_pooler, cluster)


@pytest.fixture
def watch(routed):
    watch = Watch(routed)
    watch.settle()
    return watch


def extended(client, sql):
    return client.ask(parse(sql), bind(), execute(), SYNC)


def test_where_names_lead(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    watch = Watch(routed)
    watch.settle()
    wrong = []
    for run in (lambda client, sql: client.query(sql), extended):
        for sql, why in [(sql, None) for sql in READS] + PRIMARY:
            with routed.client("postgres") as client:
                answer = run(client, sql)
            where, reason = watch.where(), watch.route(sql)["reason"]
            if where != ("replica" if why is None else "primary"):
                wrong.append((sql, where, reason))
            if why is not None and why not in reason:
                wrong.append((sql, reason))
            if why is None and answer.errors:
                wrong.append((sql, answer))
    assert not wrong, "\n".join(map(str, wrong))
    for node in cluster.standbys:
        assert "cannot execute" not in node.log_text(), node.log_text()[-2000:]


def test_replica_allow(start_pooler, cluster):
    """What a list names is believed, for one database, and a RELOAD or SET may change it."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "lax": entry_of(nodes, routing="read_write", replica_allow="facts.volatile_read"),
    }
    cluster.primary.sql(
        "CREATE FUNCTION facts.volatile_read() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    )
    cluster.wait_replayed()
    routed = start_routed(start_pooler, cluster, databases=databases)
    strict, lax = Watch(routed), Watch(routed, "lax")
    sql = "SELECT facts.volatile_read()"
    for watch in (strict, lax):
        watch.settle()
    assert (strict.route(sql)["target"], lax.route(sql)["target"]) == ("primary", "replica")
    with routed.client(database="lax") as client:
        assert client.query(sql).value == "1" and lax.where() == "replica"
    routed.admin("SET replica_allow = 'volatile_read'")
    wait_until(lambda: strict.route(sql)["target"] == "replica")
    cluster.primary.sql("DROP FUNCTION facts.volatile_read")


def test_show_facts(watch):
    rows = watch.show("FACTS")
    assert rows[0]["state"] == "current" and rows[0]["kind"] == "catalog"
    facts = {(row["kind"], row["name"]): row for row in rows if row["schema"] == "facts"}
    bump = facts["function", "bump"]
    assert (bump["effect"], bump["reason"]) == ("primary, may write", "facts.bump(), volatile")
    assert facts["relation", "fleeting"]["effect"] == "primary"
    assert facts["relation", "audited"]["effect"] == "writes may change anything"
    assert facts["function", "counts"]["effect"] == "reads may see anything"
    assert facts["operator", "##!"]["effect"] == "primary, may write"
    for plain in (("relation", "plain"), ("relation", "stamped"), ("function", "stamp")):
        assert plain not in facts


# What DDL changes

STEPS = [
    # DDL, a statement, and where it runs from then on
    ("CREATE TABLE facts.fresh (n int)", "SELECT * FROM facts.fresh", "replica"),
    ("ALTER TABLE facts.fresh SET UNLOGGED", "SELECT * FROM facts.fresh", "primary"),
    ("ALTER TABLE facts.fresh SET LOGGED", "SELECT * FROM facts.fresh", "replica"),
    ("CREATE FUNCTION facts.turns() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'",
     "SELECT facts.turns()", "replica"),
    ("ALTER FUNCTION facts.turns() VOLATILE", "SELECT facts.turns()", "primary"),
    ("CREATE OR REPLACE FUNCTION facts.turns() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'",
     "SELECT facts.turns()", "replica"),
    ("CREATE FUNCTION facts.turns(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
     "SELECT facts.turns()", "primary"),
    ("DROP FUNCTION facts.turns(int)", "SELECT facts.turns()", "replica"),
    ("CREATE VIEW facts.turning AS SELECT facts.turns()", "SELECT * FROM facts.turning", "replica"),
    ("ALTER FUNCTION facts.turns() VOLATILE", "SELECT * FROM facts.turning", "primary"),
    ("DROP VIEW facts.turning; DROP FUNCTION facts.turns; DROP TABLE facts.fresh", "SELECT 1",
     "replica"),
]


@pytest.mark.parametrize("run", [lambda client, sql: client.query(sql), extended],
                         ids=["simple", "extended"])
def test_ddl_counts_at_once(routed, watch, run):
    """The next statement, of any client, never runs by what was known before; soon by what is."""
    with routed.client("postgres") as one, routed.client("postgres") as other:
        other.ask(parse("SELECT * FROM facts.plain", "kept"), SYNC)
        for ddl, sql, where in STEPS:
            assert not one.query(ddl).errors, ddl
            answer = run(other, sql)
            assert not answer.errors, (ddl, sql, answer)
            if where == "primary":
                assert watch.by_role().get("replica", 0) == 0, (ddl, sql)
            wait_until(lambda: watch.show("FACTS")[0]["state"] == "current")
            watch.settle()
            assert not run(other, sql).errors
            assert watch.where() == where, (ddl, sql, watch.route(sql))
            assert not other.ask(bind(name="kept"), execute(), SYNC).errors
            watch.queries()


def test_ddl_in_a_transaction_counts_with_its_commit(routed, watch):
    with routed.client("postgres") as one, routed.client("postgres") as other:
        one.query("BEGIN")
        one.query("CREATE TABLE facts.later (n int)")
        watch.settle()
        assert other.query("SELECT count(*) FROM facts.plain").value is not None
        assert watch.where() == "replica"
        one.query("COMMIT")
        assert not other.query("SELECT * FROM facts.later").errors
        one.query("DROP TABLE facts.later")


def test_ddl_past_weir_is_found(routed, watch, cluster):
    """By the fingerprint, a moment later."""
    cluster.primary.sql(
        "CREATE FUNCTION facts.elsewhere() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'"
    )
    sql = "SELECT facts.elsewhere()"
    wait_until(lambda: watch.route(sql)["target"] == "replica", seconds=5 * PATIENCE)
    cluster.primary.sql("ALTER FUNCTION facts.elsewhere() VOLATILE")
    wait_until(lambda: watch.route(sql)["target"] == "primary", seconds=5 * PATIENCE)
    cluster.primary.sql("DROP FUNCTION facts.elsewhere")


def test_what_ddl_makes_is_there(start_pooler, cluster):
    """With replicas that have not replayed it, nobody is told that a table, a type, a function or a
    role does not exist."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with routed.client("postgres") as one, routed.client("postgres") as other:
        with replay_paused(*cluster.standbys):
            one.query("CREATE TABLE facts.made (n int)")
            assert not other.query("SELECT * FROM facts.made").errors
            one.query("CREATE TYPE facts.mood AS ENUM ('good', 'bad')")
            assert not other.query("SELECT 'good'::facts.mood").errors
            one.query("CREATE FUNCTION facts.f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'")
            assert not other.query("SELECT facts.f()").errors
            one.query("CREATE ROLE facts_made")
            assert other.query("SELECT count(*) FROM pg_roles WHERE rolname = 'facts_made'"
                               ).value == "1"
            assert other.query("SELECT pg_has_role('facts_made', 'usage')").value == "t"
    cluster.primary.sql("DROP ROLE facts_made")


def test_roles_are_everywhere_at_once(start_pooler, cluster):
    """What belongs to all databases counts for the others too."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "post": entry_of(nodes, routing="read_write", dbname="postgres"),
    }
    routed = start_routed(start_pooler, cluster, databases=databases)
    Watch(routed, "post").settle()
    Watch(routed).settle()
    with routed.client("postgres") as one, routed.client("postgres", database="post") as other:
        with replay_paused(*cluster.standbys):
            one.query("CREATE ROLE facts_other")
            assert other.query("SELECT count(*) FROM pg_roles WHERE rolname = 'facts_other'"
                               ).value == "1"
    cluster.primary.sql("DROP ROLE facts_other")


# Which reads have to be fresh

# A write, the reads that must see it, and reads that need not
REACH = [
    ("INSERT INTO facts.plain (n) VALUES (1)",
     ["SELECT count(*) FROM facts.plain", "SELECT count(*) FROM facts.writable",
      "SELECT facts.counts()"],
     ["SELECT count(*) FROM facts.customers", "SELECT count(*) FROM facts.kept", "SELECT 1",
      "SELECT facts.atomic()", "SELECT count(*) FROM pg_class"]),
    ("INSERT INTO facts.writable (n) VALUES (1)", ["SELECT count(*) FROM facts.plain"],
     ["SELECT count(*) FROM facts.customers"]),
    ("UPDATE facts.items SET n = n + 1", ["SELECT sum(n) FROM facts.items"],
     ["SELECT count(*) FROM facts.orders"]),
    ("DELETE FROM facts.customers WHERE id = 2",
     ["SELECT count(*) FROM facts.orders", "SELECT count(*) FROM facts.items WHERE orders IS NULL",
      "SELECT count(*) FROM facts.on_orders"],
     ["SELECT count(*) FROM facts.plain"]),
    ("INSERT INTO facts.customers VALUES (2, 'b')", ["SELECT count(*) FROM facts.on_orders"],
     ["SELECT count(*) FROM facts.items"]),
    ("INSERT INTO facts.audited VALUES (nextval('facts.numbers') + 10, 1)",
     ["SELECT count(*) FROM facts.log", "SELECT facts.atomic()"], []),
    ("UPDATE facts.stamped SET n = n + 1", ["SELECT sum(n) FROM facts.stamped"],
     ["SELECT count(*) FROM facts.log"]),
    ("INSERT INTO facts.ruled VALUES (1)", ["SELECT count(*) FROM facts.log"], []),
    ("INSERT INTO facts.events VALUES (3, 1)", ["SELECT count(*) FROM facts.events_1"],
     ["SELECT count(*) FROM facts.plain"]),
    ("INSERT INTO facts.events_2 VALUES (3, 2)", ["SELECT count(*) FROM facts.events"],
     ["SELECT count(*) FROM facts.plain"]),
    ("INSERT INTO facts.child VALUES (3)", ["SELECT count(*) FROM facts.parent"], []),
    ("REFRESH MATERIALIZED VIEW facts.kept", ["SELECT * FROM facts.kept"],
     ["SELECT count(*) FROM facts.plain"]),
    ("COPY facts.plain (n) FROM STDIN", ["SELECT count(*) FROM facts.plain"],
     ["SELECT count(*) FROM facts.customers"]),
    ("SELECT nextval('facts.numbers')", [], ["SELECT count(*) FROM facts.plain"]),
    ("SELECT * FROM facts.plain FOR UPDATE", [], ["SELECT count(*) FROM facts.plain"]),
    ("DO 'BEGIN INSERT INTO facts.log VALUES (1); END'", ["SELECT count(*) FROM facts.log"], []),
    ("SELECT facts.bump()", ["SELECT count(*) FROM facts.plain"], []),
    ("INSERT INTO plain (n) VALUES (1)",
     ["SELECT count(*) FROM facts.plain", "SELECT count(*) FROM other.plain",
      "SELECT count(*) FROM plain"],
     ["SELECT count(*) FROM facts.customers"]),
]


def write(client, sql):
    copied = [copy_data(b"1\n"), COPY_DONE] if sql.startswith("COPY") else []
    client.send(query(sql), *copied)
    answer = client.answer()
    assert not answer.errors, (sql, answer)


def test_floors_of_relations(start_pooler, cluster):
    """With replicas that stand still, a write moves those reads to the primary that it may change,
    which answer as the primary itself does, and no others."""
    routed = start_routed(start_pooler, cluster, {"session_state": "track"})
    watch = Watch(routed)
    wrong = []
    for sql, changed, unchanged in REACH:
        watch.settle()
        with routed.client("postgres", search_path="facts") as writer:
            with replay_paused(*cluster.standbys):
                write(writer, sql)
                watch.queries()
                for read in changed + unchanged:
                    with routed.client("postgres", search_path="facts") as reader:
                        answer = reader.query(read)
                    where = watch.where()
                    if where != ("primary" if read in changed else "replica"):
                        wrong.append((sql, read, where, watch.route(read)["reason"]))
                    if read in changed:
                        direct = cluster.primary.sql("SET search_path = facts; " + read)
                        if answer.value != direct:
                            wrong.append((sql, read, answer.value, direct))
    assert not wrong, "\n".join(map(str, wrong))


def test_reads_of_other_tables_stay_on_replicas(routed, watch, cluster):
    """One table is written all the time, another one is read."""
    with routed.client("postgres") as writer, routed.client("postgres") as reader:
        for _ in range(100):
            writer.query("INSERT INTO facts.plain (n) VALUES (1)")
            assert reader.query("SELECT count(*) FROM facts.customers").value is not None
    roles = watch.by_role()
    assert roles == {"primary": 100, "replica": 100}, roles


def test_cluster_sees_what_went_past(start_pooler, cluster):
    """read_consistency = cluster: a commit made directly on the primary is never missed."""
    routed = start_routed(start_pooler, cluster, {"read_consistency": "cluster"})
    watch = Watch(routed)
    wait_until(lambda: watch.show("FACTS")[0]["state"] == "current")
    with routed.client("postgres") as client:
        client.query("SELECT count(*) FROM facts.plain")
        watch.queries()
        for n in range(100, 140):
            cluster.primary.sql(f"UPDATE facts.items SET n = {n} WHERE id = 1")
            assert client.query("SELECT n FROM facts.items WHERE id = 1").value == str(n)
        roles = watch.by_role()
        assert roles.get("replica", 0) >= 30, roles
        with replay_paused(*cluster.standbys):
            cluster.primary.sql("UPDATE facts.items SET n = 1000 WHERE id = 1")
            began = time.monotonic()
            assert client.query("SELECT n FROM facts.items WHERE id = 1").value == "1000"
            assert time.monotonic() - began < 1 * PATIENCE
        assert watch.where() == "primary"


def test_without_a_primary_a_replica_tells(start_pooler, cluster):
    """Reads that may be old are served by whoever is there, from the start."""
    with stopped(cluster, cluster.primary):
        routed = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
        watch = Watch(routed)
        wait_until(lambda: watch.show("FACTS")[0]["state"] == "current")
        with routed.client() as client:
            assert client.query("SELECT count(*) FROM facts.orders").value is not None
        assert watch.where() == "replica"
    watch.settle()
