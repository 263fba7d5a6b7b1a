"""Eight clients at once: each writes a register of its own and a tally that all share, in many ways, and
reads all of them in many ways; what they were told is kept for histories.py to judge.

    cluster.primary.sql(SCHEMA)
    told = race(routed, seed=1)
    assert not told.history.violations("database")
"""

import random
import time

from histories import History
from pooler import SANITIZED
from tools import in_threads
from wire import COPY_DONE, SYNC, Client, Closed, Late, bind, copy_data, execute, parse, query

CLIENTS = 8
SECONDS = 1.8 * (2 if SANITIZED else 1)
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
CREATE TABLE h.busy (n int); INSERT INTO h.busy VALUES (0);
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
    (query("SELECT id, n FROM h.marks, pg_sleep(0.004) ORDER BY n"), 1),
]
TALLY = "-1"


class Told:
    """What all clients of a race were told: the history, and what failed."""

    def __init__(self):
        self.history = History()
        # SQLSTATE and message, or "lost" where the connection was. READ ONLY transactions are lost with
        # the node that they began on, and nobody can take rows back that went ahead of an error.
        self.lost_transactions, self.failed_reads, self.failed_writes = [], [], []


class Racer:
    """One client, which goes on as another session where its connection is lost."""

    def __init__(self, number, routed, told, seed, past=None):
        self.number = number
        # A connection past Weir, for some of the writes.
        self.past = past
        self.routed = routed
        self.told = told
        self.dice = random.Random(f"{seed}.{number}")
        self.session = number
        self.value = 0
        self.has_lazy_writes = True
        # Where failures are noted of what is being done.
        self.failures = told.failed_reads
        self.client = routed.client()

    def answers(self, messages):
        """Sends each and reads its answer; the errors, but for the division by zero that is wanted."""
        errors = [error for one in messages for error in self.client.ask(one).errors]
        errors = [error for error in errors if error["C"] != "22012"]
        self.failures += [(error["C"], error["M"]) for error in errors]
        return errors

    def write(self):
        self.failures = self.told.failed_writes
        self.value += 1
        if self.past is not None and self.dice.random() < 0.5:
            with self.told.history.write(self.session, str(self.number), self.value, is_past=True):
                assert not self.past.query(f"UPDATE h.marks SET n = {self.value} WHERE id = {self.number}").errors
            return
        ways = ways_to_write(self.number, self.value)
        messages = self.dice.choice(ways + [lazily(self.number, self.value)] if self.has_lazy_writes else ways)
        with self.told.history.write(self.session, str(self.number), self.value):
            if self.answers(messages):
                raise Refused

    def add(self):
        self.failures = self.told.failed_writes
        with self.told.history.write(self.session, TALLY, None) as made:
            answer = self.client.query("UPDATE h.tally SET n = n + 1 RETURNING n")
            if answer.errors:
                self.failures.append((answer.code, answer.error["M"]))
                raise Refused
            made.value = int(answer.value)

    def read(self):
        message, count = self.dice.choice(WAYS_TO_READ)
        is_block = b"BEGIN" in message
        self.failures = self.told.lost_transactions if is_block else self.told.failed_reads
        began = time.monotonic()
        self.client.send(message)
        answers = [self.client.answer() for _ in range(count)]
        if errors := [(error["C"], error["M"]) for one in answers for error in one.errors]:
            if any(one.rows for one in answers):
                self.failures = self.told.lost_transactions
            self.failures += errors
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
        if self.past is not None:
            self.past.close()

    def try_to(self, act):
        try:
            act()
        except Refused:
            self.client.query("ROLLBACK")

    def reconnect(self, end):
        self.failures.append(("lost", ""))
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


def race(routed, seed, seconds=SECONDS, lazy=True, past=None):
    """What eight clients were told in so many seconds. `past`: a node on which they make every other
    write without Weir."""
    told = Told()
    racers = []
    for number in range(CLIENTS):
        connection = None if past is None else direct(past)
        racers.append(Racer(number, routed, told, seed, connection))
        racers[-1].has_lazy_writes = lazy
    end = time.monotonic() + seconds
    in_threads(CLIENTS, lambda number: racers[number].run(end))
    return told


def direct(node):
    client = Client((node.host, node.port))
    client.login("app_trust")
    return client
