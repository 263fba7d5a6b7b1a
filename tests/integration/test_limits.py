"""How many servers there may be: pool, reserve, database, user, and who makes room for whom.

`POOLER=pgbouncer` runs what Debian's PgBouncer has against it.
"""

import re
import time

import pytest

from console import wait_until
from pooler import ADMIN, KIND, MONITOR, PATIENCE, SECRETS, WORKERS
from routed import Watch, start_routed
from tools import in_threads
from wire import LoginFailed, query, startup

PID = "SELECT pg_backend_pid()"
USERS = ["app_trust", "app", "app_plain"]


def entry(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


def backends(cluster, where="true"):
    """Connections that clients of the pooler have caused."""
    users = ", ".join(f"'{user}'" for user in USERS)
    return int(
        cluster.primary.sql(
            f"SELECT count(*) FROM pg_stat_activity WHERE usename IN ({users}) AND {where}"
        )
    )


def wait_backends(cluster, count, where="true", seconds=5):
    deadline = time.monotonic() + seconds * PATIENCE
    while (found := backends(cluster, where)) != count:
        assert time.monotonic() < deadline, f"{found} connections, not {count}"
        time.sleep(0.02)


def eventually(connect, *arguments):
    """Logs in as soon as there is a place."""
    deadline = time.monotonic() + 3 * PATIENCE
    while True:
        try:
            return connect(*arguments)
        except LoginFailed:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def begin(*clients):
    for client in clients:
        assert client.query("BEGIN").status == "T"


def commit(*clients):
    for client in clients:
        assert client.query("COMMIT").status == "I"


# Pool sizes


@pytest.mark.weir_only
def test_default_pool_size_0_is_no_limit(start_pooler, cluster):
    pooler = start_pooler({"default_pool_size": 0})
    clients = [pooler.client() for _ in range(25)]
    begin(*clients)
    wait_backends(cluster, 25)
    commit(*clients)


@pytest.mark.weir_only
def test_which_pool_size_counts(start_pooler, cluster):
    """The user's (new since 1.18), the database's, the global one; a forced user's, not a client's."""
    pooler = start_pooler(
        {"default_pool_size": 1},
        databases={
            "app": entry(cluster, pool_size=2),
            "plain": entry(cluster),
            "forced": entry(cluster, user="app_trust"),
        },
        users={"app": "pool_size=3"},
    )
    for user, database, size in (
        ("app_trust", "plain", 1),
        ("app_trust", "app", 2),
        ("app", "app", 3),
        ("app", "forced", 1),
    ):
        clients = [pooler.client(user, database=database) for _ in range(size + 1)]
        begin(*clients[:size])
        clients[size].send(query("SELECT 'late'"))
        assert clients[size].is_silent(0.2), (user, database)
        commit(*clients[:size])
        assert clients[size].answer().value == "late"


def test_too_many_servers_after_set(start_pooler, cluster):
    """Idle ones are closed, busy ones when they come back."""
    pooler = start_pooler({"default_pool_size": 5})
    clients = [pooler.client() for _ in range(5)]
    begin(*clients)
    commit(*clients[:3])
    pooler.admin("SET default_pool_size = 1")
    wait_backends(cluster, 2)
    commit(*clients[3:])
    wait_backends(cluster, 1)
    closed = pooler.log_text().count("closing because: too many servers in the pool")
    assert closed == 4
    assert clients[0].query("SELECT 1").value == "1"


def test_greater_pool_size_helps_waiters_at_once(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    holder, waiter = pooler.client(), pooler.client()
    begin(holder)
    waiter.send(query("SELECT 1"))
    assert waiter.is_silent(0.2)
    pooler.admin("SET default_pool_size = 2")
    assert waiter.answer().value == "1"


# The reserve


def test_reserve_pool(start_pooler, cluster):
    """Opens when the first waiter has waited so long, for as many as it has."""
    settings = {"default_pool_size": 1, "reserve_pool_size": 2, "reserve_pool_timeout": 1}
    pooler = start_pooler(settings)
    clients = [pooler.client() for _ in range(4)]
    begin(clients[0])
    began = time.monotonic()
    for client in clients[1:]:
        client.send(query("BEGIN"))
        time.sleep(0.02)  # so that they stand in line in this order
    assert clients[1].answer().status == "T"
    assert 0.9 < time.monotonic() - began < 1 + 1.5 * PATIENCE
    assert clients[2].answer().status == "T"
    assert clients[3].is_silent(0.5)
    wait_backends(cluster, 3)
    pooler.wait_log(r"WARNING C-0x\w+: app/app_trust@127.0.0.1:\d+ taking connection from reserve_")
    taken = pooler.log_text().count("taking connection from reserve_pool")
    assert taken == 2 or WORKERS > 1  # a server that is given up is made anew
    commit(*clients[:3])
    assert clients[3].answer().status == "T"


def test_no_reserve_without_its_timeout(start_pooler, cluster):
    settings = {"default_pool_size": 1, "reserve_pool_size": 2, "reserve_pool_timeout": 0}
    pooler = start_pooler(settings)
    holder, waiter = pooler.client(), pooler.client()
    begin(holder)
    waiter.send(query("SELECT 1"))
    assert waiter.is_silent(0.7)
    commit(holder)
    assert waiter.answer().value == "1"


RESERVES = {
    "global": ({"reserve_pool_size": 1}, {}, {}),
    "database": ({}, {"reserve_pool_size": 1}, {}),
    "old name": ({}, {"reserve_pool": 1}, {}),
    "user": ({}, {}, {"app_trust": "reserve_pool_size=1"}),
    "user before database": ({}, {"reserve_pool_size": 0}, {"app_trust": "reserve_pool_size=1"}),
}


@pytest.mark.weir_only
@pytest.mark.parametrize("settings, keys, users", RESERVES.values(), ids=RESERVES)
def test_which_reserve_counts(start_pooler, cluster, settings, keys, users):
    pooler = start_pooler(
        {"default_pool_size": 1, "reserve_pool_timeout": 0.2, **settings},
        databases={"app": entry(cluster, **keys)},
        users=users,
    )
    holder, reserved, waiter = (pooler.client() for _ in range(3))
    begin(holder, reserved)
    waiter.send(query("SELECT 1"))
    assert waiter.is_silent(0.5)
    commit(holder)
    assert waiter.answer().value == "1"


# min_pool_size


def test_min_pool_size(start_pooler, cluster):
    """While there are clients; idle servers above it go, these stay."""
    pooler = start_pooler({"min_pool_size": 3, "server_idle_timeout": 1})
    time.sleep(0.5)
    assert backends(cluster) == 0
    clients = [pooler.client() for _ in range(5)]
    wait_backends(cluster, 3)
    begin(*clients)
    commit(*clients)
    wait_backends(cluster, 3)
    time.sleep(1.5)
    assert backends(cluster) == 3


def test_min_pool_size_follows_a_lost_server(start_pooler, cluster):
    pooler = start_pooler({"min_pool_size": 2})
    with pooler.client() as client:
        wait_backends(cluster, 2)
        pid = client.query(PID).value
        cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
        wait_backends(cluster, 1, f"pid <> {pid} AND backend_start < now() - interval '0.2 s'", 2)
        wait_backends(cluster, 2)


def test_min_pool_size_never_passes_the_pool_size(start_pooler, cluster):
    pooler = start_pooler({"min_pool_size": 9, "default_pool_size": 2})
    with pooler.client():
        wait_backends(cluster, 2)
        time.sleep(0.7)
        assert backends(cluster) == 2


def test_min_pool_size_waits_for_resume(start_pooler, cluster):
    pooler = start_pooler({"min_pool_size": 2})
    with pooler.client():
        wait_backends(cluster, 2)
        pooler.admin("PAUSE")
        wait_backends(cluster, 0)
        time.sleep(0.7)
        assert backends(cluster) == 0
        pooler.admin("RESUME")
        wait_backends(cluster, 2)


@pytest.mark.weir_only
def test_min_pool_size_with_a_forced_user_needs_no_client(start_pooler, cluster):
    """PgBouncer 1.18 filled such pools only once a client had been there."""
    databases = {
        "forced": entry(cluster, user="app_trust", min_pool_size=2),
        "free": entry(cluster, min_pool_size=2),
    }
    pooler = start_pooler(databases=databases)
    wait_backends(cluster, 2)
    time.sleep(0.7)
    assert backends(cluster) == 2
    pooler.admin("RELOAD")
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_trust'"
    )
    time.sleep(0.1)
    wait_backends(cluster, 2)
    with pooler.client("app", database="forced") as client:
        assert client.query("SELECT current_user").value == "app_trust"


def test_min_pool_size_does_not_evict(start_pooler, cluster):
    settings = {"min_pool_size": 2, "max_db_connections": 3}
    pooler = start_pooler(settings)
    one, two = pooler.client("app_trust"), pooler.client("app")
    wait_backends(cluster, 3)
    time.sleep(0.7)
    assert backends(cluster) == 3
    assert "evicted" not in pooler.log_text()
    assert one.query("SELECT 1").value == two.query("SELECT 1").value


# Limits that pools share


def test_max_db_connections(start_pooler, cluster):
    """All users of one entry together; another entry has its own count."""
    pooler = start_pooler(
        {"max_db_connections": 2}, databases={"app": entry(cluster), "other": entry(cluster)}
    )
    holders = [pooler.client("app_trust"), pooler.client("app")]
    begin(*holders)
    waiter = pooler.client("app_trust")
    waiter.send(query("SELECT 'late'"))
    assert waiter.is_silent(0.4)
    with pooler.client("app_trust", database="other") as other:
        begin(other)
        wait_backends(cluster, 3)
        commit(other)
    commit(holders[1])
    assert waiter.answer().value == "late"
    assert backends(cluster, "true") <= 3


def test_max_user_connections(start_pooler, cluster):
    """One user in all databases together; another user has a count of its own."""
    pooler = start_pooler(
        {"max_user_connections": 2}, databases={"app": entry(cluster), "other": entry(cluster)}
    )
    holders = [pooler.client(), pooler.client(database="other")]
    begin(*holders)
    waiter = pooler.client()
    waiter.send(query("SELECT 'late'"))
    assert waiter.is_silent(0.4)
    with pooler.client("app") as other:
        assert other.query("SELECT 1").value == "1"
    commit(holders[1])
    assert waiter.answer().value == "late"


KEYS = {
    "database": ({"max_db_connections": 1}, {}),
    "database, 0 as global": ({"max_db_connections": 0}, {"max_db_connections": 1}),
    "user": ({}, {}),
}


@pytest.mark.parametrize("keys, settings", KEYS.values(), ids=KEYS)
def test_limits_of_entries_and_users(start_pooler, cluster, keys, settings):
    users = {} if keys else {"app_trust": "max_user_connections = 1"}
    pooler = start_pooler(settings, databases={"app": entry(cluster, **keys)}, users=users)
    holder, waiter = pooler.client(), pooler.client()
    begin(holder)
    waiter.send(query("SELECT 1"))
    assert waiter.is_silent(0.3)
    commit(holder)
    assert waiter.answer().value == "1"


def test_idle_server_is_evicted(start_pooler, cluster):
    """The one unused longest makes room."""
    pooler = start_pooler({"max_db_connections": 2})
    one, two, three = (pooler.client(user) for user in USERS[:2] + USERS[:1])
    first = one.query(PID).value
    second = two.query(PID).value
    begin(one)  # used again: the second is the one unused longest
    commit(one)
    begin(one)
    assert three.query("SELECT 1").value == "1"
    commit(one)
    wait_backends(cluster, 2)
    closed = [line for line in pooler.log_text().splitlines() if "closing because: evicted" in line]
    assert len(closed) == 1 and "app/app@" in closed[0], closed
    assert backends(cluster, f"pid = {second}") == 0
    assert backends(cluster, f"pid = {first}") == 1


def test_users_get_through_by_turns(start_pooler, cluster):
    """More users than servers; nobody starves, and the limit holds."""
    users = USERS
    most = 0
    pooler = start_pooler({"max_db_connections": 2, "query_wait_timeout": 15})

    def work(number):
        nonlocal most
        with pooler.client(users[number % 3]) as client:
            for turn in range(6):
                assert client.query(f"SELECT {turn}, pg_sleep(0.01)").rows[0][0] == str(turn)
                if number == 0:
                    most = max(most, backends(cluster, "state = 'active'"))

    in_threads(9, work)
    assert most <= 2


def test_users_get_through_by_turns_with_one_user_limit(start_pooler, cluster):
    databases = {name: entry(cluster) for name in ("app", "b", "c")}
    pooler = start_pooler({"max_user_connections": 1}, databases=databases)

    def work(number):
        with pooler.client(database=list(databases)[number]) as client:
            for turn in range(8):
                assert client.query(f"SELECT {turn}").value == str(turn)

    in_threads(3, work)
    assert backends(cluster) <= 1 + (WORKERS > 1)


def test_both_limits_at_once(start_pooler, cluster):
    databases = {name: entry(cluster) for name in ("app", "b", "c")}
    pooler = start_pooler(
        {"max_user_connections": 2, "max_db_connections": 1, "default_pool_size": 5},
        databases=databases,
    )

    def work(number):
        user = USERS[number % 3]
        with pooler.client(user, database=list(databases)[number // 3 % 3]) as client:
            for turn in range(4):
                client.query("BEGIN")
                assert client.query(f"SELECT {turn}").value == str(turn)
                client.query("COMMIT")

    in_threads(18, work)
    assert backends(cluster) <= 3 + (WORKERS > 1)


@pytest.mark.weir_only
def test_max_db_connections_counts_all_nodes(start_pooler, cluster):
    """Where the limit leaves room for one server only, reads and writes take turns with it."""
    routed = start_routed(start_pooler, cluster, {"max_db_connections": 1, "defer_begin": 0})
    watch = Watch(routed)
    watch.settle()
    with routed.client() as one, routed.client() as two:
        roles, turn, deadline = set(), 0, time.monotonic() + 10 * PATIENCE
        # A read goes to the primary until the replicas show what was written before it.
        while turn < 3 or roles != {"primary", "replica"}:
            assert time.monotonic() < deadline, f"all of it went to the {roles}"
            assert one.query(f"SELECT {turn}").value == str(turn)
            assert two.query("BEGIN; SELECT 'written'; COMMIT").value == "written"
            roles |= set(watch.by_role())
            turn += 1
        begin(two)
        one.send(query("SELECT 'late'"))
        assert one.is_silent(0.3)
        commit(two)
        assert one.answer().value == "late"
    rows = [row for row in routed.admin("SHOW SERVERS") if row["database"] == "app"]
    assert len(rows) <= 1


def test_limits_follow_set(start_pooler, cluster):
    pooler = start_pooler({"max_db_connections": 1})
    holder, waiter = pooler.client(), pooler.client("app")
    begin(holder)
    waiter.send(query("SELECT 1"))
    assert waiter.is_silent(0.3)
    pooler.admin("SET max_db_connections = 0")
    assert waiter.answer().value == "1"


# Pools that nobody uses


@pytest.mark.weir_only
def test_pool_idle_timeout(start_pooler, cluster):
    """New in PgBouncer 1.25: a pool with neither clients nor servers is forgotten."""
    databases = {
        "app": entry(cluster),
        "kept": entry(cluster, user="app_trust", min_pool_size=1),
    }
    settings = {"pool_idle_timeout": 1, "server_idle_timeout": 0.5}
    pooler = start_pooler(settings, databases=databases)

    def pools():
        return {row["database"] for row in pooler.admin("SHOW POOLS")}

    with pooler.client() as client:
        client.query("SELECT 1")
        time.sleep(1.8)
        assert pools() == {"app", "kept", "pgbouncer"}
    pooler.wait_log(
        r"\] LOG cleaning up idle pool for user app_trust on db app because: pool idle timeout "
        r"\(age= 1s\)"
    )
    assert pools() == {"kept", "pgbouncer"}
    assert pooler.log_text().count("cleaning up idle pool") == 1
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_counts_of_idle_pools_stay(start_pooler, cluster):
    """What a pool has counted stays in the totals of its database when it is forgotten."""
    settings = {"pool_idle_timeout": 0.1, "server_idle_timeout": 0.1}
    pooler = start_pooler(settings)

    def counted():
        row = next(row for row in pooler.admin("SHOW STATS") if row["database"] == "app")
        return {name: int(value) for name, value in row.items() if name.startswith("total_")}

    def is_gone():
        return all(row["database"] != "app" for row in pooler.admin("SHOW POOLS"))

    before = {}
    for turn in (1, 2):
        for user in ("app_trust", "postgres"):
            with pooler.client(user) as client:
                for _ in range(5):
                    client.query("SELECT 1")
        wait_until(is_gone)
        now = counted()
        assert now["total_query_count"] == now["total_server_assignment_count"] == 10 * turn
        assert now["total_client_login_count"] == 2 * turn
        assert all(now[name] >= before.get(name, 0) for name in now)
        before = now
    totals = {row["name"]: int(row["value"]) for row in pooler.admin("SHOW TOTALS")}
    assert totals["total_query_count"] > 20


# Clients

DB_FULL = "client connections exceeded (max_db_client_connections)"
USER_FULL = "client connections exceeded (max_user_client_connections)"


def refused(pooler, user="app_trust", database="app", secret=None):
    """What a login is told."""
    with pytest.raises(LoginFailed) as failure:
        pooler.client(user, secret, database)
    fields = failure.value.fields
    assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
    return fields["M"]


@pytest.mark.weir_only
def test_max_db_client_connections(start_pooler, cluster):
    """Counted for each name, whoever the user; the place of one who left is free. New in 1.24."""
    pooler = start_pooler(
        {"max_db_client_connections": 2},
        databases={"app": entry(cluster), "wide": entry(cluster, max_db_client_connections=3)},
    )
    clients = [pooler.client("app_trust"), pooler.client("app")]
    assert refused(pooler) == DB_FULL
    assert refused(pooler, "app") == DB_FULL
    pooler.wait_log(rf"pooler error: {re.escape(DB_FULL)}")
    wide = [pooler.client(database="wide") for _ in range(3)]
    assert refused(pooler, database="wide") == DB_FULL
    clients[0].close()
    clients[0] = eventually(pooler.client)
    for client in clients + wide:
        assert client.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_max_user_client_connections(start_pooler, cluster):
    """Counted for the client's own name in all databases, forced users or not."""
    pooler = start_pooler(
        {"max_user_client_connections": 2},
        databases={"app": entry(cluster), "forced": entry(cluster, user="app_trust")},
        users={"app": "max_user_client_connections=1", "app_plain": "max_user_client_connections=0"},
    )
    clients = [pooler.client("app"), pooler.client(), pooler.client(database="forced")]
    assert refused(pooler, "app") == USER_FULL
    assert refused(pooler, "app", database="forced") == USER_FULL
    assert refused(pooler) == USER_FULL
    more = [pooler.client("app_plain") for _ in range(2)]
    assert refused(pooler, "app_plain") == USER_FULL
    for client in clients + more:
        assert client.query("SELECT 1").value == "1"


@pytest.mark.weir_only
def test_client_limits_come_before_the_password(start_pooler):
    pooler = start_pooler({"max_user_client_connections": 1, "auth_type": "scram-sha-256"})
    with pooler.client("app", SECRETS["app"]):
        assert refused(pooler, "app", secret="wrong") == USER_FULL
        half = pooler.connect()  # counts although it is not verified yet
        half.send(startup({"user": "app_plain", "database": "app"}))
        assert half.read().kind == "R"
        assert refused(pooler, "app_plain", secret="wrong") == USER_FULL
        half.drop()
        eventually(pooler.client, "app_plain", SECRETS["app_plain"]).close()


@pytest.mark.weir_only
def test_client_limits_follow_set(start_pooler):
    """Who came before a limit was set counts; a lower one closes nobody."""
    pooler = start_pooler()
    clients = [pooler.client() for _ in range(3)]
    pooler.admin("SET max_user_client_connections = 3")
    assert refused(pooler) == USER_FULL
    pooler.admin("SET max_user_client_connections = 1")
    time.sleep(0.3)
    for client in clients:
        assert client.query("SELECT 1").value == "1"
    clients[0].close()
    assert refused(pooler) == USER_FULL
    pooler.admin("SET max_user_client_connections = 0")
    pooler.client().close()


@pytest.mark.weir_only
def test_console_and_client_limits(start_pooler):
    """Admins are let in, stats users are not."""
    pooler = start_pooler({"max_db_client_connections": 1, "max_user_client_connections": 1})
    with pooler.client(*MONITOR, database="pgbouncer"):
        assert refused(pooler, *MONITOR[:1], "pgbouncer", MONITOR[1]) == DB_FULL
        with pooler.client(*ADMIN, database="pgbouncer"):
            pooler.client(*ADMIN, database="pgbouncer").close()


# What the console tells


def test_console_shows_limits(start_pooler, cluster):
    settings = {"default_pool_size": 7, "min_pool_size": 1, "reserve_pool_size": 2}
    databases = {
        "app": entry(cluster),
        "own": entry(cluster, pool_size=3, min_pool_size=2, reserve_pool=4, max_db_connections=5),
    }
    more = {"max_db_connections": 9}
    if KIND == "weir":
        more.update({"max_user_connections": 8, "max_user_client_connections": 6})
        more.update({"max_db_client_connections": 4})
    users = {"app": "max_user_connections=2"}
    if KIND == "weir":
        users["app"] += " reserve_pool_size=3 pool_size=1 max_user_client_connections=1"
    pooler = start_pooler({**settings, **more}, databases=databases, users=users)
    rows = {row["name"]: row for row in pooler.admin("SHOW DATABASES")}
    sizes = ("pool_size", "min_pool_size", "reserve_pool_size", "max_connections")
    names = [name for name in sizes if name in rows["app"]]
    app, own = ([int(rows[name][key]) for key in names] for name in ("app", "own"))
    assert dict(zip(names, app)).items() <= dict(zip(sizes, (7, 1, 2, 9))).items()
    assert dict(zip(names, own)).items() <= dict(zip(sizes, (3, 2, 4, 5))).items()
    if KIND != "weir":
        return
    assert int(rows["app"]["max_client_connections"]) == 4
    users = {row["name"]: row for row in pooler.admin("SHOW USERS")}
    assert int(users["app"]["max_user_connections"]) == 2
    assert int(users["app"]["max_user_client_connections"]) == 1
    assert users["app"]["pool_size"] == "        1"
    assert users["app"]["reserve_pool_size"] == "        3"
