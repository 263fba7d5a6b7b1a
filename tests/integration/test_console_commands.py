"""What the console's commands do to databases, clients and servers."""


import pytest

import pooler as poolers
import wire
from console import row_of, wait_until

pytestmark = pytest.mark.weir_only


@pytest.fixture
def console(pooler):
    """An admin's console."""
    with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
        yield client


@pytest.fixture
def two(start_pooler, cluster):
    """A pooler with the databases `app` and `other`, and whatever else is asked for."""
    node = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    return start_pooler(databases={"app": node, "other": node})


def admin(pooler):
    return pooler.client(*poolers.ADMIN, database="pgbouncer")


def refusal(pooler, **login):
    """The error that a login gets."""
    with pytest.raises(wire.LoginFailed) as failed:
        pooler.client(**login)
    return failed.value.fields


# DISABLE and ENABLE


def test_disabled_database_takes_no_new_clients(two):
    with admin(two) as console, two.client() as present:
        assert console.query("DISABLE app").tags == ["DISABLE"]
        error = refusal(two)
        assert (error["M"], error["C"]) == ('database "app" is disabled', "08P01")
        assert error["S"] == "FATAL"
        assert present.query("SELECT 1").value == "1"  # who is in stays in
        with two.client(database="other") as client:
            assert client.query("SELECT 1").value == "1"
        disabled = {row["name"]: row["disabled"] for row in two.admin("SHOW DATABASES")}
        assert disabled == {"app": 1, "other": 0, "pgbouncer": 0}
        assert console.query("RELOAD").tags == ["RELOAD"]
        assert refusal(two)["M"] == 'database "app" is disabled'
        assert console.query("ENABLE app").tags == ["ENABLE"]
        with two.client() as client:
            assert client.query("SELECT 1").value == "1"
    log = two.log_text()
    assert "DISABLE 'app' command issued" in log and "ENABLE 'app' command issued" in log


def test_disabled_database_is_told_after_the_password(start_pooler):
    pooler = start_pooler({"auth_type": "scram-sha-256"})
    pooler.admin("DISABLE app")
    assert refusal(pooler, user="app", secret="wrong")["M"] == "SASL authentication failed"
    secret = poolers.SECRETS["app"]
    assert refusal(pooler, user="app", secret=secret)["M"] == 'database "app" is disabled'


# PAUSE


def test_pause_of_all_forbids_more(two):
    with admin(two) as console:
        assert console.query("PAUSE").tags == ["PAUSE"]
        for command in ["PAUSE", "PAUSE app", "PAUSE nowhere", "KILL app", "KILL"]:
            assert console.query(command).error["M"] == "already suspended/paused", command
        assert console.query("RESUME").tags == ["RESUME"]


def test_paused_database_leaves_the_others_alone(two):
    with admin(two) as console, two.client() as held, two.client(database="other") as free:
        assert held.query("SELECT 1").value == free.query("SELECT 1").value == "1"
        assert console.query("PAUSE app").tags == ["PAUSE"]
        held.send(wire.query("SELECT 2"))
        assert held.is_silent(0.2)
        assert free.query("SELECT 3").value == "3"
        assert [row["database"] for row in two.admin("SHOW SERVERS")] == ["other"]
        assert "pause mode" in two.log_text()
        assert console.query("RESUME").error["M"] == "pooler is not paused/suspended"
        assert console.query("RESUME app").tags == ["RESUME"]
        assert held.answer().value == "2"


# RECONNECT and WAIT_CLOSE


@pytest.mark.parametrize("argument", ["", " app"])
def test_wait_close_waits_for_marked_servers(two, argument):
    with admin(two) as console, two.client() as busy, two.client(database="other") as idle:
        busy.query("BEGIN")
        idle.query("SELECT 1")
        assert console.query("WAIT_CLOSE").tags == ["WAIT_CLOSE"]  # nothing is marked
        assert console.query(f"RECONNECT{argument}").tags == ["RECONNECT"]
        marked = row_of(two.admin("SHOW SERVERS"), database="app")
        assert (marked["state"], marked["close_needed"]) == ("active", 1)
        assert console.query("WAIT_CLOSE other").tags == ["WAIT_CLOSE"]
        console.send(wire.query(f"WAIT_CLOSE{argument}"), wire.query("SHOW VERSION"))
        assert console.is_silent(0.4)
        busy.query("COMMIT")
        assert console.answer().tags == ["WAIT_CLOSE"]
        assert console.answer().tags == ["SHOW"]
        others = [row["database"] for row in two.admin("SHOW SERVERS")]
        assert others == (["other"] if argument else [])


def test_wait_close_waits_for_servers_of_before_a_reload(two):
    with admin(two) as console, two.client() as busy:
        busy.query("BEGIN")
        node = f"host=127.0.0.1 port={two.cluster.primary.port}"
        two.write_ini({}, databases={"app": f"{node} dbname=postgres", "other": node})
        assert console.query("RELOAD").tags == ["RELOAD"]
        assert row_of(two.admin("SHOW SERVERS"))["close_needed"] == 1
        console.send(wire.query("WAIT_CLOSE"))
        assert console.is_silent(0.3)
        busy.query("COMMIT")
        assert console.answer().tags == ["WAIT_CLOSE"]
        assert busy.query("SELECT current_database()").value == "postgres"


def test_a_console_may_leave_while_it_waits_for_servers(pooler, console):
    with pooler.client() as busy:
        busy.query("BEGIN")
        console.query("RECONNECT")
        console.send(wire.query("WAIT_CLOSE"))
        assert console.is_silent(0.2)
        console.reset()
        busy.query("COMMIT")
        assert busy.query("SELECT 1").value == "1"
    assert len(pooler.admin("SHOW CLIENTS")) == 1


# KILL


def test_kill_closes_all_of_a_database(two):
    with admin(two) as console, two.client(database="other") as other:
        idle, busy, waiting = two.client(), two.client(), two.client()
        busy.query("BEGIN")
        pid = busy.query("SELECT pg_backend_pid()").value
        waiting.send(wire.query("SELECT pg_sleep(3)"))
        assert console.query("KILL app").tags == ["KILL"]
        for victim in [idle, busy, waiting]:
            error = victim.read_to_end().error
            assert (error["M"], error["S"], error["C"]) == ("database removed", "FATAL", "08P01")
        # What cancels the query that ran has a row too, for a moment.
        wait_until(lambda: [row["database"] for row in two.admin("SHOW SERVERS")] == ["other"])
        wait_until(lambda: other.query(f"SELECT 1 FROM pg_stat_activity WHERE pid={pid}").rows == [])
        log = two.log_text()
        assert "KILL 'app' command issued" in log and "closing because: database removed" in log
        # The database is paused: new clients come in, where the pool is known, and wait.
        assert row_of(two.admin("SHOW DATABASES"), name="app")["paused"] == 1
        assert console.query("PAUSE app").tags == ["PAUSE"]
        with two.client() as fresh:
            fresh.send(wire.query("SELECT 5"))
            assert fresh.is_silent(0.2)
            assert console.query("RESUME app").tags == ["RESUME"]
            assert fresh.answer().value == "5"


def test_kill_closes_everything_but_consoles(two):
    with admin(two) as console, two.client(*poolers.MONITOR, database="pgbouncer") as watcher:
        clients = [two.client(), two.client(database="other")]
        clients[0].query("BEGIN")
        assert console.query("KILL").tags == ["KILL"]
        for victim in clients:
            assert victim.read_to_end().error["M"] == "database removed"
        assert watcher.query("SHOW SERVERS").rows == []
        state = {row["key"]: row["value"] for row in two.admin("SHOW STATE")}
        assert (state["active"], state["paused"]) == ("no", "yes")
        assert console.query("RESUME").tags == ["RESUME"]
        with two.client() as client:
            assert client.query("SELECT 1").value == "1"


def test_kill_in_the_middle_of_a_load(two):
    """Clients that come and work all the time: nobody hangs, and afterwards all is well."""
    with admin(two) as console:
        for _ in range(5):
            crowd = [two.client(database=name) for name in ["app", "other"] * 5]
            for one in crowd:
                one.send(wire.query("BEGIN; SELECT repeat('x', 100000); COMMIT"))
            assert console.query("KILL").tags == ["KILL"]
            for one in crowd:
                one.read_to_end()
                one.drop()
            assert console.query("RESUME").tags == ["RESUME"]
        with two.client() as client:
            assert client.query("SELECT 1").value == "1"


# KILL_CLIENT


def test_kill_client_takes_consoles_too(pooler, console):
    with admin(pooler) as other:
        rows = pooler.admin("SHOW CLIENTS")
        own = {row["port"]: row["id"] for row in rows}
        number = own[other.socket.getsockname()[1]]
        assert console.query(f'KILL_CLIENT "{number}"').tags == ["KILL_CLIENT"]
        assert other.read_to_end().error["M"] == "admin forced disconnect"


def test_kill_client_is_refused_to_stats_users(pooler):
    with pooler.client() as victim, pooler.client(*poolers.MONITOR, database="weir") as watcher:
        number = row_of(pooler.admin("SHOW CLIENTS"), database="app")["id"]
        for command in [f"KILL_CLIENT {number}", "KILL_CLIENT x", "KILL_CLIENT", "KILL app"]:
            assert watcher.query(command).error["M"] == "admin access needed", command
        assert victim.query("SELECT 1").value == "1"


def test_a_client_that_logs_in_is_no_victim(pooler, console):
    with pooler.connect() as nobody:
        nobody.send(wire.startup({"user": "app_trust", "database": "app"})[:10])
        wait_until(lambda: "cl_login" in [row["state"] for row in pooler.admin("SHOW SOCKETS")])
        login = row_of(pooler.admin("SHOW SOCKETS"), state="cl_login")
        assert (login["user"], login["database"]) == ("(nouser)", "(nodb)")
        assert console.query(f"KILL_CLIENT {login['id']}").error["M"] == "client not found"
