"""The life of a server connection: what runs on it before it is lent, how long it lives, when and in
which words it is closed.

`POOLER=pgbouncer` runs what Debian's PgBouncer has against it.
"""

import re
import time

import pytest

from pooler import KIND, PATIENCE
from wire import query

PID = "SELECT pg_backend_pid()"
CHANGED = "database configuration changed"


def entry(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


def states(pooler):
    """How many servers of `app` are in each state."""
    found = {}
    for row in pooler.admin("SHOW SERVERS"):
        if row["database"] == "app":
            found[row["state"]] = found.get(row["state"], 0) + 1
    return found


def eventually(ask, wanted, seconds=4):
    deadline = time.monotonic() + seconds * PATIENCE
    while (found := ask()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"
        time.sleep(0.02)


def fill(pooler, count):
    """Clients that have had a server each at the same time."""
    clients = [pooler.client() for _ in range(count)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        client.query("COMMIT")
    return clients


@pytest.fixture
def statements(cluster, make_table):
    """Counts rows that check queries and connect queries leave, one for each time they ran."""
    make_table("ran", "what text")

    def count(what):
        return int(cluster.primary.sql(f"SELECT count(*) FROM ran WHERE what = '{what}'"))

    return count


def note(what):
    return f"INSERT INTO ran VALUES ('{what}')"


# Checks


def test_check_after_a_rest(start_pooler, statements):
    """A server that rested for server_check_delay is `used`, and checked once before it is lent."""
    settings = {"server_check_query": note("check"), "server_check_delay": 1}
    pooler = start_pooler(settings)
    with pooler.client() as client:
        for _ in range(3):
            pid = client.query(PID).value
        assert statements("check") == 0
        assert states(pooler) == {"idle": 1}
        eventually(lambda: states(pooler), {"used": 1})
        assert client.query(PID).value == pid
        assert statements("check") == 1
        assert client.query(PID).value == pid
        assert statements("check") == 1


@pytest.mark.one_worker
@pytest.mark.parametrize(
    "mode", ["transaction", pytest.param("session", marks=pytest.mark.weir_only)]
)
def test_check_before_each_reuse(start_pooler, statements, mode):
    """server_check_delay = 0: exactly one check per reuse. PgBouncer takes the reset query for it."""
    settings = {"server_check_query": note("check"), "server_check_delay": 0, "pool_mode": mode}
    pooler = start_pooler({**settings, "default_pool_size": 1})
    with pooler.client() as one:
        pid = one.query(PID).value
    before = statements("check")
    for turn in range(1, 4):
        with pooler.client() as client:
            assert client.query(PID).value == pid
            assert statements("check") == before + turn


@pytest.mark.one_worker
def test_check_that_fails_shows_that_the_server_lives(start_pooler, cluster):
    settings = {"server_check_query": "SELECT 1/0", "server_check_delay": 0.3}
    pooler = start_pooler(settings)
    with pooler.client() as client:
        pid = client.query(PID).value
        eventually(lambda: states(pooler), {"used": 1})
        assert client.query(PID).value == pid


def test_server_that_dies_while_it_is_checked_is_not_lent(start_pooler, cluster):
    """The client gets another one and does not notice."""
    check = "SELECT pg_terminate_backend(pg_backend_pid())"
    pooler = start_pooler({"server_check_query": check, "server_check_delay": 0.3})
    with pooler.client() as client:
        pid = client.query(PID).value
        eventually(lambda: states(pooler), {"used": 1})
        assert client.query(PID).value != pid


@pytest.mark.weir_only
def test_default_check_is_an_empty_query(start_pooler, cluster):
    """`<empty>`, new in 1.25: nothing that PostgreSQL would have to plan; no value: no check."""
    pooler = start_pooler({"server_check_delay": 0.2})
    assert {row["key"]: row["value"] for row in pooler.admin("SHOW CONFIG")}[
        "server_check_query"
    ] == "<empty>"
    with pooler.client() as client:
        pid = client.query("SELECT pg_backend_pid(), 'last'").rows[0][0]
        eventually(lambda: states(pooler), {"used": 1})
        assert client.query(PID).value == pid
        pooler.admin("SET server_check_query = ''")
        client.query("SELECT 1")
        time.sleep(0.5)
        assert states(pooler) == {"idle": 1}


def test_used_servers_serve_everybody(start_pooler):
    """As many checks at a time as there are waiters; no new connection is made meanwhile."""
    settings = {"server_check_query": "SELECT pg_sleep(0.4)", "server_check_delay": 0.3}
    pooler = start_pooler({**settings, "default_pool_size": 4})
    clients = fill(pooler, 3)
    eventually(lambda: states(pooler), {"used": 3})
    began = time.monotonic()
    for client in clients:
        client.send(query("SELECT 1"))
        time.sleep(0.02)
    for client in clients:
        assert client.answer().value == "1"
    # One after the other they would take this long.
    assert time.monotonic() - began < 3 * 0.4 * PATIENCE
    assert sum(states(pooler).values()) == 3
    assert "given to a client of another worker" not in pooler.log_text()


# After the login


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_connect_query(start_pooler, cluster, statements, mode):
    """Once for each server connection, before any client has it."""
    queries = f"'SET work_mem = ''12MB''; {note('connect').replace(chr(39), chr(39) * 2)}'"
    pooler = start_pooler(
        {"pool_mode": mode, "server_reset_query": ""},
        databases={"app": entry(cluster, connect_query=queries)},
    )
    clients = [pooler.client() for _ in range(2)]
    for client in clients:
        client.query("BEGIN")
        assert client.query("SHOW work_mem").value == "12MB"
    for client in clients:
        client.query("COMMIT")
        client.query("SELECT 1")
    assert statements("connect") == 2


def test_connect_query_shows_in_the_greeting(start_pooler, cluster):
    queries = "'SET TimeZone = ''Asia/Tokyo'''"
    pooler = start_pooler(databases={"app": entry(cluster, connect_query=queries)})
    for _ in range(2):
        with pooler.client() as client:
            assert client.parameters["TimeZone"] == "Asia/Tokyo"
            assert client.query("SHOW TimeZone").value == "Asia/Tokyo"


@pytest.mark.parametrize("text", ["nonsense", "SELECT 1/0", "BEGIN", "SELECT 1; BEGIN; nonsense"])
def test_connect_query_that_fails_is_passed_over(start_pooler, cluster, text):
    pooler = start_pooler(databases={"app": entry(cluster, connect_query=f"'{text}'")})
    with pooler.client() as client:
        answer = client.query("SELECT 'served'")
        assert answer.value == "served"
        if KIND == "weir":
            assert answer.status == "I"
    if KIND == "weir" and text != "BEGIN":
        pooler.wait_log(r"WARNING S-0x\w+: app/app_trust@\S+ connect_query failed: ERROR: ")


def test_connect_query_counts_in_server_connect_timeout(start_pooler, cluster):
    pooler = start_pooler(
        {"server_connect_timeout": 0.5, "query_wait_timeout": 2, "server_login_retry": 1},
        databases={"app": entry(cluster, connect_query="'SELECT pg_sleep(3)'")},
    )
    client = pooler.connect()
    client.send(b"")
    with pytest.raises(Exception):
        client.login("app_trust")
    pooler.wait_log(r"S-0x\w+: app/app_trust@\S+ closing because: connect (timeout|failed)")


# Age


def test_server_lifetime_spreads_the_ends(start_pooler, cluster):
    """Of servers made together one goes in each lifetime / pool_size."""
    pooler = start_pooler({"server_lifetime": 1.5, "default_pool_size": 3})
    fill(pooler, 3)
    ends = r":(\d\d\.\d{3}) \S+ \[\d+\] LOG S-0x\w+: \S+ closing because: server lifetime over"
    eventually(lambda: len(re.findall(ends, pooler.log_text())), 3, seconds=5)
    first, second, third = (float(found) for found in re.findall(ends, pooler.log_text()))
    assert (second - first) % 60 > 0.35 and (third - second) % 60 > 0.35


def test_server_lifetime_0_is_one_use(start_pooler, cluster):
    pooler = start_pooler({"server_lifetime": 0, "default_pool_size": 1})
    with pooler.client() as client:
        pids = [client.query(PID).value for _ in range(3)]
        assert len(set(pids)) == 3
        client.query("BEGIN")
        pid = client.query(PID).value
        assert client.query(PID).value == pid
        client.query("COMMIT")
    assert pooler.log_text().count("closing because: server lifetime over") >= 3


@pytest.mark.weir_only
def test_server_lifetime_of_an_entry(start_pooler, cluster):
    """0 means the global one there."""
    pooler = start_pooler(
        {"server_lifetime": 60},
        databases={
            "app": entry(cluster, server_lifetime=1),
            "global": entry(cluster, server_lifetime=0),
        },
    )
    short, long = pooler.client(), pooler.client(database="global")
    pids = [client.query(PID).value for client in (short, long)]
    time.sleep(1)
    eventually(lambda: short.query(PID).value != pids[0], True)
    assert long.query(PID).value == pids[1]


# Order


@pytest.mark.one_worker
@pytest.mark.parametrize("round_robin", [0, 1])
def test_server_round_robin(start_pooler, round_robin):
    """Without it the server used last is used again; with it the one that rested longest."""
    pooler = start_pooler({"server_round_robin": round_robin})
    client = fill(pooler, 3)[0]
    pids = [client.query(PID).value for _ in range(6)]
    assert len(set(pids)) == (3 if round_robin else 1)
    assert pids[:3] == pids[3:]


# Replacement


@pytest.mark.parametrize("fast", [0, 1])
def test_server_fast_close(start_pooler, cluster, fast):
    """In session mode a server that is to be replaced goes between two transactions, or at the end
    of the session."""
    pooler = start_pooler({"pool_mode": "session", "server_fast_close": fast})
    resting, busy = pooler.client(), pooler.client()
    resting.query("SELECT 1")
    busy.query("BEGIN")
    pooler.admin("RECONNECT")
    if not fast:
        time.sleep(0.5)
        assert resting.query("SELECT 2").value == "2"
        assert busy.query("COMMIT").status == "I"
        busy.close()
        pooler.wait_log(r"S-0x\w+: app/app_trust@\S+ closing because: close_needed")
        return
    error = resting.read_to_end().errors[-1]
    assert (error["S"], error["C"], error["M"]) == ("FATAL", "08P01", CHANGED)
    assert busy.query("SELECT 3").value == "3"
    assert busy.query("COMMIT").status == "I"
    assert busy.read_to_end().errors[-1]["M"] == CHANGED
    pooler.wait_log(rf"S-0x\w+: app/app_trust@\S+ closing because: {CHANGED}")
    pooler.wait_log(rf"C-0x\w+: app/app_trust@\S+ closing because: {CHANGED}")


def test_server_fast_close_spares_transaction_mode(start_pooler, cluster):
    pooler = start_pooler({"server_fast_close": 1})
    with pooler.client() as client:
        pid = client.query(PID).value
        client.query("BEGIN")
        pooler.admin("RECONNECT")
        time.sleep(0.4)
        assert client.query(PID).value == pid
        assert client.query("COMMIT").status == "I"
        assert client.query(PID).value != pid


def test_reconnect_replaces_idle_and_busy_servers(start_pooler, cluster):
    """Idle ones at once, busy ones when they come back; other databases keep theirs."""
    pooler = start_pooler(databases={"app": entry(cluster), "other": entry(cluster)})
    idle, busy = fill(pooler, 2)
    other = pooler.client(database="other")
    pid = other.query(PID).value
    busy.query("BEGIN")
    kept = busy.query(PID).value
    pooler.admin("RECONNECT app")
    pooler.wait_log(rf"S-0x\w+: app/app_trust@\S+ closing because: {CHANGED}")
    assert busy.query(PID).value == kept
    busy.query("COMMIT")
    pooler.wait_log(r"S-0x\w+: app/app_trust@\S+ closing because: close_needed")
    assert idle.query(PID).value != kept
    assert other.query(PID).value == pid


def test_pause_closes_used_servers_too(start_pooler):
    settings = {"server_check_query": "SELECT 1", "server_check_delay": 0.2}
    pooler = start_pooler(settings)
    with pooler.client() as client:
        client.query("SELECT 1")
        eventually(lambda: states(pooler), {"used": 1})
        pooler.admin("PAUSE app")
        assert states(pooler) == {}
        pooler.wait_log(r"closing because: pause mode")
        client.send(query("SELECT 2"))
        assert client.is_silent(0.3)
        pooler.admin("RESUME app")
        assert client.answer().value == "2"
