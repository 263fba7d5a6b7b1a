"""Replication connections: each has a server of its own, from its login to its end.

The logical kind is a database session that also knows the walsender's commands; the physical kind
knows nothing else. PostgreSQL's own tools run through the pooler unchanged.
"""

import contextlib
import os
import socket
import struct
import subprocess
import time

import pytest

import cluster as clusters
from pooler import PATIENCE
from wire import COPY_DONE, LoginFailed, copy_data, query, startup

pytestmark = pytest.mark.weir_only

LOGICAL = {"replication": "database"}
PHYSICAL = {"replication": "true"}


@pytest.fixture
def replicating(start_pooler):
    """A pooler with a database for libpq's physical tools, which ask for `replication`."""

    def start(settings=None, **more):
        entry = f"host=127.0.0.1 port={start_pooler.cluster.primary.port}"
        entries = {"app": f"{entry} dbname=app", "replication": entry}
        return start_pooler(settings, databases=entries, **more)

    return start


@pytest.fixture(autouse=True)
def remember_cluster(start_pooler, cluster):
    start_pooler.cluster = cluster


def run(pooler, tool, *options, seconds=60 * PATIENCE, check=True):
    """Runs one of PostgreSQL's tools against the pooler; the finished process."""
    address = ["-h", pooler.host, "-p", str(pooler.port), "-U", "postgres"]
    done = subprocess.run(
        [clusters.program(tool), *address, *options],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=clusters.environment(PGSSLMODE="disable"),
    )
    assert not check or done.returncode == 0, done.stderr
    return done


@pytest.fixture
def nobody_left(cluster):
    yield
    cluster.primary.wait_for(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
        " AND usename = 'postgres' AND application_name LIKE 'test%'",
        "0",
    )


# What a connection is


@pytest.mark.parametrize("value", ["true", "on", "yes", "1"])
def test_physical(replicating, nobody_left, value):
    pooler = replicating()
    with pooler.client("postgres", replication=value, application_name="test") as client:
        answer = client.query("IDENTIFY_SYSTEM")
        assert answer.kinds == "TDCZ" and answer.rows[0][3] is None
        assert client.query("SELECT 1").code != ""
        assert "replication=yes" in pooler.log_text()
        (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "postgres"]
        assert (row["replication"], row["state"]) == ("physical", "active")
        (row,) = pooler.admin("SHOW SERVERS")
        assert (row["replication"], row["state"]) == ("physical", "active")


def test_logical(replicating, nobody_left):
    pooler = replicating()
    with pooler.client("postgres", application_name="test", **LOGICAL) as client:
        assert client.query("IDENTIFY_SYSTEM").rows[0][3] == "app"
        assert client.query("SELECT current_database()").value == "app"
        assert "replication=database" in pooler.log_text()
        (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "postgres"]
        assert row["replication"] == "logical"
        # The server stays, as in session mode, and no SET was ever sent.
        client.query("SET work_mem = '123kB'")
        assert client.query("SHOW work_mem").value == "123kB"


def test_they_keep_their_server_in_every_mode(replicating, nobody_left):
    """Transaction blocks too, where other clients may have none."""
    pooler = replicating({"pool_mode": "statement"})
    with pooler.client("postgres", application_name="test", **LOGICAL) as client:
        for _ in range(2):
            assert client.query("BEGIN").status == "T"
            assert client.query("COMMIT").status == "I"


@pytest.mark.parametrize("value", ["false", "off", "no", "0"])
def test_no_replication(replicating, value):
    pooler = replicating()
    with pooler.client("postgres", replication=value) as client:
        assert client.query("IDENTIFY_SYSTEM").code == "42601"
        (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "postgres"]
        assert row["replication"] == "none"


def test_a_wrong_value(replicating):
    with pytest.raises(LoginFailed) as refused:
        replicating().client("postgres", replication="maybe")
    assert refused.value.fields["C"] == "08P01"
    assert refused.value.fields["H"] != ""


def test_parameters_go_with_the_startup(replicating, cluster, nobody_left):
    """Any options, and all tracked parameters; the client is told the server's own values."""
    pooler = replicating()
    asked = {"options": "-c work_mem=1MB -c DateStyle=German", "TimeZone": "Asia/Tokyo"}
    with pooler.client("postgres", application_name="test me", **asked, **LOGICAL) as client:
        assert client.parameters["DateStyle"] == "German, DMY"
        assert client.parameters["TimeZone"] == "Asia/Tokyo"
        assert client.query("SHOW work_mem").value == "1MB"
        assert client.query("SHOW DateStyle").value == "German, DMY"
        assert client.query("SHOW TimeZone").value == "Asia/Tokyo"
        told = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test me'"
        assert cluster.primary.sql(told) == "1"
    with pytest.raises(LoginFailed, match="unsupported startup parameter: work_mem"):
        pooler.client("postgres", work_mem="1MB", **LOGICAL)


def test_hba_rules_know_them(replicating, nobody_left):
    """`replication` means the physical kind alone, and the physical kind only `replication`."""
    pooler = replicating(wait=False)
    rules = os.path.join(pooler.folder, "hba")
    with open(rules, "w", encoding="utf-8") as file:
        file.write("host replication postgres 127.0.0.1/32 trust\nhost all app_trust all trust\n")
    pooler.write_ini(
        {"auth_type": "hba", "auth_hba_file": rules},
        databases={"app": pooler.node_string(), "replication": pooler.node_string()},
    )
    pooler.wait_ready()
    pooler.reload()
    pooler.wait_log("RELOAD|re-reading config")
    with pooler.client("postgres", application_name="test", **PHYSICAL) as client:
        assert client.query("IDENTIFY_SYSTEM").kinds == "TDCZ"
    for refused in ({"user": "postgres", **LOGICAL}, {"user": "app_trust", **PHYSICAL}):
        with pytest.raises(LoginFailed, match="no authentication method is found"):
            pooler.client(**refused)


# Its server


def test_each_has_a_server_of_its_own(replicating, nobody_left):
    pooler = replicating({"default_pool_size": 4, "server_round_robin": 1})
    more = {"application_name": "test", **LOGICAL}
    with pooler.client("postgres") as plain:
        plain_pid = plain.query("SELECT pg_backend_pid()").value
        with pooler.client("postgres", **more) as one, pooler.client("postgres", **more) as two:
            pids = [each.query("SELECT pg_backend_pid()").value for each in (one, two, one, two)]
            assert len({plain_pid, *pids}) == 3 and pids[:2] == pids[2:]
        deadline = time.monotonic() + 5 * PATIENCE
        while len(pooler.admin("SHOW SERVERS")) > 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [row["replication"] for row in pooler.admin("SHOW SERVERS")] == ["none"]
        assert plain.query("SELECT pg_backend_pid()").value == plain_pid
    pooler.wait_log("closing because: replication client was closed")


def test_they_count_evict_and_wait(replicating, nobody_left):
    """One of a pool of one closes an idle server, and the next waits until there is room."""
    pooler = replicating({"default_pool_size": 1})
    more = {"application_name": "test", **LOGICAL}
    with pooler.client("postgres") as plain:
        assert plain.query("SELECT 1").value == "1"
        with pooler.client("postgres", **more) as first:
            pooler.wait_log("closing because: (evicted|given to a client of another worker)")
            assert first.query("SELECT 1").value == "1"
            second = pooler.connect()
            second.send(startup({"user": "postgres", "database": "app", **more}))
            assert second.is_silent(0.3)
            plain.send(query("SELECT 'plain'"))
            assert plain.is_silent(0.2)
        second.authenticate("postgres", None)
        assert second.query("SELECT 2").value == "2"
        second.close()
        assert plain.answer().value == "plain"


def test_one_that_waits_may_leave(replicating, nobody_left):
    pooler = replicating({"default_pool_size": 1})
    more = {"application_name": "test", **LOGICAL}
    with pooler.client("postgres", **more):
        second = pooler.connect()
        second.send(startup({"user": "postgres", "database": "app", **more}))
        assert second.is_silent(0.2)
        second.drop()
    with pooler.client("postgres", **more) as third:
        assert third.query("SELECT 3").value == "3"


def test_one_whose_server_is_being_made_may_leave(start_pooler):
    """The unfinished connection ends with it, and its place is free again."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        entry = f"host=127.0.0.1 port={mute.getsockname()[1]} dbname=app"
        pooler = start_pooler({"default_pool_size": 1}, databases={"app": entry})
        for _ in range(2):
            client = pooler.connect()
            client.send(startup({"user": "postgres", "database": "app", **LOGICAL}))
            server, _ = mute.accept()
            server.settimeout(10)
            assert server.recv(1000) != b""
            client.drop()
            while server.recv(1000) != b"":
                pass
            server.close()


def test_a_refused_login_ends_its_client_only(replicating, cluster):
    pooler = replicating({"default_pool_size": 5})
    with pooler.client() as plain:
        plain.query("BEGIN")
        with pytest.raises(LoginFailed) as refused:
            pooler.client(**LOGICAL)
        fields = refused.value.fields
        assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", "login failed")
        pooler.wait_log("ERROR S: login failed: FATAL: must be superuser or replication role")
        assert "server login failed" not in pooler.log_text()
        with pooler.client() as other:
            assert other.query("SELECT 1").value == "1"
        assert plain.query("COMMIT").status == "I"


@pytest.mark.parametrize("how", ["RECONNECT", "changed entry"])
def test_reconnect_closes_them(replicating, cluster, nobody_left, how):
    """They may never be idle, so they are closed at once."""
    pooler = replicating()
    with pooler.client("postgres", application_name="test", **LOGICAL) as client:
        client.query("SELECT 1")
        if how == "RECONNECT":
            pooler.admin("RECONNECT")
        else:
            entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app load_balance_hosts=disable"
            pooler.write_ini({}, databases={"app": entry})
            pooler.admin("RELOAD")
        error = client.read_to_end(5 * PATIENCE).error
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
        assert error["M"] == "database configuration changed"


def test_a_lost_server_ends_its_client(replicating, cluster):
    pooler = replicating()
    with pooler.client("postgres", application_name="test", **LOGICAL) as client:
        pid = client.query("SELECT pg_backend_pid()").value
        cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
        assert client.read_to_end(5 * PATIENCE).error["C"] == "57P01"


# Streaming


@contextlib.contextmanager
def slot(cluster, name, plugin="test_decoding"):
    cluster.primary.sql(f"SELECT pg_create_logical_replication_slot('{name}', '{plugin}')", "app")
    try:
        yield
    finally:
        cluster.primary.wait_for(
            f"SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}' AND active", "0"
        )
        cluster.primary.sql(f"SELECT pg_drop_replication_slot('{name}')")


def status_update(position):
    now = int((time.time() - 946684800) * 1_000_000)
    return copy_data(b"r" + struct.pack("!QQQqB", position, position, position, now, 1))


def test_copy_both_ways(replicating, cluster, nobody_left):
    """Both sides send at the same time; either may end it, and the connection goes on."""
    pooler = replicating()
    with pooler.client("postgres", application_name="test", **PHYSICAL) as client:
        for _ in range(2):
            (_, _, position, _) = client.query("IDENTIFY_SYSTEM").rows[0]
            client.send(query(f"START_REPLICATION PHYSICAL {position}"))
            assert client.read().kind == "W"
            high, low = (int(part, 16) for part in position.split("/"))
            for _ in range(3):
                client.send(status_update((high << 32) + low))
                # The update asks for a keepalive in return.
                while client.read(10 * PATIENCE).body[:1] != b"k":
                    pass
            cluster.primary.sql("SELECT pg_logical_emit_message(false, 'test', repeat('x', 9999))")
            while client.read(10 * PATIENCE).body[:1] != b"w":
                pass
            client.send(COPY_DONE)
            answer = client.answer()
            assert answer.kinds.lstrip("d") in ("cCZ", "cCCZ", "cTDCCZ") and answer.status == "I"


def test_an_error_while_streaming(replicating, cluster, nobody_left):
    """What is still sent after it is dropped, and the connection goes on."""
    pooler = replicating()
    with pooler.client("postgres", application_name="test", **PHYSICAL) as client:
        answer = client.query("START_REPLICATION PHYSICAL FF/0")
        assert answer.code != "" and answer.status == "I"
        client.send(status_update(1), COPY_DONE, query("IDENTIFY_SYSTEM"))
        assert client.answer().kinds == "TDCZ"


def test_pg_basebackup(replicating, tmp_path):
    pooler = replicating()
    target = os.path.join(tmp_path, "copy")
    run(pooler, "pg_basebackup", "-D", target, "-X", "stream", "-c", "fast")
    assert os.path.exists(os.path.join(target, "PG_VERSION"))
    assert os.path.exists(os.path.join(target, "backup_manifest"))
    verified = subprocess.run(
        [clusters.program("pg_verifybackup"), target], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr


def test_pg_receivewal(replicating, cluster, tmp_path):
    pooler = replicating()
    end = cluster.primary.sql(
        "SELECT pg_logical_emit_message(false, 'test', 'x'); SELECT pg_switch_wal();"
        " SELECT pg_logical_emit_message(false, 'test', 'y')"
    ).splitlines()[-1]
    cluster.primary.sql("SELECT pg_logical_emit_message(true, 'test', 'z')")
    run(pooler, "pg_receivewal", "-D", str(tmp_path), "--endpos", end, "--no-loop")
    assert len(os.listdir(tmp_path)) > 0


def test_pg_recvlogical(replicating, cluster, make_table):
    pooler = replicating()
    make_table("changes", "id int")
    with slot(cluster, "recv"):
        cluster.primary.sql("INSERT INTO changes SELECT generate_series(1, 3)", "app")
        end = cluster.primary.sql("SELECT pg_current_wal_lsn()")
        cluster.primary.sql("INSERT INTO changes VALUES (4)", "app")
        options = ["-d", "app", "--slot", "recv", "--start", "-f", "-", "--endpos", end]
        done = run(pooler, "pg_recvlogical", *options, "--no-loop")
        assert done.stdout.count("INSERT") == 3
    run(pooler, "pg_recvlogical", "-d", "app", "--slot", "two", "--create-slot", "-P", "pgoutput")
    run(pooler, "pg_recvlogical", "-d", "app", "--slot", "two", "--drop-slot")


def test_a_subscription(replicating, cluster, make_table):
    """Its first copy and what is written later, over two kinds of connection."""
    pooler = replicating()
    make_table("source", "id int PRIMARY KEY, name text")
    primary = cluster.primary
    primary.sql("INSERT INTO source SELECT i, repeat('x', 500) FROM generate_series(1, 2000) i", "app")
    primary.sql("CREATE PUBLICATION everything FOR TABLE source", "app")
    primary.sql("CREATE DATABASE target")
    try:
        primary.sql("CREATE TABLE source (id int PRIMARY KEY, name text)", "target")
        with slot(cluster, "sub", "pgoutput"):
            conninfo = f"host={pooler.host} port={pooler.port} user=postgres dbname=app"
            primary.sql(
                f"CREATE SUBSCRIPTION sub CONNECTION '{conninfo}' PUBLICATION everything"
                " WITH (create_slot = false, slot_name = 'sub')",
                "target",
            )
            try:
                primary.wait_for("SELECT count(*) FROM source", "2000", database="target")
                primary.sql("INSERT INTO source VALUES (0, 'later')", "app")
                primary.wait_for("SELECT name FROM source WHERE id = 0", "later", database="target")
            finally:
                primary.sql("ALTER SUBSCRIPTION sub DISABLE", "target")
                primary.sql("ALTER SUBSCRIPTION sub SET (slot_name = NONE)", "target")
                primary.sql("DROP SUBSCRIPTION sub", "target")
    finally:
        primary.sql("DROP PUBLICATION everything", "app")
        primary.sql("DROP DATABASE target WITH (FORCE)")


def test_on_a_routed_database(start_pooler, cluster, nobody_left):
    """They go to the primary."""
    entry = "host=127.0.0.1,127.0.0.1,127.0.0.1 dbname=app routing=read_write port="
    entry += ",".join(str(node.port) for node in reversed(cluster.nodes))
    pooler = start_pooler(databases={"app": entry})
    with pooler.client("postgres", application_name="test", **LOGICAL) as client:
        assert client.query("SHOW cluster_name").value == cluster.primary.name
        assert client.query("SELECT pg_is_in_recovery()").value == "f"
