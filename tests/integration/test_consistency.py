"""What concurrent sessions are told, and whether it keeps the promise, whatever befalls the nodes.

Eight clients write registers of their own and a tally that all share, in many ways, and read all of
them in many ways. What they were told is checked afterwards (histories.py), while the standbys lag,
stall, crash, cancel queries for their replay's sake, or one of them becomes the primary. The same run
without a promise has to break it: else the check could not fail.
"""

import contextlib
import random
import threading
import time

import psycopg
import pytest

import cluster as clusters
from histories import History
from pooler import PATIENCE, SANITIZED
from routed import Watch, start_routed
from tools import in_threads
from wire import COPY_DONE, SYNC, Closed, Late, bind, copy_data, execute, parse, query

pytestmark = pytest.mark.weir_only

CLIENTS = 8
SECONDS = 2.5 * (2 if SANITIZED else 1)
BUSY, QUIET = 0.1, 0.2

SCHEMA = f"""
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS h CASCADE; CREATE SCHEMA h;
CREATE TABLE h.marks (id int PRIMARY KEY, n int) WITH (fillfactor = 10);
CREATE TABLE h.copies (id int, n int) WITH (fillfactor = 10);
CREATE TABLE h.pieces (id int, n int) PARTITION BY LIST (id);
CREATE TABLE h.even PARTITION OF h.pieces FOR VALUES IN ({", ".join(map(str, range(0, CLIENTS, 2)))});
CREATE TABLE h.odd PARTITION OF h.pieces DEFAULT;
CREATE TABLE h.tally (n int); INSERT INTO h.tally VALUES (0);
CREATE TABLE h.loads (id int, n int);
INSERT INTO h.marks SELECT g, 0 FROM generate_series(0, {CLIENTS - 1}) g;
INSERT INTO h.copies TABLE h.marks; INSERT INTO h.pieces TABLE h.marks;
CREATE FUNCTION h.on_mark() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
    UPDATE h.copies SET n = new.n WHERE id = new.id;
    EXECUTE 'UPDATE h.pie' || 'ces SET n = $1 WHERE id = $2' USING new.n, new.id;
    RETURN new; END$$;
CREATE TRIGGER t AFTER UPDATE ON h.marks FOR EACH ROW EXECUTE FUNCTION h.on_mark();
CREATE FUNCTION h.on_load() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN UPDATE h.marks SET n = new.n WHERE id = new.id; RETURN null; END$$;
CREATE TRIGGER t BEFORE INSERT ON h.loads FOR EACH ROW EXECUTE FUNCTION h.on_load();
CREATE VIEW h.shown AS SELECT id, n FROM h.marks;
CREATE FUNCTION h.mark(which int, value int) RETURNS void LANGUAGE sql
    AS 'UPDATE h.marks SET n = value WHERE id = which';
CREATE PROCEDURE h.mark_and_commit(which int, value int) LANGUAGE plpgsql
    AS 'BEGIN UPDATE h.marks SET n = value WHERE id = which; COMMIT; PERFORM 1; END';
CREATE FUNCTION h.all_marks() RETURNS SETOF h.marks STABLE LANGUAGE plpgsql AS
    $$BEGIN RETURN QUERY EXECUTE 'SELECT id, n FROM h.' || 'marks'; END$$;
GRANT ALL ON SCHEMA h TO PUBLIC; GRANT ALL ON ALL TABLES IN SCHEMA h TO PUBLIC;
"""
CLEAN = "SET client_min_messages = warning; DROP SCHEMA IF EXISTS h CASCADE;"


def group(*statements):
    return b"".join(parse(one) + bind() + execute() for one in statements)


def ways_to_write(which, value):
    """Messages that are each answered with one ReadyForQuery; the last one acknowledges."""
    update = f"UPDATE h.marks SET n = {value} WHERE id = {which}"
    return [
        [query(update)],
        [parse("UPDATE h.marks SET n = $1 WHERE id = $2") + bind([value, which]) + execute() + SYNC],
        [query("BEGIN"), query(update), query("COMMIT")],
        [query(f"BEGIN; {update}; COMMIT")],
        [query(f"BEGIN; {update}; COMMIT; SELECT 1/0")],
        [group("BEGIN", update, "COMMIT") + SYNC],
        [query(f"WITH x AS ({update} RETURNING n) SELECT * FROM x")],
        [query(f"UPDATE h.shown SET n = {value} WHERE id = {which}")],
        [query(f"SELECT h.mark({which}, {value})")],
        [query(f"CALL h.mark_and_commit({which}, {value})")],
        [query(f"DO $$BEGIN {update}; END$$")],
        [query("COPY h.loads FROM STDIN") + copy_data(f"{which}\t{value}\n".encode()) + COPY_DONE],
        [query(f"MERGE INTO h.marks USING (SELECT {which} k) s ON id = k WHEN MATCHED THEN UPDATE SET n = {value}")],
    ]


def lazily(which, value):
    """Acknowledged before it is on the primary's disk: a crash may lose it."""
    update = f"UPDATE h.marks SET n = {value} WHERE id = {which}"
    return [query(f"BEGIN; SET LOCAL synchronous_commit = off; {update}; COMMIT")]


# Messages, and how many ReadyForQuery they are answered with; their only rows are (id, n).
WAYS_TO_READ = [
    (query("SELECT id, n FROM h.marks"), 1),
    (query("SELECT id, n FROM h.copies"), 1),
    (query("SELECT id, n FROM h.pieces"), 1),
    (query("SELECT id, n FROM h.shown"), 1),
    (query("SELECT id, n FROM h.all_marks()"), 1),
    (query("SELECT id, n FROM h.odd UNION ALL SELECT id, n FROM h.even"), 1),
    (query("SELECT -1, n FROM h.tally UNION ALL SELECT id, n FROM h.copies"), 1),
    (query("SELECT -1, n FROM h.tally"), 1),
    (query("BEGIN READ ONLY") + query("SELECT id, n FROM h.copies") + query("COMMIT"), 3),
    (query("BEGIN READ ONLY; SELECT id, n FROM h.marks; COMMIT"), 1),
    (group("BEGIN READ ONLY", "SELECT id, n FROM h.pieces", "COMMIT") + SYNC, 1),
    (parse("SELECT id, n FROM h.marks WHERE n >= $1") + bind([0]) + execute() + SYNC, 1),
    (query("SELECT id, n FROM h.marks, pg_sleep(0.004)"), 1),
]
TALLY = "-1"


class Told:
    """What all clients of a race were told: the history, and what failed."""

    def __init__(self):
        self.history = History()
        # SQLSTATEs: of what ran in a READ ONLY transaction, which is lost with its node, and of the rest.
        self.lost_transactions = []
        self.errors = []


class Racer:
    """One client, which goes on as another session where its connection is lost."""

    def __init__(self, number, routed, told, seed):
        self.number = number
        self.routed = routed
        self.told = told
        self.dice = random.Random(f"{seed}.{number}")
        self.session = number
        self.value = 0
        self.has_lazy_writes = True
        # In a READ ONLY transaction.
        self.is_in_block = False
        self.client = routed.client()

    def answers(self, messages):
        """Sends each and reads its answer; the errors, but for the division by zero that is wanted."""
        errors = [error for one in messages for error in self.client.ask(one).errors]
        errors = [error for error in errors if error["C"] != "22012"]
        self.told.errors += [(error["C"], error["M"]) for error in errors]
        return errors

    def write(self):
        self.is_in_block = False
        self.value += 1
        ways = ways_to_write(self.number, self.value)
        messages = self.dice.choice(ways + [lazily(self.number, self.value)] if self.has_lazy_writes else ways)
        with self.told.history.write(self.session, str(self.number), self.value):
            if self.answers(messages):
                raise Refused

    def add(self):
        self.is_in_block = False
        with self.told.history.write(self.session, TALLY, None) as made:
            answer = self.client.query("UPDATE h.tally SET n = n + 1 RETURNING n")
            if answer.errors:
                self.told.errors.append((answer.code, answer.error["M"]))
                raise Refused
            made.value = int(answer.value)

    def read(self):
        message, count = self.dice.choice(WAYS_TO_READ)
        self.is_in_block = b"BEGIN" in message
        began = time.monotonic()
        self.client.send(message)
        answers = [self.client.answer() for _ in range(count)]
        if errors := [(error["C"], error["M"]) for one in answers for error in one.errors]:
            (self.told.lost_transactions if self.is_in_block else self.told.errors).extend(errors)
            raise Refused
        values = {row[0]: int(row[1]) for one in answers for row in one.rows}
        self.told.history.read(self.session, began, values, message[5:60].decode(errors="replace"))

    def run(self, end):
        while time.monotonic() < end:
            act = self.read
            # All write at the same time and then all rest, so that standbys catch up now and then.
            if time.monotonic() % (BUSY + QUIET) < BUSY:
                act = self.dice.choices([self.write, self.add, self.read], [2, 1, 4])[0]
            try:
                self.try_to(act)
            except (Closed, Late):
                self.reconnect(end)
            if self.dice.random() < 0.3:
                time.sleep(self.dice.uniform(0, 0.01))
        self.client.close()

    def try_to(self, act):
        try:
            act()
        except Refused:
            self.client.query("ROLLBACK")

    def reconnect(self, end):
        (self.told.lost_transactions if self.is_in_block else self.told.errors).append(("lost", ""))
        self.session += CLIENTS
        self.client.drop()
        while time.monotonic() < end:
            try:
                self.client = self.routed.client()
                return
            except (Closed, Late, OSError):
                time.sleep(0.05)


class Refused(Exception):
    """A write or a read was answered with an error."""


def race(routed, seed, seconds=SECONDS, lazy=True):
    """What eight clients were told in so many seconds."""
    told = Told()
    racers = [Racer(i, routed, told, seed) for i in range(CLIENTS)]
    for one in racers:
        one.has_lazy_writes = lazy
    end = time.monotonic() + seconds
    in_threads(CLIENTS, lambda number: racers[number].run(end))
    return told


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
    print(f"{len(history.writes)} writes, {len(history.reads)} reads; {ran}; lost: {lost}; {told.errors[:3]}")
    return ran


def start(start_pooler, cluster, consistency):
    settings = {"read_consistency": consistency, "probe_timeout": "0.5"}
    routed = start_routed(start_pooler, cluster, settings)
    watch = Watch(routed)
    watch.settle()
    return routed, watch


RACES = [
    (lag, "database"), (lag, "session"), (stall, "database"), (crash, "database"), (crash, "session"),
    (conflict, "database"),
]  # fmt: skip


@pytest.mark.parametrize("what,consistency", RACES)
def test_the_promise_is_kept(start_pooler, cluster, schema, what, consistency):
    routed, watch = start(start_pooler, cluster, consistency)
    with befalls(what, cluster, 1):
        told = race(routed, 1)
        ran = report(told, watch)
    assert not told.history.violations(consistency)[:3]
    assert not told.errors[:3], "the standbys' troubles reached clients outside transactions"
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
