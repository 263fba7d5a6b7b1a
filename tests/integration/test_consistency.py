"""What concurrent sessions are told, and whether it keeps the promise, whatever befalls the nodes.

Eight clients write and read (races.py), what they were told is checked afterwards (histories.py). The
standbys lag, stall, crash, or cancel queries for their replay's sake; test_consistency_failover.py
has what befalls the primary. The same run without a promise has to break it: else the check could not
fail.
"""

import contextlib
import random
import threading
import time

import psycopg
import pytest

from pooler import PATIENCE
from races import CLEAN, SCHEMA, race
from routed import Watch, replay_paused, start_routed

pytestmark = pytest.mark.weir_only

# What befalls the standbys, until `over` is set


def lag(cluster, over, dice):
    late, stopping = cluster.standbys
    with late.settings(recovery_min_apply_delay="15ms"):
        with psycopg.connect(stopping.conninfo(), autocommit=True) as connection:
            while not over.is_set():
                connection.execute("SELECT pg_wal_replay_pause()")
                time.sleep(dice.uniform(0, 0.04))
                connection.execute("SELECT pg_wal_replay_resume()")
                time.sleep(dice.uniform(0, 0.04))


def stall(cluster, over, dice):
    while not over.wait(dice.uniform(0.05, 0.2)):
        node = dice.choice(cluster.standbys)
        node.freeze()
        over.wait(dice.uniform(0.1, 0.4))
        node.thaw()


def crash(cluster, over, dice):
    while not over.wait(0.1):
        node = dice.choice(cluster.standbys)
        node.kill()
        node.start()


def conflict(cluster, over, dice):
    """Rows that standbys' queries need are removed, and tables locked, and replay does not wait."""
    with contextlib.ExitStack() as ends:
        for node in cluster.standbys:
            ends.enter_context(node.settings(max_standby_streaming_delay="0"))
        connection = ends.enter_context(psycopg.connect(cluster.primary.conninfo(), autocommit=True))
        while not over.wait(dice.uniform(0, 0.03)):
            connection.execute(dice.choice(["VACUUM h.marks", "VACUUM h.copies", "VACUUM h.pieces"]))
            connection.execute("BEGIN; LOCK TABLE h.copies IN ACCESS EXCLUSIVE MODE; COMMIT")


@contextlib.contextmanager
def befalls(what, cluster, seed):
    """Within, `what` goes on in a thread of its own; afterwards the standbys stream again."""
    over, failures = threading.Event(), []

    def run():
        try:
            what(cluster, over, random.Random(seed))
        except Exception as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        cluster.wait_streaming()
    assert not failures, failures


@pytest.fixture
def schema(cluster):
    cluster.primary.sql(SCHEMA)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(CLEAN)


def report(told, watch):
    """Prints what a race did; by role, how many queries ran."""
    ran, history = watch.by_role(), told.history
    lost = sorted({code for code, _ in told.lost_transactions})
    print(f"{len(history.writes)} writes, {len(history.reads)} reads; {ran}; lost in transactions: {lost}")
    return ran


def start(start_pooler, cluster, consistency):
    settings = {"read_consistency": consistency, "probe_timeout": "0.5"}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.wait_route("plain read") if consistency == "cluster" else watch.settle()
    watch.queries()
    return routed, watch


RACES = [
    (lag, "database"), (lag, "session"), (stall, "database"), (crash, "database"), (crash, "session"),
    (conflict, "database"), (lag, "cluster"), (crash, "cluster"),
]  # fmt: skip


@pytest.mark.parametrize("what,consistency", RACES)
def test_the_promise_is_kept(start_pooler, cluster, schema, what, consistency):
    routed, watch = start(start_pooler, cluster, consistency)
    with befalls(what, cluster, 1):
        told = race(routed, 1, past=cluster.primary if consistency == "cluster" else None)
        ran = report(told, watch)
    assert not told.history.violations(consistency)[:3]
    assert not told.history.backwards()[:3]
    failed = told.failed_reads + told.failed_writes
    assert not failed[:3], "the standbys' troubles reached clients outside transactions"
    assert len(told.history.reads) > 100 / PATIENCE
    assert ran["replica"] > 20 / PATIENCE, ran


@pytest.mark.parametrize("promise", ["session", "database"])
def test_the_check_can_fail(start_pooler, cluster, schema, promise):
    """Without a promise, the same race breaks both."""
    routed, watch = start(start_pooler, cluster, "eventual")
    with befalls(lag, cluster, 1):
        told = race(routed, 1)
        report(told, watch)
    assert not told.history.violations("eventual")[:3]
    assert told.history.violations(promise)


def test_the_check_finds_what_was_written_past_weir(start_pooler, cluster, schema):
    """`database` does not promise what `cluster` does."""
    routed, watch = start(start_pooler, cluster, "database")
    with befalls(lag, cluster, 1):
        told = race(routed, 1, past=cluster.primary)
        report(told, watch)
    assert not told.history.violations("database")[:3]
    assert told.history.violations("cluster")


@pytest.mark.parametrize("consistency", ["session", "database", "cluster"])
def test_what_was_seen_on_the_primary_stays_seen(start_pooler, cluster, schema, consistency):
    """Another's write, which `session` does not promise: who has seen it is told nothing older."""
    routed, watch = start(start_pooler, cluster, consistency)
    with routed.client() as session, routed.client() as other:
        session.query("UPDATE h.tally SET n = 1")
        cluster.wait_replayed()
        if consistency != "cluster":
            watch.settle()
        with replay_paused(*cluster.standbys):
            other.query("UPDATE h.tally SET n = 2")
            told = [session.query(f"{hint}SELECT n FROM h.tally").value for hint in ("/* weir:primary */", "")]
    assert told == ["2", "2"]


def test_a_busy_table_keeps_nobody_off_the_standbys(start_pooler, cluster, schema):
    """One table is written all the time, standbys are some milliseconds behind: another table is read
    there, and the busy one still shows each write at once."""
    late, later = cluster.standbys
    routed, watch = start(start_pooler, cluster, "database")
    over, written = threading.Event(), [0]

    def work():
        with routed.client() as writer:
            while not over.wait(0.002):
                writer.query(f"UPDATE h.busy SET n = {written[0] + 1}")
                written[0] += 1

    with late.settings(recovery_min_apply_delay="5ms"), later.settings(recovery_min_apply_delay="10ms"):
        with routed.client() as client:
            client.query("UPDATE h.busy SET n = 0")
        cluster.wait_replayed()
        watch.settle()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        with routed.client() as reader:
            for _ in range(200):
                assert not reader.query("SELECT sum(n) FROM h.tally").errors
                least = written[0]
                assert int(reader.query("SELECT n FROM h.busy").value) >= least
        over.set()
        thread.join()
    ran = watch.by_role()
    print(f"{ran}, {written[0]} writes")
    assert ran["replica"] >= 190
    assert ran["primary"] >= written[0]
