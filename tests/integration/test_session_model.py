"""Sessions behind shared servers against sessions of their own: the model is PostgreSQL.

Several clients do random things on a few servers, and each of them has a twin that does the same on a
connection of its own, in a database of its own so that locks and notifications do not meet. Whatever a
client is told has to be what its twin is told: rows, columns' types, tags, SQLSTATEs and messages of
errors, notices, reported parameters, the transaction's state, notifications.

A failure tells its seed and its last steps. By hand: MODEL_SEEDS=100-400 MODEL_STEPS=2000.
"""

import os
import random
import time

import pytest

from pooler import PATIENCE, SANITIZED
from routed import Watch, start_routed
from twins import Pair
from wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    Client,
    Late,
    bind,
    close,
    close_portal,
    copy_data,
    copy_fail,
    describe,
    describe_portal,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only

FIRST, _, LAST = os.environ.get("MODEL_SEEDS", "0-2").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
STEPS = int(os.environ.get("MODEL_STEPS", "250" if SANITIZED else "600"))
TOLD = int(os.environ.get("MODEL_TOLD", "50"))
CLIENTS, SERVERS = 7, 4
MIRROR = "mirror"

MAKE = """
CREATE TABLE deeds (owner int, n int, word text);
CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';
GRANT ALL ON deeds TO PUBLIC;
CREATE SCHEMA s1; CREATE SCHEMA s2; GRANT ALL ON SCHEMA s1, s2 TO PUBLIC;
CREATE TABLE s1.seen (word text); CREATE TABLE s2.seen (word text);
INSERT INTO s1.seen VALUES ('one'); INSERT INTO s2.seen VALUES ('two');
GRANT ALL ON s1.seen, s2.seen TO PUBLIC;
""" + "".join(f"CREATE SEQUENCE q{i}; GRANT ALL ON q{i} TO PUBLIC;" for i in range(CLIENTS))
UNMAKE = "DROP TABLE deeds; DROP FUNCTION add; DROP SCHEMA s1 CASCADE; DROP SCHEMA s2 CASCADE;" + "".join(
    f"DROP SEQUENCE q{i};" for i in range(CLIENTS)
)


@pytest.fixture(scope="module", autouse=True)
def world(cluster):
    cluster.primary.sql("CREATE ROLE model_a; CREATE ROLE model_b; GRANT model_a, model_b TO app_trust")
    cluster.primary.sql(f"CREATE DATABASE {MIRROR}")
    cluster.primary.sql("GRANT ALL ON SCHEMA public TO PUBLIC;" + MAKE, MIRROR)
    cluster.primary.sql(MAKE)
    cluster.wait_replayed()
    yield
    cluster.primary.sql(UNMAKE)
    cluster.primary.sql(f"DROP DATABASE {MIRROR} (FORCE)")
    cluster.primary.sql("DROP ROLE model_a; DROP ROLE model_b")


# What can be done: {n} is a small number, {k} the client's own, {u} one of its kind.

SETTINGS = [
    "SET work_mem = '{n}MB'", "SET LOCAL work_mem = '{n}MB'", "RESET work_mem", "SET app.v = '{n}'",
    "SELECT set_config('app.v', '{n}', false)", "SELECT set_config('app.v', '{n}', true)",
    "RESET app.v", "SET search_path = s{n}", "SET LOCAL search_path = s{n}, public",
    "SET search_path TO DEFAULT", "SET TIME ZONE '+{n}'", "SET DateStyle = 'German'",
    "RESET DateStyle", "RESET TIME ZONE", "SET ROLE model_a", "SET ROLE model_b", "RESET ROLE",
    "SET LOCAL ROLE model_b", "RESET ALL", "DISCARD ALL", "SET nonsense = 1",
    "SET work_mem = 'wrong'", "SET application_name = 'n{n}'", "SET statement_timeout = '{n}min'",
    "SET extra_float_digits = {n}", "SET IntervalStyle = 'sql_standard'", "SET bytea_output = 'escape'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET app.é = '{n}'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET client_encoding = 'LATIN1'",
    "RESET client_encoding", "SET app.w = 'ü{n}'",
]  # fmt: skip
BLOCKS = [
    "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1/0",
    "BEGIN READ ONLY", "COMMIT AND CHAIN", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
]  # fmt: skip
READS = [
    "SELECT word FROM seen", "SELECT current_user, session_user", "SELECT now() = now()",
    "SELECT '2024-03-01 12:00:00+00'::timestamptz::text", "SELECT interval '25 hours'::text",
    "SELECT '\\x00ff'::bytea::text", "SELECT 0.1::float8 + 0.2", "SELECT nothing", "",
    "SELECT count(*) FROM deeds WHERE owner = {k}", "SELECT add({n}, 1)", "SHOW work_mem",
    "INSERT INTO deeds VALUES ({k}, {n}, 'w') RETURNING n", "DO $$ BEGIN PERFORM 1; END $$",
    "VALUES ('é')",
]  # fmt: skip
PINS = [
    "CREATE TEMP TABLE mine (a int)", "DROP TABLE mine", "INSERT INTO mine VALUES ({n})",
    "SELECT sum(a) FROM mine", "SELECT {n} AS a INTO TEMP mine", "DISCARD TEMP",
    "CREATE TEMP TABLE brief (a int) ON COMMIT DROP", "SELECT pg_advisory_lock({k}, {n})",
    "SELECT pg_try_advisory_lock({k}, {n})", "SELECT pg_advisory_unlock({k}, {n})",
    "SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_xact_lock({k}, {n})",
    "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, {n})", "FETCH 2 FROM h", "CLOSE h",
    "CLOSE ALL", "DECLARE c CURSOR FOR SELECT generate_series(1, {n})", "FETCH c",
    "SELECT nextval('public.q{k}')", "SELECT nextval('public.q{k}'), currval('public.q{k}'), lastval()",
    "DISCARD SEQUENCES",
]  # fmt: skip
# Only for who has asked for such a thing before, in the transaction of its nextval: then it is pinned.
REMEMBERED = ["SELECT currval('public.q{k}')", "SELECT lastval()"]
SQL_STATEMENTS = [
    "PREPARE w AS SELECT word FROM seen", "PREPARE v (int) AS SELECT $1 + {n}", "EXECUTE w",
    "EXECUTE v({n})", "DEALLOCATE w", "DEALLOCATE v", "DEALLOCATE ALL",
    "PREPARE d AS SELECT '2024-02-01'::date::text", "EXECUTE d", "EXPLAIN (COSTS off) EXECUTE v(1)",
    "EXECUTE a", "EXECUTE b({n})", "DEALLOCATE a", "DEALLOCATE b",
]  # fmt: skip
NOTIFICATIONS = [
    "LISTEN news", "LISTEN more", "UNLISTEN news", "UNLISTEN *", "NOTIFY news, '{u}'",
    "NOTIFY more, '{u}'", "SELECT pg_notify('news', '{u}')", "BEGIN; NOTIFY news, '{u}'; COMMIT",
    "SELECT pg_listening_channels()",
]  # fmt: skip
MANY = [
    "SET app.v = '{n}'; SELECT current_setting('app.v'); SET work_mem = '{n}MB'",
    "BEGIN; SET app.v = 'both'; COMMIT", "SET app.v = 'lost'; SELECT 1/0; SET app.v = 'never'",
    "BEGIN; SET work_mem = '7MB'; SELECT 1/0; COMMIT", "SELECT 1; SELECT 'two'; SELECT 3, 4",
    "INSERT INTO deeds VALUES ({k}, {n}, 'm'); ROLLBACK; SELECT count(*) FROM deeds WHERE owner = {k}",
    "SAVEPOINT s; SET app.v = '{n}'; ROLLBACK TO s", "COMMIT; BEGIN; SET LOCAL app.v = 'local'",
    "; ;", "SELECT 1; SELEC 2",
]  # fmt: skip
# For statements of the protocol, each with its parameters. A date as it is read by DateStyle has no
# name: prepared on another server, after its client has set another style, it would be another date.
PARSED = [
    ("SELECT $1::int + 1", 1), ("SELECT word FROM seen", 0), ("SELECT set_config('app.v', $1, false)", 1),
    ("SELECT generate_series(1, $1::int)", 1), ("SELECT 10 / $1::int", 1), ("SET work_mem = '3MB'", 0),
    ("SELECT '1.2.2024'::date::text", 0), ("INSERT INTO deeds VALUES ($1, 7, 'p')", 1), ("BEGIN", 0),
    ("SELECT '2024-03-01 12:00:00+00'::timestamptz", 0), ("COMMIT", 0), ("SELECT nothing", 0), ("", 0),
    ("SELECT $1::text || $2::text", 2), ("ROLLBACK", 0), ("SET ROLE model_a", 0),
]  # fmt: skip
SEEN = (
    "SELECT current_setting('work_mem'), coalesce(current_setting('app.v', true), ''),"
    " coalesce(current_setting('app.w', true), ''), current_setting('search_path'),"
    " current_setting('TimeZone'), current_setting('DateStyle'), current_setting('IntervalStyle'),"
    " current_user, current_setting('statement_timeout'), current_setting('role'),"
    " current_setting('extra_float_digits'), current_setting('bytea_output'),"
    " current_setting('client_encoding'), current_setting('default_transaction_read_only'),"
    " (SELECT array_agg(word) FROM public.deeds WHERE false)"
)
SEEN_ANYWHERE = (
    "SELECT current_user, current_setting('search_path'), current_setting('TimeZone'),"
    " coalesce(current_setting('app.v', true), ''), 0.1::float8, '1.2.2024'::date"
)
FOR_PRIMARY = ("TEMP", "LISTEN", "NOTIFY", "notify", "HOLD", "COMMIT;", "CHAIN", "advisory_lock")
# What keeps a server, on the twin: then a client may need one for itself.
HELD = (
    "SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema())"
    " + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
    " + (SELECT count(*) FROM pg_cursors WHERE is_holdable)"
)
NAMES = "SELECT name FROM pg_prepared_statements"


class Twins(Pair):
    """A client, its twin, and what the client may have on its server."""

    def __init__(self, number, pooler, cluster):
        twin = Client((cluster.primary.host, cluster.primary.port), 20 * PATIENCE)
        twin.login("app_trust", database=MIRROR)
        super().__init__(pooler.client(), twin)
        self.number = number
        self.names, self.counts = set(), {"w": 0, "d": 0, "v": 1}
        self.is_holding = self.has_memory = self.has_value = self.was_kept = self.is_reading = False

    def look(self):
        """What the twin has that may keep a server, and its protocol's statements."""
        self.is_holding, twin = True, self.both[1]
        if self.status == "E":
            self.names = set()
            return
        names = twin.query(NAMES)
        self.hear(1, names.messages)
        self.names = {row[0] for row in names.rows}
        if self.status == "I":
            held = twin.query(HELD)
            self.hear(1, held.messages)
            self.is_holding = held.value != "0" or self.has_memory
            self.was_kept |= self.is_holding

    def agree_on_news(self):
        """Both have heard the same, soon. Who had a server of its own for a while may have asked it for
        one channel and the shared listener for another: then each channel has its order."""
        deadline = time.monotonic() + 10 * PATIENCE
        key = (lambda body: body.split(b"\0")[0]) if self.was_kept else (lambda _: 0)
        while sorted(self.news[0], key=key) != sorted(self.news[1], key=key):
            for side, one in enumerate(self.both):
                try:
                    self.hear(side, [one.read(0.05)])
                except Late:
                    pass
            assert time.monotonic() < deadline, f"{self.number}: {self.news[0]}\nand not\n{self.news[1]}"


class Model:
    def __init__(self, pooler, cluster, seed, is_routed):
        self.is_routed = is_routed
        self.dice = random.Random(seed)
        self.seed = seed
        self.story = []
        self.serial = 0
        self.all = [Twins(i, pooler, cluster) for i in range(CLIENTS)]

    def filled(self, text, pair):
        self.serial += 1
        if self.is_routed and text.endswith("TRANSACTION READ ONLY"):
            text = "SELECT 1"  # all its transactions would be such
        return text.format(n=self.dice.randint(1, 3), k=pair.number, u=f"{self.seed}.{self.serial}")

    def some_text(self, pair):
        kinds = [(SETTINGS, 6), (BLOCKS, 5), (READS, 4), (MANY, 2)]
        kinds += [(PINS, 4), (SQL_STATEMENTS, 2), (NOTIFICATIONS, 2)]
        lists, weights = zip(*kinds)
        text = self.filled(self.dice.choice(self.dice.choices(lists, weights)[0]), pair)
        # A primary allows these in a READ ONLY transaction, the replica that may run it does not; and
        # what begins behind a COMMIT, or holds a lock, stays on the replica.
        is_for_primary = any(word in text for word in FOR_PRIMARY)
        return "SELECT 1" if pair.is_reading and is_for_primary else text

    def simple(self, pair):
        text = self.some_text(pair)
        if pair.has_value and self.dice.random() < 0.1:
            text = self.filled(self.dice.choice(REMEMBERED), pair)
        if text == "DISCARD ALL" and pair.status == "I":
            pair.has_memory = pair.has_value = False
        as_parsed = self.dice.random() < 0.4 and ";" not in text
        self.note(pair, ("extended " if as_parsed else "") + text)
        pair.is_reading |= text == "BEGIN READ ONLY" and pair.status == "I"
        sent = parse(text) + bind() + describe_portal() + execute() + SYNC if as_parsed else query(text)
        heard = pair.ask(sent)
        if "currval" in text:
            pair.has_memory = True
            pair.has_value |= any(one[0] == "C" for one in heard)

    def values(self, count):
        return [self.dice.choice(["0", "1", "2", "5", None]) for _ in range(count)]

    def statement(self, pair):
        """Parse, Bind and what belongs to them, in a pipeline with up to two Syncs."""
        sent, tale, known = b"", [], {name: pair.counts[name] for name in pair.names}
        for _ in range(self.dice.randint(1, 6)):
            acts = ["once", "flush", "rows"]
            if pair.status != "E":  # a name that is missing, or there, ends a client as in PgBouncer
                acts += ["parse", "run", "run", "describe", "close"]
            act = self.dice.choice(acts)
            sql, count = self.dice.choice(PARSED)
            name = self.dice.choice(["a", "b", "c", "a", "b", "c", "w", "v", "d"])
            if act == "parse" and name not in known and name in "abc" and "1.2." not in sql:
                sent += parse(sql, name)
                known[name] = pair.counts[name] = count
            elif act == "run" and name in known:
                portal = self.dice.choice(["", "", "p"])
                sent += bind(self.values(known[name]), name, portal)
                sent += describe_portal(portal) if self.dice.random() < 0.5 else b""
                sent += execute(portal, self.dice.choice([0, 0, 2]))
                sent += execute(portal) if self.dice.random() < 0.2 else b""
                sent += close_portal(portal) if portal else b""
            elif act == "once":
                sent += parse(sql) + bind(self.values(count)) + execute()
            elif act == "describe" and name in known:
                sent += describe(name)
            elif act == "close":
                sent += close(name)
                known.pop(name, None)
            elif act == "flush":
                sent += FLUSH
            elif act == "rows":
                sent += parse("SELECT generate_series(1, 5)") + bind((), "", "p") + execute("p", 2)
                sent += execute("p", 2) + close_portal("p")
            else:
                continue
            tale.append(f"{act} {name} {sql}" if act in ("parse", "once") else f"{act} {name}")
        self.note(pair, "pipeline: " + ", ".join(tale))
        pair.ask(sent + SYNC)

    def several(self, pair):
        """Several whole requests in one write."""
        texts = [self.filled(self.dice.choice(SETTINGS + READS), pair) for _ in range(3)]
        self.note(pair, "at once: " + " // ".join(texts))
        sent = b"".join(
            query(text) if self.dice.random() < 0.5 else parse(text) + bind() + execute() + SYNC
            for text in texts
        )
        pair.ask(sent, 3)

    def copy(self, pair):
        row = copy_data(f"{pair.number}\t9\tcopied\n".encode())
        out = f"COPY (SELECT n, word FROM public.deeds WHERE owner = {pair.number} ORDER BY 1, 2) TO STDOUT"
        into = "COPY public.deeds FROM STDIN"
        way = self.dice.choice(["out", "in", "fail", "wrong", "parsed"])
        self.note(pair, f"copy {way}")
        pair.ask({
            "out": query(out), "in": query(into) + row + COPY_DONE,
            "fail": query(into) + row + copy_fail("no"),
            "wrong": query(into) + copy_data(b"x\n") + COPY_DONE,
            "parsed": parse(into) + bind() + execute() + row + COPY_DONE + SYNC,
        }[way])  # fmt: skip

    def note(self, pair, what):
        self.story.append((pair.number, what))

    def choose(self):
        """No more holders than leave one server to all others."""
        holders = [one for one in self.all if one.is_holding]
        if len(holders) >= SERVERS - 1:
            return self.dice.choice(holders if self.dice.random() < 0.7 else holders)
        return self.dice.choice(self.all)

    def step(self):
        pair = self.choose()
        act = self.dice.choices([self.simple, self.statement, self.several, self.copy], [10, 4, 2, 1])[0]
        act(pair)
        if pair.status != "E":
            pair.ask(query(self.dice.choice([SEEN, SEEN_ANYWHERE])))
        pair.is_reading &= pair.status != "I"
        pair.look()

    def tell(self):
        steps = "\n".join(f"{number} {what}" for number, what in self.story[-TOLD:])
        return f"seed {self.seed}, step {len(self.story)}:\n{steps}"

    def run(self):
        try:
            for _ in range(STEPS):
                self.step()
            for pair in self.all:
                pair.ask(query("ROLLBACK"))
                pair.agree_on_news()
        except Exception as error:
            raise AssertionError(f"{self.tell()}\n{error!r}") from None
        finally:
            for pair in self.all:
                pair.close()


@pytest.mark.timeout(60 + len(SEEDS) * STEPS // 8)
@pytest.mark.parametrize("is_routed", [False, True])
def test_as_if_each_had_its_own_server(start_pooler, cluster, is_routed):
    settings = {
        "session_state": "track", "default_pool_size": SERVERS, "pin_limit": SERVERS,
        "server_round_robin": 1, "ignore_startup_parameters": None,
    }  # fmt: skip
    if is_routed:
        pooler = start_routed(start_pooler, cluster, settings)
        Watch(pooler).settle()
    else:
        pooler = start_pooler(settings)
    for seed in SEEDS:
        Model(pooler, cluster, seed, is_routed).run()


def test_a_name_that_was_parsed_in_vain_and_closed_is_free(start_pooler):
    """The failed Parse takes its name along, the skipped Close behind it must not bring it back."""
    pooler = start_pooler({"session_state": "track"})
    with pooler.client() as client:
        in_vain = parse("SELECT 1/0") + bind() + execute()
        for failing in (parse("SELECT nothing", "b"), in_vain + parse("SELECT 5", "b")):
            assert client.ask(failing, close("b"), SYNC).kinds[-2:] == "EZ"
            answer = client.ask(parse("SELECT 7", "b"), bind((), "b"), execute(), close("b"), SYNC)
            assert answer.kinds == "12DC3Z" and answer.value == "7"
        assert client.ask(parse("SELECT 8", "b"), SYNC).kinds == "1Z"
        assert client.ask(in_vain, close("b"), SYNC).code == "22012"
        assert client.ask(bind((), "b"), execute(), SYNC).value == "8"  # its Close was skipped
