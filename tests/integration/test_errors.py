"""The errors that clients see: text, SQLSTATE and severity are PgBouncer's, word for word, since
clients match on them; Weir adds a DETAIL or a HINT that says what to do.

Each runs against PgBouncer too, unless it is marked: Debian's knows fewer settings. What belongs to
a way of logging in, to TLS or to the console is tested there.
"""

import contextlib
import os
import socket
import struct

import pytest

import wire
from pooler import ADMIN, KIND, PATIENCE
from wire import SYNC, LoginFailed, bind, describe, execute, message, parse, query, startup, text0

APP = {"user": "app_trust", "database": "app"}


def assert_told(error, text, code="08P01"):
    assert (error["S"], error["C"], error["M"]) == ("FATAL", code, text)
    if KIND == "weir":
        assert error.get("D") or error.get("H"), f"nobody is told what to do: {error}"


def assert_logged(pooler, text):
    """Two lines, the reason first, once for the connection."""
    kinds = ("closing because: ", "pooler error: ")
    lines = [line for line in pooler.log_text().splitlines() if " C-0x" in line]
    found = [kind for line in lines for kind in kinds if kind + text in line]
    assert found == list(kinds), lines


def ended(client, seconds=10 * PATIENCE):
    """The last error before the end."""
    return client.read_to_end(seconds).errors[-1]


def refused(pooler, **how):
    with pytest.raises(LoginFailed) as failure:
        pooler.client(**how)
    return failure.value.fields


# Before and within the login

FIRST = {
    "old V2 protocol not supported": struct.pack("!II", 296, 131072) + b"app".ljust(288, b"\0"),
    "no username supplied": startup({"database": "app"}),
    "username too long": startup({"user": "u" * 128, "database": "app"}),
    "bad packet header: '4000000000030000'": struct.pack("!II", 0x40000000, 196608),
    "bad packet header: '0000000000000000'": struct.pack("!II", 0, 0),
    "bad packet header: '0000000700030000'": struct.pack("!II", 7, 196608),
    "bad packet header: '0000000800040000'": struct.pack("!II", 8, 4 << 16),
    "client password pkt before startup packet": wire.password("x"),
    "unsupported startup parameter: work_mem": startup({**APP, "work_mem": "1MB"}),
    "received unencrypted data after SSL request": wire.SSL_REQUEST + startup(APP),
    "received unencrypted data after GSSAPI encryption request": wire.GSS_REQUEST + startup(APP),
}


@pytest.mark.parametrize("text", FIRST)
def test_first_packets(pooler, text):
    client = pooler.connect()
    client.send(FIRST[text])
    assert_told(ended(client), text)
    assert_logged(pooler, text)


OWN_FIRST = {
    "bad packet header: '474554202f204854'": b"GET / HTTP/1.1\r\n\r\n",
    "invalid startup packet layout: expected terminator as last byte": struct.pack("!II", 9, 196608)
    + b"x",
    "unsupported startup parameter in options: work_mem": startup(
        {**APP, "options": "-c work_mem=1"}
    ),
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed": (
        startup({**APP, "options": "-e"})
    ),
}


@pytest.mark.weir_only
@pytest.mark.parametrize("text", OWN_FIRST)
def test_first_packets_of_newer_versions(pooler, text):
    client = pooler.connect()
    client.send(OWN_FIRST[text])
    assert_told(ended(client), text)
    assert_logged(pooler, text)


def test_no_such_database(pooler):
    assert_told(refused(pooler, database="nowhere"), "no such database: nowhere")
    assert_logged(pooler, "no such database: nowhere")


def test_disabled_database(pooler):
    pooler.admin("DISABLE app")
    assert_told(refused(pooler), 'database "app" is disabled')


def test_not_allowed(pooler):
    assert_told(refused(pooler, database="pgbouncer"), "not allowed")


def test_unknown_user(pooler):
    assert_told(refused(pooler, user="stranger"), '"trust" authentication failed')


def test_max_client_conn(start_pooler):
    pooler = start_pooler({"max_client_conn": 1})
    assert pooler.admin("SHOW VERSION") != []  # what came before is gone
    with pooler.client():
        text = "no more connections allowed (max_client_conn)"
        assert_told(refused(pooler), text)
        assert_logged(pooler, text)
        # What is wrong with the packet comes before how many there are.
        error = refused(pooler, work_mem="1MB")
        assert error["M"] == "unsupported startup parameter: work_mem"
        assert pooler.admin("SHOW VERSION") != []


def test_client_login_timeout(start_pooler):
    pooler = start_pooler({"client_login_timeout": 1, "auth_type": "scram-sha-256"})
    client = pooler.connect()
    client.send(startup(APP))
    client.read_until("R")
    assert_told(ended(client), "client_login_timeout")
    assert_logged(pooler, "client_login_timeout")


def test_client_login_timeout_without_a_server(start_pooler):
    """A pool's first client waits for a server that never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        entry = f"host=127.0.0.1 port={mute.getsockname()[1]} dbname=app"
        pooler = start_pooler({"client_login_timeout": 1}, databases={"app": entry})
        error = refused(pooler)
        assert_told(error, "client_login_timeout (server down)")


def test_server_refuses_the_login(start_pooler, cluster):
    """In the server's words, with its SQLSTATE."""
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=nowhere"
    pooler = start_pooler({"server_login_retry": 1}, databases={"app": entry})
    error = refused(pooler)
    assert (error["S"], error["M"]) == ("FATAL", 'database "nowhere" does not exist')
    assert error["C"] == "3D000" or KIND == "pgbouncer"  # 1.18 has 08P01 here
    assert_logged(pooler, 'database "nowhere" does not exist')


# Waiting and running


@pytest.fixture
def full(start_pooler):
    """A pool of one whose server is taken: `start(settings)` gives the pooler and who has it."""
    with contextlib.ExitStack() as ends:

        def start(settings):
            pooler = start_pooler({"default_pool_size": 1, **settings})
            busy = ends.enter_context(pooler.client())
            waiter = ends.enter_context(pooler.client())
            return pooler, busy, waiter

        yield start


def test_query_wait_timeout(full):
    pooler, busy, waiter = full({"query_wait_timeout": 1})
    busy.query("BEGIN")
    waiter.send(query("SELECT 1"))
    assert_told(ended(waiter), "query_wait_timeout")
    assert_logged(pooler, "query_wait_timeout")
    assert busy.query("COMMIT").status == "I"


@pytest.mark.weir_only
def test_query_timeout_while_it_waits(full):
    pooler, busy, waiter = full({"query_timeout": 1})
    busy.query("BEGIN")
    waiter.send(query("SELECT 1"))
    assert_told(ended(waiter), "query_timeout")
    assert_logged(pooler, "query_timeout")
    assert busy.query("COMMIT").status == "I"


def test_query_timeout_while_it_runs(start_pooler):
    pooler = start_pooler({"query_timeout": 1})
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(3)"))
        assert_told(ended(client), "query timeout")
        assert_logged(pooler, "query timeout")


def test_idle_transaction_timeout(start_pooler):
    pooler = start_pooler({"idle_transaction_timeout": 1})
    with pooler.client() as client:
        client.query("BEGIN")
        assert_told(ended(client), "idle transaction timeout")
        assert_logged(pooler, "idle transaction timeout")


@pytest.mark.weir_only
def test_transaction_timeout(start_pooler):
    pooler = start_pooler({"transaction_timeout": 1})
    with pooler.client() as client:
        client.query("BEGIN")
        assert_told(ended(client), "transaction timeout")


def test_client_idle_timeout(start_pooler):
    pooler = start_pooler({"client_idle_timeout": 1})
    with pooler.client() as client:
        client.query("SELECT 1")
        assert_told(ended(client), "client_idle_timeout")
        assert_logged(pooler, "client_idle_timeout")


def test_statement_mode(start_pooler):
    pooler = start_pooler({"pool_mode": "statement"})
    with pooler.client() as client:
        client.send(query("BEGIN"))
        text = "transaction blocks not allowed in statement pooling mode"
        assert_told(ended(client), text)
        assert_logged(pooler, text)


# Messages

WRONG = {
    "unknown pkt": message("!", b"what"),
    "bad packet header: '510000000353454c'": b"Q\0\0\0\3SELECT",
    "bad packet header: '51ffffffff53454c'": b"Q\xff\xff\xff\xffSELECT",
}


@pytest.mark.parametrize("text", WRONG)
def test_messages(pooler, text):
    with pooler.client() as client:
        client.send(WRONG[text])
        assert_told(client.read_until("E").error, text)
        assert_logged(pooler, text)


@pytest.mark.weir_only
@pytest.mark.parametrize(
    "data",
    [
        message("P", b"no end") + SYNC,
        message("P", text0("name") + b"no end") + SYNC,
        message("D", b"Sno end") + SYNC,
        message("C", b"Sno end") + SYNC,
        message("B", b"no end of a name.") + SYNC,
    ],
    ids=range(5),
)
def test_messages_that_cannot_be_parsed(pooler, data):
    with pooler.client() as client:
        client.send(data)
        assert_told(client.read_until("E").error, "failed to parse packet")


@pytest.mark.weir_only
@pytest.mark.parametrize("ask", [bind, describe])
def test_prepared_statement_did_not_exist(pooler, ask):
    with pooler.client() as client:
        client.send(ask(name="nope"), SYNC)
        assert_told(client.read_until("E").error, "prepared statement did not exist")
        pooler.wait_log("ERROR C-.* prepared statement 'nope' not found")


@pytest.mark.weir_only
def test_prepared_statement_name_is_in_use(pooler):
    with pooler.client() as client:
        client.send(parse("SELECT 1", "one"), SYNC)
        assert client.answer().kinds == "1Z"
        client.send(parse("SELECT 2", "one"), bind(name="one"), execute(), SYNC)
        assert_told(client.read_until("E").error, "prepared statement name is already in use")
        pooler.wait_log("ERROR C-.* prepared statement 'one' was already prepared")


# A server that went


def backend(client):
    return client.query("SELECT pg_backend_pid()").value


@pytest.mark.weir_only
def test_a_server_that_vanishes(start_pooler):
    """It was killed, and has said nothing."""
    with socket.create_server(("127.0.0.1", 0)) as impostor:
        entry = f"host=127.0.0.1 port={impostor.getsockname()[1]} dbname=app"
        pooler = start_pooler({"pool_mode": "session"}, databases={"app": entry})
        client = pooler.connect()
        client.send(startup(APP))
        server, _ = impostor.accept()
        server.settimeout(10)
        server.recv(1000)
        server.sendall(
            message("R", struct.pack("!I", 0))
            + message("K", struct.pack("!II", 1, 2))
            + message("Z", b"I")
        )
        client.authenticate("app_trust", None)
        client.send(query("SELECT 1"))
        server.recv(1000)
        server.close()
        assert_told(ended(client), "server conn crashed?")
        assert_logged(pooler, "server conn crashed?")


def test_a_server_that_is_terminated(start_pooler, cluster):
    """Its own words come first."""
    pooler = start_pooler({"pool_mode": "session"})
    with pooler.client() as client:
        cluster.primary.sql(f"SELECT pg_terminate_backend({backend(client)})")
        error = client.read_to_end(10 * PATIENCE).errors[0]
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
        assert error["M"] == "terminating connection due to administrator command"


def test_a_refused_parameter(start_pooler):
    """The server's words, which PgBouncer only logs, are the DETAIL."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as good, pooler.client(TimeZone="Nowhere/At_All") as client:
        good.query("SELECT 1")
        client.send(query("SELECT 1"))
        error = ended(client)
        assert_told(error, "invalid server parameter")
        if KIND == "weir":
            assert error["D"] == 'invalid value for parameter "TimeZone": "Nowhere/At_All"'
            pooler.wait_log(r"\] ERROR varcache_apply failed: ERROR: invalid value for parameter")
        assert_logged(pooler, "invalid server parameter")
        assert good.query("SELECT 'next'").value == "next"


def test_a_removed_database(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(databases={"app": entry, "other": entry})
    with pooler.client(database="other") as client:
        client.query("SELECT 1")
        pooler.write_ini({}, databases={"app": entry})
        pooler.admin("RELOAD")
        assert_told(ended(client), "database removed")


# The end


@pytest.mark.weir_only
def test_killed_by_hand(pooler):
    with pooler.client() as client:
        client.query("SELECT 1")
        (row,) = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "app_trust"]
        pooler.admin(f"KILL_CLIENT {row['id']}")
        assert_told(ended(client), "admin forced disconnect")
        assert_logged(pooler, "admin forced disconnect")


@pytest.mark.weir_only
def test_shutdown_that_waits_for_servers(full):
    pooler, busy, waiter = full({})
    busy.query("BEGIN")
    waiter.send(query("SELECT 1"))
    with pooler.client(*ADMIN, database="pgbouncer") as console:
        console.query("SHUTDOWN WAIT_FOR_SERVERS")
        assert_told(ended(waiter), "server shutting down")
        busy.send(query("COMMIT"))


@pytest.mark.weir_only
def test_shutdown_that_waits_for_clients(pooler):
    """Who is there goes on; who comes is told, where he can still come at all."""
    with pooler.client() as client:
        with pooler.client(*ADMIN, database="pgbouncer", unix=True) as console:
            console.query("SHUTDOWN WAIT_FOR_CLIENTS")
            if os.path.exists(pooler.unix_path):
                with pytest.raises(LoginFailed) as late:
                    pooler.client(unix=True)
                assert_told(late.value.fields, "pooler is shutting down")
            assert client.query("SELECT 'goes on'").value == "goes on"


def test_every_error_is_logged_only_where_it_is_wanted(start_pooler):
    pooler = start_pooler({"log_pooler_errors": 0, "log_disconnections": 0})
    refused(pooler, database="nowhere")
    with pooler.client() as client:
        client.query("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "no such database" not in pooler.log_text()
    assert "pooler error" not in pooler.log_text()
