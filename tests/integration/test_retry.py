"""What a replica refuses, cancels or loses is answered by another node, and the client sees one
answer: by each row of errors, in both protocols, by servers that a test speaks for and by real ones.
"""

import contextlib
import os
import threading
import time
import urllib.request

import psycopg
import pytest

import cluster as clusters
from meddler import LOST, Meddler, error
from pooler import PATIENCE
from routed import PROBING, Watch, entry_of, replay_paused, start_routed
from wire import SYNC, bind, execute, parse, query

pytestmark = [pytest.mark.weir_only, pytest.mark.timeout(60)]


def group(sql):
    return parse(sql) + bind() + execute() + SYNC


RUNS = pytest.mark.parametrize("run", [query, group])

READ_ONLY = "cannot execute INSERT in a read-only transaction"
CONFLICT = "canceling statement due to conflict with recovery"
TERMINATING = "terminating connection due to conflict with recovery"
ADMIN = "terminating connection due to administrator command"

REASONS = ("refused", "missing", "conflict", "lost")

# Severity, SQLSTATE, routine, text; how many replicas are asked, what it counts as (None: the
# client's own), and whether the shape is for the primary from then on.
ROWS = [
    ("ERROR", "25006", "PreventCommandIfReadOnly", READ_ONLY, 1, "refused", True),
    ("ERROR", "25006", "PreventCommandDuringRecovery", "during recovery", 1, "refused", True),
    ("ERROR", "25006", "replorigin_check_prerequisites", "origins", 1, "refused", True),
    ("ERROR", "25006", "exec_stmt_raise", "by a function", 1, None, False),
    ("ERROR", "0A000", "get_relation_info", "unlogged relations", 1, "refused", True),
    ("ERROR", "0A000", "call_bool_check_hook", "read-write mode", 1, "refused", True),
    ("ERROR", "0A000", "CheckLogicalDecodingRequirements", "decoding", 1, "refused", True),
    ("ERROR", "0A000", "transformSomething", "not supported", 1, None, False),
    ("ERROR", "55000", "pg_switch_wal", "recovery is in progress", 1, "refused", True),
    ("ERROR", "55000", "LockAcquireExtended", "recovery is in progress", 1, "refused", True),
    ("ERROR", "55000", "currval_oid", "currval is not yet defined", 1, None, False),
    ("ERROR", "XX000", "GetNewObjectId", "cannot assign OIDs during recovery", 1, "refused", True),
    ("ERROR", "XX000", "GetNewTransactionId", "cannot during recovery", 1, "refused", True),
    ("ERROR", "XX000", "XLogBeginInsert", "cannot make during recovery", 1, "refused", True),
    ("ERROR", "XX000", "elsewhere", "cache lookup failed", 1, None, False),
    ("ERROR", "40001", "ProcessInterrupts", CONFLICT, 2, "conflict", False),
    ("ERROR", "40001", "ProcessRecoveryConflictInterrupt", CONFLICT, 2, "conflict", False),
    ("ERROR", "40P01", "ProcessInterrupts", CONFLICT, 2, "conflict", False),
    ("ERROR", "40001", "CheckForSerializableConflictOut", "serialize", 1, None, False),
    ("FATAL", "40001", "ProcessInterrupts", TERMINATING, 2, "conflict", False),
    ("FATAL", "57P04", "ProcessInterrupts", TERMINATING, 1, None, False),
    ("FATAL", "57P01", "ProcessInterrupts", ADMIN, 2, "lost", False),
    ("FATAL", "57P02", "quickdie", "crash of another process", 2, "lost", False),
    ("FATAL", "57P03", "ProcessStartupPacket", "is shutting down", 2, "lost", False),
    ("FATAL", "25P04", "ProcessInterrupts", "transaction timeout", 1, None, False),
    ("ERROR", "55P03", "ProcessInterrupts", "due to lock timeout", 1, None, False),
    ("ERROR", "57014", "ProcessInterrupts", "due to statement timeout", 1, None, False),
    ("ERROR", "42P01", "parserOpenTable", "relation does not exist", 1, "missing", False),
    ("ERROR", "42703", "errorMissingColumn", "column does not exist", 1, "missing", False),
    ("ERROR", "42883", "ParseFuncOrColumn", "function does not exist", 1, "missing", False),
    ("ERROR", "3F000", "get_namespace_oid", "schema does not exist", 1, "missing", False),
    ("ERROR", "42704", "typenameType", "type does not exist", 1, "missing", False),
    ("ERROR", "22012", "int4div", "division by zero", 1, None, False),
]


@contextlib.contextmanager
def meddled(start_pooler, cluster, settings=None, **more):
    """A pooler that reaches both standbys through meddlers; and these."""
    with contextlib.ExitStack() as stack:
        meddlers = [stack.enter_context(Meddler(node)) for node in cluster.standbys]
        entry = entry_of([*meddlers, cluster.primary], routing="read_write")
        pooler = start_pooler({**PROBING, **(settings or {})}, databases={"app": entry}, **more)
        watch = Watch(pooler)
        watch.settle()
        yield pooler, watch, meddlers


def hits(meddlers, marker):
    return sum(one.hits.get(marker, 0) for one in meddlers)


def retries(watch):
    rows = [row for row in watch.show("RETRIES") if row["database"] == "app"]
    found = rows[0] if rows else dict.fromkeys(REASONS, 0)  # nobody has used it yet
    return {reason: int(found[reason]) for reason in REASONS}


def answer_to(client, run, sql):
    client.send(run(sql))
    return client.answer()


@RUNS
def test_every_row_of_answers(start_pooler, cluster, run):
    with meddled(start_pooler, cluster) as (pooler, watch, meddlers):
        for number, (severity, code, routine, text, asked, reason, is_learnt) in enumerate(ROWS):
            marker = f"row_{number}_"
            said = error(severity, code, routine, text)
            for meddler in meddlers:
                meddler.answers[marker] = said
            before = retries(watch)
            watch.settle()
            with pooler.client() as client:
                answer = answer_to(client, run, f"SELECT 'seen' AS {marker}")
                if reason is None:
                    assert answer.code == code and not answer.rows, ROWS[number]
                    assert answer.status == "I"
                else:
                    assert answer.rows == [("seen",)] and not answer.errors, (ROWS[number], answer)
                assert hits(meddlers, marker) == asked, ROWS[number]
                after = retries(watch)
                found = {key: after[key] - before[key] for key in after if after[key] > before[key]}
                assert found == ({} if reason is None else {reason: asked}), ROWS[number]
                answer_to(client, run, f"SELECT 'seen' AS {marker}")
            is_asked_again = hits(meddlers, marker) > asked
            assert is_asked_again == (not is_learnt), ROWS[number]
        page = metrics(pooler)
        for reason in REASONS:
            assert f'reason="{reason}"' in page, page


def metrics(pooler):
    """The lines of /metrics that are about retries."""
    with urllib.request.urlopen(f"http://{pooler.host}:{pooler.http_port}/metrics") as page:
        text = page.read().decode()
    return "\n".join(line for line in text.split("\n") if "retries" in line)


@RUNS
def test_a_lost_connection_is_another_nodes(start_pooler, cluster, run):
    settings = {"verbose": "1"}
    with meddled(start_pooler, cluster, settings) as (pooler, watch, meddlers):
        meddlers[0].answers["vanishes"] = meddlers[1].answers["vanishes"] = LOST
        with pooler.client() as client:
            assert answer_to(client, run, "SELECT 1 AS vanishes").value == "1"
            assert watch.where() == "primary"
            meddlers[1].answers.clear()
            for _ in range(4):
                watch.settle()
                assert answer_to(client, run, "SELECT 1 AS vanishes").value == "1"
                assert watch.where() == "replica"
        pooler.wait_log("sending a read again, not on 127.0.0.1:.*: the connection was lost")


def test_a_session_that_replicas_refuse_stays_away(start_pooler, cluster):
    """Its settings are the reason, so that its statements are no worse for others."""
    refusal = error("ERROR", "0A000", "GetSerializableTransactionSnapshot", "serializable mode")
    with meddled(start_pooler, cluster) as (pooler, watch, meddlers):
        for meddler in meddlers:
            meddler.answers["mine"] = refusal
        with pooler.client() as one, pooler.client() as other:
            assert one.query("SELECT 1 AS mine").value == "1"
            assert one.query("SELECT 2 AS mine").value == "2"
            assert hits(meddlers, "mine") == 1
            assert watch.why(one) == "default_transaction_isolation"
            for meddler in meddlers:
                meddler.answers.clear()
            watch.settle()
            assert other.query("SELECT 3 AS mine").value == "3"
            assert watch.where() == "replica"


def test_nothing_is_sent_again_when_that_is_off(start_pooler, cluster):
    with meddled(start_pooler, cluster, {"retry_timeout": 0}) as (pooler, watch, meddlers):
        for meddler in meddlers:
            meddler.answers["refused"] = error("ERROR", "40001", "ProcessInterrupts", CONFLICT)
        with pooler.client() as client:
            assert client.query("SELECT 1 AS refused").code == "40001"
        assert sum(retries(watch).values()) == 0


def test_nothing_of_a_transaction_is_sent_again(start_pooler, cluster):
    with meddled(start_pooler, cluster) as (pooler, watch, meddlers):
        for meddler in meddlers:
            meddler.answers["refused"] = error("ERROR", "40001", "ProcessInterrupts", CONFLICT)
        with pooler.client() as client:
            client.query("BEGIN READ ONLY")
            client.query("SELECT 1")
            assert client.query("SELECT 1 AS refused").code == "40001"
        assert sum(retries(watch).values()) == 0


def test_no_replica_is_left_and_no_fallback(start_pooler, cluster):
    with meddled(start_pooler, cluster, {"replica_fallback": 0}) as (pooler, watch, meddlers):
        for meddler in meddlers:
            meddler.answers["refused"] = error("ERROR", "40001", "ProcessInterrupts", CONFLICT)
        with pooler.client() as client:
            assert client.query("SELECT 1 AS refused").code == "40001"
        assert hits(meddlers, "refused") == 2 and retries(watch)["conflict"] == 1


LOGINS = [
    ("53300", "sorry, too many clients already"),
    ("28P01", "password authentication failed"),
    ("28000", "role does not exist"),
    ("3D000", "database does not exist"),
    ("57P03", "the database system is starting up"),
]


@pytest.mark.parametrize("code, text", LOGINS)
def test_a_replica_that_lets_nobody_in_is_avoided(start_pooler, cluster, code, text):
    """The role may not be there yet: others serve, and the node is reported."""
    settings = {"server_login_retry": 60}
    with meddled(start_pooler, cluster, settings) as (pooler, watch, meddlers):
        for meddler in meddlers:
            meddler.refusal = error("FATAL", code, "InitProcess", text)
        with pooler.client() as client:
            for _ in range(10):
                assert client.query("SELECT 1").value == "1"
            assert watch.where() == "primary"
            assert [meddler.hits["login"] for meddler in meddlers] == [1, 1]
            assert watch.node(meddlers[0])["error"] == text
            assert watch.node(meddlers[0])["state"] == "up"


def test_a_replica_that_lets_nobody_in_and_no_fallback(start_pooler, cluster):
    with meddled(start_pooler, cluster, {"replica_fallback": 0}) as (pooler, _, meddlers):
        for meddler in meddlers:
            meddler.refusal = error("FATAL", "28P01", "auth_failed", "not you")
        with pooler.client() as client:
            client.send(query("SELECT 1"))
            end = client.read_to_end(5 * PATIENCE)
            assert end.error["S"] == "FATAL" and "not you" in end.error["M"]


# Real servers

CONFLICTS = "ALTER SYSTEM SET max_standby_streaming_delay = 0"


@pytest.fixture
def impatient(cluster, make_table):
    """Standbys that cancel whatever is in the way of replay, and a table to provoke it with."""
    make_table("vacuumed", "id int")
    cluster.primary.sql("INSERT INTO vacuumed SELECT generate_series(1, 1000)")
    for node in cluster.standbys:
        node.sql(CONFLICTS)
        node.sql("SELECT pg_reload_conf()")
    cluster.wait_replayed()
    yield
    for node in cluster.standbys:
        node.sql("ALTER SYSTEM RESET max_standby_streaming_delay")
        node.sql("SELECT pg_reload_conf()")


@RUNS
def test_conflict_with_recovery(start_pooler, cluster, impatient, run):
    """A read that is cancelled on a replica goes on elsewhere, until it has its answer."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    is_over = threading.Event()

    def provoke():
        while not is_over.is_set():
            cluster.primary.sql("DELETE FROM vacuumed WHERE id % 2 = 0; VACUUM vacuumed")
            cluster.primary.sql("INSERT INTO vacuumed SELECT generate_series(2, 1000, 2)")

    thread = threading.Thread(target=provoke)
    thread.start()
    try:
        with routed.client() as client:
            sql = "SELECT count(*) >= 500, pg_sleep(0.3) FROM (SELECT * FROM vacuumed) v"
            deadline = time.monotonic() + 20 * PATIENCE
            while retries(watch)["conflict"] == 0:
                assert time.monotonic() < deadline
                answer = answer_to(client, run, sql)
                assert not answer.errors and answer.rows[0][0] == "t"
    finally:
        is_over.set()
        thread.join()


@RUNS
def test_what_a_replica_does_not_have_yet(start_pooler, cluster, run):
    """Made past the pooler, so that nothing says that the replicas are behind."""
    cluster.primary.sql("DROP TABLE IF EXISTS young")
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with replay_paused(*cluster.standbys), routed.client() as client:
        cluster.primary.sql("CREATE TABLE young AS SELECT 7 AS n; GRANT ALL ON young TO PUBLIC")
        for _ in range(2):
            assert answer_to(client, run, "SELECT n FROM young").value == "7"
        assert answer_to(client, run, "SELECT n FROM nowhere").code == "42P01"
    cluster.primary.sql("DROP TABLE young")


def test_a_backend_that_is_killed(start_pooler, cluster):
    """The whole standby recovers from that; the read is answered by another."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client:
        client.send(query("SELECT 'survived', pg_sleep(0.5)"))
        assert client.is_silent(0.2)
        active = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%survived%' AND pid <> pg_backend_pid()"
        pids = {node: node.sql(active) for node in cluster.standbys}
        node = next(node for node, pid in pids.items() if pid)
        clusters.send_signal(int(pids[node].split("\n")[0]), 9)
        answer = client.answer()
        assert answer.rows[0][0] == "survived" and not answer.errors
        assert retries(watch)["lost"] == 1
    deadline = time.monotonic() + 30
    while True:
        with contextlib.suppress(RuntimeError):
            node.sql("SELECT 1")
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.wait_streaming()


def test_a_database_that_is_dropped(start_pooler, cluster):
    """57P04: nobody has it any more, so nobody else is asked."""
    cluster.primary.sql("CREATE DATABASE dropped")
    cluster.wait_replayed()
    entry = entry_of([*cluster.standbys, cluster.primary], routing="read_write", dbname="dropped")
    pooler = start_pooler(PROBING, databases={"app": entry})
    watch = Watch(pooler)
    watch.settle()
    with pooler.client() as client:
        client.send(query("SELECT 'survived', pg_sleep(20)"))
        assert client.is_silent(0.2)
        cluster.primary.sql("DROP DATABASE dropped WITH (FORCE)", database="postgres")
        answer = client.answer(10 * PATIENCE)
        assert answer.code == "57P04"
        assert sum(retries(watch).values()) == 0


def test_a_lock_timeout_is_the_clients(start_pooler, cluster, make_table):
    """Replay holds the primary's lock on the standbys, too."""
    make_table("locked", "id int")
    cluster.primary.sql("ALTER ROLE app_trust SET lock_timeout = '50ms'")
    cluster.wait_replayed()
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    try:
        with psycopg.connect(cluster.primary.conninfo()) as holder, routed.client() as client:
            assert client.query("SELECT count(*) FROM locked").value == "0"
            holder.execute("LOCK TABLE locked")
            cluster.primary.sql("CREATE TABLE flushed (); DROP TABLE flushed")
            for node in cluster.standbys:
                held = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock'"
                node.wait_for(held, "t")
            watch.queries()
            assert client.query("SELECT count(*) FROM locked").code == "55P03"
            assert watch.where() == "replica"
            assert sum(retries(watch).values()) == 0
            holder.rollback()
    finally:
        cluster.primary.sql("ALTER ROLE app_trust RESET lock_timeout")


def test_a_standby_that_takes_no_connections(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    node = cluster.standbys[0]
    settings = os.path.join(node.data, "postgresql.conf")
    with routed.client() as client:
        try:
            node.stop()
            with open(settings, "a", encoding="utf-8") as file:
                file.write("hot_standby = off\n")
            node.start()
            for _ in range(10):
                assert client.query("SELECT 1").value == "1"
            watch.wait_state(node, "down")
            deadline = time.monotonic() + 10 * PATIENCE
            while "not accepting connections" not in watch.node(node)["error"]:
                assert time.monotonic() < deadline, watch.node(node)
                time.sleep(0.02)
            assert client.query("SELECT 1").value == "1"
        finally:
            node.stop()
            with open(settings, "a", encoding="utf-8") as file:
                file.write("hot_standby = on\n")
            node.start()
            cluster.wait_streaming()
    watch.settle()


@RUNS
def test_a_read_on_a_replica_that_hangs(start_pooler, cluster, run):
    """It is down when it has left two questions open; what hangs there with them goes elsewhere."""
    routed = start_routed(start_pooler, cluster, {"probe_timeout": "0.5"})
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client:
        client.send(run("SELECT 'survived', pg_sleep(0.5)"))
        assert client.is_silent(0.2)
        node = next(one for one in cluster.standbys if watch.node(one)["sv_active"] > 0)
        node.freeze()
        try:
            answer = client.answer()
        finally:
            node.thaw()
        assert answer.rows[0][0] == "survived" and not answer.errors
        assert retries(watch)["lost"] == 1
    cluster.wait_streaming()
    watch.settle()


def test_a_refusal_behind_rows_of_the_same_group(start_pooler, cluster, make_table):
    """Several statements: their answers are held until the last one is decided."""
    cluster.primary.sql(
        "CREATE SEQUENCE retried; GRANT ALL ON SEQUENCE retried TO PUBLIC;"
        "CREATE FUNCTION lies() RETURNS bigint STABLE LANGUAGE plpgsql AS"
        " $$DECLARE n bigint; BEGIN EXECUTE 'SELECT next' || 'val(''ret' || 'ried'')' INTO n;"
        " RETURN n; END$$"
    )
    cluster.wait_replayed()
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with routed.client() as client:
        answer = client.query("SELECT 1; SELECT lies() > 0")
        assert not answer.errors and answer.rows == [("1",), ("t",)]
        assert watch.by_role() == {"replica": 1, "primary": 1}
        one = parse("SELECT 1") + bind() + execute()
        client.send(one + parse("SELECT lies() > 0") + bind() + execute() + SYNC)
        answer = client.answer()
        assert not answer.errors and answer.rows == [("1",), ("t",)]
    cluster.primary.sql("DROP FUNCTION lies; DROP SEQUENCE retried")
