"""Drivers through Weir in transaction mode, as they are when nobody configures them.

Each program in tests/drivers/ does the same work by another driver: logs in by SCRAM with a URL,
sends parameters of many types, repeats statements until they are prepared, goes through
transactions, errors, COPY, a cancelled query and pipelines, and has two connections that take
turns. It prints what it saw; through Weir that has to be what PostgreSQL itself gives.
"""

import asyncio
import fcntl
import os
import subprocess
import time
import urllib.parse

import asyncpg
import psycopg
import psycopg2
import pytest

import cluster as clusters
import pooler as poolers
from certificates import Certificates
from routed import Watch, start_routed

FOLDER = os.path.join(poolers.TOP, "tests", "drivers")
CACHE = os.path.join(poolers.TOP, "build", "drivers-test")
MODULES = os.path.join(poolers.TOP, "build", "npm", "node_modules")
JDBC = "/usr/share/java/postgresql.jar"
USER = "app"
SECONDS = 30
# Node's warnings are about the next release of pg.
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC", "NODE_PATH": MODULES, "NODE_NO_WARNINGS": "1"}

# What each transcript has, whatever the driver.
COMMON = {"connect", "simple", "types", "repeated", "commit", "rollback", "savepoint", "error"}
COMMON |= {"cursor", "rows", "copy", "cancel", "turns", "unicode", "closed"}
WITHOUT_TLS = {"pg", "postgres"}
LACKS = {"pg": {"cursor", "copy"}}


def source(name):
    return os.path.join(FOLDER, name)


def python(name):
    return lambda: ["/usr/bin/python3", source(name)]


def is_older(made, origin):
    return not os.path.exists(made) or os.path.getmtime(made) < os.path.getmtime(origin)


def compiled(name, made, command):
    """The path of `made`, which `command` makes of the program `name` where it is too old. Another
    run of the tests at the same time waits for it."""
    made = os.path.join(CACHE, made)
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_older(made, source(name)):
            subprocess.run([*command, source(name)], check=True, timeout=120, cwd=CACHE)
    return made


def jdbc():
    compiled("WithJdbc.java", "WithJdbc.class", ["javac", "-d", ".", "-cp", JDBC])
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Dfile.encoding=UTF-8"]
    return ["java", *quick, "-Dstdout.encoding=UTF-8", "-cp", f"{CACHE}:{JDBC}", "WithJdbc"]


def libpqxx():
    # The source comes behind the libraries, so the linker is told to keep them all.
    flags = ["-std=c++17", "-Wl,--no-as-needed", "-o", "with_libpqxx"]
    return [compiled("with_libpqxx.cpp", "with_libpqxx", ["g++", *flags, "-lpqxx", "-lpq"])]


DRIVERS = {
    "psycopg": python("with_psycopg.py"),
    "psycopg2": python("with_psycopg2.py"),
    "asyncpg": python("with_asyncpg.py"),
    "pg": lambda: ["node", source("with_pg.js")],
    "postgres": lambda: ["node", source("with_postgres.js")],
    "jdbc": jdbc,
    "libpqxx": libpqxx,
    "pdo": lambda: ["php", source("with_pdo.php")],
    "ruby-pg": lambda: ["ruby", source("with_ruby_pg.rb")],
}


def url(driver, host, port):
    """Where the driver connects to; PgJDBC spells it in a way of its own."""
    secret = urllib.parse.quote(clusters.PASSWORDS[USER])
    if driver == "jdbc":
        return f"jdbc:postgresql://{host}:{port}/{clusters.DATABASE}?user={USER}&password={secret}"
    return f"postgresql://{USER}:{secret}@{host}:{port}/{clusters.DATABASE}"


def transcript(driver, place):
    """What the program of this driver prints; it must end well, without a word of complaint."""
    done = subprocess.run(
        [*DRIVERS[driver](), url(driver, place.host, place.port)],
        capture_output=True,
        text=True,
        timeout=SECONDS * poolers.PATIENCE,
        check=False,
        env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    return done.stdout.split("\n")


@pytest.fixture(scope="module", autouse=True)
def things(cluster):
    """The table that the programs use."""
    cluster.primary.sql("CREATE TABLE things (id int, name text); GRANT ALL ON things TO PUBLIC")
    cluster.wait_replayed()
    yield
    cluster.primary.sql("DROP TABLE things")


@pytest.fixture(scope="module")
def direct(cluster):
    """The transcript of a driver without a pooler, made once."""
    made = {}

    def get(driver):
        if driver not in made:
            made[driver] = transcript(driver, cluster.primary)
        return made[driver]

    return get


@pytest.fixture(scope="module")
def certificates(cluster):
    made = Certificates(os.path.join(cluster.folder, "tls-drivers"))
    made.issue("server", names=["IP:127.0.0.1"])
    return made


@pytest.mark.parametrize("driver", DRIVERS)
def test_transcripts_are_whole(direct, driver):
    steps = {line.partition(":")[0] for line in direct(driver)}
    assert COMMON - LACKS.get(driver, set()) <= steps


@pytest.mark.parametrize("driver", DRIVERS)
def test_one_server(start_pooler, direct, driver):
    settings = {"auth_type": "scram-sha-256", "default_pool_size": 1}
    assert transcript(driver, start_pooler(settings)) == direct(driver)


@pytest.mark.parametrize("driver", DRIVERS)
def test_two_servers_and_tls(start_pooler, direct, certificates, driver):
    """Most drivers take TLS where it is offered, and bind SCRAM to it where they can."""
    settings = {
        "auth_type": "scram-sha-256",
        "default_pool_size": 2,
        "client_tls_sslmode": "prefer",
        "client_tls_cert_file": certificates.file("server.pem"),
        "client_tls_key_file": certificates.file("server.key"),
    }
    pooler = start_pooler(settings)
    assert transcript(driver, pooler) == direct(driver)
    assert ("tls=TLSv1.3" in pooler.log_text()) == (driver not in WITHOUT_TLS)


@pytest.mark.weir_only
@pytest.mark.parametrize("driver", DRIVERS)
def test_tracked(start_pooler, direct, driver):
    """Sessions that are tracked are as good as a driver's own."""
    settings = {
        "auth_type": "scram-sha-256",
        "default_pool_size": 2,
        "session_state": "track",
        "ignore_startup_parameters": None,
    }
    assert transcript(driver, start_pooler(settings)) == direct(driver)


@pytest.mark.weir_only
@pytest.mark.parametrize("driver", DRIVERS)
def test_routed(start_pooler, cluster, direct, driver):
    routed = start_routed(start_pooler, cluster, {"auth_type": "scram-sha-256"})
    watch = Watch(routed)
    watch.settle()
    roles = set()
    deadline = time.monotonic() + SECONDS * poolers.PATIENCE
    # A session reads from the primary until the replicas show what it has written, on a slow
    # machine until its end.
    while roles != {"primary", "replica"}:
        assert time.monotonic() < deadline, f"all of it went to the {roles}"
        assert transcript(driver, routed) == direct(driver)
        roles |= set(watch.by_role())


# Transactions that a driver declares READ ONLY, by whatever it sends for that


async def asyncpg_reads(url, is_read_only):
    connection = await asyncpg.connect(url)
    async with connection.transaction(readonly=is_read_only):
        found = await connection.fetchval("SELECT $1::int + 1", 1)
    async with connection.transaction(readonly=is_read_only, isolation="repeatable_read"):
        found += await connection.fetchval("SELECT 3")
    await connection.close()
    return found


def psycopg2_reads(url, is_read_only):
    connection = psycopg2.connect(url)
    connection.set_session(readonly=is_read_only, isolation_level="READ COMMITTED")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT %s + 1", [1])
        found = cursor.fetchone()[0]
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 3")
        found += cursor.fetchone()[0]
    connection.close()
    return found


def psycopg_reads(url, is_read_only):
    with psycopg.connect(url) as connection:
        connection.read_only = is_read_only
        found = connection.execute("SELECT %s::int + 1", [1]).fetchone()[0]
        connection.commit()
        return found + connection.execute("SELECT 3").fetchone()[0]


def jdbc_reads(options):
    def reads(url_of_jdbc, is_read_only):
        compiled("ReadOnlyJdbc.java", "ReadOnlyJdbc.class", ["javac", "-d", ".", "-cp", JDBC])
        command = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{CACHE}:{JDBC}", "ReadOnlyJdbc"]
        command += [url_of_jdbc + options, str(is_read_only).lower()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout)

    return reads


READERS = {
    "asyncpg": lambda url, is_read_only: asyncio.run(asyncpg_reads(url, is_read_only)),
    "psycopg": psycopg_reads,
    "psycopg2": psycopg2_reads,
    "jdbc": jdbc_reads("&readOnlyMode=transaction"),
    "jdbc, always": jdbc_reads("&readOnlyMode=always"),
}


@pytest.mark.weir_only
@pytest.mark.parametrize("name", READERS)
def test_read_only_transactions(start_pooler, cluster, name):
    """Each is two transactions of one read, and leaves nobody with a server."""
    routed = start_routed(start_pooler, cluster, {"auth_type": "scram-sha-256"})
    watch = Watch(routed)
    place = url(name.partition(",")[0], routed.host, routed.port)
    for is_read_only, role in ((True, "replica"), (False, "primary")):
        watch.settle()
        assert READERS[name](place, is_read_only) == 5
        ran = set(watch.by_role())
        # PgJDBC sets parameters of its own at each login, and the others' default with "always".
        assert ran == {role} or (name.startswith("jdbc") and ran == {role, "primary"}), ran
    assert sum(row["sv_active"] for row in watch.show("POOLS")) == 0


# pgbench, which has its own way with each protocol


def pgbench(pooler, *options):
    """What pgbench prints about a run that had no error."""
    command = [clusters.program("pgbench"), *options, "-h", pooler.host, "-p", str(pooler.port)]
    done = subprocess.run(
        [*command, "-U", USER, clusters.DATABASE],
        capture_output=True,
        text=True,
        timeout=SECONDS * poolers.PATIENCE,
        check=False,
        env=clusters.environment(PGPASSWORD=clusters.PASSWORDS[USER]),
    )
    assert done.returncode == 0 and "error" not in done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def transfers(cluster, start_pooler):
    """Makes pgbench's tables through a pooler, then gives what checks how many transfers there are
    and that no money was lost."""
    pgbench(start_pooler({"auth_type": "scram-sha-256"}), "--initialize", "--quiet")
    cluster.wait_replayed()

    def check(count):
        sums = ["abalance) FROM pgbench_accounts", "bbalance) FROM pgbench_branches"]
        sums += ["tbalance) FROM pgbench_tellers", "delta) FROM pgbench_history"]
        union = " UNION ".join(f"SELECT sum({one}" for one in sums)
        found = cluster.primary.sql(
            f"SELECT count(*), (SELECT count(*) FROM ({union}) u) FROM pgbench_history"
        )
        assert found == f"{count}|1"

    yield check
    cluster.primary.sql(
        "DROP TABLE pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history"
    )


def run_protocols(pooler, check):
    """8 clients do 6 of pgbench's transfers and 12 reads each, in each protocol. Each has a thread
    of its own: PQprepare blocks all clients of a thread, one that has the only server too."""
    for i, protocol in enumerate(("simple", "extended", "prepared")):
        for script, each in (("tpcb-like", 6), ("select-only", 12)):
            options = ["-n", "-M", protocol, "-c", "8", "-j", "8", "-b", script, "-t", str(each)]
            printed = pgbench(pooler, *options)
            assert f"transactions actually processed: {8 * each}/{8 * each}" in printed
            assert "number of failed transactions: 0 " in printed
        check((i + 1) * 8 * 6)


@pytest.mark.parametrize("size", [1, 3])
def test_pgbench(start_pooler, transfers, size):
    settings = {"auth_type": "scram-sha-256", "default_pool_size": size}
    run_protocols(start_pooler(settings), transfers)


@pytest.mark.weir_only
def test_pgbench_routed(start_pooler, cluster, transfers):
    routed = start_routed(start_pooler, cluster, {"auth_type": "scram-sha-256"})
    watch = Watch(routed)
    watch.settle()
    run_protocols(routed, transfers)
    assert set(watch.by_role()) == {"primary", "replica"}
