"""The admin console: who may enter, what it shows, what it does, and what it says to nonsense."""

import re
import subprocess
import time

import psycopg
import pytest

import cluster as clusters
import pooler as poolers
import wire
from console import COUNTS, VIEWS, row_of, types_of, wait_until

pytestmark = pytest.mark.weir_only

@pytest.fixture
def console(pooler):
    """An admin's console."""
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
        yield client


# Login


@pytest.mark.parametrize("database", ["pgbouncer", "weir"])
@pytest.mark.parametrize("who", [poolers.ADMIN, poolers.MONITOR])
def test_admins_and_stats_users_may_enter(pooler, who, database):
    with pooler.client(*who, database=database) as client:
        assert client.parameters == {
            "server_version": "1.25.2/bouncer",
            "client_encoding": "UTF8",
            "server_encoding": "UTF8",
            "DateStyle": "ISO",
            "TimeZone": "GMT",
            "standard_conforming_strings": "on",
            "is_superuser": "on",
        }
        assert len(client.key) == 8
        assert client.query("SHOW VERSION").value == "PgBouncer 1.25.2"


def test_others_may_not_enter(pooler):
    with pytest.raises(wire.LoginFailed) as failed:
        pooler.client("app_trust", database="pgbouncer")
    assert failed.value.fields["M"] == "not allowed"
    assert failed.value.fields["C"] == "08P01"
    assert failed.value.fields["S"] == "FATAL"


def test_a_password_is_asked_for(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    assert pooler.admin("SHOW VERSION") == [{"version": "PgBouncer 1.25.2"}]
    with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
        pooler.admin("SHOW VERSION", user=("admin", "wrong"))


def test_the_owner_enters_over_the_unix_socket(start_pooler):
    """The system user that the pooler runs as, called pgbouncer, needs no password."""
    pooler = start_pooler({"auth_type": "scram-sha-256", "admin_users": ""})
    pooler.wait_log("process up")  # the Unix socket comes after the TCP one
    command = [clusters.program("psql"), "-X", "-A", "-t", "-h", pooler.folder]
    command += ["-p", str(pooler.port), "-U", "pgbouncer", "-d", "pgbouncer", "-c", "SHOW VERSION"]
    done = subprocess.run(
        clusters.as_unprivileged(command),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd="/",
        env=clusters.environment(PGPASSWORD="none"),
    )
    assert done.stdout.strip() == "PgBouncer 1.25.2", done.stderr
    pooler.wait_log("pgbouncer access from unix socket")
    if clusters.unprivileged() is None:
        return
    with pytest.raises(wire.LoginFailed):  # root is somebody else
        pooler.client("pgbouncer", "none", database="pgbouncer", unix=True)


# What SHOW shows


@pytest.mark.parametrize("view", VIEWS)
def test_columns_and_types(pooler, view):
    with pooler.psycopg(*poolers.ADMIN, database="pgbouncer") as connection:
        cursor = connection.execute(f"show {view.lower()};")
        assert types_of(cursor) == VIEWS[view]
        assert cursor.statusmessage == "SHOW"


def test_connections_are_shown_with_their_partners(pooler):
    with pooler.psycopg(application_name="the app") as connection:
        connection.execute("BEGIN")
        client = row_of(pooler.admin("SHOW CLIENTS"), database="app")
        server = row_of(pooler.admin("SHOW SERVERS"))
        pool = row_of(pooler.admin("SHOW POOLS"), database="app")
        backend = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    assert client["type"] == "C" and server["type"] == "S"
    assert client["state"] == server["state"] == "active"
    assert client["link"] == server["ptr"] and server["link"] == client["ptr"]
    assert client["ptr"] == f"0x{client['id']:x}" and client["id"] != server["id"]
    assert client["addr"] == server["addr"] == "127.0.0.1"
    assert client["local_port"] == pooler.port and client["port"] > 0
    assert server["port"] == pooler.cluster.primary.port and server["remote_pid"] == backend
    assert client["application_name"] == "the app"
    assert client["user"] == server["user"] == "app_trust"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", client["connect_time"])
    assert (pool["cl_active"], pool["sv_active"], pool["sv_idle"]) == (1, 1, 0)
    assert pool["pool_mode"] == "transaction"


def test_a_unix_client_is_shown_as_such(pooler):
    pooler.wait_log("process up")  # the Unix socket comes after the TCP one
    with pooler.client(unix=True):
        client = row_of(pooler.admin("SHOW CLIENTS"), database="app")
    assert client["addr"] == client["local_addr"] == "unix"
    assert client["port"] == client["local_port"] == pooler.port
    assert client["remote_pid"] > 0 and client["state"] == "idle"


def test_the_console_is_in_the_list(pooler):
    rows = pooler.admin("SHOW CLIENTS")
    assert row_of(rows, database="pgbouncer")["state"] == "idle"
    assert row_of(pooler.admin("SHOW POOLS"), database="pgbouncer") == {
        **dict.fromkeys((name for name, _ in VIEWS["POOLS"]), 0),
        "database": "pgbouncer",
        "user": "pgbouncer",
        "cl_active": 1,
        "pool_mode": "statement",
        "load_balance_hosts": None,
    }


def test_waiting_clients_are_shown(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.psycopg() as holder, pooler.client() as waiter:
        holder.execute("BEGIN")
        waiter.send(wire.query("SELECT 1"))
        wait_until(lambda: row_of(pooler.admin("SHOW POOLS"), database="app")["cl_waiting"] == 1)
        time.sleep(0.3)
        pool = row_of(pooler.admin("SHOW POOLS"), database="app")
        rows = pooler.admin("SHOW CLIENTS")
        waiting = row_of(rows, database="app", state="waiting")
        holder.execute("COMMIT")
        assert waiter.answer().value == "1"
        after = row_of(pooler.admin("SHOW POOLS"), database="app")
    assert (pool["cl_active"], pool["cl_waiting"], pool["sv_active"]) == (1, 1, 1)
    assert 200_000 < pool["maxwait"] * 1_000_000 + pool["maxwait_us"] < 20_000_000
    assert waiting["wait"] * 1_000_000 + waiting["wait_us"] > 200_000
    assert (after["cl_active"], after["cl_waiting"], after["maxwait"]) == (2, 0, 0)
    assert after["maxwait_us"] == 0


def test_databases_are_listed(start_pooler, cluster):
    port = cluster.primary.port
    pooler = start_pooler(
        databases={
            "b": f"host=127.0.0.1 port={port} dbname=app user=app_trust pool_size=3",
            "a": f"host=127.0.0.1,127.0.0.1 port={port} pool_mode=session server_lifetime=60",
            "*": f"host=127.0.0.1 port={port}",
        }
    )
    with pooler.client(database="b"), pooler.client(user="postgres", database="postgres"):
        rows = pooler.admin("SHOW DATABASES")
    assert [row["name"] for row in rows] == ["a", "b", "pgbouncer", "postgres"]
    one, two, console, auto = rows
    assert (one["database"], one["pool_size"], one["pool_mode"]) == ("a", 20, "session")
    assert one["load_balance_hosts"] == "round-robin" and one["host"] == "127.0.0.1,127.0.0.1"
    assert one["server_lifetime"] == 60 and one["force_user"] is None
    assert (two["database"], two["force_user"], two["pool_size"]) == ("app", "app_trust", 3)
    assert two["pool_mode"] is None and two["load_balance_hosts"] is None
    assert two["current_client_connections"] == 1 and two["port"] == port
    assert (console["port"], console["database"]) == (pooler.port, "pgbouncer")
    assert (console["force_user"], console["pool_size"]) == ("pgbouncer", 2)
    assert console["pool_mode"] == "statement"
    assert auto["database"] == "postgres"


def test_stats_count(start_pooler):
    pooler = start_pooler({"stats_period": 1})
    before = int(row_of(pooler.admin("SHOW TOTALS"), name="total_query_count")["value"])
    with pooler.client() as client:
        for _ in range(7):
            client.query("SELECT 1")
        client.query("BEGIN")
        client.query("SELECT pg_sleep(0.05)")
        client.query("COMMIT")
        named = wire.parse("SELECT 2", "named"), wire.bind(name="named"), wire.execute()
        client.ask(*named, wire.SYNC)
    stats = row_of(pooler.admin("SHOW STATS"), database="app")
    assert (stats["total_query_count"], stats["total_xact_count"]) == (11, 9)
    assert stats["total_client_parse_count"] == stats["total_bind_count"] == 1
    assert stats["total_client_login_count"] == 1
    assert stats["total_server_assignment_count"] == 9
    assert stats["total_query_time"] >= 50_000 and stats["total_xact_time"] >= 50_000
    assert stats["total_received"] > 100 and stats["total_sent"] > 100
    totals = row_of(pooler.admin("SHOW STATS_TOTALS"), database="app")
    assert totals["query_count"] == 11 and totals["bytes_sent"] == stats["total_sent"]
    # SHOW STATS, STATS_TOTALS, and both SHOW TOTALS count.
    after = int(row_of(pooler.admin("SHOW TOTALS"), name="total_query_count")["value"])
    assert after - before == 11 + 3
    pooler.wait_log(r"LOG stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server")


def test_averages_follow_the_last_period(start_pooler):
    pooler = start_pooler({"stats_period": 1})

    def average():
        return row_of(pooler.admin("SHOW STATS"), database="app")["avg_query_count"]

    with pooler.client() as client:
        begun = time.monotonic()
        while time.monotonic() < begun + 2.5:
            client.query("SELECT 1")
            time.sleep(0.005)
        assert average() > 10
        assert row_of(pooler.admin("SHOW STATS_AVERAGES"), database="app")["query_time"] > 0
        assert row_of(pooler.admin("SHOW TOTALS"), name="avg_query_count")["value"] > 10
    wait_until(lambda: average() == 0)


def test_lists_count_databases_that_nobody_used(start_pooler, cluster):
    node = f"host=127.0.0.1 port={cluster.primary.port}"
    pooler = start_pooler(databases={"a": node, "b": node, "*": node})
    assert row_of(pooler.admin("SHOW LISTS"), list="databases")["items"] == 3


def test_lists_totals_state_and_users(pooler):
    with pooler.client():
        lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
    assert list(lists) == (
        "databases users peers pools peer_pools free_clients used_clients login_clients "
        "free_servers used_servers dns_names dns_zones dns_queries dns_pending"
    ).split()
    assert (lists["databases"], lists["pools"], lists["used_clients"]) == (2, 2, 2)
    assert lists["users"] == len(poolers.SECRETS) + 1
    names = (COUNTS + " client_bytes server_bytes xact_time query_time wait_time").split()
    names += ["ps_client_parse_count", "ps_server_parse_count", "ps_bind_count"]
    names.append("client_login_count")
    expected = [f"total_{name}" for name in names] + [f"avg_{name}" for name in names]
    assert [row["name"] for row in pooler.admin("SHOW TOTALS")] == expected
    state = {row["key"]: row["value"] for row in pooler.admin("SHOW STATE")}
    assert list(state.items()) == [("active", "yes"), ("paused", "no"), ("suspended", "no")]
    users = pooler.admin("SHOW USERS")
    assert {"pgbouncer", "app_trust"} <= {row["name"] for row in users}


def test_config_shows_values_and_hides_secrets(start_pooler):
    pooler = start_pooler({"default_pool_size": 7, "probe_user": "u", "probe_password": "hush"})
    rows = pooler.admin("SHOW CONFIG")
    keys = [row["key"] for row in rows]
    ours = keys.index("alert_active_servers")
    assert keys[ours:] == sorted(keys[ours:])  # PgBouncer's: see test_console_config.py
    assert row_of(rows, key="default_pool_size") == {
        "key": "default_pool_size",
        "value": "7",
        "default": "20",
        "changeable": "yes",
    }
    assert row_of(rows, key="listen_port")["changeable"] == "no"
    assert "hush" not in repr(rows)


def test_help_is_a_notice(console):
    answer = console.query("SHOW HELP")
    (notice,) = answer.notices
    assert (notice["M"], notice["S"], notice["C"]) == ("Console usage", "NOTICE", "00000")
    for word in [*VIEWS, "RELOAD", "PAUSE", "RESUME", "SHUTDOWN", "SET key", "ROUTE"]:
        assert word in notice["D"]
    assert answer.tags == ["SHOW"] and answer.kinds == "NCZ"


@pytest.fixture
def routed(start_pooler, cluster):
    """A pooler with the database `app` routed over all nodes, whose probes have run."""
    probe = {"probe_user": "probe", "probe_password": clusters.PASSWORDS["probe"]}
    pooler = start_pooler(
        {**probe, "probe_interval": "0.1"}, databases={"app": route_string(cluster)}
    )
    wait_until(lambda: {row["state"] for row in pooler.admin("SHOW NODES")} == {"up"})
    return pooler


def route_string(cluster):
    hosts = ",".join(node.host for node in cluster.nodes)
    ports = ",".join(str(node.port) for node in cluster.nodes)
    return f"host={hosts} port={ports} dbname=app routing=read_write"


def test_nodes_are_shown(routed):
    with routed.client() as client:
        client.query("CREATE TEMP TABLE shown (a int)")
        rows = wait_until(
            lambda: (rows := routed.admin("SHOW NODES"))
            and all(row["lag_bytes"] is not None for row in rows[1:])
            and rows
        )
    assert [row["role"] for row in rows] == ["primary", "replica", "replica"]
    assert [row["port"] for row in rows] == [node.port for node in routed.cluster.nodes]
    assert all(re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", row["lsn"]) for row in rows)
    assert all(row["timeline"] == 1 and row["latency_us"] > 0 for row in rows)
    assert rows[0]["queries"] >= 1 and rows[0]["error"] is None
    pools = routed.admin("SHOW NODE_POOLS")
    assert [row["role"] for row in pools] == ["primary", "replica", "replica"]
    assert {row["pool_size"] for row in pools} == {20}


@pytest.mark.parametrize(
    "sql, target, reason",
    [
        ("INSERT INTO t VALUES (''a;b'')", "primary", "INSERT"),
        ("SELECT nextval(''s'')", "primary", "nextval"),
        ("SELEC 1", "primary", ""),
        ("/* weir:primary */ SELECT 1", "primary", ""),
    ],
)
def test_route_is_explained(routed, sql, target, reason):
    (row,) = routed.admin(f"SHOW ROUTE '{sql}'")
    assert (row["database"], row["target"]) == ("app", target)
    assert reason in row["reason"]
    assert routed.admin(f"SHOW ROUTE app '{sql}'") == [row]


def test_reads_are_routed_to_replicas(routed):
    def read():
        (row,) = routed.admin("SHOW ROUTE 'SELECT 1'")
        return row if row["target"] == "replica" else None

    standbys = [f"127.0.0.1:{node.port}" for node in routed.cluster.standbys]
    assert wait_until(read)["node"] in standbys


# What commands do


def test_the_tag_is_the_command(console):
    for command, tag in [
        ("RELOAD", "RELOAD"),
        ("reload;", "RELOAD"),
        ("PAUSE app", "PAUSE"),
        ("RESUME app", "RESUME"),
        ("PAUSE", "PAUSE"),
        ("RESUME", "RESUME"),
        ("RECONNECT", "RECONNECT"),
        ("SET verbose = 1", "SET verbose=1"),
        ("SET verbose TO '0'", "SET verbose=0"),
        ("SET timezone = 'UTC'", "SET"),
        ("SELECT version", "SHOW"),
        ("SHOW \"version\"", "SHOW"),
    ]:
        answer = console.query(command)
        assert answer.tags == [tag], (command, answer)
        assert answer.status == "I"


@pytest.mark.parametrize(
    "command, text, code",
    [
        ("", "invalid command '', use SHOW HELP;", "08P01"),
        (";", "invalid command ';', use SHOW HELP;", "08P01"),
        ("SHOW", "invalid command 'SHOW', use SHOW HELP;", "08P01"),
        ("SHOW nothing", "invalid command 'SHOW nothing', use SHOW HELP;", "08P01"),
        ("SHOW POOLS x y", "invalid command 'SHOW POOLS x y', use SHOW HELP;", "08P01"),
        ("SELECT 1+1", "invalid command 'SELECT 1+1', use SHOW HELP;", "08P01"),
        ("RELOAD now", "invalid command 'RELOAD now', use SHOW HELP;", "08P01"),
        ("SET x", "invalid command 'SET x', use SHOW HELP;", "08P01"),
        ("SHUTDOWN soon", "invalid command 'SHUTDOWN soon', use SHOW HELP;", "08P01"),
        ("x" * 16, "bad arguments", "08P01"),
        ("SHOW " + "x" * 64, "bad arguments", "08P01"),
        ("SET no_such_key = 1", "SET failed", "08P01"),
        ("SET default_pool_size = many", "SET failed", "08P01"),
        ("PAUSE nowhere", "no such database: nowhere", "08P01"),
        ("PAUSE pgbouncer", "cannot pause admin db: pgbouncer", "08P01"),
        ("RESUME", "pooler is not paused/suspended", "08P01"),
        ("RESUME app", "database app is not paused", "08P01"),
        ("RESUME nowhere", "no such database: nowhere", "08P01"),
        ("RECONNECT nowhere", "no such database: nowhere", "08P01"),
        ("RECONNECT pgbouncer", "cannot reconnect admin db: pgbouncer", "08P01"),
        ("KILL_CLIENT", "invalid client pointer supplied", "08P01"),
        ("KILL_CLIENT me", "invalid client pointer supplied", "08P01"),
        ("KILL_CLIENT 99999999999", "invalid client pointer supplied", "08P01"),
        ("KILL_CLIENT 4000000000", "client not found", "08P01"),
        ("SHOW ROUTE nowhere 'SELECT 1'", "no such database: nowhere", "08P01"),
    ],
)
def test_errors_are_told_and_the_console_stays(console, pooler, command, text, code):
    answer = console.query(command)
    assert answer.error["M"] == text
    assert (answer.error["S"], answer.code, answer.status) == ("ERROR", code, "I")
    log = pooler.log_text()  # the lines are there before the answer
    assert f"ERROR {text}" in log and f"pooler error: {text}" in log
    assert console.query("SHOW VERSION").tags == ["SHOW"]


def test_stats_users_may_only_look(pooler):
    with pooler.client(*poolers.MONITOR, database="pgbouncer") as client:
        for command in [
            "RELOAD",
            "PAUSE",
            "RESUME app",
            "RECONNECT",
            "KILL_CLIENT 1",
            "SET verbose = 1",
            "SHUTDOWN",
            "SHUTDOWN WAIT_FOR_CLIENTS",
        ]:
            assert client.query(command).error["M"] == "admin access needed", command
        assert client.query("SHOW CONFIG").tags == ["SHOW"]
        assert client.query("SET client_encoding = utf8").notices[0]["M"] == "SET ignored"
    assert pooler.is_running()


def test_drivers_find_what_they_ask(console):
    for name, value in {
        "client_encoding": "UTF-8",
        "default_transaction_isolation": "read committed",
        "standard_conforming_strings": "on",
        "datestyle": "ISO",
        "TimeZone": "GMT",
    }.items():
        answer = console.query(f"SHOW {name}")
        assert answer.value == value
        assert answer.of("T")[0].columns() == [name.lower()]
        answer = console.query(f"SET {name} TO 'x'")
        assert answer.notices[0]["M"] == "SET ignored" and answer.tags == ["SET"]


def test_only_simple_queries(pooler):
    for sent, text in [
        (wire.parse("SHOW POOLS"), "extended query protocol not supported by admin console"),
        (wire.SYNC, "unsupported packet type for admin console: 83"),
        (wire.message("d", b"x"), "unsupported packet type for admin console: 100"),
    ]:
        with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
            client.send(sent)
            answer = client.read_to_end()
            assert answer.kinds == "EZE" and answer.errors[1]["S"] == "FATAL"
            assert (answer.errors[0]["S"], answer.errors[0]["M"]) == ("ERROR", text)
            assert f"ERROR {text}" in pooler.log_text()
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
        client.send(wire.message("z", b"x"))
        assert client.read_to_end().error["M"] == "unknown pkt"


def test_queries_at_once_are_answered_in_order(console):
    commands = ["SHOW VERSION", "SHOW POOLS", "nonsense", "SHOW CLIENTS", "SHOW STATE"] * 3
    console.send(*[wire.query(command) for command in commands])
    answers = [console.answer() for _ in commands]
    for command, answer in zip(commands, answers):
        if command == "nonsense":
            assert answer.errors
        else:
            assert answer.tags == ["SHOW"]
            view = command.split()[1]
            assert answer.of("T")[0].columns() == [name for name, _ in VIEWS[view]]


def test_a_flood_of_queries_ends_the_console(console, pooler):
    console.send(wire.query("SHOW CLIENTS") * 200)
    answer = console.read_to_end()
    assert answer.errors[-1]["S"] == "FATAL"
    assert answer.errors[-1]["D"] == "Too many console commands came at once."
    assert pooler.admin("SHOW VERSION")


def test_a_console_may_leave_before_its_answer(pooler):
    for _ in range(20):
        client = pooler.client(*poolers.ADMIN, database="pgbouncer")
        client.send(wire.query("SHOW CLIENTS") * 5)
        client.reset()
    assert pooler.admin("SHOW VERSION")


def test_set_counts_until_reload(pooler):
    def value(key):
        return row_of(pooler.admin("SHOW CONFIG"), key=key)["value"]

    pooler.admin("SET default_pool_size = 3")
    assert value("default_pool_size") == "3"
    assert row_of(pooler.admin("SHOW DATABASES"), name="app")["pool_size"] == 3
    pooler.admin("SET application_name_add_host = '1'")
    assert value("application_name_add_host") == "1"
    pooler.admin("SET listen_port = 1")  # cannot change while running: answered, and without effect
    assert value("listen_port") == str(pooler.port)
    pooler.admin("RELOAD")
    assert value("default_pool_size") == "20"
    assert "RELOAD command issued" in pooler.log_text()


def test_set_says_what_is_wrong_in_the_log(pooler):
    with pytest.raises(psycopg.Error, match="SET failed"):
        pooler.admin("SET default_pool_sice = 3")
    assert "default_pool_size" in pooler.wait_log(r"ERROR .*default_pool_sice.*")[0]


def test_reload_reads_the_file(pooler):
    pooler.write_ini({}, databases={"app": pooler.node_string(), "more": pooler.node_string()})
    pooler.admin("RELOAD")
    assert [row["name"] for row in pooler.admin("SHOW DATABASES")] == ["app", "more", "pgbouncer"]
    with open(pooler.ini, "a", encoding="utf-8") as file:
        file.write("no_such_setting = 1\n")
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
        answer = client.query("RELOAD")
        assert answer.error["M"] == "RELOAD failed, see logs for additional details"
        assert answer.code == "F0000"
        assert "no_such_setting" in pooler.log_text()
    assert [row["name"] for row in pooler.admin("SHOW DATABASES")] == ["app", "more", "pgbouncer"]


@pytest.mark.parametrize("command", ["PAUSE", "PAUSE app"])
def test_pause_waits_for_transactions(pooler, console, command):
    with pooler.client() as busy, pooler.client() as other:
        busy.query("BEGIN")
        console.send(wire.query(command), wire.query("SHOW VERSION"))
        assert console.is_silent(0.5)
        assert busy.query("SELECT 1").value == "1"
        other.send(wire.query("SELECT 2"))
        assert other.is_silent(0.3)
        busy.query("COMMIT")
        assert console.answer().tags == ["PAUSE"]
        assert console.answer().tags == ["SHOW"]
        assert row_of(pooler.admin("SHOW POOLS"), database="app")["cl_waiting"] == 1
        paused = row_of(pooler.admin("SHOW DATABASES"), name="app")["paused"]
        state = {row["key"]: row["value"] for row in pooler.admin("SHOW STATE")}
        assert (paused, state["paused"]) == ((0, "yes") if command == "PAUSE" else (1, "no"))
        assert console.query(command.replace("PAUSE", "RESUME")).tags == ["RESUME"]
        assert other.answer().value == "2"
    issued = "PAUSE command issued" if command == "PAUSE" else "PAUSE 'app' command issued"
    assert issued in pooler.log_text()


def test_pause_twice_is_an_error(console):
    assert console.query("PAUSE").tags == ["PAUSE"]
    assert console.query("PAUSE").error["M"] == "already suspended/paused"
    assert console.query("RESUME").tags == ["RESUME"]


def test_a_cancel_gives_a_pause_up(pooler, console):
    with pooler.client() as busy:
        busy.query("BEGIN")
        console.send(wire.query("PAUSE"))
        assert console.is_silent(0.3)
        wire.cancel(pooler.address, console.key)
        answer = console.answer()
        assert answer.code == "57014"
        busy.query("COMMIT")
        assert busy.query("SELECT 1").value == "1"
    assert console.query("RESUME").error["M"] == "pooler is not paused/suspended"


def test_a_resume_elsewhere_ends_the_wait(pooler, console):
    with pooler.client() as busy:
        busy.query("BEGIN")
        console.send(wire.query("PAUSE"))
        assert console.is_silent(0.3)
        pooler.admin("RESUME")
        assert console.answer().tags == ["PAUSE"]
        assert busy.query("COMMIT").tags == ["COMMIT"]


def test_a_console_may_leave_while_it_waits(pooler, console):
    with pooler.client() as busy:
        busy.query("BEGIN")
        console.send(wire.query("PAUSE"))
        assert console.is_silent(0.3)
        console.reset()
        busy.query("COMMIT")
        wait_until(lambda: row_of(pooler.admin("SHOW STATE"), key="paused")["value"] == "yes")
        pooler.admin("RESUME")
        assert busy.query("SELECT 1").value == "1"


def test_kill_client(pooler, console):
    with pooler.client() as victim:
        number = row_of(pooler.admin("SHOW CLIENTS"), database="app")["id"]
        assert console.query(f"KILL_CLIENT {number}").tags == ["KILL_CLIENT"]
        answer = victim.read_to_end()
        assert answer.error["M"] == "admin forced disconnect" and answer.error["S"] == "FATAL"
    assert console.query(f"KILL_CLIENT {number}").error["M"] == "client not found"


def test_reconnect_replaces_servers(pooler, console):
    with pooler.client() as client, pooler.client() as busy:
        busy.query("BEGIN")
        held = busy.query("SELECT pg_backend_pid()").value
        idle = client.query("SELECT pg_backend_pid()").value
        assert console.query("RECONNECT app").tags == ["RECONNECT"]
        assert client.query("SELECT pg_backend_pid()").value != idle
        assert busy.query("SELECT pg_backend_pid()").value == held
        busy.query("COMMIT")
        pids = {client.query("SELECT pg_backend_pid()").value for _ in range(3)}
        assert not pids & {held, idle}


# The end


def test_shutdown_breaks_the_connection(pooler, console):
    console.send(wire.query("SHUTDOWN"))
    assert console.read_to_end().messages == []
    wait_until(lambda: not pooler.is_running())
    assert "SHUTDOWN command issued" in pooler.log_text()


def test_shutdown_waits_for_clients(pooler, console):
    with pooler.client() as client:
        assert console.query("SHUTDOWN WAIT_FOR_CLIENTS").tags == ["SHUTDOWN"]
        assert client.query("SELECT 1").value == "1"
        time.sleep(0.3)
        assert pooler.is_running()
        assert console.query("RESUME").error["M"] == "pooler is shutting down"
    wait_until(lambda: not pooler.is_running())
    assert "SHUTDOWN WAIT_FOR_CLIENTS command issued" in pooler.log_text()


def test_shutdown_waits_for_servers(pooler, console):
    with pooler.client() as client:
        client.query("BEGIN")
        assert console.query("SHUTDOWN WAIT_FOR_SERVERS").tags == ["SHUTDOWN"]
        assert client.query("SELECT 1").value == "1"
        assert pooler.is_running()
        client.query("COMMIT")
    wait_until(lambda: not pooler.is_running())
