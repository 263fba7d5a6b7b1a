"""What happens to clients that listen by the shared listener when things go wrong, and the ways in
which drivers and queues of jobs use LISTEN."""

import asyncio
import contextlib
import os
import random
import select
import signal
import subprocess
import threading
import urllib.request

import asyncpg
import psycopg
import psycopg2
import pytest
from console import wait_until
from pooler import PATIENCE, SECRETS
from routed import Watch, start_routed
from test_listen import (
    TRACK, channels, console, direct, heard, listener_rows, note_of, pid_of, wait_shared,
)  # fmt: skip
from test_drivers import ENVIRONMENT, source
from test_restart import Restarts
from wire import SYNC, bind, execute, parse, query

pytestmark = pytest.mark.weir_only


@pytest.fixture
def pooler(start_pooler):
    return start_pooler({**TRACK, "server_login_retry": "0.1"})


def gaps(pooler):
    with urllib.request.urlopen(f"http://{pooler.host}:{pooler.http_port}/metrics") as page:
        lines = page.read().decode().splitlines()
    found = [line for line in lines if line.startswith("weir_listen_gaps_total{")]
    return sum(int(line.split()[-1]) for line in found if 'user="app_trust"' in line)


def listener_pid(pooler):
    rows = listener_rows(pooler)
    return rows[0]["remote_pid"] if rows else None


def wait_heard(pooler, mouth, *ears):
    """Notifies until every ear has heard, and takes what else was heard of it."""
    silent = list(ears)
    while silent:
        mouth.sql("NOTIFY a, 'again'")
        silent = [ear for ear in silent if ear.is_silent(0.05)]
    mouth.sql("NOTIFY a, 'settled'")
    for ear in ears:
        while heard(ear) != [("a", "settled")]:
            pass


# Process ids


def test_process_ids_are_those_of_clients(pooler, cluster):
    """What a sender's own BackendKeyData says, whichever server it used; others are left alone."""
    with pooler.client() as ear, pooler.client() as other, direct(cluster) as stranger:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        for number in range(6):
            for sender in (ear, other):
                assert not sender.query(f"NOTIFY a, '{number}'").errors
                assert note_of(ear.read())[0] == pid_of(sender)
        for sender in (ear, other):
            sender.query("SELECT pg_notify('a', 'by a function')")
            assert note_of(ear.read())[0] == pid_of(sender)
        pid = int(stranger.query("SELECT pg_backend_pid()").value)
        stranger.query("NOTIFY a, 'direct'")
        assert note_of(ear.read())[0] == pid


def test_process_ids_of_prepared_writes(pooler, cluster, make_table):
    """A trigger notifies for statements that say nothing of it."""
    make_table("jobs", "id int")
    cluster.primary.sql(
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_notify('a', NEW.id::text); RETURN NEW; END $$;"
        "CREATE TRIGGER tell AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION tell()"
    )
    try:
        with pooler.client() as ear, pooler.client() as other:
            ear.query("LISTEN a")
            wait_shared(pooler, ear)
            for one in (ear, other):
                one.ask(parse("INSERT INTO jobs VALUES ($1)", "put"), SYNC)
            for number in range(4):
                for one in (ear, other):
                    answer = one.ask(bind([str(number)], "put"), execute(), SYNC)
                    assert not answer.errors, answer.errors
                    found = note_of(ear.read())
                    assert found == (pid_of(one), "a", str(number))
    finally:
        cluster.primary.sql("DROP FUNCTION tell CASCADE")


def test_process_ids_on_a_server_of_its_own(start_pooler):
    pooler = start_pooler({**TRACK, "shared_listen": "off"})
    with pooler.client() as ear:
        ear.query("LISTEN a")
        answer = ear.query("NOTIFY a, 'mine'")
        found = [note_of(one)[0] for one in answer.of("A")] or [note_of(ear.read())[0]]
        assert found == [pid_of(ear)]


@pytest.mark.parametrize("how", ["weir", "server"])
def test_process_ids_in_session_mode(start_pooler, cluster, how):
    pooler = start_pooler({**TRACK, "pool_mode": "session", "backend_pid": how})
    with pooler.client() as ear, pooler.client() as other, direct(cluster) as stranger:
        ear.query("LISTEN a")
        answer = ear.query("NOTIFY a, 'mine'")
        found = [note_of(one)[0] for one in answer.of("A")] or [note_of(ear.read())[0]]
        assert found == [pid_of(ear)]
        other.query("NOTIFY a, 'other'")
        assert note_of(ear.read()) == (pid_of(other), "a", "other")
        pid = int(stranger.query("SELECT pg_backend_pid()").value)
        stranger.query("NOTIFY a, 'direct'")
        assert note_of(ear.read()) == (pid, "a", "direct")


# The listener is lost


def test_the_listener_is_killed(pooler, cluster):
    """Clients stay; the log and a metric tell that something may have been missed."""
    with pooler.client() as ear, pooler.client() as other:
        ear.query("LISTEN a; LISTEN b")
        other.query("LISTEN a")
        wait_shared(pooler, ear, other)
        assert gaps(pooler) == 0
        pid = listener_pid(pooler)
        cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: listener_pid(pooler) not in (None, pid))
        wait_heard(pooler, cluster.primary, ear, other)
        assert channels(ear) == ["a", "b"]
        pooler.wait_log(r"WARNING app/app_trust: the shared listener is lost")
        pooler.wait_log(r"WARNING S-.*app/app_trust@.* notifications may have been missed: .* s")
        assert gaps(pooler) == 1


def test_the_listener_does_not_answer(start_pooler, cluster):
    """As after a firewall has forgotten the connection: it is asked, given up and made anew."""
    quick = {"server_check_delay": "1", "server_connect_timeout": "1", "server_login_retry": "0.1"}
    pooler = start_pooler({**TRACK, **quick})
    with pooler.client() as ear:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        pid = listener_pid(pooler)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: listener_pid(pooler) not in (None, pid))
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_heard(pooler, cluster.primary, ear)
        pooler.wait_log("shared listener is lost: the shared listener does not answer")
        (seconds,) = pooler.wait_log(r"nobody listened for (\d+)\.\d+ s").groups()
        assert 1 <= int(seconds) < 20 * PATIENCE
        assert gaps(pooler) == 1


def test_the_primary_restarts(pooler, cluster):
    with contextlib.ExitStack() as ends:
        ears = [ends.enter_context(pooler.client()) for _ in range(3)]
        for ear in ears:
            ear.query("LISTEN a")
        wait_shared(pooler, *ears)
        cluster.primary.restart()
        cluster.wait_streaming()
        wait_heard(pooler, cluster.primary, *ears)
        # A login that met the shutdown counts as a failure for server_login_retry.
        wait_until(lambda: not ears[0].query("SELECT 1").errors)
        for ear in ears:
            assert channels(ear) == ["a"]
        cluster.primary.sql("NOTIFY a, 'once'")
        for ear in ears:
            assert heard(ear) == [("a", "once")]


def test_a_stream_of_numbers_while_the_listener_dies(pooler, cluster):
    """Some are missing then, as told; none comes twice or out of order."""
    with pooler.client() as ear, direct(cluster) as mouth:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        for number in range(400):
            mouth.query(f"NOTIFY a, '{number}'")
            if number % 100 == 50:
                pid = listener_pid(pooler)
                mouth.query(f"SELECT pg_terminate_backend({pid})")
            if number % 100 == 70:
                wait_until(lambda: gaps(pooler) == number // 100 + 1)
        numbers = []
        while not numbers or numbers[-1] != 399:
            numbers.append(int(heard(ear)[0][1]))
        assert numbers == sorted(set(numbers)) and len(numbers) > 200


def test_new_ones_while_the_listener_dies(pooler, cluster):
    """Who begins to listen just then keeps its server as long as it takes."""
    with contextlib.ExitStack() as ends:
        ears = []
        for number in range(12):
            ears.append(ends.enter_context(pooler.client()))
            ears[-1].query("LISTEN a")
            pid = listener_pid(pooler)
            if number % 3 == 2 and pid is not None:
                cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
        wait_shared(pooler, *ears)
        wait_heard(pooler, cluster.primary, *ears)


@pytest.mark.parametrize("command", ["RECONNECT", "PAUSE", "reload"])
def test_console_commands(pooler, cluster, command):
    """The connection is replaced; clients are not."""
    with pooler.client() as ear:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        pid = listener_pid(pooler)
        if command == "reload":
            more = {"connect_query": "'SELECT 1'"}
            pooler.write_ini(TRACK, databases={"app": pooler.node_string(**more)})
            pooler.reload()
        else:
            pooler.admin(command)
        if command == "PAUSE":
            assert not listener_rows(pooler)
            pooler.admin("RESUME")
        wait_until(lambda: listener_pid(pooler) not in (None, pid))
        wait_heard(pooler, cluster.primary, ear)
        assert channels(ear) == ["a"]


def test_kill(pooler):
    ear = pooler.client()
    ear.query("LISTEN a")
    wait_shared(pooler, ear)
    pooler.admin("KILL app")
    ear.read_to_end()
    ear.close()
    wait_until(lambda: not listener_rows(pooler))
    pooler.admin("RESUME app")
    with pooler.client() as ear:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.query("NOTIFY a, 'x'")
        assert heard(ear) == [("a", "x")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_pooler_ends(pooler, number):
    """Nobody waits for the listener's connection, which is no client's."""
    ear = pooler.client()
    ear.query("LISTEN a")
    wait_shared(pooler, ear)
    if number == signal.SIGTERM:
        ear.drop()
    pooler.stop(number)
    ear.drop()


def test_who_listens_stays_at_an_online_restart(pooler):
    restart = Restarts(pooler)
    try:
        with pooler.client() as ear, pooler.client() as other:
            ear.query("LISTEN a")
            wait_shared(pooler, ear)
            restart(ends=False)
            for number in range(3):
                other.query(f"NOTIFY a, '{number}'")
                assert heard(ear) == [("a", str(number))]
            with pooler.client() as new:
                new.query("LISTEN a")
                other.query("NOTIFY a, 'both'")
                assert heard(ear) == heard(new) == [("a", "both")]
            ear.query("UNLISTEN *")
        assert restart.old[0].wait(10 * PATIENCE) == 0
    finally:
        restart.stop()


def test_a_server_is_lost_that_had_the_channels(pooler, cluster):
    """The client learns that its program failed, goes on, and listens to what it did."""
    with pooler.client() as ear:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.send(query("DO $$ BEGIN PERFORM pg_sleep(20); END $$"))
        asleep = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        cluster.primary.wait_for(f"SELECT count(*) FROM ({asleep}) s", "1")
        cluster.primary.sql(f"SELECT pg_terminate_backend(pid) FROM ({asleep}) s")
        assert ear.answer().code == "57P01"
        assert channels(ear) == ["a"]
        cluster.primary.sql("NOTIFY a, 'x'")
        assert heard(ear) == [("a", "x")]


def test_with_keys_that_clients_prove(start_pooler, cluster):
    """Nobody but a client can log in: the listener has what the first one proved."""
    secret = cluster.primary.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    settings = {**TRACK, "auth_type": "scram-sha-256"}
    pooler = start_pooler(settings, secrets={**SECRETS, "app": secret})
    with contextlib.ExitStack() as ends:
        ears = [ends.enter_context(pooler.client("app", SECRETS["app"])) for _ in range(4)]
        for ear in ears:
            ear.query("LISTEN a")
        wait_shared(pooler, *ears)
        for number in range(3):
            ears[number].query(f"NOTIFY a, '{number}'")
            for ear in ears:
                assert heard(ear) == [("a", str(number))]


# Where it cannot be


def test_while_the_listener_cannot_be_made(start_pooler, cluster):
    """The client keeps its server, and gives it up as soon as there is a listener."""
    settings = {**TRACK, "default_pool_size": 1, "server_login_retry": "0.1"}
    cluster.primary.sql("ALTER ROLE app_trust CONNECTION LIMIT 1")
    try:
        pooler = start_pooler(settings)
        with pooler.client() as ear:
            ear.query("LISTEN a")
            wait_until(lambda: console(pooler, "SHOW PINS"))
            cluster.primary.sql("NOTIFY a, 'from its own'")
            assert heard(ear) == [("a", "from its own")]
            assert channels(ear) == ["a"] and not listener_rows(pooler)
            cluster.primary.sql("ALTER ROLE app_trust CONNECTION LIMIT -1")
            wait_shared(pooler, ear)
            assert not console(pooler, "SHOW PINS")
            cluster.primary.sql("NOTIFY a, 'from the listener'")
            assert heard(ear) == [("a", "from the listener")]
    finally:
        cluster.primary.sql("ALTER ROLE app_trust CONNECTION LIMIT -1")


def test_another_encoding(pooler, cluster):
    """The listener hears in the database's encoding, so that such a client keeps its server."""
    with pooler.client(client_encoding="LATIN1") as ear, pooler.client() as other:
        ear.query("LISTEN a")
        other.query("LISTEN a")
        wait_shared(pooler, other)
        cluster.primary.sql("NOTIFY a, 'ü'")
        assert ear.read().body[4:] == b"a\0\xfc\0"
        assert other.read().body[4:] == "a\0ü\0".encode()
        assert [row["reasons"] for row in console(pooler, "SHOW PINS")] == ["LISTEN"]


def test_very_many_channels(pooler, cluster):
    with pooler.client() as ear:
        listen = "EXECUTE format('LISTEN c%s', i)"
        loop = "DO $$ BEGIN FOR i IN 1..{} LOOP " + listen + "; END LOOP; END $$"
        ear.query(loop.format(2000))
        wait_shared(pooler, ear)
        cluster.primary.sql("NOTIFY c1, 'x'; NOTIFY c2000, 'y'")
        assert heard(ear, 2) == [("c1", "x"), ("c2000", "y")]
        ear.query(loop.format(10001))
        wait_until(lambda: console(pooler, "SHOW PINS"))
        cluster.primary.sql("NOTIFY c1, 'x'; NOTIFY c10001, 'y'")
        assert sorted(heard(ear, 2)) == [("c1", "x"), ("c10001", "y")]
        ear.query("UNLISTEN *")
        assert channels(ear) == []
        wait_until(lambda: not console(pooler, "SHOW PINS"))


# Who does not read


def flood(client, count):
    """So many notifications of 7 kB on channel a."""
    text = f"SELECT pg_notify('a', repeat('x', 7000) || i) FROM generate_series(1, {count}) i"
    assert not client.query(text).errors
    return count


def test_who_does_not_read_is_closed(start_pooler):
    """With an error where it can still be told; others hear all of it."""
    pooler = start_pooler({**TRACK, "tcp_socket_buffer": "65536"})
    with pooler.client() as ear, pooler.client() as slow, pooler.client() as mouth:
        ear.query("LISTEN a")
        slow.query("LISTEN a")
        wait_shared(pooler, ear, slow)
        pooler.forget_peak()
        before = pooler.memory()
        while "too many unread notifications" not in pooler.log_text():
            heard(ear, flood(mouth, 60))
        assert pooler.memory_peak() < before + (40 << 20) * PATIENCE
        assert len(slow.read_to_end().of("A")) > 10
        heard(ear, flood(mouth, 60))


def test_a_transaction_that_takes_too_long(pooler):
    with pooler.client() as ear, pooler.client() as mouth:
        ear.query("LISTEN a")
        wait_shared(pooler, ear)
        ear.query("BEGIN")
        flood(mouth, 200)
        error = ear.read_to_end().error
        assert error["C"] == "53400" and "UNLISTEN" in error["H"]
        mouth.query("SELECT 1")


# Routing


def test_with_replicas(start_pooler, cluster, make_table):
    """LISTEN is the primary's; reads go on on replicas, and see what they were told of."""
    make_table("news", "id int")
    watch = Watch(start_routed(start_pooler, cluster, TRACK))
    watch.settle()
    with watch.pooler.client() as ear, watch.pooler.client() as mouth:
        ear.query("LISTEN a")
        wait_shared(watch.pooler, ear)
        (row,) = listener_rows(watch.pooler)
        assert row["remote_pid"] and row["port"] == cluster.primary.port
        watch.settle()
        ear.query("SELECT 1")
        assert watch.where() == "replica" and watch.why(ear) == "LISTEN (shared)"
        for number in range(10):
            mouth.query(f"BEGIN; INSERT INTO news VALUES ({number}); NOTIFY a, '{number}'; COMMIT")
            assert heard(ear) == [("a", str(number))]
            assert ear.query("SELECT max(id) FROM news").value == str(number)
        watch.settle()
        ear.query("BEGIN READ ONLY")
        mouth.query("NOTIFY a, 'meanwhile'")
        ear.query("SELECT 1")
        ear.query("COMMIT")
        assert heard(ear) == [("a", "meanwhile")]
        assert channels(ear) == ["a"]


# The ways of applications


def take_jobs(pooler, done, errors):
    """One that waits for news and takes what nobody else has, as job queues on PostgreSQL do."""
    try:
        with pooler.psycopg() as connection:
            connection.execute("LISTEN jobs")
            waiting = connection.notifies()
            while True:
                with connection.transaction():
                    row = connection.execute(
                        "DELETE FROM queue WHERE id = (SELECT id FROM queue ORDER BY id"
                        " FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id"
                    ).fetchone()
                if row is not None and row[0] < 0:
                    return
                if row is not None:
                    done.append(row[0])
                    continue
                waiting = connection.notifies()
                next(waiting)
                waiting.close()
    except Exception as error:  # told by the test
        errors.append(error)


@pytest.mark.timeout(60)
def test_a_queue_of_jobs(pooler, make_table):
    make_table("queue", "id int")
    done, errors = [], []
    workers = [threading.Thread(target=take_jobs, args=(pooler, done, errors)) for _ in range(4)]
    for worker in workers:
        worker.start()
    with pooler.psycopg() as boss:
        for job in range(120):
            boss.execute("INSERT INTO queue VALUES (%s)", (job,))
            boss.execute("NOTIFY jobs")
        while any(worker.is_alive() for worker in workers):
            boss.execute("INSERT INTO queue SELECT -1 WHERE NOT EXISTS (TABLE queue)")
            boss.execute("NOTIFY jobs")
            for worker in workers:
                worker.join(0.05)
    assert not errors, errors
    assert sorted(done) == list(range(120))


def test_psycopg(pooler):
    with pooler.psycopg(autocommit=False) as connection, pooler.psycopg() as other:
        connection.execute("LISTEN a")
        connection.commit()
        other.execute("SELECT pg_notify('a', %s)", ("hello",))
        found = next(connection.notifies())
        assert (found.channel, found.payload) == ("a", "hello")
        assert found.pid == other.info.backend_pid


def test_psycopg2(pooler):
    connection = psycopg2.connect(pooler.conninfo())
    try:
        cursor = connection.cursor()
        cursor.execute("LISTEN a")
        connection.commit()
        cursor.execute("NOTIFY a, 'mine'")
        connection.commit()
        connection.poll()
        while not connection.notifies:
            assert select.select([connection], [], [], 20)[0]
            connection.poll()
        (found,) = connection.notifies
        assert (found.channel, found.payload) == ("a", "mine")
        assert found.pid == connection.get_backend_pid()
    finally:
        connection.close()


def test_asyncpg(pooler):
    async def run():
        ear = await asyncpg.connect(host=pooler.host, port=pooler.port, user="app_trust",
                                    database="app", ssl=False)
        mouth = await asyncpg.connect(host=pooler.host, port=pooler.port, user="app_trust",
                                      database="app", ssl=False)
        found = asyncio.Queue()
        await ear.add_listener("a", lambda _, pid, channel, payload:
                               found.put_nowait((pid, channel, payload)))
        for number in range(5):
            await mouth.execute("SELECT pg_notify('a', $1)", str(number))
            told = await asyncio.wait_for(found.get(), 20)
            assert told == (mouth.get_server_pid(), "a", str(number))
            assert await ear.fetchval("SELECT $1::int", number) == number
        async with ear.transaction():
            await ear.execute("NOTIFY a, 'mine'")
        assert await asyncio.wait_for(found.get(), 20) == (ear.get_server_pid(), "a", "mine")
        await ear.reset()
        assert channels_of(await ear.fetch("SELECT pg_listening_channels()")) == []
        await ear.close()
        await mouth.close()

    asyncio.run(run())


def channels_of(rows):
    return [row[0] for row in rows]


@pytest.mark.parametrize("driver,told", [
    ("pg", [f"mouth jobs:insert {i}" for i in range(5)] + ["ear jobs:insert ", "left 0"]),
    ("postgres", [f"heard {i}" for i in range(5)] + ["left"]),
])  # fmt: skip
def test_node(pooler, driver, told):
    url = f"postgresql://app_trust@{pooler.host}:{pooler.port}/app"
    done = subprocess.run(
        ["node", source("listen.js"), driver, url],
        capture_output=True, text=True, check=False, timeout=30 * PATIENCE,
        env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert done.stdout.splitlines() == told


# The same by chance

CHANNELS = ["a", "b", "C d"]
STEPS = [
    "LISTEN {c}", "LISTEN {c}", "LISTEN {c}", "UNLISTEN {c}", "UNLISTEN *", "SELECT 1", "SELECT 1",
    "BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "SELECT 1/0",
    "LISTEN {c}; UNLISTEN {d}", "BEGIN; LISTEN {c}; ROLLBACK", "LISTEN {c}; SELECT 1/0",
    "BEGIN; UNLISTEN {c}; LISTEN {d}; COMMIT", "DISCARD ALL",
    "DO $$ BEGIN EXECUTE 'LISTEN {c}'; END $$", "DO $$ BEGIN EXECUTE 'UNLISTEN {c}'; END $$",
    "SELECT pg_listening_channels() ORDER BY 1", "SELECT pg_listening_channels() ORDER BY 1",
    "CREATE TEMP TABLE IF NOT EXISTS t (i int)", "DROP TABLE IF EXISTS t", "SET work_mem = '5MB'",
]  # fmt: skip


class Twins:
    """One session through Weir, the same on a connection of its own, and what both have heard."""

    def __init__(self, ends, pooler, cluster):
        self.both = [ends.enter_context(pooler.client()), ends.enter_context(direct(cluster))]
        self.heard = [[], []]
        self.status = "I"

    def run(self, one, is_extended=False):
        parts = [parse(one), bind(), execute(), SYNC] if is_extended else [query(one)]
        answers = [client.ask(*parts) for client in self.both]
        for answer, found in zip(answers, self.heard):
            found += [note_of(message)[1:] for message in answer.of("A")]
        self.status = answers[1].status
        return [
            (one.rows, one.tags, [error["C"] for error in one.errors], one.status)
            for one in answers
        ]

    def catch_up(self):
        """Outside of transactions: reads what is still to be told, and compares it channel by
        channel."""
        if self.status != "I":
            return
        self.run("SELECT 2")
        weir, truth = self.heard
        while len(weir) < len(truth):
            weir += heard(self.both[0])
        for channel in CHANNELS:
            mine, right = ([one for one in found if one[0] == channel] for found in self.heard)
            assert mine == right
        self.heard = [[], []]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(4))
def test_by_chance(start_pooler, cluster, seed):
    """Three sessions that do anything: each hears and sees what it would on a connection of its
    own. What was notified just before an UNLISTEN may be lost in either; so that is waited for."""
    dice = random.Random(seed)
    pooler = start_pooler({**TRACK, "default_pool_size": 4})
    names = [f'"{name}"' for name in CHANNELS]
    steps = []
    with contextlib.ExitStack() as ends:
        mouth = ends.enter_context(direct(cluster))
        twins = [Twins(ends, pooler, cluster) for _ in range(3)]
        for number in range(250):
            if dice.random() < 0.3:
                told = [f"{dice.choice(names)}, '{number}.{i}'" for i in range(dice.choice([1, 3]))]
                steps.append("; ".join(f"NOTIFY {one}" for one in told))
                mouth.query(steps[-1])
                continue
            who = dice.randrange(len(twins))
            step = dice.choice(STEPS).format(c=dice.choice(names), d=dice.choice(names))
            steps.append((who, step))
            if any(word in step for word in ("UNLISTEN", "DISCARD", "BEGIN")):
                twins[who].catch_up()
            weir, truth = twins[who].run(step, ";" not in step and dice.random() < 0.3)
            assert weir == truth, steps
            if dice.random() < 0.3:
                twins[who].catch_up()
        for one in twins:
            one.run("ROLLBACK")
            one.run("LISTEN a")
            one.catch_up()
        mouth.query("NOTIFY a, 'the end'")
        for one in twins:
            one.catch_up()
            assert not one.both[0].unread and one.both[0].is_silent(0.02), steps
