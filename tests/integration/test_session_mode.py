"""session_state = track in session mode: each client has a server as PostgreSQL would give it, whose
reset values are what the client asked for at its start."""

import struct
import time

import psycopg
import pytest

import wire
from pooler import PATIENCE, WORKERS
from routed import PROBING, Watch, entry_of
from tools import wait_running
from wire import LoginFailed, query

pytestmark = pytest.mark.weir_only

TRACK = {"pool_mode": "session", "session_state": "track"}


@pytest.fixture
def pooler(start_pooler):
    return start_pooler({**TRACK, "default_pool_size": 3, "query_wait_timeout": 20 * PATIENCE})


def show(client, name):
    return client.query(f"SHOW {name}").value


def source(client, name):
    sql = f"SELECT setting, source, reset_val FROM pg_settings WHERE name = '{name}'"
    return client.query(sql).rows[0]


def backend(client):
    return client.query("SELECT pg_backend_pid()").value


STARTS = {
    "search_path": "mine, public",
    "DateStyle": "German",
    "timezone": "Asia/Tokyo",
    "client_encoding": "latin1",
    "application_name": "an app",
    "extra_float_digits": "3",
    "statement_timeout": "77s",
    "app.tenant_id": "7",
    "options": r"-c work_mem=1MB --lock-timeout=5s -c geqo=off",
}
SEEN = {
    "search_path": "mine, public",
    "DateStyle": "German, DMY",
    "TimeZone": "Asia/Tokyo",
    "client_encoding": "LATIN1",
    "application_name": "an app",
    "statement_timeout": "77s",
    "app.tenant_id": "7",
    "work_mem": "1MB",
    "lock_timeout": "5s",
    "geqo": "off",
}
OTHERS = {
    "search_path": "other",
    "DateStyle": "SQL, MDY",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "application_name": "another",
    "statement_timeout": "1min",
    "app.tenant_id": "8",
    "work_mem": "2MB",
    "lock_timeout": "6s",
    "geqo": "on",
}


@pytest.mark.parametrize("undo", ["RESET", "SET TO DEFAULT", "RESET ALL", "DISCARD ALL"])
def test_resets_go_back_to_the_start(pooler, cluster, undo):
    with pooler.client(**STARTS) as client:
        with wire.Client((cluster.primary.host, cluster.primary.port)) as direct:
            direct.login("app_trust", database="app", **STARTS)
            for name, value in OTHERS.items():
                for one in (client, direct):
                    assert show(one, name) == SEEN[name]
                    assert not one.query(f"SET {name} = '{value}'").errors, name
                    assert show(one, name) == value
                if undo == "RESET":
                    undoing = f"RESET {name}"
                elif undo == "SET TO DEFAULT":
                    undoing = f"SET {name} TO DEFAULT"
                else:
                    undoing = undo
                for one in (client, direct):
                    assert not one.query(undoing).errors
                assert show(client, name) == show(direct, name) == SEEN[name], name
                assert client.parameters == direct.parameters
                if "." not in name:
                    assert source(client, name) == source(direct, name)


def test_parameters_are_told_as_the_server_spells_them(pooler):
    with pooler.client(client_encoding="utf-8", DateStyle="german", options="-c timezone=utc") as one:
        assert one.parameters["client_encoding"] == "UTF8"
        assert one.parameters["DateStyle"] == "German, DMY"
        assert one.parameters["TimeZone"] == "UTC"
    with pooler.client() as one:
        assert one.parameters["DateStyle"] == "ISO, MDY"


BAD = {
    "22023": {"DateStyle": "nonsense"},
    "42704": {"no_such_parameter": "1"},
    "42501": {"role": "postgres"},
    "55P02": {"shared_buffers": "1GB"},
}


@pytest.mark.parametrize("code", BAD)
def test_what_postgres_refuses_is_refused_in_its_words(pooler, cluster, code):
    told = []
    for address in ((pooler.host, pooler.port), (cluster.primary.host, cluster.primary.port)):
        with wire.Client(address) as client, pytest.raises(LoginFailed) as failure:
            client.login("app_trust", database="app", **BAD[code])
        told.append({key: failure.value.fields[key] for key in "SCM"})
    assert told[0] == told[1] and (told[0]["S"], told[0]["C"]) == ("FATAL", code)
    with pooler.client() as client:  # nobody else is told
        assert client.query("SELECT 1").value == "1"


@pytest.mark.one_worker
def test_servers_are_used_again_by_who_asks_for_the_same(pooler, cluster):
    """Cleaned in between; another start gets another server, and the idle one makes room."""
    seen = {}
    for _ in range(2):
        for path in ("a", "b", "c"):
            client = pooler.client(search_path=path)
            pid = backend(client)
            assert seen.setdefault(path, pid) == pid
            client.query("SET search_path = evil; SET app.x = 'evil'; SET work_mem = '9MB';"
                         "CREATE TEMP TABLE evil (a int); SELECT pg_advisory_lock(9)")
            client.close()
            cluster.primary.wait_for(
                f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND query = 'DISCARD ALL'"
                " AND state = 'idle'", "1")
    assert len(set(seen.values())) == 3
    for path in ("d", "e", "f", "a"):
        with pooler.client(search_path=path) as client:
            assert show(client, "search_path") == path
            assert show(client, "work_mem") == "4MB"
            assert client.query("SELECT current_setting('app.x', true)").value in (None, "")
            assert client.query("SELECT to_regclass('pg_temp.evil')").value is None
            assert backend(client) not in seen.values()
        assert int(pooler.admin("SHOW POOLS")[0]["sv_idle"]) <= 3


def test_each_its_own_at_the_same_time(pooler):
    """And who finds no room waits."""
    clients = [pooler.client(search_path=path) for path in ("a", "b", "a")]
    assert [show(one, "search_path") for one in clients] == ["a", "b", "a"]
    assert len({backend(one) for one in clients}) == 3
    late = pooler.connect()
    late.send(wire.startup({"user": "app_trust", "database": "app", "search_path": "c"}))
    assert late.is_silent()
    clients.pop().close()
    late.authenticate("app_trust", "")
    assert show(late, "search_path") == "c"
    for one in (*clients, late):
        one.close()


def test_plain_logins_and_started_ones(start_pooler):
    """Neither gets what the other was started with, whatever was made ahead of them."""
    pooler = start_pooler({**TRACK, "default_pool_size": 2, "min_pool_size": 2})
    for _ in range(3):
        with pooler.client() as plain, pooler.client(work_mem="1MB") as other:
            assert show(plain, "work_mem") == "4MB"
            assert show(other, "work_mem") == "1MB"


def test_another_reset_query_is_run_besides(start_pooler):
    settings = {**TRACK, "default_pool_size": 1}
    pooler = start_pooler({**settings, "server_reset_query": "SELECT 'cleaned', pg_advisory_lock(77)"})
    with pooler.client(search_path="a") as client:
        client.query("SET work_mem = '9MB'")
    with pooler.client(search_path="a") as client:
        assert show(client, "work_mem") == "4MB"
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77"
        if WORKERS == 1:
            assert client.query(held).value == "1"


def test_checked_servers(start_pooler):
    """server_check_delay = 0: each is asked before it is lent, also by its start."""
    pooler = start_pooler({**TRACK, "default_pool_size": 2, "server_check_delay": 0,
                           "server_check_query": "SELECT 1"})
    for _ in range(3):
        for path in ("a", "b"):
            with pooler.client(search_path=path) as client:
                assert show(client, "search_path") == path


def test_an_errand_gets_a_plain_server(start_pooler, cluster):
    """auth_query on a pool whose servers were started by clients: never with their search_path."""
    cluster.primary.sql(
        "CREATE SCHEMA trap; CREATE FUNCTION trap.who(text) RETURNS TABLE (u name, p text)"
        " LANGUAGE sql AS $$ SELECT 'mallory', '' $$; GRANT USAGE ON SCHEMA trap TO PUBLIC;"
        "CREATE FUNCTION public.who(text) RETURNS TABLE (u name, p text) LANGUAGE sql AS"
        " $$ SELECT $1, '' $$"
    )
    try:
        pooler = start_pooler(
            {**TRACK, "default_pool_size": 1, "auth_type": "trust", "auth_user": "app_trust",
             "auth_query": "SELECT u, p FROM who($1)"},
            secrets={"app_trust": ""},
        )
        with pooler.client(search_path="trap, public") as client:
            assert show(client, "search_path") == "trap, public"
        with pooler.client() as client:
            assert show(client, "search_path") == '"$user", public'
    finally:
        cluster.primary.sql("DROP SCHEMA trap CASCADE; DROP FUNCTION public.who")


@pytest.mark.parametrize("routing,standby", [("replica", "t"), ("read_write", "f")])
def test_the_node_is_that_of_the_route(start_pooler, cluster, make_table, routing, standby):
    make_table("written", "a int")
    nodes = [*cluster.standbys, cluster.primary]
    entry = entry_of(nodes, routing=routing)
    pooler = start_pooler({**PROBING, **TRACK}, databases={"app": entry})
    if routing == "replica":
        Watch(pooler).settle()
    for _ in range(2):
        with pooler.client(work_mem="1MB") as client:
            assert show(client, "work_mem") == "1MB"
            assert client.query("SELECT pg_is_in_recovery()").value == standby
            if standby == "f":
                assert client.query("INSERT INTO written VALUES (1)").tags == ["INSERT 0 1"]


def test_off_is_as_ever(start_pooler):
    pooler = start_pooler({"pool_mode": "session", "default_pool_size": 1})
    with pytest.raises(LoginFailed) as failure:
        pooler.client(search_path="a")
    assert failure.value.fields["C"] == "08P01"
    with pooler.client(DateStyle="German") as client:
        client.query("SET DateStyle = 'SQL'; RESET DateStyle")
        assert show(client, "DateStyle") == "ISO, MDY"


def test_switched_while_running(start_pooler):
    pooler = start_pooler({"pool_mode": "session", "default_pool_size": 2})
    old = pooler.client(DateStyle="German")
    old.query("SELECT 1")
    pooler.admin("SET session_state = track")
    with pooler.client(search_path="a") as new:
        assert show(new, "search_path") == "a"
        assert show(old, "DateStyle") == "German, DMY"
        pooler.admin("SET session_state = off")
        assert show(new, "search_path") == "a"
    old.close()
    with pooler.client() as plain:
        assert show(plain, "search_path") == '"$user", public'


# The server's process id


def pid_of(client):
    return struct.unpack("!i", client.key[:4])[0]


@pytest.mark.parametrize("where", ["global", "database"])
def test_backend_pid(start_pooler, cluster, where):
    more = {"backend_pid": "server"}
    if where == "global":
        pooler = start_pooler({**TRACK, **more})
    else:
        entry = f"host={cluster.primary.host} port={cluster.primary.port} dbname=app backend_pid=server"
        pooler = start_pooler(TRACK, databases={"app": entry})
    clients = [pooler.client(search_path=f"p{i % 3}") for i in range(6)]
    for client in clients:
        assert str(pid_of(client)) == backend(client)
    assert len({client.key for client in clients}) == 6
    victim, other = clients[:2]
    for one in (victim, other):
        one.send(query("SELECT pg_sleep(60), 'victim'"))
    wait_running(cluster, "victim", 2)
    for wrong in (victim.key[:4] + b"\0\0\0\3", b"\0\0\0\1" + victim.key[4:]):
        wire.cancel(pooler.address, wrong)
    wait_running(cluster, "victim", 2)
    wire.cancel(pooler.address, victim.key)
    assert victim.answer().code == "57014"
    wait_running(cluster, "victim", 1)
    wire.cancel(pooler.address, other.key)
    assert other.answer().code == "57014"
    assert clients[2].query(f"SELECT pg_cancel_backend({pid_of(victim)})").value == "t"
    assert victim.query("SELECT 1").value == "1"
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = "
    victim.query("SELECT pg_advisory_lock(5)")
    assert clients[2].query(locks + str(pid_of(victim))).value == "1"
    for client in clients:
        client.close()


@pytest.mark.parametrize("more", [{"session_state": "track"}, {**TRACK, "peer_id": 3},
                                  {"pool_mode": "session"}])
def test_backend_pid_elsewhere_is_warned_of(start_pooler, cluster, more):
    pooler = start_pooler({**more, "backend_pid": "server"})
    pooler.wait_log("backend_pid = server counts only with pool_mode = session and")
    with pooler.client() as client:
        assert not 0 <= pid_of(client) <= 4194304
        client.send(query("SELECT pg_sleep(60), 'victim'"))
        wait_running(cluster, "victim")
        wire.cancel(pooler.address, client.key)
        assert client.answer().code == "57014"


def test_psycopg(pooler):
    """A driver, with what it says of itself."""
    with pooler.psycopg(application_name="drv", options="-c search_path=x") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("x",)
        connection.execute("SET search_path = y")
        connection.execute("RESET ALL")
        assert connection.execute("SHOW search_path").fetchone() == ("x",)
        assert connection.info.parameter_status("application_name") == "drv"
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    began = time.monotonic()
    with pooler.psycopg(application_name="drv") as connection:
        assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)
    assert time.monotonic() - began < 5 * PATIENCE


def test_logins_that_end_while_their_server_is_made(start_pooler, cluster):
    """Clients that leave, servers that are ended, settings that change: nobody waits for ever, and
    nobody gets a server that was started for another."""
    pooler = start_pooler({**TRACK, "default_pool_size": 2, "server_login_retry": "0.1"})
    for turn in range(48):
        one = pooler.connect()
        one.send(wire.startup({"user": "app_trust", "database": "app", "search_path": f"s{turn % 5}"}))
        if turn % 4 == 0:
            one.reset()
        elif turn % 4 == 1:
            one.drop()
        elif turn % 4 == 2:
            cluster.primary.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_trust'"
            )
            try:
                one.authenticate("app_trust", "")
                answer = one.query("SHOW search_path")
                assert answer.errors or answer.value == f"s{turn % 5}"
            except (LoginFailed, wire.Closed):
                pass
            one.drop()
        else:
            pooler.admin(f"SET session_state = {'off' if turn % 8 == 3 else 'track'}")
            try:
                one.authenticate("app_trust", "")
            except LoginFailed as refused:  # its session is not tracked
                assert refused.fields["C"] in ("08P01", "57P01"), refused.fields
            one.drop()
    pooler.admin("SET session_state = track")
    for path in ("s1", None, "s2", "s3", None):
        with pooler.client(**({} if path is None else {"search_path": path})) as client:
            assert show(client, "search_path") == (path or '"$user", public')
