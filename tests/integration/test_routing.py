"""Which node runs what: reads on replicas, everything else on the primary, and why."""

import time

import pytest

from pooler import PATIENCE
from routed import PROBING, Watch, entry_of, replay_paused, start_routed, stopped
from wire import (
    FLUSH,
    SYNC,
    Closed,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only

SCHEMA = """
CREATE TABLE items (id int PRIMARY KEY, n int);
INSERT INTO items SELECT g, g FROM generate_series(1, 1000) g;
CREATE TABLE other (id int);
CREATE SEQUENCE numbers;
CREATE MATERIALIZED VIEW kept AS SELECT count(*) FROM items;
CREATE FUNCTION lie() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
    DECLARE n bigint; BEGIN EXECUTE 'SELECT next' || 'val(''num' || 'bers'')' INTO n; RETURN n; END $$;
CREATE VIEW counted AS SELECT lie() AS n;
CREATE VIEW counted_late AS
    SELECT g, CASE WHEN g = 900 THEN lie() END AS n FROM generate_series(1, 1000) g;
CREATE FUNCTION unknown() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION bump(int, int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT lie()';
CREATE OPERATOR ##@ (LEFTARG = int, RIGHTARG = int, FUNCTION = bump);
CREATE PROCEDURE proceed() LANGUAGE sql AS 'SELECT 1';
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
"""

CLEAN = """
DROP OPERATOR IF EXISTS ##@ (int, int);
DROP FUNCTION IF EXISTS bump, unknown;
DROP PROCEDURE IF EXISTS proceed;
DROP VIEW IF EXISTS counted, counted_late;
DROP MATERIALIZED VIEW IF EXISTS kept;
DROP TABLE IF EXISTS items, other, made, made2;
DROP SEQUENCE IF EXISTS numbers;
DROP FUNCTION IF EXISTS lie;
"""


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql(CLEAN + SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(CLEAN)


@pytest.fixture
def routed(start_pooler, cluster):
    return start_routed(start_pooler, cluster)


@pytest.fixture
def watch(routed):
    """The console of `routed`, when all nodes are up and fresh."""
    found = Watch(routed)
    found.settle()
    return found


READS = [
    "SELECT 1",
    "select count(*) from items",
    "TABLE items",
    "VALUES (1), (2)",
    "WITH x AS (SELECT 1) SELECT * FROM x",
    "(SELECT 1) UNION (SELECT 2)",
    "WITH RECURSIVE r(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5) TABLE r",
    "SELECT * FROM items TABLESAMPLE SYSTEM (50)",
    "SELECT rank() OVER (ORDER BY id) FROM items",
    "SELECT n % 2, count(*) FROM items GROUP BY ROLLUP (1)",
    "SELECT * FROM items a, LATERAL (SELECT max(n) FROM items b WHERE b.id < a.id) x LIMIT 1",
    "SELECT now(), random(), clock_timestamp(), gen_random_uuid()",
    "SELECT pg_sleep(0), pg_relation_size('items')",
    "SELECT relname FROM pg_class LIMIT 1",
    "SELECT table_name FROM information_schema.tables LIMIT 1",
    "SELECT * FROM kept",
    "SELECT current_setting('TimeZone')",
    "SELECT 'INSERT INTO items', $$DELETE$$, \"id\" FROM items LIMIT 1",
    "SELECT 1 -- FOR UPDATE",
    "/* INSERT */ SELECT 1",
    "SELECT 1 AS \"for update\"",
    "SELECT * FROM items WHERE id IN (1, 2, 3) AND n BETWEEN 1 AND 9 ORDER BY id",
    "EXPLAIN SELECT * FROM items",
    "EXPLAIN ANALYZE SELECT * FROM items",
    "EXPLAIN (VERBOSE, ANALYZE on) SELECT 1",
    "SELECT 1;",
    "/* weir:replica */ SELECT unknown()",
    "/* weir:replica */ SELECT pg_is_in_recovery()",
]

# These may stand in a simple Query only.
SIMPLE_READS = [
    "COPY items TO STDOUT",
    "COPY (SELECT * FROM items) TO STDOUT",
    "SELECT 1; SELECT 2",
    "BEGIN READ ONLY; SELECT 1; COMMIT",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1; ROLLBACK",
]

PRIMARY = [
    "INSERT INTO items VALUES (5000, 1) ON CONFLICT DO NOTHING",
    "UPDATE items SET n = 1 WHERE false",
    "DELETE FROM items WHERE id = 0 RETURNING *",
    "MERGE INTO items USING (SELECT 1 AS k) x ON id = k WHEN MATCHED THEN DO NOTHING",
    "SELECT * FROM items LIMIT 1 FOR UPDATE",
    "SELECT * FROM items LIMIT 1 FOR NO KEY UPDATE NOWAIT",
    "SELECT * FROM items LIMIT 1 FOR SHARE SKIP LOCKED",
    "SELECT * FROM items LIMIT 1 FOR KEY SHARE",
    "SELECT * FROM (SELECT * FROM items LIMIT 1 FOR UPDATE) x",
    "SELECT 1 FOR UPDATE",
    "WITH x AS (DELETE FROM items WHERE id = 0 RETURNING id) SELECT * FROM x",
    "WITH x AS (SELECT 1), y AS (INSERT INTO other SELECT 1 RETURNING id) SELECT * FROM x",
    "SELECT 1 AS one INTO made",
    "CREATE TABLE made2 AS SELECT 1",
    "DROP TABLE IF EXISTS made2",
    "SELECT nextval('numbers')",
    "SELECT id, (SELECT setval('numbers', 1)) FROM items LIMIT 1",
    "SELECT pg_notify('c', 'x')",
    "SELECT txid_current()",
    "SELECT pg_current_wal_lsn()",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_is_in_recovery()",
    "SELECT pg_backend_pid()",
    "SELECT inet_server_port()",
    "SELECT version()",
    "SELECT last_value FROM numbers",
    "SELECT count(*) FROM pg_stat_activity",
    "SELECT count(*) FROM pg_settings",
    "SELECT unknown()",
    "SELECT public.unknown()",
    "SELECT public.now()",
    "SELECT * FROM items WHERE id = unknown()",
    "SELECT query_to_xml('SELECT 1', true, true, '')",
    "SELECT current_setting('transaction_read_only')",
    "SHOW transaction_read_only",
    "EXPLAIN ANALYZE DELETE FROM items WHERE false",
    "EXPLAIN (VERBOSE, ANALYZE) INSERT INTO other VALUES (1)",
    "TRUNCATE other",
    "ANALYZE other",
    "VACUUM other",
    "COMMENT ON TABLE other IS 'x'",
    "REFRESH MATERIALIZED VIEW kept",
    "CALL proceed()",
    "DO $$ BEGIN END $$",
    "NOTIFY c",
    "CHECKPOINT",
    "SELEC 1",
    "SELECT * FROM nowhere WHERE lo_import('x') = 1",
    "SELECT 1 2",
    "/* weir:primary */ SELECT 1",
    "/* weir:replica */ DELETE FROM items WHERE false",
    "/* weir:replica */ SELECT nextval('numbers')",
    "/* weir:replica */ SELECT * FROM items LIMIT 1 FOR UPDATE",
]

SIMPLE_PRIMARY = [
    "COPY (DELETE FROM items WHERE false RETURNING id) TO STDOUT",
    "COPY (SELECT nextval('numbers')) TO STDOUT",
    "SELECT 1; INSERT INTO other VALUES (1)",
    "INSERT INTO other VALUES (1); SELECT 1",
    "SELECT 1; SELEC 2",
    "BEGIN; SELECT 1; COMMIT",
    "BEGIN READ WRITE; SELECT 1; COMMIT",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY; SELECT 1; COMMIT",
    "BEGIN READ ONLY; SELECT 1; COMMIT; INSERT INTO other VALUES (1)",
    "BEGIN READ ONLY; SELECT 1; COMMIT; BEGIN; SELECT 1; COMMIT",
    "BEGIN READ ONLY; SET TRANSACTION READ WRITE; SELECT 1; COMMIT",
    "BEGIN; SET TRANSACTION READ ONLY; SELECT 1; COMMIT",
]


def run_simple(client, sql):
    return client.query(sql)


def run_extended(client, sql):
    return client.ask(parse(sql), bind(), describe(), execute(), SYNC)


def test_where_statements_run(start_pooler, cluster):
    """Without regard to freshness, so that nothing but the statement decides."""
    routed = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    watch = Watch(routed)
    rows = [(sql, "replica", run_simple) for sql in READS + SIMPLE_READS]
    rows += [(sql, "primary", run_simple) for sql in PRIMARY + SIMPLE_PRIMARY]
    rows += [(sql, "replica", run_extended) for sql in READS]
    rows += [(sql, "primary", run_extended) for sql in PRIMARY]
    wrong = []
    for sql, expected, run in rows:
        watch.settle()
        with routed.client() as client:
            answer = run(client, sql)
        if (found := watch.where()) != expected:
            wrong.append((sql, run.__name__, found, answer))
        if expected == "replica" and answer.errors:
            wrong.append((sql, run.__name__, answer))
    assert not wrong, "\n".join(map(str, wrong))


# Nodes


def test_roles_are_found_by_asking(routed, watch, cluster):
    """The primary stands last in the list of hosts."""
    nodes = watch.nodes()
    assert nodes[cluster.primary.port]["role"] == "primary"
    for standby in cluster.standbys:
        assert nodes[standby.port]["role"] == "replica"
    for row in nodes.values():
        assert (row["state"], row["error"]) == ("up", None)
        assert row["lsn"] and row["timeline"] == 1
    assert [row["lag_bytes"] for row in nodes.values() if row["role"] == "primary"] == [None]


def read_at_once(clients, watch):
    """Where the clients' reads went, which were under way at the same time.

    Between two reads there is a probe: without one a session stays with the replica it read from.
    """
    time.sleep(1.5 * float(PROBING["probe_interval"]))
    for client in clients:
        client.send(query("SELECT pg_sleep(0.1) FROM (SELECT count(*) FROM other) o"))
    for client in clients:
        assert not client.answer().errors
    return watch.queries()


def test_reads_go_to_the_least_busy_replica(routed, watch, cluster):
    """Of two reads at the same time each has a replica to itself, once both have a server."""
    apart = {node.port: 1 for node in cluster.standbys}
    clients = [routed.client(), routed.client()]
    turns = []
    for _ in range(10):
        turns.append(read_at_once(clients, watch))
        assert cluster.primary.port not in turns[-1]
    # On a busy machine the second may come when the first is over.
    assert turns.count(apart) >= 3, turns


def test_a_replica_without_servers_gets_its_share(start_pooler, cluster):
    """Idle servers on one replica do not keep the work there when another one is less busy."""
    late = cluster.standbys[1]
    apart = {node.port: 1 for node in cluster.standbys}
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()

    with routed.client() as first, routed.client() as second:
        clients = [first, second]
        with replay_paused(late):
            first.query("INSERT INTO other VALUES (1)")
            watch.wait_route("the only one that can serve it")
            watch.queries()
            assert late.port not in read_at_once(clients, watch)
        watch.settle()
        turns = [read_at_once(clients, watch) for _ in range(10)]
        assert turns.count(apart) >= 3, turns


def test_fixed_routes(start_pooler, cluster):
    nodes = [*cluster.standbys, cluster.primary]
    kinds = ("primary", "replica", "off")
    databases = {kind: entry_of(nodes, routing=kind) for kind in kinds}
    databases["off"] = entry_of([cluster.primary], routing="off")
    routed = start_routed(start_pooler, cluster, databases=databases)
    # database, statement, where it runs
    rows = [
        ("primary", "SELECT 1", "primary"),
        ("primary", "/* weir:replica */ SELECT 1", "primary"),
        ("primary", "BEGIN READ ONLY; SELECT 1; COMMIT", "primary"),
        ("replica", "SELECT 1", "replica"),
        ("replica", "/* weir:primary */ SELECT 1", "primary"),
        ("replica", "SELECT unknown()", "replica"),
        ("replica", "SET work_mem = '8MB'; SELECT 1", "primary"),
        ("replica", "INSERT INTO other VALUES (1)", "primary"),
        ("off", "SELECT 1", "primary"),
        ("off", "INSERT INTO other VALUES (1)", "primary"),
    ]
    watches = {kind: Watch(routed, kind) for kind in kinds}
    watches["replica"].settle()
    wrong = []
    for database, sql, expected in rows:
        watches[database].queries()
        with routed.client(database=database) as client:
            answer = client.query(sql)
        if (found := watches[database].where()) != expected or answer.errors:
            wrong.append((database, sql, found, answer))
    assert not wrong, "\n".join(map(str, wrong))


def test_session_mode_counts_as_primary(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"pool_mode": "session"})
    watch = Watch(routed)
    watch.wait_state(cluster.primary, "up")
    with routed.client() as client:
        watch.queries()
        assert client.query("SELECT 1").value == "1"
        assert watch.where() == "primary"


# Transactions


def test_read_only_transaction_stays_on_one_replica(routed, watch, cluster):
    with routed.client() as client:
        port = client.socket.getsockname()[1]
        assert client.query("BEGIN READ ONLY").status == "T"
        nodes = set()
        for _ in range(5):
            assert client.query("SELECT count(*) FROM items").status == "T"
            nodes.add(watch.client(port)["node"])
        assert client.query("COMMIT").status == "I"
        ran = watch.queries()
        # The BEGIN went with the first of them.
        assert list(ran.values()) == [6] and cluster.primary.port not in ran
        assert len(nodes) == 1 and watch.client(port)["node"] == ""


def test_plain_transaction_stays_on_the_primary(routed, watch):
    with routed.client() as client:
        for sql in ("BEGIN", "SELECT 1", "SELECT count(*) FROM items", "SELECT 1/0", "ROLLBACK"):
            client.query(sql)
        assert watch.by_role() == {"primary": 4}
        watch.settle()
        assert client.query("SELECT 1").value == "1"
        assert watch.where() == "replica"


def test_psycopg_read_only(routed, watch):
    with routed.psycopg(autocommit=False) as connection:
        connection.read_only = True
        for number in range(20):
            assert connection.execute("SELECT %s::int", [number]).fetchone() == (number,)
        connection.commit()
        assert watch.where() == "replica"
        connection.read_only = False
        connection.execute("INSERT INTO other VALUES (1)")
        connection.commit()
        assert watch.where() == "primary"


def test_write_pipelined_behind_the_end_of_a_read_only_transaction(routed, watch):
    """The replica's transaction ends in the same packet in which a write begins."""
    with routed.client() as client:
        for ending in (query("COMMIT"), parse("COMMIT") + bind() + execute() + SYNC):
            assert client.query("BEGIN READ ONLY").status == "T"
            client.send(ending, query("INSERT INTO other VALUES (1)"), query("SELECT 'last'"))
            assert client.answer().status == "I"
            assert client.answer().tags == ["INSERT 0 1"]
            assert client.answer().value == "last"


# Groups


def group(*statements):
    """Unnamed statements with one Sync at the end."""
    return b"".join(parse(sql) + bind() + execute() for sql in statements) + SYNC


def test_groups_of_one_write_have_targets_of_their_own(routed, watch):
    """Answers come in the order of the questions, whichever node gives them."""
    with routed.client() as client:
        for turn in range(20):
            watch.settle()
            client.send(
                group(f"SELECT 'a{turn}'"),
                query(f"SELECT 'b{turn}'"),
                group("INSERT INTO other VALUES (1)", f"SELECT 'c{turn}'"),
                query(f"SELECT 'd{turn}'"),
                group(f"/* weir:primary */ SELECT 'e{turn}'"),
                group(f"SELECT 'f{turn}'", f"SELECT 'g{turn}'"),
            )
            values = []
            for _ in range(6):
                answer = client.answer()
                assert not answer.errors and answer.status == "I"
                values += [row[0] for row in answer.rows]
            assert values == [f"{letter}{turn}" for letter in "abcdefg"]
            ran = watch.by_role()
            assert ran["replica"] >= 2 and ran["primary"] >= 2 and sum(ran.values()) == 6


# The messages of one group, where they run
GROUPS = [
    ([group("SELECT 1", "SELECT 2")], "replica"),
    ([group("SELECT 1", "INSERT INTO other VALUES (1)")], "primary"),
    ([group("INSERT INTO other VALUES (1)", "SELECT 1")], "primary"),
    ([group("SELECT 1", "SELECT unknown()")], "primary"),
    ([parse("SELECT 1"), FLUSH, bind(), execute(), SYNC], "primary"),
    ([parse("SELECT 1"), bind(), execute(), FLUSH, SYNC], "primary"),
    ([parse("SELECT length($1)"), bind(["x" * 5_000]), execute(), SYNC], "replica"),
    ([parse("SELECT length($1)"), bind(["x" * 50_000]), execute(), SYNC], "primary"),
    ([query("SELECT length('" + "x" * 5_000 + "')")], "replica"),
    ([query("SELECT length('" + "x" * 50_000 + "')")], "primary"),
    ([parse("SELECT 1"), SYNC], "replica"),
    ([parse("SELECT 1"), bind(), close(), SYNC], "replica"),
    ([parse("BEGIN READ ONLY") + bind() + execute(), group("SELECT 1", "COMMIT")], "replica"),
    ([parse("BEGIN") + bind() + execute(), group("SELECT 1", "COMMIT")], "primary"),
]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_group_has_one_target(start_pooler, cluster, workers):
    settings = {"read_consistency": "eventual", "workers": workers}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    wrong = []
    for number, (parts, expected) in enumerate(GROUPS):
        with routed.client() as client:
            answer = client.ask(*parts)
        if (found := watch.where()) != expected or answer.errors:
            wrong.append((number, found, answer))
    assert not wrong, "\n".join(map(str, wrong))


def test_gather_bytes(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"gather_bytes": 300})
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client:
        assert client.query("SELECT '" + "x" * 250 + "'").code == ""
        assert watch.where() == "replica"
        assert client.query("SELECT '" + "x" * 350 + "'").code == ""
        assert watch.where() == "primary"


def test_a_group_byte_by_byte(routed, watch):
    with routed.client() as client:
        for byte in group("SELECT 1", "SELECT 2"):
            client.send(bytes([byte]))
        assert client.answer().rows == [("1",), ("2",)]
        assert watch.by_role() == {"replica": 1}


def test_a_flushed_read_answers_before_the_sync(routed):
    with routed.client() as client:
        client.send(parse("SELECT 1"), bind(), execute(), FLUSH)
        assert client.read_until("C").kinds == "12DC"
        assert client.ask(SYNC).kinds == "Z"


def test_prepared_statements_are_routed_by_their_text(routed, watch):
    with routed.client() as client:
        client.ask(
            parse("SELECT count(*) FROM items", "r"),
            parse("INSERT INTO other VALUES ($1)", "w"),
            SYNC,
        )
        # The messages of a group, where it runs
        rows = [
            ([bind(name="r"), execute()], "replica"),
            ([bind(["1"], name="w"), execute()], "primary"),
            ([describe("r"), bind(name="r"), execute(), bind(name="r"), execute()], "replica"),
            ([bind(name="r"), execute(), bind(["1"], name="w"), execute()], "primary"),
            ([bind(name="r"), execute()], "replica"),
        ]
        for parts, expected in rows:
            watch.settle()
            assert not client.ask(*parts, SYNC).errors
            assert watch.where() == expected


def test_unnamed_statement_of_an_earlier_group(routed, watch):
    """A Parse of another name says nothing about the unnamed statement that is bound."""
    with routed.client() as client:
        client.ask(parse("SELECT pg_advisory_xact_lock(1)"), SYNC)
        watch.settle()
        answer = client.ask(parse("SELECT 1", "named"), bind(), execute(), SYNC)
        assert answer.kinds == "12DCZ", answer
        assert watch.by_role() == {"primary": 1}


# Retries

# A statement that looks like a read, to the catalog too, and is refused by a replica
REFUSED = [
    "SELECT * FROM counted",
    "SELECT 1 ##@ 2",
    "SELECT abs('x'::name)",
    "SELECT * FROM items WHERE id = (SELECT n FROM counted)",
]


@pytest.fixture
def shadow(cluster):
    """A function of ours under the name of a harmless one."""
    cluster.primary.sql(
        "CREATE FUNCTION abs(name) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT lie()'"
    )
    cluster.wait_replayed()
    yield
    cluster.primary.sql("DROP FUNCTION abs(name)")


@pytest.mark.parametrize("run", [run_simple, run_extended])
def test_refused_read_runs_on_the_primary_unseen(start_pooler, cluster, shadow, run):
    """With one refusal Weir has learned it, for all clients of the worker."""
    routed = start_routed(start_pooler, cluster, {"workers": 1})
    watch = Watch(routed)
    direct = routed.cluster.primary
    for sql in REFUSED:
        # What the primary has shown a session keeps it there for a moment.
        one, other = routed.client(), routed.client()
        watch.settle()
        answer = run(one, sql)
        assert answer.kinds in ("TDCZ", "TCZ", "12tTDCZ", "12tTCZ"), (sql, answer)
        assert watch.by_role() == {"replica": 1, "primary": 1}, sql
        for client in (one, other):
            watch.settle()
            assert not run(client, sql).errors
            assert watch.by_role() == {"primary": 1}, sql
    assert int(direct.sql("SELECT last_value FROM numbers")) > len(REFUSED)


def test_refused_read_behind_a_replayed_setting(start_pooler, cluster):
    """What the replica answers to Weir's own SET is no part of the read."""
    routed = start_routed(start_pooler, cluster, {"session_state": "track"})
    watch = Watch(routed)
    with routed.client() as client:
        client.query("SET app.mine = 'yes'")
        watch.settle()
        answer = client.ask(parse("SELECT * FROM counted"), bind(), execute(), SYNC)
        assert answer.kinds == "12DCZ", answer
    assert watch.by_role() == {"replica": 1, "primary": 1}


def test_refused_copy_runs_on_the_primary_unseen(routed, watch):
    with routed.client() as client:
        answer = client.query("COPY (SELECT * FROM counted) TO STDOUT")
        assert answer.kinds == "HdcCZ"
    assert watch.by_role() == {"replica": 1, "primary": 1}


def test_refused_prepared_statement_is_sent_again(routed, watch):
    with routed.client() as client:
        assert client.ask(parse("SELECT * FROM counted", "s"), SYNC).kinds == "1Z"
        watch.settle()
        first = client.ask(describe("s"), bind(name="s"), execute(), SYNC)
        assert first.kinds == "tT2DCZ" and watch.by_role() == {"replica": 1, "primary": 1}
        watch.settle()
        second = client.ask(bind(name="s"), execute(), SYNC)
        assert int(second.value) == int(first.value) + 1 and watch.by_role() == {"primary": 1}


def test_named_parse_in_a_refused_group(routed, watch):
    """The name is there afterwards, and only once."""
    with routed.client() as client:
        answer = client.ask(parse("SELECT * FROM counted", "s"), bind(name="s"), execute(), SYNC)
        assert answer.kinds == "12DCZ" and watch.by_role() == {"replica": 1, "primary": 1}
        assert client.ask(bind(name="s"), execute(), SYNC).kinds == "2DCZ"
        assert client.ask(close("s"), parse("SELECT 2", "s"), SYNC).kinds == "31Z"


def test_refusal_in_a_pipeline_does_not_disorder_it(routed, watch):
    with routed.client() as client:
        client.send(query("SELECT 'a'"), group("SELECT 'b' FROM counted"), query("SELECT 'c'"))
        assert [client.answer().value for _ in range(3)] == ["a", "b", "c"]


def test_refusal_within_a_read_only_transaction_is_the_clients(routed, watch):
    with routed.client() as client:
        client.query("BEGIN READ ONLY")
        assert client.query("SELECT 1").status == "T"
        answer = client.query("SELECT * FROM counted")
        assert (answer.code, answer.status) == ("25006", "E")
        assert client.query("ROLLBACK").status == "I"
    assert watch.where() == "replica"


def test_refusal_after_rows_is_the_clients(routed, watch):
    with routed.client() as client:
        answer = client.query("SELECT * FROM counted_late")
        assert answer.code == "25006" and len(answer.rows) > 100
        assert client.query("SELECT 1").value == "1"


def test_an_error_that_says_nothing_about_the_node_is_not_repeated(routed, watch):
    with routed.client() as client:
        assert client.query("SELECT 1/0").code == "22012"
    assert watch.by_role() == {"replica": 1}


# What a session has that replicas lack

# What is done, what SHOW CLIENTS says of it
STICKY = [
    ("SET work_mem = '8MB'", "work_mem"),
    ("SET search_path = pg_catalog, public", "search_path"),
    ("SET ROLE app_trust", "role"),
    ("SELECT set_config('work_mem', '8MB', false)", "work_mem"),
    ("SELECT set_config('app.tenant', '7', false)", "app.tenant"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "default_trans"),
    ("SET default_transaction_isolation = serializable", "default_transaction_isolation"),
    ("SET work_mem = '8MB'; SET statement_timeout = 0", ""),
    ("BEGIN; SET work_mem = '8MB'; COMMIT", "work_mem"),
    ("CREATE TEMP TABLE made_here (n int)", "temporary"),
    ("PREPARE made_here AS SELECT 1", "PREPARE"),
    ("LISTEN made_here", "LISTEN"),
    ("SELECT pg_advisory_lock(7)", "lock"),
    ("SELECT setseed(0.5)", "setseed"),
    ("LOAD 'plpgsql'", "LOAD"),
    ("BEGIN; DECLARE made_here CURSOR WITH HOLD FOR SELECT 1; COMMIT", "WITH HOLD"),
]


@pytest.mark.parametrize("ending", ["RESET ALL", "DISCARD ALL"])
def test_session_state_keeps_reads_on_the_primary(start_pooler, cluster, ending):
    settings = {"read_consistency": "eventual", "default_pool_size": 1}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    for sql, reason in STICKY:
        with routed.client("postgres") as client:
            assert not client.query(sql).errors, sql
            watch.queries()
            assert client.query("SELECT 1").value == "1"
            assert run_extended(client, "SELECT 1").value == "1"
            assert watch.where() == "primary", sql
            why = watch.why(client)
            assert why and reason in why, (sql, why)
            assert not client.query("DISCARD ALL").errors
            assert not client.query(ending).errors
            watch.queries()
            client.query("SELECT 1")
            assert (watch.where(), watch.why(client)) == ("replica", ""), sql


def test_who_a_session_is_holds_on_replicas(start_pooler, cluster):
    """For that client alone, on the one server of each node that both clients use."""
    settings = {"read_consistency": "eventual", "default_pool_size": 1}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    with routed.client("postgres") as one, routed.client("postgres") as two:
        assert not one.query("SET SESSION AUTHORIZATION app").errors
        assert not two.query("SET default_transaction_read_only = on").errors
        watch.queries()
        for _ in range(4):
            assert one.query("SELECT session_user").value == "app"
            assert two.query("SELECT session_user").value == "postgres"
        assert watch.where() == "replica"
        assert two.query("CREATE TABLE never (n int)").code == "25006"
        assert not one.query("CREATE TEMP TABLE made (n int); DROP TABLE made").errors
        assert one.query("SELECT session_user").value == "app"


NOT_STICKY = [
    "SET LOCAL work_mem = '8MB'",
    "BEGIN; SET LOCAL work_mem = '8MB'; COMMIT",
    "SELECT set_config('work_mem', '8MB', true)",
    "SET TimeZone = 'Europe/Berlin'",
    "SET TIME ZONE 'Europe/Berlin'",
    "SET application_name = 'it''s me'",
    "SET DateStyle = 'German'",
    "SET IntervalStyle = 'iso_8601'",
    "SET default_transaction_read_only = on",
    "SET SESSION AUTHORIZATION app_trust",
    "SET client_encoding = 'LATIN1'",
    "SET NAMES 'UTF8'",
    "SELECT set_config('TimeZone', 'Asia/Tokyo', false)",
    "SELECT pg_advisory_xact_lock(7)",
    "BEGIN; CREATE TEMP TABLE made_here (n int) ON COMMIT DROP; COMMIT",
    "SHOW work_mem",
]


def test_what_follows_a_session_to_replicas(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    watch = Watch(routed)
    watch.settle()
    for sql in NOT_STICKY:
        with routed.client() as client:
            assert not client.query(sql).errors, sql
            watch.queries()
            client.query("SELECT 1")
            assert (watch.where(), watch.why(client)) == ("replica", ""), sql


def test_tracked_parameters_hold_on_every_node(routed, watch):
    """Also within one write, and for a neighbour who has others."""
    one = routed.client(TimeZone="Asia/Tokyo", application_name="one")
    two = routed.client(DateStyle="German, DMY")
    read = "SELECT '2024-01-02 03:04:05+00'::timestamptz"
    for turn in range(10):
        watch.settle()
        zone = ("Europe/Berlin", "America/New_York")[turn % 2]
        assert two.query(read).value == "02.01.2024 03:04:05 UTC"
        one.send(query(f"SET TimeZone = '{zone}'"), query(read), group(read))
        expected = ("2024-01-02 04:04:05+01", "2024-01-01 22:04:05-05")[turn % 2]
        assert one.answer().tags == ["SET"]
        assert [one.answer().value, one.answer().value] == [expected, expected]
        assert two.query(read).value == "02.01.2024 03:04:05 UTC"
    assert watch.by_role()["replica"] > 0


# Nodes that fail


def busy_replica(watch, cluster):
    """The standby whose server is in use."""
    for standby in cluster.standbys:
        if watch.node(standby)["sv_active"] > 0:
            return standby
    raise AssertionError(watch.nodes())


SLOW = "SELECT 'survived', pg_sleep(1)"


@pytest.mark.parametrize("run", [query, group])
@pytest.mark.parametrize("ending", ["terminate", "crash"])
def test_replica_that_dies_in_the_middle_of_a_read(routed, watch, cluster, ending, run):
    with routed.client() as client:
        client.query("SELECT 1")
        client.send(run(SLOW))
        assert client.is_silent(0.3)
        replica = busy_replica(watch, cluster)
        if ending == "terminate":
            replica.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE '%survived%' AND pid <> pg_backend_pid()"
            )
            answer = client.answer()
        else:
            with stopped(cluster, replica):
                answer = client.answer()
        assert answer.rows[0][0] == "survived" and not answer.errors and not answer.notices


def test_replica_that_dies_within_a_transaction(routed, watch, cluster):
    """What it has read cannot be repeated elsewhere: the client is told."""
    with routed.client() as client:
        client.query("BEGIN READ ONLY")
        client.query("SELECT 1")
        replica = busy_replica(watch, cluster)
        with stopped(cluster, replica):
            with pytest.raises(Closed):
                client.send(query("SELECT 1"))
                client.read_to_end()
                client.send(SYNC)
                client.read()
            with routed.client() as other:
                assert other.query("SELECT 1").value == "1"


@pytest.mark.timeout(90)
def test_replicas_go_and_come_back(routed, watch, cluster):
    one, two = cluster.standbys
    with routed.client() as client:
        with stopped(cluster, one):
            for _ in range(20):
                assert client.query("SELECT 1").value == "1"
            watch.wait_state(one, "down")
            watch.settle(replicas=1)
            assert client.query("SELECT 1").value == "1"
            assert watch.queries() == {two.port: 1}
            with stopped(cluster, two):
                for _ in range(20):
                    assert client.query("SELECT 1").value == "1"
                watch.wait_state(two, "down")
                assert watch.node(two)["error"]
                watch.queries()
                assert client.query("SELECT 1").value == "1"
                assert watch.where() == "primary"
                assert "no replica is up" in watch.route()["reason"]
        watch.settle()
        assert client.query("SELECT 1").value == "1"
        assert watch.where() == "replica"


def test_no_replica_and_no_fallback(start_pooler, cluster):
    settings = {"replica_fallback": 0, "query_wait_timeout": 2}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client, stopped(cluster, *cluster.standbys):
        for standby in cluster.standbys:
            watch.wait_state(standby, "down")
        assert client.query("INSERT INTO other VALUES (1)").tags == ["INSERT 0 1"]
        client.send(query("SELECT 1"))
        assert client.read_to_end(8 * PATIENCE).error["S"] == "FATAL"


@pytest.mark.timeout(90)
def test_primary_is_down(start_pooler, cluster):
    """Reads go on; writes wait as long as they may and are then told why."""
    routed = start_routed(start_pooler, cluster, {"primary_wait_timeout": 2})
    watch = Watch(routed)
    with routed.client() as reader, routed.client() as writer:
        assert writer.query("INSERT INTO other VALUES (1)").tags == ["INSERT 0 1"]
        watch.settle()
        assert reader.query("SELECT 1").value == "1"
        with stopped(cluster, cluster.primary):
            watch.wait_state(cluster.primary, "down")
            watch.queries()
            for _ in range(20):
                assert reader.query("SELECT n FROM items WHERE id = 7").value == "7"
                assert group_value(reader) == "2"
            assert watch.by_role() == {"replica": 40}
            writer.send(query("INSERT INTO other VALUES (2)"))
            error = writer.read_to_end(8 * PATIENCE).error
            assert error["C"] == "57P03" and error["M"] == "no primary is available"
            assert str(cluster.primary.port) in error["D"] and "refused" in error["D"]
            late = routed.client()
            late.send(query("INSERT INTO other VALUES (3)"))
        assert late.answer(10 * PATIENCE).tags == ["INSERT 0 1"]
        watch.settle()
        assert reader.query("SELECT 1").value == "1"


def group_value(client):
    return client.ask(group("SELECT 2")).value


# Telling


def test_show_route_tells_target_and_reason(routed, watch):
    rows = [
        ("SELECT 1", "replica", "plain read"),
        ("INSERT INTO items VALUES (1)", "primary", "INSERT"),
        ("SELECT nextval('numbers')", "primary", "nextval"),
        ("BEGIN", "primary", "BEGIN"),
        ("BEGIN READ ONLY", "replica", "READ ONLY"),
        ("SELEC", "primary", "not understood"),
        ("/* weir:primary */ SELECT 'it''s'", "primary", "hint"),
    ]
    for sql, target, words in rows:
        row = watch.route(sql)
        assert row["target"] == target and words in row["reason"], row
