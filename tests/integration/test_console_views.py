"""What SHOW shows of connections and of the pooler itself, and how it shows much of it."""

import contextlib
import re
import select
import socket
import threading
import time

import pytest

import pooler as poolers
import wire
from console import OLD, OWN, VIEWS, row_of, types_of, wait_until

pytestmark = pytest.mark.weir_only


def connections(pooler, view, **wanted):
    rows = pooler.admin(f"SHOW {view}")
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


# Weir's own columns


def test_the_console_called_weir_shows_more(pooler):
    with pooler.psycopg(*poolers.ADMIN, database="weir") as connection:
        for view, columns in VIEWS.items():
            found = types_of(connection.execute(f"SHOW {view}"))
            assert found == columns + OWN.get(view, []), view


def test_old_columns_are_shown_when_asked_for(start_pooler, cluster):
    node = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler({"console_old_columns": 1}, databases={"app": node})
    with pooler.client() as client:
        client.query("SELECT 1")
    with pooler.psycopg(*poolers.ADMIN, database="pgbouncer") as connection:
        for view in VIEWS:
            found = types_of(connection.execute(f"SHOW {view}"))
            assert found == VIEWS[view] + OLD.get(view, []), view
    stats = row_of(pooler.admin("SHOW STATS"), database="app")
    assert stats["total_requests"] == stats["total_query_count"] == 1
    row = row_of(pooler.admin("SHOW DATABASES"), name="app")
    assert row["reserve_pool"] == row["reserve_pool_size"]
    pooler.admin("SET console_old_columns = 0")
    assert "total_requests" not in pooler.admin("SHOW STATS")[0]


# Times


def test_request_time_is_that_of_the_last_request(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client:
        client.query("SELECT 1")
        first = [connections(pooler, view, database="app")[0] for view in ("CLIENTS", "SERVERS")]
        time.sleep(2.1)
        client.query("SELECT 1")
        second = [connections(pooler, view, database="app")[0] for view in ("CLIENTS", "SERVERS")]
    for before, after in zip(first, second):
        assert after["connect_time"] == before["connect_time"]
        assert after["request_time"] > before["request_time"]


# Sockets


def test_sockets_are_clients_and_servers(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as idle, pooler.client() as busy, pooler.client() as waiter:
        idle.query("SELECT 1")
        server = connections(pooler, "SOCKETS", type="S")
        assert [row["state"] for row in server] == ["sv_idle"]
        busy.query("BEGIN")
        waiter.send(wire.query("SELECT 2"))
        wait_until(lambda: connections(pooler, "SOCKETS", state="cl_waiting"))
        rows = pooler.admin("SHOW SOCKETS")
        ours = [row for row in rows if row["database"] == "app"]
        states = sorted(row["state"] for row in ours)
        assert states == ["cl_active", "cl_active", "cl_waiting", "sv_active"]
        server = row_of(rows, type="S")
        client = row_of(rows, link=server["ptr"])
        assert server["link"] == client["ptr"]
        shown = {**row_of(pooler.admin("SHOW CLIENTS"), id=client["id"]), "wait_us": 0}
        names = [name for name, _ in VIEWS["CLIENTS"] if name not in ("state", "wait_us")]
        assert [shown[name] for name in names] == [client[name] for name in names]
        waiting = row_of(pooler.admin("SHOW ACTIVE_SOCKETS"))  # its request is not handled yet
        assert waiting["state"] == "cl_waiting" and waiting["pkt_avail"] > 0
        busy.query("COMMIT")
        assert waiter.answer().value == "2"
        assert pooler.admin("SHOW ACTIVE_SOCKETS") == []


def test_a_client_in_login_is_a_socket_but_no_client(pooler):
    with pooler.connect() as nobody:
        nobody.send(b"\0")  # nobody is accepted before he says something
        wait_until(lambda: connections(pooler, "SOCKETS", state="cl_login"))
        assert connections(pooler, "CLIENTS", database="(nodb)") == []
        lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
        assert (lists["login_clients"], lists["used_clients"]) == (1, 2)  # it, and the console
        assert nobody.is_silent(0)


def test_descriptors_are_for_admins_and_hold_no_secrets(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    secret = poolers.SECRETS["app"]
    with pooler.client("app", secret, TimeZone="UTC") as client:
        client.query("BEGIN")
        rows = pooler.admin("SHOW FDS")
        (one,) = [row for row in rows if row["task"] == "client"]
        (other,) = [row for row in rows if row["task"] == "server"]
    assert one["fd"] != other["fd"] and one["link"] == other["link"] > 0
    assert (one["user"], one["database"], one["timezone"]) == ("app", "app", "UTC")
    assert (one["std_strings"], one["client_encoding"]) == ("on", "UTF8")
    assert {row["password"] for row in rows} == {None}
    assert {row["scram_client_key"] for row in rows} == {None}
    with pooler.client(*poolers.MONITOR, database="pgbouncer") as watcher:
        answer = watcher.query("SHOW FDS")
        assert answer.error["M"] == "admin access needed" and answer.kinds == "EZ"


def test_a_server_that_is_being_connected(start_pooler):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        entry = f"host=127.0.0.1 port={mute.getsockname()[1]}"
        pooler = start_pooler(databases={"app": entry})
        with pooler.connect() as client:
            client.send(wire.startup({"user": "app_trust", "database": "app"}))
            (row,) = wait_until(lambda: connections(pooler, "SERVERS", state="new"))
            assert (row["remote_pid"], row["link"], row["close_needed"]) == (0, "", 0)
            assert connections(pooler, "SOCKETS", state="sv_login")[0]["id"] == row["id"]
            pool = row_of(pooler.admin("SHOW POOLS"), database="app")
            assert (pool["sv_login"], pool["cl_waiting"], pool["sv_active"]) == (1, 1, 0)
            (waiting,) = connections(pooler, "CLIENTS", database="app")
            assert waiting["state"] == "waiting"


def test_a_server_that_is_being_reset(start_pooler):
    settings = {"pool_mode": "session", "server_reset_query": "SELECT pg_sleep(1)"}
    pooler = start_pooler(settings)
    with pooler.client() as client:
        client.query("SELECT 1")
    wait_until(lambda: connections(pooler, "SERVERS", state="tested"))
    assert connections(pooler, "SOCKETS", state="sv_tested")
    assert row_of(pooler.admin("SHOW POOLS"), database="app")["sv_tested"] == 1
    wait_until(lambda: connections(pooler, "SERVERS", state="idle"))


@pytest.mark.one_worker  # a console that moves to the first worker gets another number
def test_numbers_count_connections(pooler):
    """Each accepted client and each server connection takes one number, and nothing else does."""
    with pooler.client(unix=True):  # behind whoever else came over the Unix socket
        first = row_of(pooler.admin("SHOW CLIENTS"), database="pgbouncer")["id"]
    with pooler.client() as client:
        client.query("SELECT 1")
        with pooler.connect() as nobody:
            nobody.send(b"\0")
        rows = pooler.admin("SHOW SOCKETS")
    ours = [row["id"] for row in rows if row["database"] == "app"]
    assert first + 1 in ours and len(ours) == 2  # the server is an older one
    assert row_of(rows, database="pgbouncer")["id"] == first + 3


def test_memory_is_shown_by_kind(pooler):
    with pooler.client(), pooler.client():
        rows = {row["name"]: row for row in pooler.admin("SHOW MEM")}
    assert rows["client_cache"]["used"] == 3 and rows["server_cache"]["used"] == 1
    rows.pop("prepared_statement_cache")
    for row in rows.values():
        assert row["memtotal"] == row["size"] * row["used"] and row["free"] == 0


# Users


def test_users_of_every_origin_are_listed(start_pooler):
    users = {"app": "pool_size=7 pool_mode=session", "elsewhere": "pool_mode=transaction"}
    pooler = start_pooler(users=users)
    with pooler.client():
        rows = {row["name"]: row for row in pooler.admin("SHOW USERS")}
    assert list(rows) == sorted([*poolers.SECRETS, "elsewhere", "pgbouncer"])
    assert rows["app"]["pool_size"] == "        7" and rows["app"]["pool_mode"] == "session"
    assert rows["postgres"]["pool_size"] == rows["postgres"]["reserve_pool_size"] == ""
    assert rows["postgres"]["pool_mode"] is None
    assert rows["app_trust"]["current_client_connections"] == 1
    assert rows["app_trust"]["current_connections"] == 1
    lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
    assert lists["users"] == len(rows)
    with pytest.raises(wire.LoginFailed):
        pooler.client("nobody")
    assert "nobody" not in {row["name"] for row in pooler.admin("SHOW USERS")}


def test_clients_count_for_who_they_are_and_servers_for_whom_they_serve(start_pooler, cluster):
    node = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    pooler = start_pooler(databases={"app": node, "forced": f"{node} user=postgres"})
    with pooler.client(database="forced"), pooler.client(), pooler.client("app"):
        with pooler.client(*poolers.MONITOR, database="pgbouncer"):
            rows = {row["name"]: row for row in pooler.admin("SHOW USERS")}
    clients = {name: row["current_client_connections"] for name, row in rows.items()}
    servers = {name: row["current_connections"] for name, row in rows.items()}
    nobody = dict.fromkeys(rows, 0)
    assert clients == {**nobody, "app_trust": 2, "app": 1, "admin": 1, "monitor": 1}
    assert servers == {**nobody, "postgres": 1, "app_trust": 1, "app": 1}


# Counters


def test_totals_count_the_console_too(start_pooler):
    pooler = start_pooler({"stats_period": 1})

    def totals(client):
        return {name: int(value) for name, value in client.query("SHOW TOTALS").rows}

    with pooler.client(*poolers.ADMIN, database="pgbouncer") as console:
        first = totals(console)
        assert first["total_query_count"] == first["total_xact_count"] == 1  # itself
        assert first["total_client_login_count"] == 1
        console.query("nonsense")
        with pytest.raises(wire.LoginFailed):
            pooler.client(database="nowhere")
        with pytest.raises(wire.LoginFailed):
            pooler.client("app_trust", database="pgbouncer")
        second = totals(console)
        assert second["total_query_count"] == 3
        assert second["total_client_login_count"] == 1  # failed logins count nowhere
        own = row_of(pooler.admin("SHOW STATS_TOTALS"), database="pgbouncer")
        assert own["query_count"] == 4 and own["client_login_count"] == 2
        for name in ("bytes_received", "bytes_sent", "xact_time", "query_time", "wait_time"):
            assert own[name] == 0  # what clients and servers exchange is counted


LINE = (
    r"LOG stats: (\d+) xacts/s, (\d+) queries/s, (\d+) client parses/s, (\d+) server parses/s, "
    r"(\d+) binds/s, (\d+) client logins/s, in (\d+) B/s, out (\d+) B/s, xact (\d+) us, "
    r"query (\d+) us, wait (\d+) us\n"
)


def test_the_line_of_statistics_has_the_averages(start_pooler):
    pooler = start_pooler({"stats_period": 1})
    with pooler.client() as client:
        for _ in range(10):
            client.query("BEGIN")
            client.query("SELECT pg_sleep(0.01)")
            client.query("COMMIT")
        found = wait_until(lambda: match_line(pooler, lambda line: line[1] > 3 and line[0] > 0))
    xacts, queries, _, _, _, _, received, sent, xact_us, query_us, _ = found
    assert xacts < queries <= 40 and received > 50 and sent > 50
    assert xact_us > query_us > 1000  # a transaction has three queries, one of which sleeps
    pooler.admin("SET log_stats = 0")
    time.sleep(1.2)
    count = pooler.log_text().count("LOG stats:")
    time.sleep(1.5)
    assert pooler.log_text().count("LOG stats:") == count


def match_line(pooler, condition):
    """The numbers of the first line of statistics for which the condition holds."""
    for found in re.finditer(LINE, pooler.log_text()):
        numbers = [int(text) for text in found.groups()]
        if condition(numbers):
            return numbers
    return None


# Much to show


@pytest.fixture
def crowd():
    """Closes what is entered into it at the end."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.release_only
def test_many_clients_are_shown_in_slices(start_pooler, crowd):
    """While a long answer is made, other clients are served; and it is whole."""
    count = 800
    pooler = start_pooler({"max_client_conn": count + 10})
    clients = [crowd.enter_context(pooler.client()) for _ in range(count)]
    ids = {row["id"] for row in connections(pooler, "CLIENTS", database="app")}
    assert len(ids) == count
    worker = clients[0]
    waits = []
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            begun = time.monotonic()
            worker.query("SELECT 1")
            waits.append(time.monotonic() - begun)

    with pooler.client(*poolers.ADMIN, database="pgbouncer") as console:
        thread = threading.Thread(target=ask)
        thread.start()
        spans = []
        for _ in range(10):
            begun, served = time.monotonic(), len(waits)
            console.send(wire.query("SHOW CLIENTS"))
            while True:  # reads, and leaves the sorting for later
                data = console.socket.recv(1 << 20)
                console.unread += data
                if console.unread.endswith(b"SHOW\0Z\0\0\0\5I"):
                    break
            spans.append((time.monotonic() - begun, len(waits) - served))
            answer = console.answer()
            assert len(answer.of("D")) == count + 1
        stop.set()
        thread.join()
    # Others had their turns while each of the answers was made.
    assert sum(served for _, served in spans) >= 2 * len(spans), spans


def test_a_console_that_does_not_read_is_waited_for(start_pooler, crowd):
    """What it does not take is not made, and everybody else is served."""
    count = 400
    pooler = start_pooler({"max_client_conn": count + 10})
    clients = [
        crowd.enter_context(pooler.client(application_name="x" * 60)) for _ in range(count)
    ]
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as console:
        console.send(wire.query("SHOW CLIENTS") * 16)  # some MB of answers
        time.sleep(0.3)
        assert pooler.memory() < 200 * 1024 * 1024
        assert clients[0].query("SELECT 1").value == "1"
        assert len(pooler.admin("SHOW CLIENTS")) == count + 2
        for _ in range(16):
            assert len(console.answer().of("D")) >= count
        console.send(wire.query("SHOW CLIENTS") * 10)
        select.select([console], [], [], 5)
        console.reset()  # in the middle
    assert len(pooler.admin("SHOW CLIENTS")) == count + 1


def test_connections_that_come_and_go_while_they_are_shown(pooler):
    stop = threading.Event()
    errors = []

    def churn():
        try:
            while not stop.is_set():
                with pooler.client() as client:
                    client.query("SELECT 1")
        except (OSError, wire.Closed, wire.LoginFailed) as error:
            errors.append(error)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    with pooler.client(*poolers.ADMIN, database="weir") as console:
        for _ in range(50):
            for view in ["CLIENTS", "SERVERS", "SOCKETS", "FDS"]:
                assert console.query(f"SHOW {view}").tags == ["SHOW"]
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
