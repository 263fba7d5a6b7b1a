"""What applications do with their sessions, with session_state = track.

Each program in tests/habits/ works as its library makes applications work, and prints what it saw:
that has to be the same through Weir as on direct connections. Two servers are given out in turn, so that
every transaction meets another one, and rivals leave their own settings on both all the time.
"""

import contextlib
import os
import subprocess
import threading
import time
import urllib.parse

import pytest

import cluster as clusters
import pooler as poolers
from routed import Watch, start_routed

pytestmark = pytest.mark.weir_only

FOLDER = os.path.join(poolers.TOP, "tests", "habits")
MODULES = os.path.join(poolers.TOP, "build", "npm", "node_modules")
USER = "app"
SECONDS = 40
ENVIRONMENT = {"LANG": "C.UTF-8", "TZ": "UTC", "NODE_PATH": MODULES, "NODE_NO_WARNINGS": "1"}
QUICK = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"]
PROGRAMS = {
    "django": ["/usr/bin/python3", "with_django.py"],
    "rails": ["ruby", "with_rails.rb"],
    "hibernate": ["java", *QUICK, "-cp", "/usr/share/java/postgresql.jar", "WithHibernate.java"],
    "drizzle": ["node", "with_drizzle.js"],
    "prisma": ["node", "with_prisma.js"],
}


def url(place):
    secret = urllib.parse.quote(clusters.PASSWORDS[USER])
    return f"postgresql://{USER}:{secret}@{place.host}:{place.port}/{clusters.DATABASE}"


def transcript(program, place):
    done = subprocess.run(
        [*PROGRAMS[program], url(place)],
        capture_output=True,
        text=True,
        timeout=SECONDS * poolers.PATIENCE,
        check=False,
        cwd=FOLDER,
        env={**ENVIRONMENT, "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0 and done.stderr == "", done.stdout[-3000:] + done.stderr[:700] + done.stderr[-2300:]
    return done.stdout.split("\n")


RIVALRY = [
    "SET search_path = rival", "SET TIME ZONE 'Pacific/Fiji'", "SET app.tenant = 'rival'",
    "SET statement_timeout = '99s'; SET lock_timeout = '98s'", "SET DateStyle = 'German'", "DISCARD ALL",
    "SET client_min_messages = 'error'; SET standard_conforming_strings = off", "SET ROLE rival",
    "SELECT set_config('request.jwt.claims', 'rival', false)", "SET default_transaction_read_only = on",
    "RESET ALL; RESET ROLE",
]  # fmt: skip


@contextlib.contextmanager
def rivals(pooler):
    """Two clients of the same user that set what the programs set, one step every few milliseconds;
    none of them holds a server."""
    clients = [pooler.client(USER, clusters.PASSWORDS[USER]) for _ in range(2)]
    for one in clients:
        one.query("BEGIN")  # so there are two servers
    for one in clients:
        one.query("COMMIT")
    end, wrong = threading.Event(), []

    def run():
        step = 0
        while not end.wait(0.003):
            answer = clients[step % 2].query(RIVALRY[step // 2 % len(RIVALRY)])
            wrong.extend(answer.errors)
            step += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        for one in clients:
            one.close()
    assert not wrong


@pytest.fixture(scope="module", autouse=True)
def roles(cluster):
    cluster.primary.sql(f"CREATE ROLE rival; GRANT rival TO {USER}; GRANT CREATE ON DATABASE app TO {USER}")
    yield
    cluster.primary.sql(f"DROP ROLE rival; REVOKE CREATE ON DATABASE app FROM {USER}")


@pytest.fixture(autouse=True)
def schema(cluster):
    """The schema in which programs work, anew for each test."""
    cluster.primary.sql(f"CREATE SCHEMA habits AUTHORIZATION {USER}")
    cluster.wait_replayed()
    yield
    cluster.primary.sql("DROP SCHEMA habits CASCADE")


@pytest.fixture(scope="module")
def direct(cluster):
    """What a program prints without a pooler, made once."""
    made = {}

    def get(program):
        if program not in made:
            made[program] = transcript(program, cluster.primary)
        return made[program]

    return get


SETTINGS = {
    "auth_type": "scram-sha-256", "session_state": "track", "default_pool_size": 6,
    "server_round_robin": 1, "pin_limit": 5, "ignore_startup_parameters": None,
}  # fmt: skip


@pytest.mark.parametrize("is_routed", [False, True])
@pytest.mark.parametrize("program", PROGRAMS)
def test_programs(start_pooler, cluster, direct, program, is_routed):
    expected = direct(program)
    if is_routed:
        pooler = start_routed(start_pooler, cluster, SETTINGS)
        Watch(pooler).settle()
    else:
        pooler = start_pooler(SETTINGS)
    with rivals(pooler):
        assert transcript(program, pooler) == expected


# PostgreSQL's own programs


def run_tool(name, place, *arguments, sql=None):
    """Runs one of PostgreSQL's programs as the user; what it prints, complaints last."""
    command = [clusters.program(name), "-h", place.host, "-p", str(place.port), "-U", USER]
    done = subprocess.run(
        [*command, *arguments],
        input=sql,
        capture_output=True,
        text=True,
        timeout=SECONDS * poolers.PATIENCE,
        check=False,
        env=clusters.environment(PGPASSWORD=clusters.PASSWORDS[USER], PGDATABASE="app", TZ="UTC"),
    )
    return done.stdout + done.stderr


PSQL = r"""
SET search_path = habits;
CREATE TABLE trees (id serial PRIMARY KEY, name text UNIQUE, height numeric CHECK (height > 0));
\d trees
\copy trees (name, height) FROM pstdin
oak	20.5
fir	40
\.
COPY trees (name) FROM STDIN;
ash
\.
\copy (SELECT * FROM trees ORDER BY id) TO pstdout
SELECT id, name, height * 2 AS twice FROM trees \gdesc
SELECT count(*) AS trees, max(name) AS last FROM trees \gset
\echo :trees :last
SELECT format('SELECT %L AS name', name) FROM trees ORDER BY id \gexec
\encoding LATIN1
\encoding
\encoding UTF8
\set AUTOCOMMIT off
INSERT INTO trees (name) VALUES ('elm');
\set ON_ERROR_ROLLBACK on
INSERT INTO trees (name) VALUES ('oak');
\errverbose
SELECT count(*) FROM trees;
ROLLBACK;
SELECT count(*) FROM trees;
COMMIT;
\set AUTOCOMMIT on
\set FETCH_COUNT 2
SELECT name FROM trees ORDER BY id;
\unset FETCH_COUNT
SET app.tenant = 'psql';
SHOW app.tenant;
SHOW search_path;
CREATE TEMP TABLE passing AS SELECT * FROM trees;
SELECT count(*) FROM passing;
DROP TABLE passing;
PREPARE by_name (text) AS SELECT height FROM trees WHERE name = $1;
EXECUTE by_name('oak');
DEALLOCATE by_name;
BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT name FROM trees ORDER BY id; COMMIT;
FETCH 2 FROM c;
CLOSE c;
DO $$ BEGIN RAISE NOTICE 'told'; END $$;
SELECT 1 / 0; SELECT 2;
\c
SHOW search_path;
SELECT coalesce(nullif(current_setting('app.tenant', true), ''), 'none');
\c - - - -
\dt habits.*
\dn habits
\l app
\conninfo
SET search_path = habits;
SELECT name FROM trees WHERE id = 1 \g
\timing off
ALTER TABLE trees RENAME TO woods;
SELECT count(*) FROM woods \; SELECT 'two';
"""


def without_port(text, place):
    return text.replace(str(place.port), "PORT")


@pytest.mark.parametrize("is_routed", [False, True])
def test_psql(start_pooler, cluster, is_routed):
    pooler = start_routed(start_pooler, cluster, SETTINGS) if is_routed else start_pooler(SETTINGS)
    options = ["-X", "-a", "-P", "null=NULL"]
    expected = run_tool("psql", cluster.primary, *options, sql=PSQL)
    assert expected.count("ERROR: ") == 3, expected
    cluster.primary.sql("DROP TABLE habits.woods")
    with rivals(pooler):
        found = run_tool("psql", pooler, *options, sql=PSQL)
    assert without_port(found, pooler) == without_port(expected, cluster.primary)


def test_dump_and_restore(start_pooler, cluster, tmp_path):
    """pg_dump in one stream and by several connections that share a snapshot, and back."""
    cluster.primary.sql(
        "SET ROLE app; SET search_path = habits;"
        "CREATE TYPE mood AS ENUM ('good', 'bad');"
        "CREATE TABLE days (id serial PRIMARY KEY, at timestamptz, mood mood, size float8);"
        "INSERT INTO days (at, mood, size) SELECT timestamptz '2024-02-29' + i * interval '1 hour',"
        " 'good', 0.1 * i FROM generate_series(1, 500) i;"
        "CREATE TABLE notes (day int REFERENCES days, note text);"
        "INSERT INTO notes SELECT id, 'Grüße ' || id FROM days;"
        "CREATE VIEW good AS SELECT * FROM days WHERE mood = 'good';"
        "CREATE FUNCTION twice(a int) RETURNS int LANGUAGE sql AS 'SELECT 2 * a'"
    )
    pooler = start_pooler({**SETTINGS, "default_pool_size": 5})

    def dump(place):
        lines = run_tool("pg_dump", place, "-n", "habits").split("\n")
        return [one for one in lines if "restrict " not in one]  # which is another each time

    expected = dump(cluster.primary)
    assert any(one.startswith("COPY habits.notes") for one in expected)
    with rivals(pooler):
        assert dump(pooler) == expected
        folder = str(tmp_path / "dump")
        assert run_tool("pg_dump", pooler, "-n", "habits", "-Fd", "-j", "2", "-f", folder) == ""
        cluster.primary.sql("DROP SCHEMA habits CASCADE")
        assert run_tool("pg_restore", pooler, "-d", "app", "-j", "2", folder) == ""
        assert dump(pooler) == expected
        cluster.primary.sql("DROP SCHEMA habits CASCADE")
        run_tool("psql", pooler, "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", sql="\n".join(expected))
        assert dump(pooler) == expected


# Migrations and queues


LOCKS = {
    "Flyway, of the session": ("SELECT pg_try_advisory_lock(7700)", "SELECT pg_advisory_unlock(7700)"),
    "golang-migrate": ("SELECT pg_advisory_lock(7701)", "SELECT pg_advisory_unlock(7701)"),
    "Flyway, of the transaction": ("BEGIN; SELECT pg_try_advisory_xact_lock(7702)", "COMMIT"),
    "Liquibase": (
        "UPDATE habits.lock SET owner = pg_backend_pid() WHERE owner IS NULL RETURNING true",
        "UPDATE habits.lock SET owner = NULL",
    ),
}  # fmt: skip


def migrate(client, lock, unlock, applied):
    """One of several that migrate at the same time: takes the lock, does what is to be done."""
    while True:
        rows = client.query(lock).rows
        if rows and rows[-1][0] in ("t", ""):
            break
        client.query("ROLLBACK")
    version = int(client.query("SELECT count(*) FROM habits.versions").value)
    if version < 5:
        client.query(f"SET search_path = habits; SET lock_timeout = '{version + 1}s'")
        client.query(f"CREATE TABLE v{version} (a int)")
        client.query(f"INSERT INTO versions VALUES ({version})")
        assert client.query("SHOW lock_timeout").value == f"{version + 1}s"
        applied.append(version)
        client.query("RESET search_path; RESET lock_timeout")
    answer = client.query(unlock)
    assert not answer.errors and not answer.notices, answer
    return version >= 5


@pytest.mark.parametrize("kind", LOCKS)
def test_one_migrates_at_a_time(start_pooler, cluster, kind):
    cluster.primary.sql(
        f"SET ROLE {USER}; CREATE TABLE habits.versions (v int PRIMARY KEY);"
        "CREATE TABLE habits.lock (owner int); INSERT INTO habits.lock VALUES (NULL)"
    )
    pooler = start_pooler({**SETTINGS, "default_pool_size": 4, "pin_limit": 3})
    applied, failures = [], []

    def run():
        with pooler.client(USER, clusters.PASSWORDS[USER]) as client:
            try:
                while not migrate(client, *LOCKS[kind], applied):
                    pass
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures and applied == [0, 1, 2, 3, 4]
    with pooler.client(USER, clusters.PASSWORDS[USER]) as client:
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid BETWEEN 7700 AND 7702"
        assert client.query(locks).value == "0"
    deadline = time.monotonic() + 10 * poolers.PATIENCE
    while pooler.admin("SHOW PINS"):  # of clients that are just leaving
        assert time.monotonic() < deadline


TAKE = (
    "UPDATE habits.jobs SET worker = '{worker}' WHERE id = (SELECT id FROM habits.jobs"
    " WHERE worker IS NULL ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1) RETURNING id"
)


def test_workers_of_a_queue(start_pooler, cluster):
    """LISTEN and SKIP LOCKED: each job is done once, and each worker hears of each."""
    cluster.primary.sql(f"SET ROLE {USER}; CREATE TABLE habits.jobs (id serial PRIMARY KEY, worker text)")
    pooler = start_pooler({**SETTINGS, "default_pool_size": 6, "pin_limit": 5})
    login = (USER, clusters.PASSWORDS[USER])
    workers = [pooler.client(*login) for _ in range(3)]
    with pooler.client(*login) as producer, rivals(pooler):
        for one in workers:
            assert not one.query("LISTEN jobs").errors
        for turn in range(4):
            producer.query("BEGIN")
            for _ in range(5):
                producer.query(f"INSERT INTO habits.jobs DEFAULT VALUES; NOTIFY jobs, '{turn}'")
            assert not producer.query("COMMIT").errors
            for one in workers:  # equal notifications of one transaction are one
                assert f"jobs\0{turn}\0".encode() in one.read_until("A").messages[-1].body
            done, idle = 0, 0
            while idle < len(workers):
                for number, one in enumerate(workers):
                    one.query("BEGIN")
                    rows = one.query(TAKE.format(worker=number)).rows
                    done, idle = done + len(rows), 0 if rows else idle + 1
                    assert not one.query("COMMIT").errors
            assert done == 5
        assert not workers[0].query("UNLISTEN *").errors
        producer.query("NOTIFY jobs, 'last'")
        assert b"last" in workers[1].read_until("A").messages[-1].body
        assert workers[0].query("SELECT 1").kinds == "TDCZ"
    counts = cluster.primary.sql("SELECT count(*), count(worker) FROM habits.jobs")
    assert counts == "20|20"
    for one in workers:
        one.close()
