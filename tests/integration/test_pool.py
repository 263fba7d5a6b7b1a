"""How a few servers serve many clients: limits, order, waiting, and the life of a server."""

import threading
import time

import psycopg
import pytest

from pooler import KIND, PATIENCE, WORKERS
from tools import in_threads
from wire import LoginFailed, query

PID = "SELECT pg_backend_pid()"
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_trust'"
# Between workers a server may be given up by closing it; PostgreSQL shows it a moment longer.
MAY_BE_CLOSING = 5 if WORKERS > 1 else 0


@pytest.mark.parametrize("size", [1, 5])
def test_pool_size_bounds_the_servers(start_pooler, cluster, size):
    """A hundred clients; PostgreSQL itself tells how many connections they got."""
    pooler = start_pooler({"default_pool_size": size})
    clients = [pooler.client() for _ in range(100)]
    pids = set()
    most = 0
    done = threading.Event()

    def watch():
        nonlocal most
        with psycopg.connect(cluster.primary.conninfo(), autocommit=True) as connection:
            while not done.is_set():
                most = max(most, connection.execute(BACKENDS).fetchone()[0])
                time.sleep(0.005)

    def work(number):
        for _ in range(3):
            answer = clients[number].query(PID + ", pg_sleep(0.002)")
            pids.add(answer.rows[0][0])

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    in_threads(100, work)
    done.set()
    watcher.join()
    assert 1 <= most <= size + MAY_BE_CLOSING
    assert WORKERS > 1 or len(pids) == size
    for client in clients:
        client.close()


def test_pool_size_of_a_database_entry(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app pool_size=2"
    pooler = start_pooler({"default_pool_size": 9}, databases={"app": entry})
    clients = [pooler.client() for _ in range(4)]
    for client in clients[:2]:
        client.query("BEGIN")
    clients[2].send(query("SELECT 'third'"))
    assert clients[2].is_silent(0.3)
    clients[0].query("COMMIT")
    assert clients[2].answer().value == "third"


def test_pools_are_apart(start_pooler, cluster):
    """Each user of each database has servers of its own."""
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname="
    pooler = start_pooler(
        {"default_pool_size": 1}, databases={"app": entry + "app", "other": entry + "postgres"}
    )
    asked = "SELECT current_user, current_database()"
    clients = {
        (user, database): pooler.client(user, database=name)
        for user in ("app_trust", "app", "app_plain")
        for name, database in (("app", "app"), ("other", "postgres"))
    }
    for _ in range(3):
        for expected, client in clients.items():
            assert client.query(asked).rows == [expected]


def wait_for_waiters(pooler, count):
    """Waits until so many clients of the database app stand in line."""
    deadline = time.monotonic() + 10 * PATIENCE
    while True:
        pools = [row for row in pooler.admin("SHOW POOLS") if row["database"] == "app"]
        if sum(int(row["cl_waiting"]) for row in pools) == count:
            return
        assert time.monotonic() < deadline, f"not {count} waiters: {pools}"
        time.sleep(0.01)


def test_waiters_are_served_in_order(start_pooler, make_table):
    make_table("served", "number serial, who int")
    pooler = start_pooler({"default_pool_size": 1})
    holder = pooler.client()
    clients = [pooler.client() for _ in range(12)]
    holder.query("BEGIN")
    for number, client in enumerate(clients):
        client.send(query(f"INSERT INTO served (who) VALUES ({number})"))
        wait_for_waiters(pooler, number + 1)
    holder.query("COMMIT")
    for client in clients:
        assert client.answer().tags == ["INSERT 0 1"]
    order = [int(row[0]) for row in holder.query("SELECT who FROM served ORDER BY number").rows]
    assert order == list(range(12))


def test_waiter_that_leaves_is_passed_over(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    holder, leaving, staying = (pooler.client() for _ in range(3))
    holder.query("BEGIN")
    leaving.send(query("SELECT 1"))
    time.sleep(0.1)
    staying.send(query("SELECT 'served'"))
    time.sleep(0.1)
    leaving.drop()
    time.sleep(0.1)
    holder.query("COMMIT")
    assert staying.answer().value == "served"


def test_query_wait_timeout(start_pooler):
    pooler = start_pooler({"default_pool_size": 1, "query_wait_timeout": 1})
    holder, waiter = pooler.client(), pooler.client()
    holder.query("BEGIN")
    began = time.monotonic()
    waiter.send(query("SELECT 1"))
    answer = waiter.read_to_end()
    assert 0.9 < time.monotonic() - began < 3 * PATIENCE
    error = answer.error
    assert (error["S"], error["C"], error["M"]) == ("FATAL", "08P01", "query_wait_timeout")
    assert holder.query("COMMIT").status == "I"
    with pooler.client() as other:
        assert other.query("SELECT 1").value == "1"


@pytest.mark.one_worker
def test_server_goes_to_the_next_client(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as one, pooler.client() as two:
        pid = one.query(PID).value
        for _ in range(10):
            assert two.query(PID).value == pid
            assert one.query(PID).value == pid


@pytest.mark.one_worker
def test_server_survives_its_client(start_pooler):
    for mode in ("session", "transaction"):
        pooler = start_pooler({"pool_mode": mode, "default_pool_size": 1})
        pids = set()
        for _ in range(5):
            with pooler.client() as client:
                pids.add(client.query(PID).value)
        assert len(pids) == 1


def test_session_mode_keeps_the_server(start_pooler):
    pooler = start_pooler({"pool_mode": "session", "default_pool_size": 1})
    one, two = pooler.client(), pooler.client()
    one.query("SET work_mem = '12MB'; CREATE TEMP TABLE mine (a int)")
    two.send(query("SHOW work_mem"))
    assert two.is_silent(0.5)
    assert one.query("SHOW work_mem").value == "12MB"
    one.close()
    assert two.answer().value == "4MB"
    assert two.query("SELECT to_regclass('mine')").rows == [(None,)]


def test_transaction_mode_gives_the_server_back(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    one, two = pooler.client(), pooler.client()
    one.query("BEGIN")
    two.send(query("SELECT 'two'"))
    assert two.is_silent(0.3)
    one.query("COMMIT")
    assert two.answer().value == "two"


def test_pool_mode_of_a_database_entry(start_pooler, cluster):
    entry = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(
        {"default_pool_size": 1, "pool_mode": "session"},
        databases={"app": entry + " pool_mode=transaction"},
    )
    with pooler.client() as one, pooler.client() as two:
        assert one.query("SELECT 1").value == two.query("SELECT 1").value


# The life of a server


def count_servers(cluster):
    return int(cluster.primary.sql(BACKENDS))


def wait_for_servers(cluster, count, seconds):
    deadline = time.monotonic() + seconds
    while count_servers(cluster) != count:
        assert time.monotonic() < deadline, f"{count_servers(cluster)} servers, not {count}"
        time.sleep(0.05)


def test_server_idle_timeout(start_pooler, cluster):
    wait_for_servers(cluster, 0, 5 * PATIENCE)  # those of the test before
    pooler = start_pooler({"server_idle_timeout": 1})
    clients = [pooler.client() for _ in range(3)]
    for client in clients:
        client.send(query("SELECT pg_sleep(0.2)"))
    for client in clients:
        client.answer()
    assert count_servers(cluster) == 3
    wait_for_servers(cluster, 0, 5 * PATIENCE)
    assert clients[0].query("SELECT 1").value == "1"


def test_server_lifetime(start_pooler):
    pooler = start_pooler({"server_lifetime": 1, "default_pool_size": 1})
    with pooler.client() as client:
        pid = client.query(PID).value
        client.query("BEGIN")
        time.sleep(2)
        assert client.query(PID).value == pid, "it may not be closed inside a transaction"
        client.query("COMMIT")
        deadline = time.monotonic() + 4 * PATIENCE
        while client.query(PID).value == pid:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_server_login_retry(start_pooler, cluster):
    """Many clients, one attempt at a time, and none before server_login_retry has passed. Each worker
    learns of the failure by an attempt of its own."""
    cluster.primary.sql("CREATE ROLE late LOGIN PASSWORD 'early'")
    refused = 'FATAL:  password authentication failed for user "late"'
    try:
        before = cluster.primary.log_text().count(refused)
        pooler = start_pooler({"server_login_retry": 2}, secrets={"late": "in time"})
        began = time.monotonic()
        while time.monotonic() - began < 1:
            with pytest.raises(LoginFailed):
                pooler.client("late")
        assert cluster.primary.log_text().count(refused) - before <= 1 + WORKERS
        cluster.primary.sql("ALTER ROLE late PASSWORD 'in time'")
        deadline = time.monotonic() + 5 * PATIENCE
        while True:
            try:
                client = pooler.client("late")
                break
            except LoginFailed:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert client.query("SELECT 1").value == "1"
        client.close()
        pooler.stop()
    finally:
        cluster.primary.sql("DROP ROLE late")


def test_servers_are_closed_with_the_pooler(start_pooler, cluster):
    wait_for_servers(cluster, 0, 5 * PATIENCE)  # those of the test before
    pooler = start_pooler()
    clients = [pooler.client() for _ in range(5)]
    for client in clients:
        client.query("BEGIN")
    assert count_servers(cluster) == 5
    pooler.stop()
    wait_for_servers(cluster, 0, 5)


# Fairness


def alternate(pooler, seconds):
    """Two clients that ask without a pause: the longest wait and the queries of each."""
    longest = [0.0, 0.0]
    counts = [0, 0]
    end = time.monotonic() + seconds

    def work(number):
        with pooler.client() as client:
            client.query("SELECT 1")
            while (began := time.monotonic()) < end:
                assert client.query(f"SELECT {number}").value == str(number)
                longest[number] = max(longest[number], time.monotonic() - began)
                counts[number] += 1

    in_threads(2, work)
    return longest, counts


@pytest.mark.release_only
@pytest.mark.timeout(90)
@pytest.mark.parametrize("workers", [1, 2] if KIND == "weir" else [None])
def test_two_clients_alternate_on_one_server(start_pooler, workers):
    """Neither starves, whichever worker it belongs to: the longest wait in 10 s is below 50 ms.

    A machine that does something else for a moment gets another chance; a pooler that lets a client
    wait does so every time.
    """
    pooler = start_pooler({"default_pool_size": 1, "workers": workers})
    for _ in range(4):
        longest, counts = alternate(pooler, 10)
        assert min(counts) * 3 > max(counts), f"queries {counts}"
        if max(longest) < 0.050:
            return
    pytest.fail(f"longest waits {longest}, queries {counts}")


def test_many_clients_with_transactions_all_finish(start_pooler, make_table):
    """Sixty clients on four servers, each with transactions of several statements."""
    make_table("counted", "who int PRIMARY KEY, n int")
    pooler = start_pooler({"default_pool_size": 4})

    def work(number):
        with pooler.client() as client:
            client.query(f"INSERT INTO counted VALUES ({number}, 0)")
            for turn in range(5):
                client.query("BEGIN")
                client.query(f"UPDATE counted SET n = n + 1 WHERE who = {number}")
                assert client.query("COMMIT" if turn % 2 == 0 else "ROLLBACK").status == "I"
            assert client.query(f"SELECT n FROM counted WHERE who = {number}").value == "3"

    in_threads(60, work)
    with pooler.client() as client:
        assert client.query("SELECT count(*), sum(n) FROM counted").rows == [("60", "180")]
