"""The command line, what a wrong file or URL is told, signals, files of the process, the log."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import psycopg
import pytest

import cluster as clusters
import pooler as poolers
from pooler import PATIENCE
from routed import PROBING, entry_of
from wire import Client, Closed, LoginFailed, query

pytestmark = pytest.mark.weir_only

SECRET = clusters.PASSWORDS["app"]
DEFAULT_PORT = 6432


@pytest.fixture(scope="module")
def binary(cluster):
    """A copy of the binary that the servers' user can run."""
    path = os.path.join(cluster.folder, "weir-to-start")
    shutil.copy(poolers.BINARY, path)
    return path


@pytest.fixture
def run(cluster, binary):
    """Runs the binary to its end; the finished process, texts captured."""

    def run_to_end(*arguments, **variables):
        return subprocess.run(
            clusters.as_unprivileged([binary, *arguments]),
            capture_output=True,
            text=True,
            timeout=20 * PATIENCE,
            check=False,
            cwd=cluster.folder,
            stdin=subprocess.DEVNULL,
            env=clusters.environment(**poolers.SANITIZER_VARIABLES, **variables),
        )

    return run_to_end


@pytest.fixture
def write(cluster):
    """Writes a file into the cluster's folder; its path."""

    def write_file(text, name="wrong.ini"):
        path = os.path.join(cluster.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    return write_file


# Options


def test_version(run):
    for option in ("--version", "-V"):
        done = run(option)
        assert (done.returncode, done.stderr) == (0, "")
        pattern = r"PgBouncer 1\.25\.2\nweir \d+\.\d+\.\d+\nlibuv \S+\nadns: c-ares \S+\ntls: OpenSSL "
        assert re.match(pattern, done.stdout)


def test_help(run):
    for option in ("--help", "-h"):
        done = run(option)
        assert (done.returncode, done.stderr) == (0, "")
        for words in ("FILE.ini", "postgres://", "WEIR_URL", "--check", "--explain-route"):
            assert words in done.stdout


WRONG_USE = [
    ([], "no configuration given"),
    (["--nonsense"], "unknown option"),
    (["one.ini", "two.ini"], "more than one configuration given"),
    (["nowhere.ini"], 'cannot read configuration file "nowhere.ini": No such file or directory'),
    (["/"], 'cannot read configuration file "/": Is a directory'),
]


@pytest.mark.parametrize("arguments,text", WRONG_USE, ids=[one[1] for one in WRONG_USE])
def test_wrong_use(run, arguments, text):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert text in done.stderr


ROUTES = [
    ("SELECT 1", "replica replica1: plain read, least busy of 2"),
    ("INSERT INTO t VALUES (1)", "primary: INSERT"),
    ("SELEC", 'primary: not understood: syntax error at or near "SELEC"'),
    ("SELECT f()", "primary: function f() is not known to be harmless"),
    ("BEGIN READ ONLY", "replica replica1: a READ ONLY transaction, least busy of 2"),
    ("/* weir:primary */ SELECT 1", "primary: a hint asks for it"),
    ("SELECT " + "(" * 100_000, "primary: "),
]


@pytest.mark.parametrize("sql,text", ROUTES, ids=[one[0][:40] for one in ROUTES])
def test_explain_route(run, sql, text):
    done = run("--explain-route", sql)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(text)


SCRIPT = """-- a dump, or a file of an application's queries
\\set ON_ERROR_STOP on
SELECT count(*) FROM t WHERE a = ';';
SELECT mine(1); INSERT INTO t VALUES (1);

/* weir:replica */
SELECT mine(2);
BEGIN;
SELECT 1;
COMMIT;
BEGIN READ ONLY;
SELECT 1;
COMMIT;
COPY t FROM STDIN;
1;DELETE FROM t
\\.
CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END;
SELECT 2 \\gset
"""

EXPLAINED = """2: passed over: a line for psql
3: replica: plain read
4: primary: function mine() is not known to be harmless
4: primary: INSERT
7: replica: a hint asks for it
8: primary: BEGIN
9: primary: within the transaction of line 8
10: primary: within the transaction of line 8
11: replica: a READ ONLY transaction
12: replica: within the transaction of line 11
13: replica: within the transaction of line 11
14: primary: COPY FROM
15: passed over: the data of a COPY
17: primary: CREATE FUNCTION
18: replica: plain read
18: passed over: a line for psql

13 statements: 6 on a replica, 7 on the primary, 1 of them since nobody knows what they do; \
passed over: 2 lines for psql, 1 blocks of data
No catalog was asked: functions of your own count as unknown, views as tables.
"""


def test_explain_route_of_a_file(run, write):
    done = run("--explain-route", write(SCRIPT, "queries.sql"))
    assert (done.stdout, done.stderr, done.returncode) == (EXPLAINED, "", 0)
    done = run("--explain-route", write("SELECT 1;\nSELEC 2;\n", "wrong.sql"))
    assert done.returncode == 2
    assert '2: primary: not understood: syntax error at or near "SELEC"' in done.stdout
    assert run("--explain-route", write("SELECT 1", "queries")).stdout.startswith("1: replica")
    done = run("--explain-route", "nowhere.sql")
    assert done.returncode == 1 and "cannot read nowhere.sql" in done.stderr


# Files

WRONG = """
[databases]
app = host=127.0.0.1 port=abc
other = hst=1
lists = host=a,b,c port=1,2
routed = host=a routing=sometimes
[users]
x = pool_mode=statements
[pgbouncer]
listen_port = 70000
pool_mode = transactions
default_pool_sizes = 3
admin_users
server_idle_timeout = ten
[nonsense]
"""

# Line, what is named, what would be right
ERRORS = [
    (3, '"abc"', "numbers from 1 to 65535"),
    (4, '"hst"', "did you mean host"),
    (5, "2 ports for 3 hosts", "one port, or one for each host"),
    (6, '"sometimes"', "off, read_write, primary, replica"),
    (8, '"statements"', "session, transaction"),
    (10, "listen_port", "0 to 65535"),
    (11, '"transactions"', "session, transaction"),
    (12, '"default_pool_sizes"', "did you mean default_pool_size"),
    (13, "syntax error", "KEY = VALUE"),
    (14, "server_idle_timeout", "expected seconds from 0"),
    (15, '"nonsense"', "pgbouncer, databases, users, peers or nodes"),
]


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_wrong_file_gives_every_error(run, write, options):
    path = write(WRONG)
    done = run(*options, path)
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.split("\n") if path in line]
    assert len(lines) == len(ERRORS), done.stderr
    assert ("FATAL cannot load config file" in done.stderr) == (options == [])
    for number, named, right in ERRORS:
        (line,) = [one for one in lines if f"({path}:{number})" in one]
        assert named in line and right in line


def test_an_included_file_is_named(run, write):
    inner = write("listen_port = x\n", "inner.ini")
    outer = write(f"[databases]\n[pgbouncer]\n%include {inner}\npool_mode = x\n")
    done = run("--check", outer)
    assert done.returncode == 1
    assert f"({inner}:1)" in done.stderr and f"({outer}:4)" in done.stderr


def test_garbage_as_a_file(run, cluster):
    path = os.path.join(cluster.folder, "garbage.ini")
    for data in (b"", b"\0" * 1000, os.urandom(20_000), b"[" * 5_000, b"a=b\n" * 20_000):
        with open(path, "wb") as file:
            file.write(data)
        done = run("--check", path)
        poolers.assert_whole(done.stderr, done.returncode)
        assert done.returncode == 1 and len(done.stderr) < 100_000


def test_check_of_a_good_file(run, pooler):
    done = run("--check", pooler.ini)
    assert (done.returncode, done.stderr) == (0, "")
    port = f"listening on port {pooler.port}"
    assert "configuration is fine: 1 databases" in done.stdout and port in done.stdout


def test_session_mode_with_routing_is_warned_of(start_pooler, cluster):
    entry = entry_of(cluster.nodes, routing="read_write")
    pooler = start_pooler({"pool_mode": "session"}, databases={"app": entry})
    pooler.wait_log(r"with pool_mode = session, routing = read_write counts as primary")


# URLs

WRONG_URLS = [
    ("postgres://app@h/app", "the password is missing"),
    ("postgres://h/app", "user and password are missing"),
    ("postgres://app:s3cret@h:0/app", "the port of host 1 is not a number"),
    ("postgres://app:s3cret@h:1,:2/app", "the host is missing"),
    ("postgres://app:s3cret@x@h/app", "%40"),
    ("postgres://app:s3cret@h/app?nonsense=1", 'unknown parameter "nonsense"'),
    ("postgres://app:s3cret%zz@h/app", "not percent-encoded correctly"),
]


@pytest.mark.parametrize("url,text", WRONG_URLS, ids=[one[1] for one in WRONG_URLS])
def test_a_wrong_url_is_told_without_its_secret(run, url, text):
    for done in (run(url), run("--check", WEIR_URL=url), run("--check", DATABASE_URL=url)):
        assert (done.returncode, done.stdout) == (1, "")
        assert "connection URL: " in done.stderr and text in done.stderr
        assert "s3cret" not in done.stderr


def test_which_url_counts(run, pooler):
    good, bad = "postgres://app:s3cret@h/app", "postgres://app@h/app"
    rows = [
        ([pooler.ini], {"WEIR_URL": bad, "DATABASE_URL": bad}, 0),
        ([good], {"WEIR_URL": bad, "DATABASE_URL": bad}, 0),
        ([], {"WEIR_URL": good, "DATABASE_URL": bad}, 0),
        ([], {"WEIR_URL": bad, "DATABASE_URL": good}, 1),
        ([], {"DATABASE_URL": good}, 0),
    ]
    for arguments, variables, status in rows:
        assert run("--check", *arguments, **variables).returncode == status, variables


@contextlib.contextmanager
def default_port():
    """Holds the right to use the port that a start from a URL listens on, once it is free."""
    path = os.path.join(tempfile.gettempdir(), f"weir-test-{DEFAULT_PORT}.lock")
    with open(path, "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", DEFAULT_PORT)) != 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"127.0.0.1:{DEFAULT_PORT} is in use by somebody else")
        yield


@contextlib.contextmanager
def started_from_url(cluster, binary, in_environment):
    """A Weir that has no file; (process, its log as a function)."""
    hosts = ",".join(f"{node.host}:{node.port}" for node in reversed(cluster.nodes))
    url = f"postgres://app:{SECRET.replace(' ', '%20')}@{hosts}/app"
    log = os.path.join(cluster.folder, "from-url.log")
    arguments = [binary] if in_environment else [binary, url]
    variables = {"DATABASE_URL": url} if in_environment else {}
    with default_port(), open(log, "wb") as output:
        process = cluster.guarded(
            arguments,
            variables={**poolers.SANITIZER_VARIABLES, **variables},
            stdout=output,
            stderr=output,
        )

        def log_text():
            with open(log, encoding="utf-8", errors="replace") as text:
                return text.read()

        try:
            deadline = time.monotonic() + 10 * PATIENCE
            while "process up" not in log_text():
                assert process.poll() is None and time.monotonic() < deadline, log_text()
                time.sleep(0.02)
            yield process, log_text
        finally:
            process.send_signal(signal.SIGQUIT)
            status = process.wait(10 * PATIENCE)
            poolers.assert_whole(log_text(), status)
            assert status == 0, log_text()


def login(user, secret, database="app"):
    client = Client(("127.0.0.1", DEFAULT_PORT))
    client.login(user, secret, database)
    return client


def console(cluster, sql):
    """Over the Unix socket, as the user that the process runs as."""
    command = [clusters.program("psql"), "-X", "-A", "-t", "-h", "/tmp", "-p", str(DEFAULT_PORT)]
    done = subprocess.run(
        clusters.as_unprivileged([*command, "-U", "pgbouncer", "-d", "pgbouncer", "-c", sql]),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        cwd=cluster.folder,
        env=clusters.environment(),
    )
    return [line.split("|") for line in done.stdout.split("\n") if line]


@pytest.mark.parametrize("in_environment", [False, True], ids=["argument", "environment"])
@pytest.mark.timeout(90)
def test_start_from_a_url(cluster, binary, make_table, in_environment):
    make_table("written", "n int")
    with started_from_url(cluster, binary, in_environment) as (process, log_text):
        assert f"listening on 127.0.0.1:{DEFAULT_PORT}" in log_text()
        listening = [f"0.0.0.0:{DEFAULT_PORT}", f"[::]:{DEFAULT_PORT}"]
        assert not any(address in log_text() for address in listening)
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8") as file:
            command = file.read()
        assert "secret" not in command and "secret" not in log_text()

        with login("app", SECRET) as client:
            assert client.query("SELECT current_user").value == "app"
            assert client.query("INSERT INTO written VALUES (1)").tags == ["INSERT 0 1"]
            assert client.query("SELECT n FROM written").value == "1"
            wait_for_roles(cluster)
            before = queries(cluster)
            for _ in range(30):
                assert client.query("SELECT n FROM written").value == "1"
                time.sleep(0.002)
            client.query("INSERT INTO written VALUES (2)")
            ran = {node: count - before[node] for node, count in queries(cluster).items()}
            assert ran["primary"] >= 1 and ran["replica"] >= 10 and sum(ran.values()) == 31

        others = [("app", "wrong"), ("app", ""), ("app2", clusters.PASSWORDS["app2"])]
        others += [("app_trust", ""), ("postgres", "")]
        for user, secret in others:
            with pytest.raises(LoginFailed) as refused:
                login(user, secret)
            assert refused.value.fields["M"] in (
                "SASL authentication failed",
                "empty password returned by client",
            )
        with pytest.raises(LoginFailed, match="not allowed"):
            login("app", SECRET, "pgbouncer")
        with pytest.raises(LoginFailed, match="no such database"):
            login("app", SECRET, "postgres")


def wait_for_roles(cluster):
    """Until two replicas may serve reads."""
    deadline = time.monotonic() + 10 * PATIENCE
    while "least busy of 2" not in console(cluster, "SHOW ROUTE 'SELECT 1'")[0][3]:
        assert time.monotonic() < deadline, console(cluster, "SHOW NODES")
        time.sleep(0.05)


def queries(cluster):
    """How many each role has answered."""
    found = {"primary": 0, "replica": 0}
    for row in console(cluster, "SHOW NODES"):
        found[row[4]] += int(row[12])
    return found


# The process


def test_pidfile(start_pooler, cluster):
    path = os.path.join(cluster.folder, "weir.pid")
    pooler = start_pooler({"pidfile": path})
    pooler.wait_log("process up")  # written after it listens
    with open(path, encoding="utf-8") as file:
        assert file.read() == f"{pooler.process.pid}\n"
    pooler.stop()
    assert not os.path.exists(path)


def test_pidfile_that_cannot_be_written(start_pooler):
    pooler = start_pooler({"pidfile": "/nowhere/weir.pid"}, wait=False)
    pooler.wait_log("could not write pidfile '/nowhere/weir.pid': No such file or directory")
    assert pooler.process.wait(10 * PATIENCE) == 1
    pooler.process.returncode = 0  # what stop() expects


def test_a_second_process_does_no_harm(start_pooler, cluster, run):
    """The same file again: it ends with the reason, and the first goes on."""
    path = os.path.join(cluster.folder, "first.pid")
    pooler = start_pooler({"pidfile": path})
    pooler.wait_log("process up")
    done = run(pooler.ini)
    assert done.returncode == 1
    assert "FATAL unix socket is in use, cannot continue" in done.stderr
    assert os.path.exists(path) and os.path.exists(pooler.unix_path)
    for unix in (False, True):
        with pooler.client(unix=unix) as client:
            assert client.query("SELECT 1").value == "1"


def test_a_socket_left_behind_by_a_killed_process(start_pooler):
    pooler = start_pooler()
    pooler.process.kill()
    pooler.process.wait()
    assert os.path.exists(pooler.unix_path)
    pooler.start()
    pooler.wait_ready()
    with pooler.client(unix=True) as client:
        assert client.query("SELECT 1").value == "1"


LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC \[(\d+)\] (FATAL|ERROR|WARNING|LOG|DEBUG|NOISE) \S"
)


def test_log_lines(start_pooler):
    pooler = start_pooler()
    client = pooler.client()
    port = client.socket.getsockname()[1]
    client.query("SELECT 1")
    client.close()
    pooler.wait_log(r"closing because: client close request")
    with pytest.raises(LoginFailed):
        pooler.client("stranger")
    pooler.stop()
    text = pooler.log_text()
    for line in text.strip().split("\n"):
        assert (found := LINE.match(line)) and found[1] == str(pooler.process.pid), line
    who = rf"C-0x[0-9a-f]+: app/app_trust@127\.0\.0\.1:{port}"
    for pattern in (
        r"kernel file descriptor limit: \d+ \(hard: \d+\); max_client_conn: 500, "
        r"max expected fd use: 532",
        rf"listening on 127\.0\.0\.1:{pooler.port}",
        rf"listening on unix:{pooler.unix_path}",
        r"process up: PgBouncer 1\.25\.2, libuv \S+ \(epoll\), adns: c-ares \S+, tls: OpenSSL .*weir \d",
        rf"{who} login attempt: db=app user=app_trust tls=no replication=no",
        rf"{who} closing because: client close request \(age=0s\)",
        r"S-0x[0-9a-f]+: app/app_trust@127\.0\.0\.1:\d+ new connection to server "
        r"\(from 127\.0\.0\.1:\d+\)",
        r"got SIGQUIT, fast exit",
    ):
        assert re.search(pattern, text), pattern


def test_logfile_is_reopened(start_pooler, cluster):
    path = os.path.join(cluster.folder, "own.log")
    pooler = start_pooler({"logfile": path})

    def wait_for(name, words):
        deadline = time.monotonic() + 5 * PATIENCE
        while True:
            with contextlib.suppress(FileNotFoundError), open(name, encoding="utf-8") as file:
                if words in file.read():
                    return
            assert time.monotonic() < deadline, f"{words!r} is not in {name}"
            time.sleep(0.02)

    wait_for(path, "process up")
    os.rename(path, path + ".1")
    pooler.reload()
    wait_for(path, "got SIGHUP, re-reading config")
    pooler.client().close()
    wait_for(path, "login attempt")
    wait_for(path + ".1", "process up")


# Signals


def ended(pooler, seconds=5 * PATIENCE):
    """Whether the process ends within so long."""
    try:
        pooler.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_sigquit_ends_at_once(pooler):
    client = pooler.client()
    client.query("BEGIN")
    pooler.process.send_signal(signal.SIGQUIT)
    assert ended(pooler)
    with pytest.raises(Closed):
        client.query("SELECT 1")


def test_sigint_waits_for_servers(pooler):
    """Transactions may end; who is idle is not waited for."""
    busy, idle = pooler.client(), pooler.client()
    busy.query("BEGIN")
    idle.query("SELECT 1")
    pooler.process.send_signal(signal.SIGINT)
    pooler.wait_log("got SIGINT, shutting down, waiting for all servers")
    assert not ended(pooler, 0.5)
    assert busy.query("SELECT 2").value == "2"
    with pytest.raises(OSError):
        pooler.connect()
    assert busy.query("COMMIT").status == "I"
    assert ended(pooler)


def test_sigterm_waits_for_clients(pooler):
    client = pooler.client()
    pooler.process.send_signal(signal.SIGTERM)
    pooler.wait_log("got SIGTERM, shutting down, waiting for all clients")
    assert not ended(pooler, 0.5)
    assert client.query("SELECT 1").value == "1"
    with pytest.raises(OSError):
        pooler.connect()
    client.close()
    assert ended(pooler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_does_not_wait(pooler, number):
    client = pooler.client()
    client.query("BEGIN")
    pooler.process.send_signal(number)
    pooler.wait_log("shutting down")
    pooler.process.send_signal(number)
    assert ended(pooler)
    pooler.wait_log("while shutting down, fast exit")


def test_sigusr1_pauses_and_sigusr2_resumes(pooler):
    client = pooler.client()
    client.query("SELECT 1")
    pooler.process.send_signal(signal.SIGUSR1)
    pooler.wait_log("got SIGUSR1, pausing all activity")
    time.sleep(0.1)
    client.send(query("SELECT 2"))
    assert client.is_silent(0.5)
    pooler.process.send_signal(signal.SIGUSR2)
    assert client.answer().value == "2"
    pooler.process.send_signal(signal.SIGUSR2)
    pooler.wait_log("got SIGUSR2, but not paused")


def test_sighup_reads_the_file_again(pooler):
    pooler.write_ini({"default_pool_size": 7})
    pooler.reload()
    pooler.wait_log("got SIGHUP, re-reading config")
    deadline = time.monotonic() + 5 * PATIENCE
    while config_value(pooler, "default_pool_size") != "7":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def config_value(pooler, key):
    return next(row["value"] for row in pooler.admin("SHOW CONFIG") if row["key"] == key)


def test_a_wrong_file_at_reload_changes_nothing(pooler):
    before = pooler.admin("SHOW CONFIG")
    with pooler.client() as client:
        pooler.write_ini({"default_pool_size": "many", "listen_backlog": 7, "verbose": 9})
        pooler.reload()
        pooler.wait_log(r"config file loading failed")
        pooler.wait_log(rf'"many".*default_pool_size.*\({re.escape(pooler.ini)}:\d+\)')
        assert pooler.admin("SHOW CONFIG") == before
        assert client.query("SELECT 1").value == "1"
        with pytest.raises(psycopg.OperationalError, match="RELOAD failed"):
            pooler.admin("RELOAD")


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_under_load_loses_nothing(start_pooler, cluster, workers):
    """Settings and databases change a hundred times while everybody works."""
    routed = {"app": entry_of(cluster.nodes, routing="read_write")}
    start = {**PROBING, "workers": workers}
    pooler = start_pooler(start, databases=routed)
    over = threading.Event()
    counts = [0] * 6
    failures = []

    def work(number):
        try:
            with pooler.client() as client:
                while not over.is_set():
                    value = f"{number}.{counts[number]}"
                    sql = f"SELECT '{value}', pg_sleep(0.001)"
                    if number % 2:
                        client.query("BEGIN")
                        assert client.query(sql).rows[0][0] == value
                        client.query("COMMIT")
                    else:
                        assert client.query(sql).rows[0][0] == value
                    counts[number] += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=[i], daemon=True) for i in range(len(counts))]
    for thread in threads:
        thread.start()
    for turn in range(100):
        more = {"extra": entry_of([cluster.primary])} if turn % 3 == 0 else {}
        sizes = {"default_pool_size": 3 + turn % 5, "server_lifetime": 100 + turn % 2}
        pooler.write_ini({**start, **sizes}, databases={**routed, **more})
        pooler.reload()
        time.sleep(0.02)
    over.set()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert not failures and min(counts) > 20 / PATIENCE, (failures, counts)
    assert len(re.findall("got SIGHUP", pooler.log_text())) > 20
