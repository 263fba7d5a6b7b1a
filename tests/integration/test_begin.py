"""BEGIN held back: answered by Weir, and sent with the first statement that tells its node."""

import time

import psycopg
import pytest

from pooler import PATIENCE
from routed import Watch, entry_of, replay_paused, start_routed
from wire import (
    FLUSH,
    SYNC,
    Client,
    bind,
    cancel,
    close_portal,
    describe,
    describe_portal,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only

SCHEMA = """
DROP VIEW IF EXISTS ticking;
DROP TABLE IF EXISTS begun;
DROP SEQUENCE IF EXISTS ticks;
CREATE TABLE begun (id int);
CREATE UNLOGGED TABLE begun_unlogged (id int);
CREATE SEQUENCE ticks;
CREATE VIEW ticking AS SELECT nextval('ticks') AS n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
"""

CLEAN = """
DROP VIEW ticking;
DROP TABLE begun, begun_unlogged;
DROP SEQUENCE ticks;
"""


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql(SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(CLEAN)


@pytest.fixture
def routed(start_pooler, cluster):
    return start_routed(start_pooler, cluster, {"read_consistency": "eventual"})


@pytest.fixture
def watch(routed):
    found = Watch(routed)
    found.settle()
    return found


def run(sql, name=""):
    """The messages of a statement in the extended protocol, as most drivers send them."""
    return parse(sql, name) + bind(name=name) + describe_portal() + execute() + SYNC


def said(client, messages):
    """What the client is answered, message by message; errors by code, notices by code too."""
    client.send(*messages)
    count = sum(part[-5:] == SYNC or part[:1] == b"Q" for part in messages)
    found = []
    for _ in range(count):
        for message in client.answer().messages:
            if message.kind in "EN":
                found.append((message.kind, message.fields()["C"], message.fields()["M"]))
            elif message.kind != "S":
                found.append((message.kind, message.body))
    return found


# Whole conversations, whose answers have to be PostgreSQL's own to the byte. Each line is sent at
# once.
CONVERSATIONS = {
    "commit": [[query("BEGIN")], [query("COMMIT")]],
    "rollback": [[query("begin;")], [query("ROLLBACK")]],
    "other words": [[query("START TRANSACTION")], [query("END")], [query("BEGIN WORK")]]
    + [[query("ABORT")]],
    "one read": [[query("BEGIN"), query("SELECT 1"), query("COMMIT"), query("SELECT 2")]],
    "no statement": [[query("BEGIN"), query("COMMIT"), query("BEGIN"), query("ROLLBACK")]],
    "extended": [[run("BEGIN")], [run("SELECT 1")], [run("COMMIT")]],
    "named": [
        [run("BEGIN ISOLATION LEVEL REPEATABLE READ", "b")],
        [run("ROLLBACK", "r")],
        [bind(name="b") + execute() + SYNC, run("SELECT 1", "s"), bind(name="r") + execute() + SYNC],
        [bind(name="b") + describe("b") + execute() + SYNC, bind(name="s") + execute() + SYNC],
        [bind(name="b") + execute() + SYNC, query("COMMIT")],
    ],
    "described": [
        [parse("BEGIN", "d") + describe("d") + SYNC],
        [bind(name="d") + execute() + close_portal() + SYNC],
        [SYNC],
        [query("SELECT 3")],
        [parse("COMMIT") + describe() + bind() + execute() + SYNC],
    ],
    "unnamed again": [[run("BEGIN")], [bind() + execute() + SYNC], [query("ROLLBACK")]],
    "unnamed gone": [
        [parse("SELECT 7") + bind() + execute() + SYNC],
        [query("BEGIN")],
        [bind() + execute() + SYNC],
        [query("ROLLBACK")],
    ],
    "chain": [
        [query("BEGIN ISOLATION LEVEL REPEATABLE READ")],
        [query("COMMIT AND CHAIN")],
        [query("SHOW transaction_isolation")],
        [query("ROLLBACK AND CHAIN")],
        [query("SHOW transaction_isolation")],
        [query("COMMIT")],
    ],
    "modes": [
        [query("BEGIN")],
        [query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")],
        [query("SHOW transaction_isolation; SHOW transaction_read_only")],
        [query("COMMIT")],
    ],
    "read write": [
        [query("BEGIN READ ONLY")],
        [query("SET TRANSACTION READ WRITE")],
        [query("INSERT INTO begun VALUES (0) RETURNING id")],
        [query("ROLLBACK")],
    ],
    "serializable": [
        [query("BEGIN")],
        [query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")],
        [query("SHOW transaction_isolation")],
        [query("COMMIT")],
    ],
    "twice": [[query("BEGIN")], [query("BEGIN")], [query("COMMIT")]],
    "twice with modes": [
        [query("BEGIN")],
        [query("BEGIN ISOLATION LEVEL REPEATABLE READ")],
        [query("SHOW transaction_isolation")],
        [query("COMMIT")],
    ],
    "an error": [
        [query("BEGIN")],
        [query("SELECT 1/0")],
        [query("SELECT 1")],
        [query("")],
        [query("COMMIT")],
        [query("SELECT 1")],
    ],
    "a syntax error": [[query("BEGIN")], [query("SELEC")], [query("ROLLBACK")]],
    "a savepoint": [
        [query("BEGIN")],
        [query("SAVEPOINT a")],
        [query("SELECT 1/0")],
        [query("ROLLBACK TO a")],
        [query("SELECT 1")],
        [query("COMMIT")],
    ],
    "nothing said": [[query("BEGIN")], [query("")], [query(" ; -- nothing")], [query("COMMIT")]],
    "within a string": [
        [query("BEGIN")],
        [query("SELECT 1; COMMIT; SELECT 2")],
        [query("BEGIN")],
        [query("COMMIT; SELECT 3; BEGIN")],
        [query("SELECT 4")],
        [query("ROLLBACK")],
    ],
    "in one group": [
        [parse("BEGIN") + bind() + execute() + parse("SELECT 5") + bind() + execute() + SYNC],
        [parse("COMMIT") + bind() + execute() + SYNC],
    ],
    "a pipeline that fails": [
        [query("BEGIN")],
        [parse("SELECT 1/0") + bind() + execute() + parse("SELECT 1") + bind() + execute() + SYNC],
        [run("SELECT 1")],
        [run("ROLLBACK")],
    ],
    "forbidden within": [[query("BEGIN")], [query("VACUUM begun")], [query("COMMIT")]],
    "copy": [[query("BEGIN")], [query("COPY (SELECT 6) TO STDOUT")], [query("COMMIT")]],
    "cursor": [
        [query("BEGIN READ ONLY")],
        [query("DECLARE c CURSOR FOR SELECT generate_series(1, 5)")],
        [query("FETCH 2 FROM c")],
        [query("MOVE 1 IN c"), query("FETCH ALL FROM c")],
        [query("CLOSE c")],
        [query("COMMIT")],
    ],
    "a portal in pieces": [
        [query("BEGIN READ ONLY")],
        [parse("SELECT generate_series(1, 5)") + bind(portal="p") + execute("p", 2) + SYNC],
        [execute("p", 2) + SYNC],
        [execute("p") + close_portal("p") + SYNC],
        [query("COMMIT")],
    ],
    "failed and saved, on a replica": [
        [query("BEGIN READ ONLY")],
        [query("SAVEPOINT a")],
        [query("SELECT 1/0")],
        [query("SELECT 1")],
        [query("ROLLBACK TO a")],
        [query("SELECT 1")],
        [query("RELEASE a")],
        [query("COMMIT")],
    ],
    "ended and more, on a replica": [
        [query("BEGIN READ ONLY")],
        [query("SELECT 1")],
        [query("COMMIT; INSERT INTO begun VALUES (5) RETURNING id")],
        [query("BEGIN READ ONLY; SELECT 1")],
        [query("ROLLBACK; BEGIN")],
        [query("DELETE FROM begun WHERE id = 5")],
        [query("COMMIT")],
        [query("BEGIN READ ONLY"), query("SELECT 1/0")],
        [query("ROLLBACK; CREATE TEMPORARY TABLE of_begun (id int); DROP TABLE of_begun")],
        [query("BEGIN READ ONLY"), query("SELECT 1")],
        [parse("END") + bind() + execute() + parse("DELETE FROM begun") + bind() + execute() + SYNC],
        [query("BEGIN READ ONLY"), query("SELECT 1"), query("COMMIT AND CHAIN")],
        [query("SHOW transaction_read_only"), query("COMMIT")],
    ],
    "a name of SQL": [
        [query("PREPARE named AS SELECT 8")],
        [query("BEGIN READ ONLY")],
        [query("EXECUTE named")],
        [query("COMMIT")],
        [query("BEGIN"), query("EXECUTE named"), query("ROLLBACK")],
        [query("BEGIN"), query("DEALLOCATE named"), query("COMMIT")],
    ],
    "no BEGIN": [[query("COMMIT")], [query("ROLLBACK")], [query("SAVEPOINT a")]],
    "types": [[parse("BEGIN", "t", [23]) + describe("t") + SYNC], [query("SELECT 1")]],
}


@pytest.fixture(params=["off", "track"])
def tracking(request, start_pooler, cluster):
    settings = {"read_consistency": "eventual", "session_state": request.param}
    routed = start_routed(start_pooler, cluster, settings)
    Watch(routed).settle()
    return routed


def test_answers_are_postgres_own(tracking, cluster):
    wrong = []
    for name, lines in CONVERSATIONS.items():
        with Client((cluster.primary.host, cluster.primary.port)) as direct:
            direct.login("app_trust", None, "app")
            expected = [said(direct, line) for line in lines]
        with tracking.client() as client:
            found = [said(client, line) for line in lines]
        wrong += [(name, *row) for row in zip(lines, found, expected) if row[1] != row[2]]
    assert not wrong, "\n".join(map(str, wrong))


# Where transactions run


def ran(client, watch, *statements):
    """Where the statements of one client ran; none of them may fail."""
    watch.queries()
    for sql in statements:
        answer = client.query(sql)
        assert not answer.errors, (sql, answer)
    return watch.by_role()


# what the session has set; a transaction; where its statements run, as many as a server sees
ROUTES = [
    ([], ["BEGIN", "COMMIT"], {}),
    ([], ["BEGIN READ WRITE", "ROLLBACK"], {}),
    ([], ["BEGIN", "SELECT 1", "COMMIT"], {"primary": 2}),
    ([], ["BEGIN READ ONLY", "SELECT 1", "SELECT 2", "COMMIT"], {"replica": 3}),
    ([], ["BEGIN READ ONLY", "COMMIT AND CHAIN", "SELECT 1", "COMMIT"], {"replica": 2}),
    ([], ["BEGIN", "SET TRANSACTION READ ONLY", "SELECT 1", "COMMIT"], {"replica": 2}),
    ([], ["BEGIN", "SET transaction_read_only = on", "SELECT 1", "COMMIT"], {"replica": 2}),
    ([], ["BEGIN READ ONLY", "SET TRANSACTION READ WRITE", "SELECT 1", "COMMIT"], {"primary": 3}),
    ([], ["BEGIN", "SAVEPOINT a; SET TRANSACTION READ ONLY", "ROLLBACK TO a"]
     + ["INSERT INTO begun VALUES (1)", "ROLLBACK"], {"primary": 4}),
    ([], ["BEGIN READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT 1"]
     + ["COMMIT"], {"primary": 3}),
    ([], ["BEGIN READ ONLY", "SHOW search_path", "SHOW transaction_read_only", "COMMIT"],
     {"replica": 3}),
    ([], ["BEGIN READ ONLY", "SHOW server_version_num", "COMMIT"], {"replica": 2}),
    ([], ["BEGIN READ ONLY", "SELECT pg_is_in_recovery()", "COMMIT"], {"primary": 2}),
    ([], ["BEGIN READ ONLY; SELECT 1", "SELECT 2", "COMMIT"], {"replica": 3}),
    ([], ["BEGIN READ ONLY", "SET LOCAL statement_timeout = '9s'", "SELECT 1", "COMMIT"],
     {"replica": 3}),
    ([], ["BEGIN", "SET LOCAL statement_timeout = '9s'", "SELECT 1", "COMMIT"], {"primary": 3}),
    ([], ["BEGIN READ ONLY", "SELECT set_config('search_path', 'public', true),"
          " set_config('role', 'app_trust', true), set_config('request.id', '1', true)",
          "SELECT 1", "COMMIT"], {"replica": 3}),
    ([], ["BEGIN READ ONLY; SET LOCAL lock_timeout = '9s'; SELECT 1; COMMIT"], {"replica": 1}),
    ([], ["BEGIN READ ONLY", "SELECT 1", "COMMIT; SELECT 2"], {"replica": 2}),
    ([], ["BEGIN READ ONLY", "SELECT 1", "COMMIT; INSERT INTO begun VALUES (1)"],
     {"replica": 1, "primary": 1}),
    (["SET default_transaction_read_only = on"], ["BEGIN", "SELECT 1", "COMMIT"], {"replica": 2}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"], ["BEGIN", "SELECT 1", "COMMIT"],
     {"replica": 2}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"],
     ["START TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1", "COMMIT"], {"replica": 2}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"], ["SELECT 1"], {"replica": 1}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"],
     ["BEGIN READ WRITE", "INSERT INTO begun VALUES (1)", "ROLLBACK"], {"primary": 2}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"],
     ["BEGIN", "SET TRANSACTION READ WRITE", "INSERT INTO begun VALUES (1)", "ROLLBACK"],
     {"primary": 3}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
      "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"], ["BEGIN", "SELECT 1", "COMMIT"],
     {"primary": 2}),
    (["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
     ["SELECT 1", "BEGIN READ ONLY", "SELECT 1", "COMMIT"], {"primary": 3}),
    (["SET default_transaction_isolation = serializable"], ["SELECT 1"], {"primary": 1}),
]  # fmt: skip


def test_where_transactions_run(tracking):
    watch = Watch(tracking)
    wrong = []
    for before, statements, expected in ROUTES:
        watch.settle()
        with tracking.client() as client:
            for sql in before:
                assert not client.query(sql).errors
            found = ran(client, watch, *statements)
        if found != expected:
            wrong.append((before, statements, found))
    assert not wrong, "\n".join(map(str, wrong))


def test_the_default_of_a_login(tracking, cluster):
    """As a startup parameter, in options, and of a role, as the server reports it."""
    watch = Watch(tracking)
    name = "default_transaction_read_only"
    read = ["BEGIN", "SELECT 1", "COMMIT"]
    with tracking.client(**{name: "on"}) as client:
        assert ran(client, watch, *read) == {"replica": 2}
        assert client.query(f"SHOW {name}").value == "on"
    with tracking.client(options=f"-c {name}=on") as client:
        assert ran(client, watch, *read) == {"replica": 2}
    cluster.primary.sql(f"ALTER ROLE app_md5 SET {name} = on")
    try:
        cluster.wait_replayed()
        with tracking.client(user="app_md5") as client:
            assert ran(client, watch, *read) == {"replica": 2}
            answer = client.query("INSERT INTO begun VALUES (1)")
            assert answer.code == "25006"
    finally:
        cluster.primary.sql(f"ALTER ROLE app_md5 RESET {name}")


def test_a_role_that_is_serializable_is_learned(tracking, cluster):
    """No server reports it: the first refusal tells, and no statement is blamed for it."""
    watch = Watch(tracking)
    name = "default_transaction_isolation"
    cluster.primary.sql(f"ALTER ROLE app_md5 SET {name} = serializable")
    try:
        cluster.wait_replayed()
        with tracking.client(user="app_md5") as client:
            assert ran(client, watch, "SELECT 21 AS role").keys() >= {"replica"}
            assert ran(client, watch, "SELECT 22 AS role") == {"primary": 1}
            assert watch.why(client) == "default_transaction_isolation"
        with tracking.client(user="app_md5") as client:
            found = ran(client, watch, "BEGIN READ ONLY", "SELECT 21 AS role", "COMMIT")
            assert found["primary"] == 2
    finally:
        cluster.primary.sql(f"ALTER ROLE app_md5 RESET {name}")
    with tracking.client() as client:
        assert ran(client, watch, "SELECT 21 AS role") == {"replica": 1}


def test_all_in_one_read(routed, watch):
    with routed.client() as client:
        client.send(query("BEGIN"), query("INSERT INTO begun VALUES (1)"), query("ROLLBACK"))
        assert [client.answer().status for _ in range(3)] == ["T", "T", "I"]
        assert watch.by_role() == {"primary": 2}
        client.send(run("BEGIN READ ONLY"), run("SELECT 1"), run("COMMIT"))
        assert [client.answer().status for _ in range(3)] == ["T", "T", "I"]
        assert watch.by_role() == {"replica": 2}
        client.send(query("BEGIN READ ONLY"), query("SELECT 1"), query("COMMIT"))
        client.send(query("INSERT INTO begun VALUES (1)"))
        assert [client.answer().status for _ in range(4)] == ["T", "T", "I", "I"]
        assert watch.by_role() == {"primary": 1, "replica": 2}


def test_a_flush_does_not_hide_that_it_is_read_only(routed, watch):
    """As asyncpg prepares: what the statement is comes ahead of its Bind."""
    with routed.client() as client:
        for begin, role in (("BEGIN READ ONLY", "replica"), ("BEGIN", "primary")):
            client.query(begin)
            client.send(parse("SELECT 1", "s" + role), describe("s" + role), FLUSH)
            assert [client.read().kind for _ in range(3)] == ["1", "t", "T"]
            answer = client.ask(bind(name="s" + role), execute(), SYNC)
            assert (answer.value, answer.status) == ("1", "T")
            client.send(query("SELECT 2"), run("COMMIT"))
            assert [client.answer().status for _ in range(2)] == ["T", "I"]
            assert watch.by_role() == {role: 3}


# A first statement that a replica refuses


@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "START TRANSACTION READ ONLY"])
@pytest.mark.parametrize("sql", ["SELECT count(*) FROM begun_unlogged", "LISTEN later"])
def test_a_refused_first_statement_starts_again(routed, watch, begin, sql):
    """What a READ ONLY transaction of a primary may do, and a replica refuses."""
    for _ in range(2):
        with routed.client() as client:
            assert client.query(begin).status == "T"
            answer = client.query(sql)
            assert not answer.errors and answer.status == "T", answer
            assert client.query("SHOW transaction_read_only").value == "on"
            assert client.query("INSERT INTO begun VALUES (1)").code == "25006"
            assert client.query("ROLLBACK").status == "I"
            assert client.query("SELECT 1").value == "1"


def test_a_refused_first_statement_of_a_group(routed):
    """BEGIN, its statement and more in one group, and an extended one behind a held BEGIN."""
    unlogged = parse("SELECT count(*) FROM begun_unlogged") + bind() + describe() + execute()
    with routed.client() as client:
        answer = client.ask(
            parse("BEGIN READ ONLY") + bind() + execute(),
            parse("SELECT 'first'") + bind(),
            unlogged,
            SYNC,
        )
        assert (answer.value, answer.status, answer.errors) == ("0", "T", [])
        assert client.query("COMMIT").status == "I"
        client.query("BEGIN READ ONLY")
        answer = client.ask(unlogged, SYNC)
        assert (answer.value, answer.status, answer.errors) == ("0", "T", [])
        assert client.query("COMMIT").status == "I"


def test_a_lost_replica_starts_it_again(routed, watch, cluster):
    """The connection ends while the first statement runs; the second one's loss is told."""
    with routed.client() as client:
        client.query("BEGIN READ ONLY")
        client.send(query("SELECT pg_sleep(0.4)"))
        terminate_reads(cluster)
        answer = client.answer()
        assert (answer.errors, answer.status) == ([], "T")
        assert client.query("COMMIT").status == "I"
    with routed.client() as client:
        client.query("BEGIN READ ONLY")
        client.query("SELECT 1")
        client.send(query("SELECT pg_sleep(20)"))
        terminate_reads(cluster)
        assert client.read_to_end().code == "57P01"


def terminate_reads(cluster):
    """Ends the one server that sleeps on a replica, once it does."""
    sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'app_trust' AND state = 'active'"
    )
    deadline = time.monotonic() + 10 * PATIENCE
    while not any(node.sql(sql) for node in cluster.standbys):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# While it is held


def active(watch):
    return sum(row["sv_active"] for row in watch.show("POOLS") if row["database"] == "app")


def test_no_server_is_held(routed, watch):
    with routed.client() as client, routed.client() as other:
        assert client.query("BEGIN").status == "T"
        row = watch.client(client.socket.getsockname()[1])
        assert (row["state"], row["node"], active(watch)) == ("active", "", 0)
        assert other.query("SELECT 1").value == "1"
        client.query("SELECT 1")
        assert active(watch) == 1
        client.query("COMMIT")
        assert active(watch) == 0
        assert watch.client(client.socket.getsockname()[1])["state"] == "idle"


def test_a_pool_of_one_serves_many_that_think(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"default_pool_size": 1})
    Watch(routed).settle()
    clients = [routed.client() for _ in range(5)]
    for client in clients:
        assert client.query("BEGIN").status == "T"
    for client in clients:
        assert client.query("SELECT 1").value == "1"
        assert client.query("COMMIT").status == "I"


@pytest.mark.parametrize("route", ["auto", "replica"])
@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN READ ONLY"])
def test_a_large_first_statement(tracking, begin, route):
    """Too large to be read whole, and in pieces: nothing waits for the BEGIN alone."""
    text = "SELECT length('" + "x" * 40000 + "')"
    with tracking.client() as client:
        assert not client.query(f"SET weir.route = '{route}'").errors
        for message in (query(text), run(text), run(text, "large")):
            client.query(begin)
            client.send(message[:20000])
            time.sleep(0.02)
            client.send(message[20000:])
            answer = client.answer()
            assert (answer.value, answer.status) == ("40000", "T")
            assert client.query("COMMIT").status == "I"


def test_suspend_and_reconnect(routed, watch):
    """A SUSPEND holds what comes; who waits for servers to be replaced has nothing to wait for."""
    with routed.client() as client:
        client.query("BEGIN")
        watch.console.execute("SUSPEND")
        client.send(query("SELECT 1"))
        assert client.is_silent()
        watch.console.execute("RESUME")
        assert client.answer().status == "T"
        client.query("COMMIT")
        client.query("BEGIN")
        routed.admin("RECONNECT")
        routed.admin("WAIT_CLOSE")
        assert client.query("SELECT 2").value == "2"
        assert client.query("COMMIT").status == "I"


def test_who_leaves_costs_nothing(routed, watch):
    routed.client().query("BEGIN")
    client = routed.client()
    client.query("BEGIN READ ONLY")
    client.drop()
    with routed.client() as other:
        assert other.query("SELECT 1").value == "1"
    assert watch.by_role() == {"replica": 1}


def test_a_cancel_does_nothing(routed, watch):
    with routed.client() as client:
        client.query("BEGIN READ ONLY")
        cancel(routed.address, client.key)
        assert client.query("SELECT 1").value == "1"
        assert client.query("COMMIT").status == "I"


def test_a_cancel_in_line_fails_the_transaction(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"default_pool_size": 1})
    watch = Watch(routed)
    watch.settle()
    with routed.client() as holder, routed.client() as client:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        client.query("BEGIN")
        client.send(query("SELECT 2"))
        deadline = time.monotonic() + 10 * PATIENCE
        while watch.client(client.socket.getsockname()[1])["state"] != "waiting":
            assert time.monotonic() < deadline
            time.sleep(0.005)
        cancel(routed.address, client.key)
        answer = client.answer()
        assert (answer.code, answer.status) == ("57014", "E")
        for said_to in (query("SELECT 3"), run("SELECT 3"), query("BEGIN"), query("SELECT 1; END")):
            answer = client.ask(said_to)
            assert (answer.code, answer.status) == ("25P02", "E"), answer
        assert client.query("").status == "E"
        answer = client.query("COMMIT")
        assert (answer.tags, answer.status) == (["ROLLBACK"], "I")
        holder.query("COMMIT")
        assert client.query("SELECT 4").value == "4"


def test_idle_transaction_timeout_counts_from_the_begin(start_pooler, cluster):
    settings = {"idle_transaction_timeout": 1, "client_idle_timeout": 60, "query_timeout": 0.5}
    routed = start_routed(start_pooler, cluster, settings)
    with routed.client() as client:
        began = time.monotonic()
        client.query("BEGIN")
        last = client.read_to_end().error
        assert (last["C"], last["M"]) == ("08P01", "idle transaction timeout")
        assert 0.9 < time.monotonic() - began < 5 * PATIENCE


def test_transaction_timeout_counts_from_the_begin(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"transaction_timeout": 1})
    with routed.client() as client:
        client.query("BEGIN")
        time.sleep(0.6)
        began = time.monotonic()
        client.query("SELECT 1")
        client.read_to_end()
        assert time.monotonic() - began < 0.9 * PATIENCE


def test_pause_resume_and_kill(routed, watch):
    with routed.client() as client:
        client.query("BEGIN")
        routed.admin("PAUSE")
        client.send(query("SELECT 1"))
        assert client.is_silent()
        routed.admin("RESUME")
        assert client.answer().status == "T"
        client.query("COMMIT")
        client.query("BEGIN")
        routed.admin("KILL app")
        assert client.read_to_end().code
    routed.admin("RESUME app")


def test_a_reload_takes_nothing_away(routed, watch, cluster):
    """What is held goes to a server, whatever the settings have become."""
    nodes = [*cluster.standbys, cluster.primary]
    for routing in ("primary", "off"):
        with routed.client() as client:
            client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
            databases = {"app": entry_of(nodes, routing=routing)}
            routed.write_ini({"defer_begin": 0, "probe_interval": "0.1"}, databases=databases)
            routed.admin("RELOAD")
            assert client.query("SHOW transaction_isolation").value == "repeatable read"
            assert client.query("COMMIT").status == "I"


def test_switched_off(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster, {"defer_begin": 0})
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client:
        client.query("BEGIN")
        assert active(watch) == 1
        client.query("COMMIT")
    assert watch.by_role() == {"primary": 2}


def test_only_where_it_is_routed(start_pooler, cluster):
    """PgBouncer holds a server from BEGIN on, and so does Weir without routing."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "off": entry_of([cluster.primary]),
        "primary": entry_of(nodes, routing="primary"),
        "session": entry_of(nodes, routing="read_write", pool_mode="session"),
        "statement": entry_of(nodes, routing="read_write", pool_mode="statement"),
    }
    routed = start_routed(start_pooler, cluster, databases=databases)
    watch = Watch(routed, "primary")
    watch.wait_state(cluster.primary, "up")
    for database in ("off", "primary", "session"):
        with routed.client(database=database) as client:
            assert client.query("BEGIN").status == "T"
            assert [row["sv_active"] for row in watch.show("POOLS") if row["database"] == database]
            found = [row for row in watch.show("POOLS") if row["database"] == database]
            assert sum(row["sv_active"] for row in found) == 1, found
    with routed.client(database="statement") as client:
        client.send(query("BEGIN"))
        last = client.read_to_end().error
        assert last["M"] == "transaction blocks not allowed in statement pooling mode"


def test_freshness_counts_from_the_first_statement(start_pooler, cluster):
    """What was acknowledged before the first statement came is seen, though BEGIN came earlier."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client, routed.client() as writer:
        with replay_paused(*cluster.standbys):
            client.query("BEGIN READ ONLY")
            writer.query("INSERT INTO begun VALUES (77)")
            assert client.query("SELECT count(*) FROM begun WHERE id = 77").value == "1"
            client.query("COMMIT")
        writer.query("DELETE FROM begun")


def test_psycopg_holds_no_server_between_transactions(routed, watch):
    """A driver that opens each transaction with a BEGIN of its own."""
    with routed.psycopg(autocommit=False) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        for number in range(5):
            with connection.transaction():
                assert connection.execute("SELECT %s::int", [number]).fetchone() == (number,)
        connection.commit()
    assert watch.by_role().keys() == {"replica"}
