"""A read sees every write that was acknowledged before it, whichever node answers.

Standbys lag on purpose: their replay is paused, or delayed by recovery_min_apply_delay. What each
consistency promises is checked beside one that does not promise it, so that a check which cannot
fail would be noticed.
"""

import contextlib
import itertools
import random
import statistics
import threading
import time

import psycopg
import pytest

from console import wait_until
from pooler import PATIENCE
from routed import Watch, entry_of, replay_paused, start_routed
from tools import in_threads
from wire import COPY_DONE, FLUSH, SYNC, bind, copy_data, execute, parse, query

pytestmark = pytest.mark.weir_only

ROWS = 4

SCHEMA = f"""
DROP TABLE IF EXISTS marks, loads;
CREATE TABLE marks (id int PRIMARY KEY, n int) WITH (fillfactor = 10);
INSERT INTO marks SELECT g, 0 FROM generate_series(0, {ROWS}) g;
CREATE TABLE loads (n int);
CREATE FUNCTION mark(which int, value int) RETURNS void LANGUAGE sql
    AS 'UPDATE marks SET n = value WHERE id = which';
CREATE PROCEDURE mark_and_commit(which int, value int) LANGUAGE plpgsql
    AS 'BEGIN UPDATE marks SET n = value WHERE id = which; COMMIT; PERFORM 1; END';
GRANT ALL ON marks, loads TO PUBLIC;
"""

CLEAN = """
DROP PROCEDURE mark_and_commit(int, int);
DROP FUNCTION mark(int, int);
DROP TABLE marks, loads;
"""


@pytest.fixture(scope="module", autouse=True)
def schema(cluster):
    cluster.primary.sql(SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(CLEAN)


def mark(client, value, which=0):
    answer = client.query(f"UPDATE marks SET n = {value} WHERE id = {which}")
    assert answer.tags == ["UPDATE 1"], answer


def seen(client, which=0):
    return int(client.query(f"SELECT n FROM marks WHERE id = {which}").value)


# Ways to write: each returns when the commit was acknowledged in some way, and returns what the
# client has to read before it may ask anything else.


def update(which, value):
    return f"UPDATE marks SET n = {value} WHERE id = {which}"


def run(client, *parts):
    """Whatever the answer is; tests of the answer's content stand elsewhere."""
    client.ask(*parts)


def group(*statements):
    return b"".join(parse(sql) + bind() + execute() for sql in statements)


def by_query(client, which, value):
    run(client, query(update(which, value)))


def by_extended(client, which, value):
    sql = "UPDATE marks SET n = $1::int WHERE id = $2::int"
    run(client, parse(sql), bind([value, which]), execute(), SYNC)


def by_transaction(client, which, value):
    for sql in ("BEGIN", update(which, value), "COMMIT"):
        run(client, query(sql))


def by_string(client, which, value):
    run(client, query(f"BEGIN; {update(which, value)}; COMMIT"))


def by_string_with_error(client, which, value):
    """The commit succeeds, what is behind it fails."""
    run(client, query(f"BEGIN; {update(which, value)}; COMMIT; SELECT 1/0"))


def by_pipeline(client, which, value):
    run(client, group("BEGIN", update(which, value), "COMMIT"), SYNC)


def by_queries_at_once(client, which, value):
    client.send(query("BEGIN"), query(update(which, value)), query("COMMIT"))
    for _ in range(3):
        client.answer()


def by_commit_in_the_middle(client, which, value):
    """The tag of the COMMIT is seen while the group still runs."""
    client.send(group("BEGIN", update(which, value), "COMMIT"), FLUSH)
    for _ in range(3):
        client.read_until("C")
    client.send(group("SELECT pg_sleep(0.002)"), SYNC)
    return client.answer


def by_returning(client, which, value):
    run(client, query(f"WITH x AS ({update(which, value)} RETURNING n) SELECT * FROM x"))


def by_function(client, which, value):
    run(client, query(f"SELECT mark({which}, {value})"))


def by_procedure(client, which, value):
    run(client, query(f"CALL mark_and_commit({which}, {value})"))


def by_block(client, which, value):
    run(client, query(f"DO $$ BEGIN {update(which, value)}; END $$"))


def without_waiting(client, which, value):
    """Acknowledged before it is on the primary's disk."""
    text = f"BEGIN; SET LOCAL synchronous_commit = off; {update(which, value)}; COMMIT"
    run(client, query(text))


WRITES = [
    by_query,
    without_waiting,
    by_extended,
    by_transaction,
    by_string,
    by_string_with_error,
    by_pipeline,
    by_queries_at_once,
    by_commit_in_the_middle,
    by_returning,
    by_function,
    by_procedure,
    by_block,
]


# Ways to read


def read_query(client):
    return client.query("SELECT n FROM marks ORDER BY id").rows


def read_extended(client):
    return client.ask(parse("SELECT n FROM marks ORDER BY id"), bind(), execute(), SYNC).rows


def read_transaction(client):
    client.send(query("BEGIN READ ONLY"))
    client.answer()
    rows = client.query("SELECT n FROM marks ORDER BY id").rows
    client.query("COMMIT")
    return rows


def read_pipeline(client):
    parts = group("BEGIN READ ONLY", "SELECT n FROM marks ORDER BY id", "COMMIT")
    return client.ask(parts, SYNC).rows


READS = [read_query, read_extended, read_query, read_transaction, read_pipeline]


class Lag:
    """A thread that makes the standbys late in all manners while a test runs."""

    def __init__(self, cluster, seed):
        self.random = random.Random(seed)
        self.late, self.stopping = cluster.standbys
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def set_delay(self, milliseconds):
        self.late.sql(
            f"ALTER SYSTEM SET recovery_min_apply_delay = '{milliseconds}ms';"
            " SELECT pg_reload_conf()"
        )

    def run(self):
        with psycopg.connect(self.stopping.conninfo(), autocommit=True) as connection:
            while not self.over.is_set():
                connection.execute("SELECT pg_wal_replay_pause()")
                time.sleep(self.random.uniform(0, 0.04))
                connection.execute("SELECT pg_wal_replay_resume()")
                time.sleep(self.random.uniform(0, 0.04))

    def __enter__(self):
        self.set_delay(15)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.set_delay(0)


def race(routed, seconds, writers=2, readers=3):
    """Writers and readers on connections of their own, for so long. Returns how many reads were
    made and what was stale: (row, what was read, what had been acknowledged before)."""
    acknowledged = [0] * (ROWS + 1)
    stale = []
    reads = itertools.count()
    end = time.monotonic() + seconds

    def write(number):
        source = random.Random(number)
        with routed.client() as client:
            for value in itertools.count(1):
                if time.monotonic() > end:
                    return
                rest = source.choice(WRITES)(client, number, value)
                acknowledged[number] = value
                if rest is not None:
                    rest()
                if source.random() < 0.7:
                    time.sleep(source.uniform(0, 0.03))

    def read(number):
        source = random.Random(number)
        with routed.client() as client:
            while time.monotonic() < end and not stale:
                known = list(acknowledged)
                rows = source.choice(READS)(client)
                next(reads)
                for which, (row, least) in enumerate(zip(rows, known)):
                    if int(row[0]) < least:
                        stale.append((which, row[0], least))

    def work(number):
        (write if number < writers else read)(number)

    in_threads(writers + readers, work)
    return next(reads), acknowledged, stale


@pytest.mark.parametrize("workers", [1, 2])
def test_a_read_sees_every_acknowledged_write(start_pooler, cluster, workers):
    """Thousands of reads beside writes of every kind, while both standbys lag."""
    routed = start_routed(start_pooler, cluster, {"workers": workers})
    watch = Watch(routed)
    watch.settle()
    cluster.primary.sql("UPDATE marks SET n = 0")
    with Lag(cluster, workers):
        reads, acknowledged, stale = race(routed, seconds=3)
    ran = watch.by_role()
    assert not stale
    assert reads > 500 / PATIENCE and sum(acknowledged) > 100 / PATIENCE, (reads, acknowledged)
    assert ran["replica"] > 100 / PATIENCE, ran


def test_the_race_finds_stale_reads(start_pooler, cluster):
    """The same without the promise: if nothing is stale here, the test above proves nothing."""
    routed = start_routed(start_pooler, cluster, {"read_consistency": "eventual"})
    Watch(routed).settle()
    cluster.primary.sql("UPDATE marks SET n = 0")
    with Lag(cluster, 3):
        _, _, stale = race(routed, seconds=3)
    assert stale


@pytest.mark.parametrize("write", WRITES)
def test_each_kind_of_write_is_seen_at_once(start_pooler, cluster, write):
    """Writer and reader on different workers, no replica shows anything new."""
    routed = start_routed(start_pooler, cluster, {"workers": 2})
    watch = Watch(routed)
    watch.settle()
    cluster.primary.sql("UPDATE marks SET n = 0")
    cluster.wait_replayed()
    with replay_paused(*cluster.standbys), routed.client() as writer, routed.client() as reader:
        numbers = {watch.client(one.socket.getsockname()[1])["worker"] for one in (writer, reader)}
        assert numbers == {0, 1}
        rest = write(writer, 0, 7)
        assert seen(reader) == 7
        if rest is not None:
            rest()
        assert seen(writer) == 7
        assert "no replica has replayed" in watch.route()["reason"]


def test_copy_is_a_write(start_pooler, cluster):
    routed = start_routed(start_pooler, cluster)
    Watch(routed).settle()
    with replay_paused(*cluster.standbys), routed.client() as writer, routed.client() as reader:
        writer.send(query("COPY loads FROM STDIN"))
        writer.read_until("G")
        assert writer.ask(copy_data(b"1\n2\n"), COPY_DONE).tags == ["COPY 2"]
        assert reader.query("SELECT count(*) FROM loads").value == "2"


def test_an_open_transaction_keeps_no_read_off_the_replicas(start_pooler, cluster):
    """What it writes is seen by nobody before the commit, and by everybody after it."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    cluster.primary.sql("UPDATE marks SET n = 1")
    with routed.client() as writer, routed.client() as reader:
        for commit in (query("COMMIT"), group("COMMIT") + SYNC, query("COMMIT; SELECT 1")):
            watch.settle()
            before = seen(reader)
            assert watch.where() == "replica"
            writer.query("BEGIN")
            mark(writer, before + 1)
            writer.ask(parse(update(0, before + 1)), bind(), execute(), SYNC)
            assert (seen(reader), seen(writer)) == (before, before + 1)
            ran = watch.by_role()
            assert ran == {"replica": 1, "primary": 3}
            with replay_paused(*cluster.standbys):
                run(writer, commit)
                assert seen(reader) == before + 1


def test_a_transaction_that_reaches_out(start_pooler, cluster):
    """What is not understood may have committed something by itself: it counts at once."""
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    with routed.client() as writer, routed.client() as reader:
        writer.query("BEGIN")
        writer.query("SELECT mark(0, 9)")
        assert seen(reader) != 9
        assert watch.where() == "primary"


# What the other consistencies promise


def start_paused(start_pooler, cluster, consistency, **more):
    """A routed pooler whose replicas are fresh, and a value that they show."""
    routed = start_routed(start_pooler, cluster, {"read_consistency": consistency, **more})
    cluster.primary.sql("UPDATE marks SET n = 1")
    cluster.wait_replayed()
    Watch(routed).settle()
    return routed


# read_consistency, what the writer and another session read after a write
PROMISES = [("database", 2, 2), ("session", 2, 1), ("eventual", 1, 1)]


@pytest.mark.parametrize("consistency,own,others", PROMISES)
def test_promises(start_pooler, cluster, consistency, own, others):
    routed = start_paused(start_pooler, cluster, consistency)
    with routed.client() as writer, routed.client() as reader:
        with replay_paused(*cluster.standbys):
            mark(writer, 2)
            assert (seen(writer), seen(reader)) == (own, others)


def test_consistency_of_a_database_entry(start_pooler, cluster):
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "late": entry_of(nodes, routing="read_write", read_consistency="eventual"),
    }
    routed = start_paused_with(start_pooler, cluster, databases)
    with routed.client() as strict, routed.client(database="late") as late:
        with replay_paused(*cluster.standbys):
            mark(strict, 2)
            assert (seen(strict), seen(late)) == (2, 1)


def start_paused_with(start_pooler, cluster, databases):
    routed = start_routed(start_pooler, cluster, databases=databases)
    cluster.primary.sql("UPDATE marks SET n = 1")
    cluster.wait_replayed()
    for name in databases:
        Watch(routed, name).settle()
    return routed


def test_two_names_of_one_database(start_pooler, cluster):
    """What was written through one is seen through the other."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {
        "app": entry_of(nodes, routing="read_write"),
        "app_ro": entry_of(nodes[::-1], routing="replica"),
    }
    routed = start_paused_with(start_pooler, cluster, databases)
    with routed.client() as writer, routed.client(database="app_ro") as reader:
        with replay_paused(*cluster.standbys):
            mark(writer, 2)
            assert seen(reader) == 2


def test_after_a_restart_nothing_older_is_shown(start_pooler, cluster):
    """A new process does not know what the last one acknowledged."""
    first = start_paused(start_pooler, cluster, "database")
    with replay_paused(*cluster.standbys):
        with first.client() as writer:
            mark(writer, 2)
        first.stop()
        second = start_routed(start_pooler, cluster)
        with second.client() as reader:
            for _ in range(50):
                assert seen(reader) == 2
                time.sleep(0.01)


def test_a_reload_keeps_the_promise(start_pooler, cluster):
    """Another list of hosts is a new cluster, and still the same database."""
    routed = start_paused(start_pooler, cluster, "database")
    nodes = [cluster.primary, cluster.standbys[0]]
    with routed.client() as writer, routed.client() as reader:
        with replay_paused(*cluster.standbys):
            mark(writer, 2)
            routed.write_ini(
                {"probe_interval": "0.1"},
                databases={"app": entry_of(nodes, routing="read_write")},
            )
            routed.reload()
            for _ in range(50):
                assert seen(reader) == 2
                time.sleep(0.01)


# One session


@pytest.mark.parametrize("consistency,is_kept", [("database", True), ("eventual", False)])
def test_a_session_never_goes_backwards(start_pooler, cluster, consistency, is_kept):
    """It has read from the replica that is ahead; now the other one is less busy."""
    behind = cluster.standbys[0]
    routed = start_paused(start_pooler, cluster, consistency)
    watch = Watch(routed)
    with routed.client() as session, contextlib.ExitStack() as ends:
        seen(session)
        with replay_paused(behind):
            # Not through the pooler, which therefore may show it or not.
            cluster.primary.sql("UPDATE marks SET n = 2 WHERE id = 0")
            cluster.standbys[1].wait_for("SELECT n FROM marks WHERE id = 0", "2")
            time.sleep(0.3)
            values = []
            while len(values) < 6 or (not is_kept and len(values) < 18 and values == sorted(values)):
                busy = ends.enter_context(routed.client())
                busy.send(query("SELECT pg_sleep(2)"))
                time.sleep(0.05)
                values.append(seen(session))
            others = [ends.enter_context(routed.client()) for _ in range(6)]
            for other in others:
                other.send(query("SELECT n, pg_sleep(0.5) FROM marks WHERE id = 0"))
                time.sleep(0.02)
            others = [int(other.answer().rows[0][0]) for other in others]
            assert 1 in values + others, "the replica that is behind was never asked"
            assert 2 in values, watch.nodes()
            assert (values == sorted(values)) == is_kept, values


# Which replica, when


def test_a_replica_that_lags_is_left_out(start_pooler, cluster):
    late, fresh = cluster.standbys
    routed = start_paused(start_pooler, cluster, "database")
    watch = Watch(routed)
    with routed.client() as client, replay_paused(late):
        for value in range(2, 12):
            mark(client, value)
            watch.settle(replicas=1, sql="SELECT n FROM marks WHERE id = 0")
            assert seen(client) == value
            assert watch.queries() == {fresh.port: 1}
        wait_until(lambda: watch.node(late)["lag_bytes"] > 0)
        assert watch.node(late)["state"] == "up"


def test_replica_wait(start_pooler, cluster):
    """With it a read waits for a replica to catch up, instead of going to the primary."""
    routed = start_paused(start_pooler, cluster, "database", replica_wait="2")
    watch = Watch(routed)
    with routed.client() as client:
        seen(client)
        watch.queries()
        for value in range(2, 12):
            mark(client, value)
            assert seen(client) == value
        assert watch.by_role() == {"primary": 10, "replica": 10}
        with replay_paused(*cluster.standbys):
            mark(client, 12)
            began = time.monotonic()
            assert seen(client) == 12
            assert 1.8 < time.monotonic() - began < 4 * PATIENCE
        assert watch.by_role() == {"primary": 2}


def test_waiting_for_freshness_opens_no_connections(start_pooler, cluster):
    """One client needs one server of a node, however long that node takes to catch up."""
    routed = start_paused(start_pooler, cluster, "database", replica_wait="1")
    watch = Watch(routed)
    with routed.client() as client:
        for _ in range(20):
            seen(client)
        with replay_paused(*cluster.standbys):
            mark(client, 2)
            assert seen(client) == 2
        for node in cluster.standbys:
            assert watch.node(node)["sv_idle"] <= 1, watch.nodes()


@pytest.mark.release_only
def test_how_soon_reads_are_on_replicas_again(start_pooler, cluster, record_property):
    """After a write, at the default probe_interval: reads on the primary ask for a probe."""
    routed = start_routed(start_pooler, cluster, {"probe_interval": "1"})
    watch = Watch(routed)
    watch.settle()
    times = []
    with routed.client() as client:
        for value in range(20):
            mark(client, value)
            written = time.monotonic()
            watch.queries()
            while watch.where() != "replica":
                assert seen(client) == value
                assert time.monotonic() - written < 5
            times.append((time.monotonic() - written) * 1000)
            time.sleep(0.06)
    median = statistics.median(times)
    record_property("median_ms", median)
    print(f"reads are on replicas again after {median:.1f} ms (at most {max(times):.1f})")
    assert median < 100


def test_wal_that_no_commit_flushes(start_pooler, cluster):
    """A read that tidies pages up logs that, and nobody flushes it on a primary that rests: the
    prober has it flushed, since a replica cannot get where the primary says it is."""
    cluster.primary.sql(
        "CREATE TABLE tidied (a int, b text) WITH (fillfactor = 50);"
        "INSERT INTO tidied SELECT g, repeat('x', 200) FROM generate_series(1, 2000) g;"
        "GRANT ALL ON tidied TO PUBLIC"
    )
    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()
    took = []
    with routed.client() as client:
        for turn in range(9):
            client.query(f"UPDATE tidied SET b = repeat('y', 200) WHERE a % 7 = {turn % 7}")
            began = time.monotonic()
            client.query("SELECT count(*) FROM tidied")
            watch.queries()
            while watch.where() != "replica":
                time.sleep(0.005)
                assert client.query("SELECT count(*) FROM tidied").value == "2000"
            took.append(time.monotonic() - began)
    cluster.primary.sql("DROP TABLE tidied")
    assert statistics.median(took) < 0.2 * PATIENCE, took
