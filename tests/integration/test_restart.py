"""The online restart: a new process takes over clients and servers from the running one (-R)."""

import os
import signal
import subprocess
import threading
import time

import psycopg
import pytest

import cluster as clusters
import pooler as poolers
from certificates import Certificates
from pooler import PATIENCE
from routed import PROBING, Watch, entry_of, start_routed
from tools import wait_running
from wire import Closed, bind, cancel, describe, execute, parse, query
import wire

pytestmark = pytest.mark.weir_only

SYNC = wire.message("S")


class Restarts:
    """Restarts a pooler; each process must end with status 0 and without a report."""

    def __init__(self, pooler):
        self.pooler = pooler
        self.old = []

    def begin(self):
        """Starts the new process, without waiting for anything; the old one."""
        pooler, old = self.pooler, self.pooler.process
        binary = os.path.join(pooler.cluster.folder, os.path.basename(poolers.BINARY))
        with open(pooler.log, "ab") as log:
            pooler.process = pooler.cluster.guarded(
                [binary, "-R", pooler.ini],
                variables=poolers.SANITIZER_VARIABLES,
                stdout=log,
                stderr=log,
            )
        self.old.append(old)
        return old

    def wait_up(self):
        self.pooler.wait_log(rf"\[{self.pooler.process.pid}\] LOG process up")

    def __call__(self, ends=True):
        """Restarts; with `ends` the old process has nothing left to do."""
        old = self.begin()
        self.wait_up()
        if ends:
            assert old.wait(10 * PATIENCE) == 0
        return old

    def stop(self):
        for old in self.old:
            if old.poll() is None:
                old.send_signal(signal.SIGQUIT)
            status = old.wait(10 * PATIENCE)
            poolers.assert_whole("", status)  # what it wrote is in the log of its heir
            assert status in (0, 1)


@pytest.fixture
def restarts():
    made = []

    def make(pooler):
        made.append(Restarts(pooler))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def backend(client):
    return client.query("SELECT pg_backend_pid()").value


def test_an_idle_client_notices_nothing(start_pooler, restarts):
    pooler = start_pooler()
    restart = restarts(pooler)
    clients = [pooler.client() for _ in range(20)]
    unix = pooler.client(unix=True)
    before = {backend(client) for client in [*clients, unix]}
    for _ in range(3):
        restart()
        for i, client in enumerate(clients):
            assert client.query(f"SELECT {i}").value == str(i)
        # The servers came too: nobody had to log in.
        assert {backend(client) for client in [*clients, unix]} == before
    text = pooler.log_text()
    assert text.count("WARNING Online restart is deprecated, use so_reuseport instead") == 3
    assert text.count("new connection to server") == len(before)
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
    with pooler.client(unix=True) as client:
        assert client.query("SELECT 1").value == "1"


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_transaction_goes_on_where_it_was(start_pooler, restarts, make_table, mode):
    make_table("restarted", "n int")
    pooler = start_pooler({"pool_mode": mode})
    restart = restarts(pooler)
    client = pooler.client()
    client.query("BEGIN")
    server = backend(client)
    client.query("INSERT INTO restarted VALUES (1)")
    restart()
    assert backend(client) == server
    client.query("INSERT INTO restarted VALUES (2)")
    restart()
    answer = client.query("COMMIT")
    assert (answer.tags, answer.status) == (["COMMIT"], "I")
    assert client.query("SELECT sum(n) FROM restarted").value == "3"


@pytest.mark.parametrize("state", ["off", "track"])
def test_a_begin_that_is_held_goes_over(start_pooler, cluster, restarts, state):
    """No server has heard of the transaction yet, which the new process goes on with."""
    routed = start_routed(start_pooler, cluster, {"session_state": state})
    Watch(routed).settle()
    restart = restarts(routed)
    client = routed.client()
    other = routed.client()
    assert client.query("BEGIN ISOLATION LEVEL REPEATABLE READ").status == "T"
    assert other.query("BEGIN READ ONLY").status == "T"
    restart()
    assert client.query("SHOW transaction_isolation").value == "repeatable read"
    assert client.query("COMMIT").status == "I"
    assert other.query("ROLLBACK").status == "I"
    assert other.query("SELECT 1").value == "1"


def test_a_session_keeps_its_server(start_pooler, restarts):
    pooler = start_pooler({"pool_mode": "session"})
    restart = restarts(pooler)
    client = pooler.client()
    server = backend(client)
    client.query("SET work_mem = '123kB'; PREPARE mine AS SELECT 42; CREATE TEMP TABLE t (n int)")
    client.ask(parse("SELECT $1::int", "named", [23]), SYNC)
    for _ in range(2):
        restart()
        assert backend(client) == server
        assert client.query("SHOW work_mem").value == "123kB"
        assert client.query("EXECUTE mine").value == "42"
        assert client.query("SELECT count(*) FROM t").value == "0"
        assert client.ask(bind(["7"], "named"), execute(), SYNC).value == "7"
    client.close()
    if poolers.WORKERS > 1:
        return  # the next client may come to another worker, which has no server yet
    # The server goes back to the pool and is cleaned.
    deadline = time.monotonic() + 10 * PATIENCE
    while pooler.admin("SHOW POOLS")[0]["sv_idle"] in (0, "0"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pooler.client() as other:
        assert backend(other) == server
        assert other.query("SHOW work_mem").value != "123kB"


def test_a_running_query_is_answered(start_pooler, restarts):
    """By the old process, which then sends the client after the others."""
    pooler = start_pooler()
    restart = restarts(pooler)
    busy, idle = pooler.client(), pooler.client()
    idle.query("SELECT 1")
    busy.send(query("SELECT pg_sleep(1), 'running over'"))
    wait_running(pooler.cluster, "running over")
    old = restart(ends=False)
    assert idle.query("SELECT 2").value == "2"
    assert old.poll() is None
    assert busy.answer().rows[0][1] == "running over"
    assert old.wait(10 * PATIENCE) == 0
    assert busy.query("SELECT 3").value == "3"


def test_tracked_sessions_go_on(start_pooler, restarts):
    """With what they have set; who has something on a server stays with it until that is gone."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 3})
    restart = restarts(pooler)
    idle, busy, pinned = pooler.client(), pooler.client(options="-c work_mem=3MB"), pooler.client()
    idle.query("SET work_mem = '1MB'")
    busy.query("BEGIN; SET app.v = 'mine'")
    pinned.query("SELECT pg_advisory_lock(5)")
    (pid,) = pinned.query("SELECT pg_backend_pid()").rows[0]
    old = restart(ends=False)
    assert idle.query("SHOW work_mem").value == "1MB"
    assert idle.query("RESET work_mem; SHOW work_mem").rows[-1] == ("4MB",)
    assert not busy.query("COMMIT").errors
    for _ in range(2):
        assert busy.query("SELECT current_setting('app.v'), current_setting('work_mem')").rows == [
            ("mine", "3MB")
        ]
    assert not busy.query("RESET work_mem").errors
    assert busy.query("SHOW work_mem").value == "3MB"
    assert old.poll() is None
    assert pinned.query("SELECT pg_backend_pid()").value == pid
    assert pinned.query("SELECT pg_advisory_unlock(5)").value == "t"
    assert old.wait(10 * PATIENCE) == 0
    assert pinned.query("SELECT 4").value == "4"


def test_what_a_sessions_server_was_started_with_is_known(start_pooler, restarts):
    settings = {"session_state": "track", "pool_mode": "session", "default_pool_size": 2}
    pooler = start_pooler(settings)
    restart = restarts(pooler)
    pooler.client(search_path="b").close()
    client = pooler.client(search_path="a")
    pid = backend(client)
    restart()
    assert backend(client) == pid
    assert not client.query("SET search_path = c; RESET search_path").errors
    assert client.query("SHOW search_path").value == "a"
    client.close()
    for path, shown in ((None, '"$user", public'), ("b", "b"), ("a", "a")):
        start = {} if path is None else {"search_path": path}
        with pooler.client(**start) as other:
            assert other.query("SHOW search_path").value == shown
            assert other.parameters["DateStyle"] == "ISO, MDY"


def test_requests_sent_meanwhile_are_served(start_pooler, restarts):
    """One that waits in line, and half a message."""
    pooler = start_pooler({"default_pool_size": 1})
    restart = restarts(pooler)
    holder, waiter, half = pooler.client(), pooler.client(), pooler.client()
    holder.query("BEGIN")
    waiter.send(query("SELECT 'waited'"))
    rest = query("SELECT 'whole'")
    half.send(rest[:9])
    time.sleep(0.2)
    restart()
    half.send(rest[9:])
    # Another worker may have made a server before this one had its own back.
    assert poolers.WORKERS > 1 or waiter.is_silent(0.2)
    holder.query("COMMIT")
    assert waiter.answer().value == "waited"
    assert half.answer().value == "whole"


def test_prepared_statements_and_parameters(start_pooler, restarts):
    pooler = start_pooler()
    restart = restarts(pooler)
    client = pooler.client(DateStyle="SQL, DMY", application_name="restarted")
    client.query("SET TimeZone = 'Asia/Tokyo'")
    client.ask(parse("SELECT $1::int + 1", "plus", [23]), SYNC)
    assert client.ask(bind(["1"], "plus"), execute(), SYNC).value == "2"
    client.ask(parse("SELECT 'unnamed ' || $1::text", "", [25]), SYNC)
    for i in range(3):
        restart()
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"
        assert client.query("SHOW DateStyle").value == "SQL, DMY"
        assert client.query("SHOW application_name").value == "restarted"
        assert client.ask(bind([str(i)], "plus"), execute(), SYNC).value == str(i + 1)
        client.ask(parse("SELECT $1::int * 2", f"new{i}", [23]), SYNC)
        for j in range(i + 1):
            assert client.ask(bind(["4"], f"new{j}"), execute(), SYNC).value == "8"


def test_an_unnamed_statement_survives(start_pooler, restarts):
    pooler = start_pooler()
    restart = restarts(pooler)
    client = pooler.client()
    client.ask(parse("SELECT 'unnamed ' || $1::text", "", [25]), describe(), SYNC)
    restart()
    assert client.ask(bind(["one"]), execute(), SYNC).value == "unnamed one"


def test_cancel_keys_survive(start_pooler, restarts):
    pooler = start_pooler()
    restart = restarts(pooler)
    idle, busy = pooler.client(), pooler.client()
    busy.send(query("SELECT pg_sleep(5), 'stays behind'"))
    wait_running(pooler.cluster, "stays behind")
    restart(ends=False)
    idle.send(query("SELECT pg_sleep(5), 'came along'"))
    wait_running(pooler.cluster, "came along")
    for client in (idle, busy):  # the second one's is passed to the old process
        cancel(pooler.address, client.key)
        assert client.answer().error["C"] == "57014"
        assert client.query("SELECT 1").value == "1"


def test_scram_keys_go_along(start_pooler, restarts, cluster):
    """Servers are logged in to with what a client has proved, although no file has a password."""
    verifier = cluster.primary.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    pooler = start_pooler({"auth_type": "scram-sha-256"}, secrets={"app": verifier})
    restart = restarts(pooler)
    client = pooler.client("app", clusters.PASSWORDS["app"])
    before = backend(client)
    restart()
    client.query("BEGIN")
    mine = backend(client)
    with pooler.client("app", clusters.PASSWORDS["app"]) as other:
        assert backend(other) != mine
        assert {mine, backend(other)} != {before}  # there was a new login
    assert client.query("ROLLBACK").status == "I"


def test_the_files_are_the_new_ones(start_pooler, restarts):
    pooler = start_pooler({"pidfile": "weir-restart.pid"})
    path = os.path.join(pooler.cluster.folder, "weir-restart.pid")
    restart = restarts(pooler)
    for _ in range(2):
        restart()
        with open(path, encoding="utf-8") as file:
            assert file.read() == f"{pooler.process.pid}\n"
    assert os.path.exists(pooler.unix_path)
    pooler.stop()
    assert not os.path.exists(path) and not os.path.exists(pooler.unix_path)


def test_settings_are_read_anew(start_pooler, restarts, cluster):
    pooler = start_pooler()
    databases = {"app": pooler.node_string(), "gone": pooler.node_string()}
    pooler.write_ini({}, databases=databases)
    pooler.reload()
    pooler.wait_log("got SIGHUP")
    restart = restarts(pooler)
    stays, goes = pooler.client(), pooler.client(database="gone")
    pooler.write_ini({"default_pool_size": 3})
    restart()
    assert stays.query("SELECT 1").value == "1"
    assert goes.read_to_end().error["M"] == "database removed"
    rows = {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG")}
    assert rows["default_pool_size"] == "3"


def test_a_client_with_tls_is_served_by_the_old_process(start_pooler, restarts, cluster):
    """Its keys cannot be handed over; it stays where it is, and nothing is lost."""
    made = Certificates(os.path.join(cluster.folder, "tls-restart"))
    made.issue("server", names=["IP:127.0.0.1"])
    rows = {
        "client_tls_sslmode": "prefer",
        "client_tls_cert_file": made.file("server.pem"),
        "client_tls_key_file": made.file("server.key"),
    }
    pooler = start_pooler(rows)
    restart = restarts(pooler)
    plain, secure = pooler.client(), pooler.psycopg(sslmode="require")
    old = restart(ends=False)
    for i in range(5):
        assert plain.query(f"SELECT {i}").value == str(i)
        assert secure.execute("SELECT %s::int", [i]).fetchone() == (i,)
    time.sleep(1.2)  # when it is looked after less often
    assert secure.execute("SELECT 'still'").fetchone() == ("still",)
    with pooler.psycopg(sslmode="require") as new:
        assert new.execute("SELECT 'new'").fetchone() == ("new",)
    assert old.poll() is None
    secure.close()
    assert old.wait(10 * PATIENCE) == 0


# What may go wrong


def run_new(pooler, *options, ini=None):
    binary = os.path.join(pooler.cluster.folder, os.path.basename(poolers.BINARY))
    return subprocess.run(
        clusters.as_unprivileged([binary, "-R", *options, ini or pooler.ini]),
        capture_output=True,
        text=True,
        timeout=20 * PATIENCE,
        check=False,
        cwd=pooler.cluster.folder,
        env=clusters.environment(**poolers.SANITIZER_VARIABLES),
    )


def test_nobody_to_take_over_from(pooler):
    pooler.stop()
    done = run_new(pooler)
    assert done.returncode == 1 and "FATAL socket takeover failed" in done.stderr


@pytest.mark.parametrize(
    "folder,text",
    [
        ("", "cannot reboot if unix dir not configured"),
        ("@weir", "cannot reboot with abstract Unix socket"),
    ],
)
def test_where_it_cannot_be(pooler, folder, text):
    pooler.write_ini({"unix_socket_dir": folder})
    done = run_new(pooler)
    assert done.returncode == 1 and "FATAL " + text in done.stderr
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_only_the_own_user_may_take_over(pooler):
    with pooler.psycopg(*poolers.ADMIN, database="pgbouncer") as connection:
        with pytest.raises(psycopg.OperationalError, match="only the process's own user"):
            connection.execute("HAND_OVER 1")
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_a_new_process_that_disappears_does_no_harm(pooler):
    """Before it has taken over: the old one goes on accepting."""
    for _ in range(2):
        script = (
            "import socket, struct, time\n"
            f"s = socket.socket(socket.AF_UNIX); s.connect({pooler.unix_path!r})\n"
            "body = b'user\\0pgbouncer\\0database\\0pgbouncer\\0\\0'\n"
            "s.sendall(struct.pack('!II', len(body) + 8, 196608) + body); time.sleep(0.2)\n"
            "q = b'HAND_OVER 1\\0'\n"
            "s.sendall(b'Q' + struct.pack('!I', len(q) + 4) + q); time.sleep(0.2)\n"
        )
        subprocess.run(
            clusters.as_unprivileged(["/usr/bin/python3", "-c", script]), check=True, timeout=20
        )
        with pooler.client() as client:
            assert client.query("SELECT 1").value == "1"
    assert "the new process has disappeared, going on" in pooler.log_text()


def test_the_new_process_dies_while_the_old_one_has_work(start_pooler, restarts):
    pooler = start_pooler()
    restart = restarts(pooler)
    busy = pooler.client()
    busy.send(query("SELECT pg_sleep(1), 'outlives'"))
    wait_running(pooler.cluster, "outlives")
    old = restart(ends=False)
    pooler.stop()
    assert busy.answer().rows[0][1] == "outlives"
    assert busy.query("SELECT 2").value == "2"
    busy.close()
    assert old.wait(10 * PATIENCE) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_old_process(start_pooler, restarts, number):
    pooler = start_pooler()
    restart = restarts(pooler)
    busy = pooler.client()
    busy.send(query(f"SELECT pg_sleep(3), 'cut off by {number}'"))
    wait_running(pooler.cluster, f"cut off by {number}")
    old = restart(ends=False)
    old.send_signal(number)
    assert old.wait(10 * PATIENCE) == 1
    pooler.wait_log("FATAL takeover was in progress, going down immediately")
    with pytest.raises((Closed, OSError)):
        busy.answer()


# Under load


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.timeout(90)
def test_restarts_under_load(start_pooler, restarts, mode):
    """Four in a row, and no client sees an error or a wrong answer."""
    pooler = start_pooler({"pool_mode": mode, "default_pool_size": 12})
    restart = restarts(pooler)
    over = threading.Event()
    failures = []
    counts = [0] * 8

    def work(number):
        try:
            with pooler.psycopg(autocommit=False) as connection:
                while not over.is_set():
                    value = number * 1_000_000 + counts[number]
                    rows = connection.execute("SELECT %s::int", [value]).fetchall()
                    assert rows == [(value,)]
                    if number % 2:
                        rows = connection.execute("SELECT %s::text || 'x'", [value]).fetchall()
                        assert rows == [(f"{value}x",)]
                    connection.commit()
                    counts[number] += 1
        except BaseException as failure:
            failures.append((number, failure))

    threads = [threading.Thread(target=work, args=[i], daemon=True) for i in range(len(counts))]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.3)
        before = list(counts)
        restart()
        deadline = time.monotonic() + 10 * PATIENCE
        while not all(now > then for now, then in zip(counts, before)):
            assert not failures and time.monotonic() < deadline, (failures, counts)
            time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert not failures, failures


@pytest.mark.timeout(90)
def test_routed_reads_see_writes_across_restarts(start_pooler, restarts, cluster, make_table):
    """Also those that were made through the other process."""
    make_table("followed", "who int PRIMARY KEY, n int")
    cluster.primary.sql("INSERT INTO followed SELECT i, 0 FROM generate_series(0, 3) i")
    pooler = start_pooler(
        PROBING, databases={"app": entry_of(cluster.nodes, routing="read_write")}
    )
    restart = restarts(pooler)
    over = threading.Event()
    failures = []
    counts = [0] * 4

    def work(number):
        try:
            with pooler.client() as client:
                while not over.is_set():
                    counts[number] += 1
                    sql = f"UPDATE followed SET n = {counts[number]} WHERE who = {number}"
                    assert client.query(sql).tags == ["UPDATE 1"]
                    if counts[number] % 5 == 0:
                        client.query("SELECT pg_sleep(0.05)")
                    sql = f"SELECT n FROM followed WHERE who = {number}"
                    assert client.query(sql).value == str(counts[number])
        except BaseException as failure:
            failures.append((number, failure))

    threads = [threading.Thread(target=work, args=[i], daemon=True) for i in range(len(counts))]
    for thread in threads:
        thread.start()
    for _ in range(3):
        time.sleep(0.4)
        restart()
    before = list(counts)
    time.sleep(0.5)
    over.set()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert not failures, failures
    assert all(now > then for now, then in zip(counts, before))


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench_across_restarts(start_pooler, restarts, cluster, protocol):
    pooler = start_pooler()
    restart = restarts(pooler)
    script = os.path.join(cluster.folder, "restart.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write("\\set n random(1, 1000)\nSELECT :n + 1;\n")
    command = [clusters.program("pgbench"), "-n", "-f", script, "-c", "6", "-T", "3", "-M", protocol]
    command += ["-h", pooler.host, "-p", str(pooler.port), "-U", "app_trust", "app"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=clusters.environment(PGSSLMODE="disable"),
    ) as bench:
        for _ in range(3):
            time.sleep(0.5)
            restart()
        said = bench.communicate(timeout=30 * PATIENCE)[0]
        assert bench.returncode == 0, said
    assert "number of failed transactions: 0 " in said, said
