"""RELOAD: what it changes, what it closes, and what it leaves alone."""

import os
import re
import socket
import time

import pytest

import wire
from pooler import KIND, PATIENCE
from tools import in_threads
from wire import LoginFailed


def place(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


def reload(pooler, settings=None, **more):
    """Writes the file anew and has it read; what the log says meanwhile, without its end."""
    before = len(pooler.log_text())
    pooler.write_ini({"admin_users": "app_trust", **(settings or {})}, **more)
    with pooler.psycopg(database="pgbouncer") as console:
        try:
            console.execute("RELOAD")
        except Exception as failure:
            assert failure.sqlstate in ("F0000", "08P01")
            assert "RELOAD failed" in str(failure)
    return pooler.log_text()[before:]


def closings(text):
    """The reasons for which servers were closed."""
    return re.findall(r"S-\S+ \S+ closing because: (.*?) \(age", text)


def wait_closing(pooler, reason):
    pooler.wait_log(rf"S-\S+ \S+ closing because: {reason} \(age")


def backend(client):
    return client.query("SELECT pg_backend_pid()").value


def config_of(pooler):
    with pooler.psycopg(database="pgbouncer") as console:
        rows = console.execute("SHOW CONFIG").fetchall()
    return {row[0]: row[1] for row in rows}


@pytest.fixture
def two(cluster, start_pooler):
    """A pooler with the databases app and other."""
    return start_pooler(
        {"admin_users": "app_trust"}, databases={"app": place(cluster), "other": place(cluster)}
    )


# Settings


def test_settings_come_from_the_file_again(cluster, two):
    with two.psycopg(database="pgbouncer") as console:
        console.execute("SET default_pool_size = 7")
        console.execute("SET query_timeout = '11'")
    assert config_of(two)["default_pool_size"] == "7"
    reload(two, {"query_timeout": "3"}, databases={"app": place(cluster)})
    assert config_of(two)["default_pool_size"] == "20"
    assert config_of(two)["query_timeout"] == "3"
    reload(two, databases={"app": place(cluster)})
    assert config_of(two)["query_timeout"] == "0"


def test_what_cannot_change_is_passed_over(cluster, two):
    before = config_of(two)
    databases = {"app": place(cluster), "other": place(cluster)}
    text = reload(
        two, {"listen_backlog": "77", "unix_socket_dir": "/nowhere"}, databases=databases
    )
    assert "WARNING" not in text and "ERROR" not in text
    after = config_of(two)
    assert after["listen_backlog"] == before["listen_backlog"]
    assert after["unix_socket_dir"] == before["unix_socket_dir"]
    with two.psycopg(database="pgbouncer") as console:
        console.execute("SET listen_backlog = 5")
    assert config_of(two)["listen_backlog"] == before["listen_backlog"]


def test_conffile_names_the_next_file(cluster, two):
    other = two.ini + ".other"
    text = open(two.ini, encoding="utf-8").read()
    with open(other, "w", encoding="utf-8") as file:
        file.write(text + "query_timeout = 17\n")
    assert config_of(two)["conffile"] == two.ini
    with two.psycopg(database="pgbouncer") as console:
        console.execute(f"SET conffile = '{other}'")
        console.execute("RELOAD")
    assert config_of(two)["query_timeout"] == "17"


# Databases


SAME = [{"pool_size": 3}, {"application_name": "x"}, {"timezone": "UTC"}, {"password": "x"}]


@pytest.mark.parametrize("change", SAME, ids=lambda change: next(iter(change)))
def test_servers_stay(cluster, two, change):
    with two.client() as client:
        before = backend(client)
        reload(two, databases={"app": place(cluster, **change), "other": place(cluster)})
        assert backend(client) == before


def changes(cluster):
    return [
        {"host": "localhost"},
        {"port": cluster.standbys[0].port},
        {"dbname": "postgres"},
        {"user": "app_trust"},
        {"auth_query": "'SELECT 1'"},
        {"connect_query": "'SELECT 1'"},
        {"host": "127.0.0.1,127.0.0.1"},
    ]


def test_waiters_of_a_changed_database_are_served(start_pooler, cluster):
    """One server for clients of all workers, each of which sees who waits on the others: the new
    servers too are given up to those who came first."""
    settings = {"default_pool_size": 1, "admin_users": "app_trust"}
    pooler = start_pooler(settings, databases={"app": place(cluster)})
    clients = [pooler.client() for _ in range(8)]
    for turn in range(6):
        clients[0].query("BEGIN")
        for client in clients[1:]:
            client.send(wire.query(f"SELECT {turn}"))
        rows = {"host": "localhost"} if turn % 2 == 0 else {}
        reload(pooler, settings, databases={"app": place(cluster, **rows)})
        for client in clients[1:]:
            assert client.answer().value == str(turn)
        clients[0].query("COMMIT")


def test_servers_of_a_changed_database_are_replaced(cluster, two):
    if KIND == "weir":
        more = [{"auth_dbname": "other"}, {"load_balance_hosts": "disable"}]
    else:
        more = []
    for change in changes(cluster) + more:
        client, neighbour = two.client(), two.client(database="other")
        before, other = backend(client), backend(neighbour)
        seen = len(two.log_text())
        reload(two, databases={"app": place(cluster, **change), "other": place(cluster)})
        deadline = time.monotonic() + 5 * PATIENCE
        while "database configuration changed" not in closings(two.log_text()[seen:]):
            assert time.monotonic() < deadline, (change, two.log_text()[seen:])
            time.sleep(0.02)
        assert backend(client) != before, change
        assert backend(neighbour) == other
        client.close()
        neighbour.close()
        if "user" in change:
            break
        reload(two, databases={"app": place(cluster), "other": place(cluster)})


def test_a_busy_server_is_closed_when_it_is_released(cluster, two):
    client = two.client()
    before = backend(client)
    client.query("BEGIN")
    text = reload(two, databases={"app": place(cluster, host="localhost")})
    assert closings(text) == []
    assert backend(client) == before
    assert client.query("COMMIT").tags == ["COMMIT"]
    wait_closing(two, "close_needed")
    assert backend(client) != before


def test_a_server_that_is_being_made_is_dropped(cluster, two):
    """The login under way leads to the old place; the client gets a server of the new one."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        reload(two, databases={"app": place(cluster, port=port), "other": place(cluster)})
        client = two.connect()
        client.send(wire.startup({"user": "app_trust", "database": "app"}))
        two.wait_log("S-.* new connection to server")
        reload(two, databases={"app": place(cluster), "other": place(cluster)})
        wait_closing(two, "connect string changed")
        if KIND == "weir":
            assert client.answer().kinds.endswith("Z")


def test_a_removed_database(cluster, two):
    client, neighbour = two.client(), two.client(database="other")
    backend(client)
    other = backend(neighbour)
    text = reload(two, databases={"other": place(cluster)})
    assert (
        "WARNING dropping database 'app' as it does not exist anymore or inactive auto-database"
        in text
    )
    fields = client.read_to_end().error
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "08P01", "database removed")
    wait_closing(two, "database removed")
    assert backend(neighbour) == other
    with pytest.raises(LoginFailed) as raised:
        two.client()
    assert raised.value.fields["M"] in ("no such database: app", '"trust" authentication failed')
    reload(two, databases={"app": place(cluster), "other": place(cluster)})
    with two.client() as again:
        backend(again)


def test_a_removed_database_in_use(cluster, two):
    """Its client is told, and its server does not stay."""
    client = two.client()
    before = backend(client)
    client.query("BEGIN")
    reload(two, databases={"other": place(cluster)})
    assert client.read_to_end().error["M"] == "database removed"
    cluster.primary.wait_for(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {before}", "0")


def test_a_forced_user_is_not_lost(cluster, start_pooler):
    pooler = start_pooler(
        {"admin_users": "app_trust"}, databases={"app": place(cluster, user="postgres")}
    )
    with pooler.client() as client:
        assert client.query("SELECT current_user").value == "postgres"
        text = reload(pooler, databases={"app": place(cluster)})
        assert "WARNING losing forced user not supported, keeping old setting" in text
        assert client.query("SELECT current_user").value == "postgres"
    with pooler.client() as client:
        assert client.query("SELECT current_user").value == "postgres"
    reload(pooler, databases={"app": place(cluster, user="app_trust")})
    with pooler.client() as client:
        assert client.query("SELECT current_user").value == "app_trust"


def test_a_database_that_nobody_has_used_is_dropped_too(cluster, two):
    text = reload(two, databases={"app": place(cluster)})
    assert "WARNING dropping database 'other' as it does not exist anymore" in text


def test_a_smaller_pool_loses_its_surplus(cluster, two):
    clients = [two.client() for _ in range(3)]
    for client in clients:
        client.query("BEGIN")
    reload(two, databases={"app": place(cluster, pool_size=1), "other": place(cluster)})
    for client in clients:
        client.query("COMMIT")
    if KIND == "weir":
        return
    wait_closing(two, "too many servers in the pool")


# Errors


BROKEN = {
    "a setting": ({"default_pool_size": "many"}, {}, 'invalid value "many" for parameter default'),
    "a user": ({}, {"users": {"u": "colour=red"}}, "unrecognized user parameter: .?colour"),
    "a pair": ({}, {"databases": {"other": "host=h", "app": "hots=h"}}, "unrecognized connection"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_an_error_changes_nothing(cluster, two, broken):
    settings, more, message = broken
    client = two.client()
    before = backend(client)
    text = reload(two, {"query_timeout": "3", **settings}, **{"databases": {"a": "host=h"}, **more})
    assert re.search(f"ERROR .*{message}", text)
    assert re.search(r"ERROR.*\n(.*\n)*.*WARNING config file loading failed", text)
    assert backend(client) == before
    if KIND == "weir":  # PgBouncer has taken over the settings in front of the error
        assert config_of(two)["query_timeout"] == "0"
        with two.client(database="other") as other:
            backend(other)


def test_a_line_that_is_none(cluster, two):
    two.write_ini({"admin_users": "app_trust"})
    with open(two.ini, "a", encoding="utf-8") as file:
        file.write("\n  nonsense\n")
    lines = open(two.ini, encoding="utf-8").read().count("\n")
    two.reload()
    two.wait_log(
        rf"ERROR syntax error in configuration \({re.escape(two.ini)}:{lines}\), stopping loading"
    )
    two.wait_log("WARNING config file loading failed")


@pytest.mark.weir_only
def test_all_errors_are_told_at_once(cluster, two):
    text = reload(
        two,
        {"default_pool_size": "many", "pool_mode": "often"},
        databases={"app": "hots=h load_balance_hosts=x"},
        users={"u": "pool_mode=none"},
    )
    for part in (
        r'unrecognized connection parameter: "hots" in database "app" \(.*:\d+\): did you mean host',
        r'"x" for parameter load_balance_hosts in database "app" \(.*:\d+\): expected one of',
        r'"none" for parameter pool_mode in user "u" \(.*:\d+\): expected one of session,',
        r'"many" for parameter default_pool_size in configuration \(.*:\d+\): expected a whole',
        r'"often" for parameter pool_mode in configuration \(.*:\d+\): expected one of session',
    ):
        assert re.search("ERROR .*" + part, text), part


def test_a_missing_file(cluster, two):
    os.rename(two.ini, two.ini + ".away")
    two.reload()
    two.wait_log("ERROR .*No such file or directory")
    two.wait_log("WARNING config file loading failed")
    with two.client() as client:
        backend(client)


def test_a_broken_auth_file_ends_at_its_line(cluster, start_pooler):
    pooler = start_pooler(
        {"admin_users": "app_trust"}, secrets={"app_trust": "", "postgres": "", "app": "x"}
    )
    with open(pooler.auth_file, "w", encoding="utf-8") as file:
        file.write('"app_trust" ""\nbroken\n"postgres" ""\n')
    text = reload(pooler)
    assert "broken auth file" in text
    with pooler.client() as client:
        backend(client)
    if KIND == "weir":  # PgBouncer 1.18 still knows the name
        with pytest.raises(LoginFailed):
            pooler.client("postgres")


@pytest.mark.weir_only
def test_a_missing_auth_file_locks_nobody_out(cluster, two):
    text = reload(two, {"auth_file": "/nowhere"})
    assert "/nowhere" in text
    with two.client() as client:
        backend(client)


# Many of them


def test_many_reloads_lose_nothing(cluster, start_pooler):
    """With many databases and clients at work."""
    databases = {f"db{number}": place(cluster) for number in range(200)}
    pooler = start_pooler({"admin_users": "app_trust"}, databases={"app": place(cluster), **databases})

    def work(number):
        with pooler.client(database=f"db{number}") as client:
            for _ in range(150):
                assert client.query("SELECT 1").value == "1"

    def again(number):
        if number == 0:
            for turn in range(15):
                changed = {"app": place(cluster, pool_size=turn + 1), **databases}
                pooler.write_ini({"admin_users": "app_trust"}, databases=changed)
                pooler.reload()
                time.sleep(0.02)
        else:
            work(number)

    in_threads(8, again)
    text = pooler.log_text()
    assert "database removed" not in text and "configuration changed" not in text
    with pooler.client(database="db199") as client:
        backend(client)
