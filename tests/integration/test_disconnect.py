"""Connections end at any moment, on either side. What one client leaves behind never shows at the
next, and no reply ever reaches a client that did not ask for it."""

import random
import threading
import time

import psycopg
import pytest

import wire
from pooler import PATIENCE
from tools import in_threads, wait_running
from wire import (
    FLUSH,
    SYNC,
    Closed,
    LoginFailed,
    bind,
    copy_data,
    execute,
    message,
    parse,
    query,
)

SETTLE_SECONDS = 10 * PATIENCE


@pytest.fixture
def one_server(start_pooler):
    """A pooler whose next client gets what the last one left, if anything."""
    return start_pooler({"default_pool_size": 1, "server_login_retry": 1})


def assert_clean(pooler, cluster):
    """The next client gets a server in its initial state, soon."""
    with pooler.client() as client:
        answer = client.query("SELECT 'mine'")
        assert (answer.kinds, answer.value, answer.status) == ("TDCZ", "mine", "I")
        assert client.query("SELECT pg_current_xact_id_if_assigned()").rows == [(None,)]
        assert client.query("SELECT count(*) FROM pg_cursors").value == "0"
    in_transaction = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE usename = 'app_trust' AND state <> 'idle' AND pid <> pg_backend_pid()"
    )
    cluster.primary.wait_for(in_transaction, "0", SETTLE_SECONDS)


# What the client sends; whether the server has work with the word `victim` when it vanishes
HALF_DONE = {
    "idle": ([query("SELECT 1")], False),
    "running": ([query("SELECT pg_sleep(60), 'victim'")], True),
    "running extended": ([parse("SELECT pg_sleep(60), 'victim'"), bind(), execute(), SYNC], True),
    "running without sync": ([parse("SELECT pg_sleep(60), 'victim'"), bind(), execute()], False),
    "flushed": ([parse("SELECT 'victim'"), bind(), execute(), FLUSH], False),
    "parsed only": ([parse("SELECT 1")], False),
    "transaction": ([query("BEGIN; INSERT INTO left_over VALUES (1)")], False),
    "failed transaction": ([query("BEGIN; SELECT 1/0")], False),
    "running in transaction": (
        [query("BEGIN; INSERT INTO left_over VALUES (1); SELECT pg_sleep(60), 'victim'")],
        True,
    ),
    "cursor": ([query("BEGIN; DECLARE c CURSOR FOR SELECT 1; FETCH c")], False),
    "copy in": ([query("COPY left_over FROM STDIN"), copy_data(b"1\n")], False),
    "copy in, half a message": (
        [query("COPY left_over FROM STDIN"), copy_data(b"1\n"), copy_data(b"2\n" * 50)[:40]],
        False,
    ),
    "copy in extended": (
        [parse("COPY left_over FROM STDIN"), bind(), execute(), SYNC, copy_data(b"1\n")],
        False,
    ),
    "copy out": (
        [query("COPY (SELECT repeat('x', 100) FROM generate_series(1, 3000000)) TO STDOUT")],
        False,
    ),
    "rows": ([query("SELECT repeat('x', 100) FROM generate_series(1, 3000000)")], False),
    "half a query": ([query("SELECT 'half', '" + "x" * 1000 + "'")[:200]], False),
    "half a big query": ([query("SELECT 'half', '" + "x" * 3_000_000 + "'")[:1_000_000]], False),
    "half a bind": ([parse("SELECT $1"), bind(["x" * 100_000])[:50_000]], False),
    "query and half a query": ([query("SELECT 1"), query("SELECT 'half'")[:9]], False),
    "pipeline": ([query(f"SELECT {i}, pg_sleep(0.001)") for i in range(500)], False),
    "header only": ([b"Q\0\0"], False),
}
GOODBYES = ("drop", "reset", "terminate")


@pytest.mark.weir_only  # PgBouncer 1.18 hands a server with answers to come to the next client
@pytest.mark.parametrize("goodbye", GOODBYES)
@pytest.mark.parametrize("parts,runs", HALF_DONE.values(), ids=HALF_DONE.keys())
def test_client_vanishes(one_server, cluster, make_table, parts, runs, goodbye):
    make_table("left_over", "a int")
    client = one_server.client()
    client.send(*parts)
    if runs:
        wait_running(cluster, "victim")
    else:
        time.sleep(0.05)
    if goodbye == "terminate":
        client.send(message("X"))
        client.drop()
    else:
        getattr(client, goodbye)()
    began = time.monotonic()
    assert_clean(one_server, cluster)
    assert time.monotonic() - began < SETTLE_SECONDS
    assert cluster.primary.sql("SELECT count(*) FROM left_over") == "0"


@pytest.mark.parametrize("before", [[], [SYNC], [query("SELECT 1")], [parse("SELECT 1"), SYNC]])
def test_goodbye_in_the_same_write(one_server, cluster, before):
    """A Terminate right behind requests: the connection is closed, answered or not."""
    for _ in range(20):
        client = one_server.client()
        client.send(*before)
        client.send(parse("SELECT 1"), bind(), execute(), SYNC, message("X"))
        client.read_to_end(seconds=2 * PATIENCE)
    assert_clean(one_server, cluster)


@pytest.mark.weir_only
def test_running_query_of_a_client_that_left_is_cancelled(one_server, cluster):
    """PostgreSQL itself would finish it for nobody."""
    client = one_server.client()
    client.send(query("SELECT pg_sleep(60), 'victim'"))
    wait_running(cluster, "victim")
    client.drop()
    wait_running(cluster, "victim", 0)


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_server_of_a_client_that_left_its_transaction_is_kept(one_server, cluster):
    """It is rolled back, which is cheaper than a new connection."""
    client = one_server.client()
    pid = client.query("BEGIN; SELECT pg_backend_pid()").value
    client.drop()
    with one_server.client() as following:
        assert following.query("SELECT pg_backend_pid()").value == pid


def test_session_state_does_not_reach_the_next_client(start_pooler):
    """Session mode cleans the server between clients."""
    pooler = start_pooler({"pool_mode": "session", "default_pool_size": 1})
    client = pooler.client()
    client.query("SET work_mem = '9MB'; CREATE TEMP TABLE mine (a int); LISTEN mine")
    client.query("PREPARE mine AS SELECT 1; SELECT pg_advisory_lock(7)")
    client.ask(parse("SELECT 1", "mine2"), SYNC)
    client.close()
    with pooler.client() as following:
        assert following.query("SHOW work_mem").value == "4MB"
        assert following.query("SELECT to_regclass('mine')").rows == [(None,)]
        assert following.query("SELECT count(*) FROM pg_listening_channels()").value == "0"
        assert following.query("SELECT count(*) FROM pg_prepared_statements").value == "0"
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7"
        assert following.query(held).value == "0"


# The server's end


LOST = ("57P01", "08006", "08003", "08007", "08P01")


@pytest.mark.weir_only
@pytest.mark.parametrize("begin", ["", "BEGIN; "])
def test_server_is_terminated_while_it_works(pooler, cluster, begin):
    client = pooler.client()
    client.send(query(f"{begin}SELECT pg_sleep(60), 'victim'"))
    wait_running(cluster, "victim")
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE '%victim%' AND pid <> pg_backend_pid()"
    )
    messages = []
    try:
        while not messages or messages[-1].kind not in "EZ":
            messages.append(client.read())
    except Closed:
        pass
    (error,) = [one.fields() for one in messages if one.kind == "E"]
    assert error["C"] in LOST
    with pooler.client() as other:
        assert other.query("SELECT 1").value == "1"


def test_server_is_terminated_within_an_idle_transaction(pooler, cluster):
    client = pooler.client()
    pid = client.query("BEGIN; SELECT pg_backend_pid()").value
    cluster.primary.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    try:
        client.send(query("SELECT 'never'"))
        answer = client.answer()
        assert answer.rows == []
    except Closed:
        pass
    with pooler.client() as other:
        assert other.query("SELECT 1").value == "1"


def test_idle_server_is_terminated_unnoticed(pooler, cluster):
    """A client without a server does not care what happens to one."""
    client = pooler.client()
    pid = client.query("SELECT pg_backend_pid()").value
    cluster.primary.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    pooler.wait_log(r"S-\S+ \S+ closing because: ")
    assert client.query("SELECT 'fine'").value == "fine"
    assert client.query("SELECT pg_backend_pid()").value != pid


def test_server_crashes(start_pooler, cluster):
    """All connections of the primary end at once; when it is back, so are the clients."""
    pooler = start_pooler({"server_login_retry": 1})
    idle = pooler.client()
    idle.query("SELECT 1")
    busy = pooler.client()
    busy.query("BEGIN")
    cluster.primary.kill()
    try:
        busy.send(query("SELECT 'never'"))
        assert busy.read_to_end().rows == []
    except Closed:
        pass
    cluster.primary.start()
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            with pooler.client() as client:
                assert client.query("SELECT 1").value == "1"
            break
        except (LoginFailed, Closed):
            assert time.monotonic() < deadline
            time.sleep(0.2)
    cluster.wait_streaming()


def test_pooler_lets_go_of_everything(start_pooler):
    """After a few hundred clients have come and gone, no descriptor and no server is left over."""
    pooler = start_pooler({"default_pool_size": 3, "client_login_timeout": 5})
    with pooler.client() as client:
        client.query("SELECT 1")

    def work(number):
        source = random.Random(number)
        for _ in range(40):
            client = pooler.client()
            client.send(query("SELECT 1") if source.random() < 0.5 else query("BEGIN"))
            getattr(client, source.choice(["drop", "reset", "close"]))()

    before = pooler.descriptors()
    in_threads(8, work)
    deadline = time.monotonic() + SETTLE_SECONDS
    while pooler.descriptors() > before + 3:
        assert time.monotonic() < deadline, f"{pooler.descriptors()} descriptors, {before} before"
        time.sleep(0.1)


# No reply ever reaches the wrong client


class Stranger:
    """A client that does random things and checks that each answer is its own."""

    def __init__(self, pooler, number, end):
        self.pooler = pooler
        self.number = number
        self.end = end
        self.source = random.Random(number)
        self.client = None
        self.turn = 0
        self.checked = 0
        self.lost = 0

    def mark(self):
        self.turn += 1
        return f"<{self.number}.{self.turn}>"

    def run(self):
        actions = [self.simple] * 5 + [self.extended] * 5 + [self.pipeline] * 3
        actions += [self.failing, self.transaction, self.prepared, self.copy, self.rows]
        actions += [self.leave, self.leave_half_done, self.cancel]
        while time.monotonic() < self.end:
            try:
                if self.client is None:
                    self.client = self.pooler.client()
                self.source.choice(actions)()
            except (Closed, LoginFailed):
                # Its server was killed; the next turn logs in again.
                self.lost += 1
                self.client = None
        if self.client is not None:
            self.client.close()

    def check(self, answer, marks):
        """The answer holds exactly these marks, or the error that ended this client's server, or
        the end of a query of its own that it had cancelled."""
        if answer.errors:
            assert answer.code in ("57P01", "08006", "08P01", "57014"), answer
            return
        assert [row[0] for row in answer.rows] == marks, f"{self.number}: {marks}, {answer}"
        self.checked += 1

    def simple(self):
        mark = self.mark()
        self.check(self.client.query(f"SELECT '{mark}'"), [mark])

    def extended(self):
        mark = self.mark()
        self.check(self.client.ask(parse("SELECT $1::text"), bind([mark]), execute(), SYNC), [mark])

    def pipeline(self):
        marks = [self.mark() for _ in range(self.source.randrange(2, 12))]
        for mark in marks:
            self.client.send(parse(f"SELECT '{mark}'"), bind(), execute(), SYNC)
        for mark in marks:
            self.check(self.client.answer(), [mark])

    def failing(self):
        mark = self.mark()
        answer = self.client.query(f"SELECT '{mark}'::int")
        if answer.code == "22P02":
            assert mark in answer.error["M"]
            self.checked += 1

    def transaction(self):
        mark = self.mark()
        if self.client.query("BEGIN").errors:
            return
        self.check(self.client.query(f"SELECT '{mark}'"), [mark])
        self.client.query(self.source.choice(["COMMIT", "ROLLBACK"]))

    def prepared(self):
        mark = self.mark()
        # A name of its own: after an error the Close is skipped, and the name stays taken.
        self.client.send(parse(f"SELECT '{mark}'", mark), bind(name=mark), execute())
        self.check(self.client.ask(wire.close(mark), SYNC), [mark])

    def copy(self):
        mark = self.mark()
        answer = self.client.query(f"COPY (SELECT '{mark}') TO STDOUT")
        if not answer.errors:
            assert [one.body for one in answer.of("d")] == [mark.encode() + b"\n"]
            self.checked += 1

    def rows(self):
        mark = self.mark()
        count = self.source.randrange(1, 3000)
        answer = self.client.query(f"SELECT '{mark}' FROM generate_series(1, {count})")
        self.check(answer, [mark] * count)

    def leave(self):
        self.source.choice([self.client.close, self.client.drop, self.client.reset])()
        self.client = None

    def leave_half_done(self):
        mark = self.mark()
        parts = query(f"SELECT '{mark}' FROM generate_series(1, 500)")
        if self.source.random() < 0.5:
            parts = parse("SELECT $1::text") + bind([mark]) + execute() + SYNC
        self.client.send(parts * 3)
        if self.source.random() < 0.5:
            self.client.send(parts[: self.source.randrange(1, len(parts))])
        self.leave()

    def cancel(self):
        mark = self.mark()
        self.client.send(query(f"SELECT '{mark}', pg_sleep(0.05)"))
        wire.cancel(self.pooler.address, self.client.key)
        self.check(self.client.answer(), [mark])


def kill_servers(cluster, end):
    """Ends one server connection of the test's user now and then."""
    sql = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'app_trust' ORDER BY random() LIMIT 1"
    )
    with psycopg.connect(cluster.primary.conninfo(), autocommit=True) as connection:
        while time.monotonic() < end:
            time.sleep(0.3)
            connection.execute(sql)


@pytest.mark.weir_only  # as above; and PgBouncer 1.18 does what this test forbids
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_no_reply_reaches_the_wrong_client(start_pooler, cluster, mode):
    settings = {"pool_mode": mode, "default_pool_size": 4, "server_login_retry": 1}
    if mode == "session":
        settings["default_pool_size"] = 30
    pooler = start_pooler({**settings, "log_connections": 0, "log_disconnections": 0})
    end = time.monotonic() + 8
    strangers = [Stranger(pooler, number, end) for number in range(24)]
    killer = threading.Thread(target=kill_servers, args=[cluster, end], daemon=True)
    killer.start()
    in_threads(len(strangers), lambda number: strangers[number].run())
    killer.join()
    checked = sum(one.checked for one in strangers)
    assert checked > 200 and all(one.checked for one in strangers), [
        (one.checked, one.lost) for one in strangers
    ]
    time.sleep(0.5)  # the last server that was ended is noticed
    with pooler.client() as client:
        assert client.query("SELECT 'still'").value == "still"
