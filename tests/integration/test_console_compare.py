"""The console beside Debian's PgBouncer: the same commands, the same answers.

That PgBouncer is an older one. Where it says something else than the version that Weir follows,
LATER has what the newer one says; what only the newer one has is left out here.
"""

import contextlib

import pytest

import pooler as poolers
import wire
from console import TYPES, VIEWS, row_of, wait_until

pytestmark = pytest.mark.weir_only

# One after the other, since most depend on what came before.
SCRIPT = """\

;
SHOW
SHOW nothing
SHOW VERSION;
SHOW VERSION ;
SHOW VERSION ; ;
SHOW VERSION;;
SHOW VERSION; SHOW VERSION
   show version
SHOW 'version'
SHOW "version"
"SHOW" version
SELECT 1
SELECT version
SHOW VERSION x
SHOW VERSION -- x
/* x */ SHOW VERSION
RELOAD now
RELOAD 1
SET
SET x
SET x y
SET verbose=1
SET verbose = '0'
SET verbose to 0
SET "verbose" = 0
SET verbose = "0"
SET default_pool_size = 'many'
SET no_such_setting = 1
SET job_name = 'a b'
SET job_name = 'it''s'
SET listen_port = 1
SET ignore_startup_parameters = 'a,b'
SET ignore_startup_parameters = a,b
SET ignore_startup_parameters = ''
SET ignore_startup_parameters =
SET server_reset_query = DISCARD ALL
SET server_lifetime = 1.5
SET server_lifetime=-1
SET timezone='UTC'
SET TIMEZONE TO UTC
set client_encoding to 'x'
SHOW timezone
SHOW client_encoding
SHOW DateStyle
SHOW standard_conforming_strings
show default_transaction_isolation
xxxxxxxxxxxxxxx
xxxxxxxxxxxxxxxx
PAUSE nowhere
PAUSE pgbouncer
RESUME
RESUME app
RESUME nowhere
RESUME pgbouncer
RECONNECT
RECONNECT app
RECONNECT nowhere
RECONNECT pgbouncer
WAIT_CLOSE
WAIT_CLOSE app
WAIT_CLOSE nowhere
WAIT_CLOSE pgbouncer
DISABLE
DISABLE nowhere
DISABLE pgbouncer
DISABLE app
DISABLE app
ENABLE
ENABLE nowhere
ENABLE pgbouncer
ENABLE app
ENABLE app
KILL nowhere
KILL pgbouncer
KILL app
RESUME app
SHUTDOWN soon
PAUSE a b
PAUSE
PAUSE
PAUSE app
PAUSE nowhere
KILL app
RESUME app
RESUME
PAUSE app
PAUSE app
PAUSE
RESUME
SUSPEND
RESUME app
RESUME app
SUSPEND x
SUSPEND
SUSPEND
PAUSE
PAUSE app
KILL app
RESUME app
SHOW VERSION
RESUME
RESUME
SHOW HELP
show help x
""".splitlines()

STATS_SCRIPT = [
    "RELOAD",
    "SET verbose=1",
    "SET no_such_setting=1",
    "SET timezone=x",
    "PAUSE",
    "PAUSE nowhere",
    "RESUME app",
    "DISABLE",
    "ENABLE app",
    "KILL app",
    "RECONNECT",
    "WAIT_CLOSE",
    "SUSPEND",
    "SHUTDOWN",
    "SHUTDOWN soon",
    "SHOW FDS",
    "SHOW CONFIG",
]

LATER = {"ENABLE pgbouncer": "cannot enable admin db: pgbouncer"}


@pytest.fixture
def both(start_both):
    """Weir and PgBouncer, with the same file but for Weir's own settings."""
    return start_both()


def told(answer):
    """What scripts see of an answer, rows left out."""
    errors = [(one["S"], one["C"], one["M"]) for one in answer.errors]
    notices = [(one["S"], one["C"], one["M"]) for one in answer.notices]
    kinds = answer.kinds.replace("D", "")
    return kinds, answer.tags, errors, notices


def answers(pooler, user, script):
    with pooler.client(*user, database="pgbouncer") as client:
        return [told(client.query(command)) for command in script]


def compare(script, weir, pgbouncer):
    for command, ours, theirs in zip(script, weir, pgbouncer):
        if command in LATER:
            theirs = ("EZ", [], [("ERROR", "08P01", LATER[command])], [])
        assert ours == theirs, command


@pytest.mark.parametrize("user, script", [(poolers.ADMIN, SCRIPT), (poolers.MONITOR, STATS_SCRIPT)])
def test_commands(both, user, script):
    compare(script, *(answers(pooler, user, script) for pooler in both))


def test_databases_made_from_the_star(start_both, cluster):
    """PAUSE and its kind make a database from `*`; RESUME and ENABLE do not."""
    databases = {"*": f"host=127.0.0.1 port={cluster.primary.port}"}
    script = ["RESUME a", "ENABLE a", "PAUSE b", "RESUME b", "DISABLE c", "ENABLE c"]
    script += ["RECONNECT d", "WAIT_CLOSE e", "KILL f", "RESUME f", 'PAUSE "g""h"']
    found = []
    for pooler in start_both(databases=databases):
        found.append(answers(pooler, poolers.ADMIN, script))
        found[-1].append([row["name"] for row in pooler.admin("SHOW DATABASES")])
    assert found[0] == found[1]
    assert found[0][-1] == ["b", "c", "d", "e", "f", 'g"h', "pgbouncer"]


def test_messages_that_are_no_queries(both):
    for kind in "PBEDCSHFdcfz":
        found = []
        for pooler in both:
            client = pooler.client(*poolers.ADMIN, database="pgbouncer")
            client.send(wire.message(kind, b"\0" * 8))
            found.append(told(client.read_to_end()))
            client.drop()
        assert found[0] == found[1], kind


# Columns that PgBouncer has renamed since.
RENAMED = {("DATABASES", "reserve_pool"): "reserve_pool_size"}


def described(client, view):
    """Names, types and sizes of a view's columns as they stand in the RowDescription."""
    body = client.query(f"SHOW {view}").of("T")[0].body
    found, at = [], 2
    while at < len(body):
        end = body.index(b"\0", at)
        name = body[at:end].decode()
        rest = body[end + 1 : end + 19]
        found.append((RENAMED.get((view, name), name), rest))
        at = end + 19
    return found


def test_columns(both):
    """What the older one has is there in the same order and byte for byte of the same type."""
    weir, pgbouncer = (one.client(*poolers.ADMIN, database="pgbouncer") for one in both)
    with weir, pgbouncer:
        for view, columns in VIEWS.items():
            ours = described(weir, view)
            types = [(name, TYPES[int.from_bytes(rest[6:10], "big")]) for name, rest in ours]
            assert types == columns, view
            if not pgbouncer.query(f"SHOW {view}").errors:
                theirs = described(pgbouncer, view)
                assert [column for column in ours if column in theirs] == theirs, view


def test_values(both):
    """Rows that do not depend on the version."""
    for view in ["POOLS", "LISTS", "USERS"]:
        weir, pgbouncer = (one.admin(f"SHOW {view}") for one in both)
        key = "list" if view == "LISTS" else next(iter(weir[0]))
        theirs = {row[key]: row for row in pgbouncer}
        for row in weir:
            if view == "LISTS" and row[key] not in ("databases", "pools", "login_clients", "users"):
                continue
            assert theirs[row[key]].items() <= row.items(), view


def test_the_welcome(both):
    found = []
    for pooler in both:
        with pooler.client(*poolers.ADMIN, database="pgbouncer") as client:
            found.append({**client.parameters, "server_version": None})
    assert found[0] == found[1]


def test_lines_of_the_log(both):
    """Each command is logged, and at the same point of its checks."""
    script = ["PAUSE pgbouncer", "PAUSE", "PAUSE app", "KILL app", "RESUME", "RESUME app"]
    script += ["RECONNECT nowhere", "WAIT_CLOSE", "DISABLE", "DISABLE app", "ENABLE nowhere"]
    script += ["RELOAD", "SHOW nothing", "KILL app", "SUSPEND", "RESUME app", "SUSPEND", "RESUME"]
    found = []
    for pooler in both:
        _ = answers(pooler, poolers.ADMIN, script)
        lines = [line.split("] ", 1)[-1] for line in pooler.log_text().splitlines()]
        found.append([line for line in lines if "command" in line and "pooler error" not in line])
    assert found[0] == found[1]
    assert len(found[0]) == 14


def test_databases_are_shown_alike(start_both, cluster):
    port = cluster.primary.port
    databases = {
        "app": f"host=127.0.0.1 port={port}",
        "empty": "",
        "named": "dbname=app",
        "listed": f"host=127.0.0.1,127.0.0.1 port={port} pool_mode=session",
        "forced": f"host={cluster.folder} port={port} dbname=app user=app_trust pool_size=3",
    }
    weir, pgbouncer = start_both(databases=databases)
    theirs = {row["name"]: row for row in pgbouncer.admin("SHOW DATABASES")}
    for row in weir.admin("SHOW DATABASES"):
        expected = {**theirs.pop(row["name"])}
        expected["reserve_pool_size"] = expected.pop("reserve_pool")
        if row["name"] == "pgbouncer":
            expected["port"] = weir.port
        assert expected.items() <= row.items()
    assert theirs == {}


def test_work_is_counted_alike(both):
    """Queries and transactions, whatever they are and whatever becomes of them."""
    found, sizes = [], []
    for pooler in both:
        with pooler.client() as client:
            for sql in ["SELECT 1", "", "SELECT 1; SELECT 2", "SELEC", "BEGIN", "SELECT 3", "COMMIT"]:
                client.query(sql)
            client.ask(wire.parse("SELECT 2"), wire.bind(), wire.execute(), wire.SYNC)
            client.ask(wire.parse("SELECT 2", "one"), wire.SYNC)
            client.ask(wire.SYNC)
            client.ask(wire.parse("SELEC"), wire.SYNC)
            client.query("SELECT 4")
            client.query("SELECT repeat('x', 1000000)")
        (row,) = [row for row in pooler.admin("SHOW STATS_TOTALS") if row["database"] == "app"]
        assert row["wait_time"] > 0  # of the first client, for the first server
        found.append((row["query_count"], row["xact_count"]))
        sizes.append((row["bytes_received"], row["bytes_sent"]))
    assert found[0] == found[1] == (13, 11)
    # One of the two counts the farewell, or a ParseComplete that came from no server.
    assert all(abs(ours - theirs) <= 10 for ours, theirs in zip(*sizes)), sizes


# Views in which the older PgBouncer has columns, and those by which its rows are told apart.
BUSY_VIEWS = {
    "POOLS": ("database", "user"),
    "DATABASES": ("name",),
    "USERS": ("name",),
    "LISTS": ("list",),
}
# What depends on the moment, on memory that is kept free, or on what the older one does not count.
VARYING = {"maxwait_us", "port", "free_clients", "free_servers"}


def shown_of(pooler, view):
    """The rows of a view by what tells them apart, without what varies."""
    key = BUSY_VIEWS[view]
    rows = {}
    for row in pooler.admin(f"SHOW {view}"):
        row = {RENAMED.get((view, name), name): value for name, value in row.items()}
        place = tuple(row[name] for name in key)
        if not VARYING & {*place}:
            rows[place] = {name: row[name] for name in row.keys() - VARYING}
    return rows


def connections_of(pooler, view):
    """What CLIENTS, SERVERS and SOCKETS say of each connection, but for its addresses and times."""
    same = ("type", "user", "database", "close_needed", "tls", "application_name")
    return sorted(tuple(row[name] for name in same) for row in pooler.admin(f"SHOW {view}"))


def states_of(pooler, view):
    """PgBouncer 1.18 calls a client without a server active, which is idle today."""
    rows = pooler.admin(f"SHOW {view}")
    return sorted(row["state"].replace("idle", "active") for row in rows if row["type"] == "C")


def test_views_of_a_busy_pooler(start_both, cluster):
    """Clients that wait, that hold a server, that rest, and one that is logging in."""
    node = f"host=127.0.0.1 port={cluster.primary.port} dbname=app"
    found = []
    for pooler in start_both(
        {"default_pool_size": 2, "max_db_connections": 7},
        databases={
            "app": node,
            "other": f"{node} user=app_trust min_pool_size=1",
            "listed": f"host=127.0.0.1,127.0.0.2 port={cluster.primary.port}",
        },
        users={"app": "max_user_connections=4", "postgres": "pool_mode=session"},
    ):
        with contextlib.ExitStack() as stack:

            def client(user="app_trust", database="app", pooler=pooler, stack=stack):
                return stack.enter_context(pooler.client(user, database=database))

            holders, waiters = [client(), client()], [client(), client()]
            client(), client()
            for one in holders:
                one.query("BEGIN")
            for one in waiters:
                one.send(wire.query("SELECT 1"))
            client("postgres").query("SELECT 1")
            client(database="other").query("SELECT 1")
            half = stack.enter_context(contextlib.closing(pooler.connect().socket))
            half.sendall(b"\0\0\0")
            pools = {"database": "app", "user": "app_trust"}
            wait_until(lambda: row_of(pooler.admin("SHOW POOLS"), **pools)["cl_waiting"] == 2)
            login = {"list": "login_clients"}
            wait_until(lambda: row_of(pooler.admin("SHOW LISTS"), **login)["items"] == 1)
            views = {view: shown_of(pooler, view) for view in BUSY_VIEWS}
            more = {view: connections_of(pooler, view) for view in ("CLIENTS", "SERVERS", "SOCKETS")}
            states = {view: states_of(pooler, view) for view in ("CLIENTS", "SOCKETS")}
            found.append((views, more, states))
            for one in (*holders, *waiters):
                one.drop()
    (ours, our_more, our_states), (theirs, their_more, their_states) = found
    for view, rows in theirs.items():
        for place, row in rows.items():
            assert row.items() <= ours[view][place].items(), (view, place)
    assert our_more == their_more
    assert our_states == their_states


def test_averages_are_of_now(start_both):
    """From the start on, and not only once a period is over."""
    found = []
    for pooler in start_both({"stats_period": 600}):
        with pooler.client() as client:
            for _ in range(3000):
                client.query("SELECT 1")
        row = row_of(pooler.admin("SHOW STATS"), database="app")
        totals = row_of(pooler.admin("SHOW TOTALS"), name="avg_query_count")
        averages = row_of(pooler.admin("SHOW STATS_AVERAGES"), database="app")
        assert row["avg_query_time"] >= 1 and row["avg_recv"] > row["avg_query_count"] > 50
        assert averages["query_count"] > 50 and totals["value"] > 50
        found.append(row["avg_query_count"])
        pooler.stop()
