"""A client that vanishes in the middle of something costs a cancel and a ROLLBACK, not a server
connection: the next client is served by the same backend, and nothing of the old one runs on."""

import socket
import struct
import time

import psycopg
import pytest

from pooler import PATIENCE
from wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only

# What runs on would take a minute; a loaded machine takes its time.
SOON = 5 * PATIENCE

SLEEP = "SELECT pg_sleep(60), 'victim'"
LONG = "SELECT repeat('x', 100) FROM generate_series(1, 3000000)"
COPY = "COPY left_over FROM STDIN"
SLOW = "COPY slow_one FROM STDIN"

# What the client sends before it goes; whether it then waits until the server runs `victim` or has
# asked for data. All but the last keep their server, with state tracked and without.
ABORTS = {
    "query": ([query(SLEEP)], "runs"),
    "extended": ([parse(SLEEP), bind(), execute(), SYNC], "runs"),
    "extended, flushed": ([parse(SLEEP), bind(), execute(), FLUSH], "runs"),
    "extended, no sync": ([parse("SELECT 'victim'"), bind(), execute()], ""),
    "named statement": ([parse(SLEEP, "s"), bind((), "s"), execute(), SYNC], "runs"),
    "named statement that fails": ([parse("SELECT no_such", "s"), SYNC], ""),
    "named and closed": ([parse("SELECT 1", "s"), close("s"), parse(SLEEP), bind(), execute(), SYNC],
                         "runs"),
    "transaction": ([query("BEGIN; INSERT INTO left_over VALUES (1)")], ""),
    "query in a transaction": ([query(f"BEGIN; INSERT INTO left_over VALUES (1); {SLEEP}")], "runs"),
    "extended in a transaction": (
        [query("BEGIN; INSERT INTO left_over VALUES (1)"), parse(SLEEP), bind(), execute(), SYNC],
        "runs",
    ),
    "failed transaction": ([query("BEGIN; SELECT 1/0")], ""),
    "pipeline": ([parse(SLEEP), bind(), execute(), parse("SELECT 2"), bind(), execute(), SYNC], "runs"),
    "queries": ([query(SLEEP), query("SELECT 2"), query("SELECT 3")], "runs"),
    "copy in": ([query(COPY), copy_data(b"1\n")], "copies"),
    "copy in, in a transaction": ([query("BEGIN"), query(COPY), copy_data(b"1\n")], "copies"),
    "copy in, nothing sent": ([query(COPY)], "copies"),
    "copy in, half a message": ([query(COPY), copy_data(b"1\n"), copy_data(b"2\n" * 99)[:40]],
                                "copies"),
    "copy in, ended": ([query(SLOW), copy_data(b"1\n"), COPY_DONE], "runs"),
    "copy in, extended": ([parse(COPY), bind(), execute(), SYNC, copy_data(b"1\n")], "copies"),
    "copy in, extended, no sync": ([parse(COPY), bind(), execute(), FLUSH, copy_data(b"1\n")],
                                   "copies"),
    "two copies": ([query(f"{COPY}; {COPY}"), copy_data(b"1\n"), COPY_DONE], ""),
    "copy out": ([query(f"COPY ({LONG}) TO STDOUT")], ""),
    "copy out, extended": ([parse(f"COPY ({LONG}) TO STDOUT"), bind(), execute(), SYNC], ""),
    "rows": ([query(LONG)], ""),
    "rows, extended": ([parse(LONG), bind(), execute(), SYNC], ""),
}


@pytest.fixture(scope="module", autouse=True)
def tables(cluster):
    cluster.primary.sql(
        "CREATE TABLE left_over (a int); CREATE TABLE slow_one (a int);"
        "GRANT ALL ON left_over, slow_one TO PUBLIC;"
        "CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(60), 'victim'; RETURN NEW; END $$;"
        "CREATE TRIGGER stall BEFORE INSERT ON slow_one FOR EACH ROW EXECUTE FUNCTION stall()"
    )
    yield
    cluster.primary.sql("DROP TABLE left_over, slow_one; DROP FUNCTION stall")


def go(client, how):
    """Ends the connection: in order, by a reset, or half of it only, its answers unread."""
    if how == "half":
        client.socket.shutdown(socket.SHUT_WR)
    elif how == "reset":
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
    else:
        client.drop()


def wait_for_copy(client):
    while client.read().kind != "G":
        pass


def backends(cluster, condition):
    """Server connections of the user for which `condition` is true."""
    return (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_trust'"
        f" AND backend_type = 'client backend' AND {condition}"
    )


def abort(pooler, cluster, parts, wait, how):
    """A client vanishes; asserts that its server serves the next one, clean and at once."""
    cluster.primary.wait_for(backends(cluster, "state <> 'idle'"), "0")
    client = pooler.client()
    pid = client.query("SELECT pg_backend_pid()").value
    client.send(*parts)
    if wait == "copies":
        wait_for_copy(client)
    elif wait == "runs":
        cluster.primary.wait_for(backends(cluster, "wait_event = 'PgSleep'"), "1")
    else:
        time.sleep(0.02)
    go(client, how)
    began = time.monotonic()
    with pooler.client() as following:
        assert following.query("SELECT pg_backend_pid()").value == pid, pooler.log_text()[-2000:]
        assert time.monotonic() - began < SOON
        assert following.query("SELECT pg_current_xact_id_if_assigned()").rows == [(None,)]
        assert following.query("SELECT count(*) FROM left_over").value == "0"
        statements = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%no_such%'"
        assert following.query(statements).value == "0"
        for text, name in (("SELECT 1", "s"), (SLEEP.replace("60", "0"), "t")):
            answer = following.ask(parse(text, name), bind((), name), execute(), SYNC)
            assert answer.tags == ["SELECT 1"], answer
    client.socket.close()


@pytest.mark.one_worker
@pytest.mark.parametrize("state", ["off", "track"])
@pytest.mark.parametrize("how", ["drop", "reset", "half"])
def test_the_server_stays(start_pooler, cluster, state, how):
    settings = {"default_pool_size": 1, "session_state": state, "max_prepared_statements": 2}
    pooler = start_pooler(settings)
    for name, (parts, wait) in ABORTS.items():
        try:
            abort(pooler, cluster, parts, wait, how)
        except AssertionError as failure:
            raise AssertionError(f"{name}: {failure}") from failure


@pytest.mark.one_worker
def test_the_server_stays_in_session_mode(start_pooler, cluster):
    pooler = start_pooler({"default_pool_size": 1, "pool_mode": "session"})
    for name, (parts, wait) in ABORTS.items():
        try:
            abort(pooler, cluster, parts, wait, "drop")
        except AssertionError as failure:
            raise AssertionError(f"{name}: {failure}") from failure


def test_what_ran_has_ended_soon(start_pooler, cluster):
    """Also where there is more than one server, and nobody waits for this one."""
    pooler = start_pooler({"session_state": "track"})
    for parts, wait in ABORTS.values():
        if wait != "runs":
            continue
        client = pooler.client()
        client.send(*parts)
        cluster.primary.wait_for(backends(cluster, "wait_event = 'PgSleep'"), "1")
        client.reset()
        began = time.monotonic()
        cluster.primary.wait_for(backends(cluster, "state <> 'idle'"), "0")
        assert time.monotonic() - began < SOON


@pytest.mark.one_worker
@pytest.mark.parametrize(
    "parts", [[query("SELECT 'half'" + " " * 40000)[:30000]],
              [parse("SELECT $1"), bind(["x" * 40000])[:30000]]]
)
def test_half_a_message_costs_the_server(start_pooler, parts):
    """One that is too long to be held back until it is whole. Only of COPY data can the rest be made
    up: nobody knows what the whole would have done."""
    pooler = start_pooler({"default_pool_size": 1, "session_state": "track"})
    client = pooler.client()
    pid = client.query("BEGIN; SELECT pg_backend_pid()").value
    client.send(*parts)
    time.sleep(0.02)
    client.reset()
    with pooler.client() as following:
        assert following.query("SELECT pg_backend_pid()").value != pid


def watch_for(connection, sql, wanted):
    """For what waits for a lock that a login would wait for, too."""
    deadline = time.monotonic() + 10 * PATIENCE
    while connection.execute(sql).fetchone()[0] != wanted:
        assert time.monotonic() < deadline, f"not {wanted}: {sql}"
        time.sleep(0.01)


@pytest.mark.one_worker
def test_settings_under_way_are_not_believed(start_pooler, cluster):
    """Who leaves while its settings are brought in line: nobody has read whether they stood."""
    cluster.primary.sql("CREATE ROLE fleeting; GRANT fleeting TO app_trust")
    pooler = start_pooler({"default_pool_size": 1, "session_state": "track"})
    one, two = pooler.client(), pooler.client()
    for client in (one, two):
        client.query("SET ROLE fleeting")
        assert client.query("SELECT current_user").value == "fleeting"
    running = (
        "SELECT count(*) FROM pg_stat_get_activity(NULL) WHERE state = 'active'"
        " AND query LIKE '%fleeting%' AND pid <> pg_backend_pid()"
    )
    connect = lambda: psycopg.connect(cluster.primary.conninfo(), autocommit=True)
    with pooler.client() as other, connect() as direct, connect() as watch:
        assert other.query("SELECT current_user").value == "app_trust"
        direct.execute("ALTER ROLE fleeting CONNECTION LIMIT 3")  # what is cached of it goes
        direct.execute("BEGIN; LOCK pg_authid")
        one.send(query("SELECT current_user"))
        watch_for(watch, running, 1)
        one.reset()
        watch_for(watch, running, 0)
        direct.execute("ROLLBACK")
        assert two.query("SELECT current_user").value == "fleeting"
        assert other.query("SELECT current_user").value == "app_trust"
    two.close()
    cluster.primary.sql("DROP ROLE fleeting")
