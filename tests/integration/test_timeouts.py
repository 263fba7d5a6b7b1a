"""Every timeout: from when it counts, what the client is told, and what becomes of the server.

Each test asserts the exact words, which are also the reasons in the log: first the server's line
where it goes too, then the client's. `POOLER=pgbouncer` runs them against Debian's PgBouncer.
"""

import time

import pytest

from pooler import PATIENCE
from wire import query, startup

PID = "SELECT pg_backend_pid()"
# PgBouncer 1.18 looks after timeouts three times a second.
LATE = 1.5 * PATIENCE
# What the timeouts are set to, in seconds.
T = 0.5


def ends(client, text, seconds):
    """The client hears a FATAL error with that text after about `seconds`, of which a busy machine
    may have spent some before this call."""
    began = time.monotonic()
    error = client.read_to_end().errors[-1]
    took = time.monotonic() - began
    assert (error["S"], error["C"], error["M"]) == ("FATAL", "08P01", text)
    assert seconds / 2 - 0.1 <= took <= seconds + LATE, f"after {took:.2f} s"


def assert_logged(pooler, text, with_server, user="app_trust"):
    """One line for the server, if it goes too, and before that of its client."""
    place = rf"-0x\w+: app/{user}@\S+ "
    pooler.wait_log("C" + place + f"pooler error: {text}")
    pooler.wait_log("C" + place + rf"closing because: {text} \(age=\d+s\)")
    lines = [line for line in pooler.log_text().splitlines() if f"closing because: {text}" in line]
    kinds = [line.split("LOG ")[1][0] for line in lines]
    assert kinds == (["S", "C"] if with_server else ["C"]), lines


def wait_gone(cluster, pid):
    cluster.primary.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}", "0")


# Running


def test_query_timeout(start_pooler, cluster):
    pooler = start_pooler({"query_timeout": T, "default_pool_size": 1})
    client = pooler.client()
    pid = client.query(PID).value
    client.send(query("SELECT pg_sleep(20)"))
    ends(client, "query timeout", T)
    assert_logged(pooler, "query timeout", with_server=True)
    with pooler.client() as other:
        assert other.query(PID).value != pid


@pytest.mark.weir_only
@pytest.mark.parametrize("setting", ["query_timeout", "transaction_timeout"])
def test_a_query_out_of_time_ends_in_postgres_too(start_pooler, cluster, setting):
    """PgBouncer closes the connection only, and PostgreSQL goes on until it wants to answer."""
    pooler = start_pooler({setting: T, "default_pool_size": 1})
    client = pooler.client()
    pid = client.query(PID).value
    client.send(query("SELECT pg_sleep(600)"))
    ends(client, setting.replace("_", " "), T)
    count = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
    cluster.primary.wait_for(count, "0", seconds=5 * PATIENCE)
    with pooler.client() as other:
        assert other.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_no_other_query_is_cancelled_by_a_timeout(start_pooler, cluster):
    """The request to end one query never hits the next, on whichever server that runs."""
    pooler = start_pooler({"query_timeout": 2 * T, "default_pool_size": 2})
    steady = pooler.client()
    for _ in range(2):
        client = pooler.client()
        client.send(query("SELECT pg_sleep(600)"))
        deadline = time.monotonic() + 10 * PATIENCE
        while client.is_silent(0.01):
            assert steady.query(f"SELECT 1 FROM pg_sleep({T / 10})").errors == []
            assert time.monotonic() < deadline
        ends(client, "query timeout", 0)


@pytest.mark.weir_only
def test_query_timeout_counts_each_query(start_pooler):
    """PgBouncer 1.18 still closed a client that rests in its transaction."""
    pooler = start_pooler({"query_timeout": T})
    with pooler.client() as client:
        client.query("BEGIN")
        for _ in range(3):
            assert client.query(f"SELECT pg_sleep({T / 2})").status == "T"
        time.sleep(2 * T)  # resting in a transaction is no query
        assert client.query("COMMIT").status == "I"


def test_query_timeout_while_waiting(start_pooler):
    pooler = start_pooler({"query_timeout": T, "default_pool_size": 1})
    holder, waiter = pooler.client(), pooler.client()
    holder.query("BEGIN")
    waiter.send(query("SELECT 1"))
    ends(waiter, "query_timeout", T)
    assert_logged(pooler, "query_timeout", with_server=False)


def test_idle_transaction_timeout(start_pooler, cluster):
    pooler = start_pooler({"idle_transaction_timeout": T})
    client = pooler.client()
    pid = client.query(PID).value
    client.query("BEGIN")
    client.query(f"SELECT pg_sleep({T / 2})")
    ends(client, "idle transaction timeout", T)
    assert_logged(pooler, "idle transaction timeout", with_server=True)
    wait_gone(cluster, pid)


def test_idle_transaction_timeout_spares_queries_and_idle_clients(start_pooler):
    pooler = start_pooler({"idle_transaction_timeout": T, "pool_mode": "session"})
    with pooler.client() as client:
        assert client.query(f"BEGIN; SELECT pg_sleep({2 * T})").status == "T"
        assert client.query("COMMIT").status == "I"
        time.sleep(2 * T)
        assert client.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_transaction_timeout(start_pooler, cluster):
    """Counts from the first query, whether the client rests or not. New in PgBouncer 1.25."""
    pooler = start_pooler({"transaction_timeout": T})
    client = pooler.client()
    pid = client.query(PID).value
    client.query("BEGIN")
    client.query(f"SELECT pg_sleep({T / 2})")
    ends(client, "transaction timeout", T / 2)
    assert_logged(pooler, "transaction timeout", with_server=True)
    wait_gone(cluster, pid)
    busy = pooler.client()
    busy.send(query("BEGIN; SELECT pg_sleep(20)"))
    ends(busy, "transaction timeout", T)


@pytest.mark.weir_only
def test_transaction_timeout_counts_each_transaction(start_pooler):
    pooler = start_pooler({"transaction_timeout": T, "pool_mode": "session"})
    with pooler.client() as client:
        for _ in range(3):
            client.query("BEGIN")
            client.query(f"SELECT pg_sleep({T / 2})")
            assert client.query("COMMIT").status == "I"
        time.sleep(1.5 * T)
        assert client.query("SELECT 1").value == "1"


# Waiting and resting


def test_query_wait_timeout(start_pooler):
    pooler = start_pooler({"query_wait_timeout": T, "default_pool_size": 1})
    holder, waiter = pooler.client(), pooler.client()
    holder.query("BEGIN")
    waiter.send(query("SELECT 1"))
    ends(waiter, "query_wait_timeout", T)
    assert_logged(pooler, "query_wait_timeout", with_server=False)
    assert holder.query("COMMIT").status == "I"


def test_client_idle_timeout(start_pooler):
    pooler = start_pooler({"client_idle_timeout": T})
    client = pooler.client()
    for _ in range(3):
        time.sleep(T / 2)
        client.query("SELECT 1")
    ends(client, "client_idle_timeout", T)
    assert_logged(pooler, "client_idle_timeout", with_server=False)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_client_idle_timeout_spares_who_has_a_server(start_pooler, mode):
    pooler = start_pooler({"client_idle_timeout": T, "pool_mode": mode})
    with pooler.client() as client:
        client.query("BEGIN" if mode == "transaction" else "SELECT 1")
        time.sleep(2 * T)
        assert client.query("SELECT 2").value == "2"


# Which one counts


@pytest.mark.weir_only
def test_timeouts_of_users(start_pooler):
    """A user's own counts where it is above 0. Later than PgBouncer 1.18."""
    users = {
        "app_trust": "query_timeout=1 idle_transaction_timeout=1 client_idle_timeout=2",
        "app": "transaction_timeout=1 query_timeout=0",
    }
    pooler = start_pooler({"query_timeout": 60, "transaction_timeout": 60}, users=users)
    running, resting, idle = (pooler.client() for _ in range(3))
    running.send(query("SELECT pg_sleep(20)"))
    resting.query("BEGIN")
    ends(running, "query timeout", 1)
    ends(resting, "idle transaction timeout", 0)
    ends(idle, "client_idle_timeout", 1)
    other = pooler.client("app")
    other.send(query("SELECT pg_sleep(20)"))
    ends(other, "transaction timeout", 1)


@pytest.mark.weir_only
def test_query_wait_timeout_of_user_database_global(start_pooler, cluster):
    """The first that is set counts, a 0 too."""
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(
        {"query_wait_timeout": 1, "default_pool_size": 1},
        databases={"app": entry + " query_wait_timeout=2", "plain": entry},
        users={"app": "query_wait_timeout=0"},
    )
    places = [("app_trust", "plain"), ("app_trust", "app"), ("app", "app")]
    holders = [pooler.client(user, database=database) for user, database in places]
    waiters = [pooler.client(user, database=database) for user, database in places]
    for holder in holders:
        holder.query("BEGIN")
    for waiter in waiters:
        waiter.send(query("SELECT 1"))
    ends(waiters[0], "query_wait_timeout", 1)
    ends(waiters[1], "query_wait_timeout", 1)
    assert waiters[2].is_silent(1)
    holders[2].query("COMMIT")
    assert waiters[2].answer().value == "1"


def test_timeouts_follow_set_and_reload(start_pooler):
    pooler = start_pooler()
    client = pooler.client()
    client.query("BEGIN")
    pooler.admin(f"SET idle_transaction_timeout = '{T}'")
    ends(client, "idle transaction timeout", 0)
    pooler.admin("RELOAD")
    with pooler.client() as other:
        other.query("BEGIN")
        time.sleep(2 * T)
        assert other.query("COMMIT").status == "I"


# Logging in


@pytest.mark.parametrize(
    "said", ["nothing", pytest.param("half a packet", marks=pytest.mark.weir_only), "a user"]
)
def test_client_login_timeout_counts_from_the_connect(start_pooler, said):
    pooler = start_pooler({"client_login_timeout": T, "auth_type": "scram-sha-256"})
    # With tcp_defer_accept the kernel keeps to itself who says nothing over TCP.
    client = pooler.connect(unix=said == "nothing")
    packet = startup({"user": "app", "database": "app"})
    began = time.monotonic()
    if said != "nothing":
        time.sleep(T / 2)
        client.send(packet if said == "a user" else packet[:20])
    error = client.read_to_end().errors[-1]
    assert error["M"] == "client_login_timeout"
    assert T - 0.1 <= time.monotonic() - began <= T + LATE


def test_client_login_timeout_without_a_server(start_pooler, cluster):
    """Nobody tells the pool's parameters."""
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler({"client_login_timeout": T}, databases={"app": entry})
    pooler.admin("PAUSE")
    client = pooler.connect()
    client.send(startup({"user": "app_trust", "database": "app"}))
    ends(client, "client_login_timeout (server down)", T)


def test_query_wait_timeout_of_a_login(start_pooler):
    """Whoever waits for the pool's parameters waits in the same line."""
    pooler = start_pooler({"query_wait_timeout": T})
    pooler.admin("PAUSE")
    client = pooler.connect()
    client.send(startup({"user": "app_trust", "database": "app"}))
    ends(client, "query_wait_timeout", T)


def test_no_timeout_at_all(start_pooler):
    """0 means never, everywhere."""
    names = "query client_idle idle_transaction query_wait client_login server_idle"
    settings = {f"{name}_timeout": 0 for name in names.split()}
    pooler = start_pooler({**settings, "default_pool_size": 1})
    with pooler.client() as holder, pooler.client() as waiter:
        holder.query("BEGIN")
        waiter.send(query("SELECT 1"))
        assert waiter.is_silent(2 * T)
        holder.query("COMMIT")
        assert waiter.answer().value == "1"
