"""LISTEN and NOTIFY with session_state = track: clients that listen need no server of their own."""

import contextlib
import struct
import threading
import time

import pytest
from console import wait_until
from pooler import ADMIN, PATIENCE, rows_of
from wire import SYNC, Client, bind, cancel, execute, parse, query

pytestmark = pytest.mark.weir_only

TRACK = {"session_state": "track", "default_pool_size": 2}


@pytest.fixture
def pooler(start_pooler):
    """Two servers, so that hardly two transactions of a client meet the same one."""
    return start_pooler(TRACK)


def note_of(message):
    """(process id, channel, payload) of a NotificationResponse."""
    channel, payload, _ = message.body[4:].split(b"\0")
    return struct.unpack("!I", message.body[:4])[0], channel.decode(), payload.decode()


def pid_of(client):
    return struct.unpack("!I", client.key[:4])[0]


def heard(client, count=1):
    """The next so many notifications, as (channel, payload); nothing else may come."""
    found = [client.read() for _ in range(count)]
    assert {one.kind for one in found} <= {"A"}, found
    return [note_of(one)[1:] for one in found]


def in_answer(answer):
    """Those that came with an answer."""
    return [note_of(one)[1:] for one in answer.of("A")]


def direct(cluster, seconds=20 * PATIENCE):
    client = Client((cluster.primary.host, cluster.primary.port), seconds)
    client.login("app_trust")
    return client


def console(pooler, command):
    with pooler.psycopg(*ADMIN, database="weir") as connection:
        return rows_of(connection, command)


def are_shared(pooler, *clients):
    """Whether the clients hear from the listener, and keep no server."""
    rows = {row["port"]: row for row in console(pooler, "SHOW CLIENTS")}
    mine = [rows[one.socket.getsockname()[1]] for one in clients]
    return all(row["state"] == "idle" and row["route"] == "LISTEN (shared)" for row in mine)


def wait_shared(pooler, *clients):
    wait_until(lambda: are_shared(pooler, *clients))


def listener_rows(pooler):
    return [row for row in console(pooler, "SHOW SERVERS") if row["state"] == "listen"]


def channels(client):
    answer = client.query("SELECT pg_listening_channels() ORDER BY 1")
    assert not answer.errors, answer.errors
    return [row[0] for row in answer.rows]


def test_idle_clients_are_told_at_once(pooler):
    """Many listen, and no server is theirs; each hears its own channels, others nothing."""
    with contextlib.ExitStack() as ends:
        ears = [ends.enter_context(pooler.client()) for _ in range(6)]
        deaf = ends.enter_context(pooler.client())
        for number, ear in enumerate(ears):
            assert ear.query(f"LISTEN all_of_them; LISTEN c{number}").kinds == "CCZ"
        wait_shared(pooler, *ears)
        assert len(listener_rows(pooler)) == 1
        assert not console(pooler, "SHOW PINS")
        deaf.query("NOTIFY all_of_them, 'hello'")
        for ear in ears:
            assert heard(ear) == [("all_of_them", "hello")]
        for number, ear in enumerate(ears):
            deaf.query(f"SELECT pg_notify('c{number}', '{number}')")
            assert heard(ear) == [(f"c{number}", str(number))]
        assert deaf.is_silent() and all(ear.is_silent(0.01) for ear in ears)
    wait_until(lambda: not listener_rows(pooler))


def test_own_notifications_and_duplicates(pooler):
    with pooler.client() as ear:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.query("NOTIFY a, 'one'; NOTIFY a, 'one'; NOTIFY a, 'two'; NOTIFY a")
        assert heard(ear, 3) == [("a", "one"), ("a", "two"), ("a", "")]
        ear.query("NOTIFY a, 'one'")
        assert heard(ear) == [("a", "one")]
        assert ear.is_silent()


def test_transactions_decide(pooler):
    """What is rolled back was never listened to; what is committed counts from the commit on."""
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("BEGIN; LISTEN a; ROLLBACK")
        assert channels(ear) == []
        ear.query("BEGIN")
        ear.query("LISTEN a")
        ear.query("SAVEPOINT s")
        ear.query("LISTEN b")
        ear.query("ROLLBACK TO s")
        mouth.query("NOTIFY a, 'too early'")
        ear.query("COMMIT")
        mouth.query("NOTIFY a, 'in time'; NOTIFY b, 'never'")
        assert heard(ear) == [("a", "in time")]
        wait_shared(pooler, ear)
        assert channels(ear) == ["a"]
        ear.query("BEGIN; UNLISTEN a; ROLLBACK")
        assert channels(ear) == ["a"]
        ear.query("BEGIN")
        ear.query("UNLISTEN a")
        ear.query("LISTEN c")
        mouth.query("NOTIFY a, 'held'")
        assert ear.is_silent()
        ear.query("COMMIT")
        assert channels(ear) == ["c"]
        mouth.query("NOTIFY a; NOTIFY c, 'yes'")
        assert heard(ear) == [("c", "yes")]
        ear.query("SELECT 1/0; LISTEN d")
        ear.query("LISTEN e; SELECT 1/0")
        assert channels(ear) == ["c"]
        ear.query("BEGIN; SAVEPOINT s; LISTEN d; UNLISTEN c; ROLLBACK TO s; LISTEN e; COMMIT")
        assert channels(ear) == ["c", "e"]


def test_within_a_transaction_nothing_is_told(pooler):
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.query("BEGIN")
        mouth.query("NOTIFY a, '1'")
        assert not in_answer(ear.query("SELECT 1"))
        mouth.query("NOTIFY a, '2'")
        assert ear.is_silent()
        ear.query("COMMIT")
        assert heard(ear, 2) == [("a", "1"), ("a", "2")]


def test_unlisten(pooler):
    with pooler.client() as ear, pooler.client() as other, pooler.client() as mouth:
        other.query("LISTEN a")
        for undo in ("UNLISTEN *", "DISCARD ALL", "UNLISTEN a; UNLISTEN b"):
            ear.query("LISTEN a; LISTEN b")
            wait_shared(pooler, ear, other)
            assert channels(ear) == ["a", "b"]
            ear.query("UNLISTEN a")
            assert channels(ear) == ["b"]
            ear.query("LISTEN a; LISTEN a")
            assert channels(ear) == ["a", "b"]
            assert not ear.query(undo).errors
            assert channels(ear) == [] and channels(other) == ["a"]
            mouth.query("NOTIFY a, 'x'; NOTIFY b")
            assert heard(other) == [("a", "x")]
            assert ear.is_silent(0.1)


def test_no_server_goes_on_listening(pooler, cluster):
    """What other clients meet on the servers, in every way to listen."""
    ways = [
        [query("LISTEN a")],
        [query("BEGIN; LISTEN b; COMMIT")],
        [query('LISTEN "Odd ""name"" of \\ it"')],
        [query("DO $$ BEGIN EXECUTE 'LISTEN d'; END $$")],
        [parse("LISTEN e"), bind(), execute(), SYNC],
    ]
    with contextlib.ExitStack() as ends:
        ears = [ends.enter_context(pooler.client()) for _ in ways]
        for ear, way in zip(ears, ways):
            assert not ear.ask(*way).errors
        wait_shared(pooler, *ears)
        others = [ends.enter_context(pooler.client()) for _ in range(2)]
        for one in others:
            one.query("BEGIN")
        for one in others:
            assert channels(one) == []
        for one in others:
            one.query("COMMIT")
        assert [channels(ear) for ear in ears] == [
            ["a"], ["b"], ['Odd "name" of \\ it'], ["d"], ["e"],
        ]
        cluster.primary.sql("NOTIFY e, 'last'; SELECT pg_notify('Odd \"name\" of \\ it', 'odd')")
        assert heard(ears[4]) == [("e", "last")]
        assert heard(ears[2]) == [('Odd "name" of \\ it', "odd")]
        assert all(one.is_silent(0.05) for one in others)


def test_a_program_is_given_the_channels(pooler):
    with pooler.client() as ear:
        ear.query("LISTEN a; LISTEN b")
        wait_shared(pooler, ear)
        ear.query("DO $$ BEGIN EXECUTE 'UNLISTEN a'; END $$")
        assert channels(ear) == ["b"]
        ear.query("BEGIN")
        assert channels(ear) == ["b"]
        ear.query("COMMIT")


@pytest.mark.timeout(60)
def test_order_and_completeness(pooler, cluster):
    """Thousands of notifications from several senders, while one who listens goes on working and
    changes servers: exactly as on a direct connection."""
    senders, each = 4, 700
    with direct(cluster) as truth, pooler.client() as ear, pooler.client() as busy:
        truth.query("LISTEN a; LISTEN b")
        ear.query("LISTEN a")
        ear.query("LISTEN b")
        busy.query("LISTEN b; LISTEN a")

        def send(number):
            with pooler.client() as mouth:
                for i in range(each // 7):
                    at = range(i * 7, i * 7 + 7)
                    pairs = [(("a", "b")[j % 2], f"{number}.{j}") for j in at]
                    mouth.query("; ".join(f"NOTIFY {c}, '{p}'" for c, p in pairs))

        threads = [threading.Thread(target=send, args=(i,)) for i in range(senders)]
        for thread in threads:
            thread.start()
        found = []
        for i in range(150):
            found += in_answer(busy.query("SELECT 1" if i % 3 else "BEGIN"))
            found += in_answer(busy.query("COMMIT")) if i % 3 == 0 else []
        for thread in threads:
            thread.join()
        total = senders * each
        expected = heard(truth, total)
        assert heard(ear, total) == expected
        assert found + heard(busy, total - len(found)) == expected
        assert ear.is_silent(0.1) and busy.is_silent(0.01) and truth.is_silent(0.01)


@pytest.mark.timeout(60)
def test_nothing_is_lost_while_the_listener_takes_over(pooler, cluster):
    """Each begins to listen in the midst of a stream of numbers, and hears all that come after the
    answer to its LISTEN, each once."""
    end = threading.Event()
    rounds = 12

    def send():
        with direct(cluster) as mouth:
            number = 0
            while not end.is_set():
                mouth.query("; ".join(f"NOTIFY a, '{number + i}'" for i in range(5)))
                number += 5
                time.sleep(0.002)
            mouth.query(f"NOTIFY a, 'end {number}'")

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with contextlib.ExitStack() as ends:
            ears = [ends.enter_context(pooler.client()) for _ in range(rounds)]
            starts = []
            for ear in ears:
                answer = ear.query("LISTEN a")
                starts.append(in_answer(answer))
                starts[-1] += in_answer(ear.query("SELECT 1"))
            wait_shared(pooler, *ears)
            end.set()
            for ear, found in zip(ears, starts):
                while not found or not found[-1][1].startswith("end"):
                    found += heard(ear)
                numbers = [int(one[1]) for one in found[:-1]]
                last = int(found[-1][1].split()[1])
                assert numbers == list(range(numbers[0], last)), numbers[:50]
    finally:
        end.set()
        thread.join()


def test_off_keeps_the_server(start_pooler):
    pooler = start_pooler({**TRACK, "shared_listen": "off"})
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("LISTEN a")
        wait_until(lambda: [row["reasons"] for row in console(pooler, "SHOW PINS")] == ["LISTEN"])
        mouth.query("NOTIFY a, '1'")
        assert heard(ear) == [("a", "1")]
        assert not listener_rows(pooler)


def test_of_one_database(start_pooler):
    """The database's own setting comes first, and a RELOAD changes it for who listens later."""
    pooler = start_pooler({**TRACK, "shared_listen": "off"})
    pooler.write_ini(
        {**TRACK, "shared_listen": "off"},
        databases={"app": pooler.node_string() + " shared_listen=on"},
    )
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("LISTEN a")
        wait_until(lambda: console(pooler, "SHOW PINS"))
        pooler.reload()
        wait_until(lambda: ear.query("LISTEN a").tags and are_shared(pooler, ear))
        mouth.query("NOTIFY a, '1'")
        assert heard(ear) == [("a", "1")]


@pytest.mark.parametrize("mode", ["reject", "log", "ignore"])
def test_it_is_no_pin(start_pooler, mode):
    """Whatever becomes of what only one server can keep, LISTEN works."""
    pooler = start_pooler({**TRACK, "on_session_state": mode})
    with pooler.client() as ear, pooler.client() as mouth:
        assert not ear.query("LISTEN a").errors
        wait_shared(pooler, ear)
        mouth.query("NOTIFY a, '1'")
        assert heard(ear) == [("a", "1")]
        ear.query("UNLISTEN a")
        assert channels(ear) == []
        assert "may not find" not in pooler.log_text()


def test_beside_other_pins(pooler):
    """A client with a temporary table keeps its server and hears from it, then from the other."""
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("CREATE TEMP TABLE t (i int); LISTEN a")
        mouth.query("NOTIFY a, '1'")
        assert heard(ear) == [("a", "1")]
        ear.query("DROP TABLE t")
        wait_shared(pooler, ear)
        mouth.query("NOTIFY a, '2'")
        assert heard(ear) == [("a", "2")]
        ear.query("CREATE TEMP TABLE t (i int)")
        mouth.query("NOTIFY a, '3'")
        assert heard(ear) == [("a", "3")]
        assert channels(ear) == ["a"]


def test_pool_of_one(start_pooler):
    """The listener comes on top of the pool's size."""
    pooler = start_pooler({**TRACK, "default_pool_size": 1, "max_db_connections": 1})
    with pooler.client() as ear, pooler.client() as mouth:
        for channel in "abc":
            ear.query(f"LISTEN {channel}")
        assert not mouth.query("NOTIFY a, '1'; NOTIFY b, '2'; NOTIFY c, '3'").errors
        assert heard(ear, 3) == [("a", "1"), ("b", "2"), ("c", "3")]
        (row,) = [row for row in console(pooler, "SHOW POOLS") if row["user"] == "app_trust"]
        assert row["sv_active"] + row["sv_idle"] + row["sv_used"] == 1


def test_a_client_that_leaves(pooler, cluster):
    with pooler.client() as ear, pooler.client() as other:
        ear.query("LISTEN a")
        other.query("LISTEN b")
        wait_shared(pooler, ear, other)
        ear.drop()
        wait_until(lambda: len(console(pooler, "SHOW CLIENTS")) == 2)
        other.query("NOTIFY a; NOTIFY b, '1'")
        assert heard(other) == [("b", "1")]


def test_those_who_leave_midway(pooler):
    """At any moment of the change; no server is left listening."""
    for i in range(20):
        ear = pooler.client()
        ear.send(query("LISTEN a"))
        if i % 2:
            ear.answer()
        ear.drop()
    with pooler.client() as one, pooler.client() as two:
        one.query("BEGIN")
        assert channels(two) == []
        assert channels(one) == []
    wait_until(lambda: not listener_rows(pooler))


def test_the_extended_protocol(pooler):
    """As drivers speak it: BEGIN and what follows in one group, named statements, pipelines."""
    with pooler.client() as ear, pooler.client() as mouth:
        assert not ear.ask(parse("LISTEN a", "l"), bind((), "l"), execute(), SYNC).errors
        wait_shared(pooler, ear)
        ear.ask(parse("BEGIN"), bind(), execute(), parse("LISTEN b"), bind(), execute(), SYNC)
        ear.ask(parse("UNLISTEN a", "u"), bind((), "u"), execute(), SYNC)
        ear.ask(parse("COMMIT"), bind(), execute(), SYNC)
        assert channels(ear) == ["b"]
        ear.ask(bind((), "l"), execute(), SYNC)
        assert channels(ear) == ["a", "b"]
        ear.ask(bind((), "u"), execute(), SYNC)
        assert channels(ear) == ["b"]
        ask = parse("SELECT pg_listening_channels()", "c")
        answer = ear.ask(ask, bind((), "c"), execute(), SYNC)
        assert answer.rows == [("b",)]
        answer = ear.ask(bind((), "c"), execute(), SYNC)
        assert answer.rows == [("b",)]
        # The unnamed statement outlives what goes ahead of another one.
        ear.ask(parse("SELECT 7"), SYNC)
        assert channels(ear) == ["b"]
        mouth.query("NOTIFY a; NOTIFY b, 'yes'")
        assert heard(ear) == [("b", "yes")]


def test_groups_that_are_sent_together(pooler):
    with pooler.client() as ear:
        ear.query("LISTEN a; LISTEN b")
        wait_shared(pooler, ear)
        ear.send(*[query("SELECT 1")] * 3, query("UNLISTEN a"), query("SELECT 2"),
                 query("LISTEN c"), query("SELECT pg_listening_channels() ORDER BY 1"))
        answers = [ear.answer() for _ in range(7)]
        assert not any(one.errors for one in answers)
        assert answers[-1].rows == [("b",), ("c",)]
        ear.send(parse("BEGIN"), bind(), execute(), SYNC, query("UNLISTEN *"), query("COMMIT"),
                 query("SELECT pg_listening_channels()"))
        answers = [ear.answer() for _ in range(4)]
        assert answers[-1].rows == []
        # What comes too late in a group adds to what there was.
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.ask(parse("SELECT 1"), bind(), execute(), parse("LISTEN b"), bind(), execute(), SYNC)
        assert channels(ear) == ["a", "b"]


@pytest.mark.timeout(60)
def test_cancel_requests_do_no_harm(pooler, cluster):
    """Whatever they meet of what Weir itself asks."""
    with pooler.client() as ear:
        for _ in range(15):
            ear.query("LISTEN a")
            cancel(pooler.address, ear.key)
            ear.send(query("BEGIN"))
            cancel(pooler.address, ear.key)
            ear.answer()
            ear.query("ROLLBACK")
            assert channels(ear) in (["a"], [])
        ear.query("LISTEN a")
        wait_until(lambda: channels(ear) == ["a"])
        wait_shared(pooler, ear)
        cluster.primary.sql("NOTIFY a, 'x'")
        assert heard(ear) == [("a", "x")]
