"""Small things that drivers and tools notice: what a process id is good for, what a server's last
words look like, how parameters are spelled."""

import signal
import struct

import psycopg
import pytest

from pooler import WORKERS
from routed import PROBING, start_routed
from tools import wait_running
from wire import (
    FLUSH,
    SYNC,
    Client,
    LoginFailed,
    bind,
    cancel,
    copy_data,
    execute,
    parse,
    query,
    startup,
)

PID_MAX = 4194304  # of Linux


def pid_of(client):
    return struct.unpack("!i", client.key[:4])[0]


@pytest.mark.weir_only
@pytest.mark.parametrize("settings", [{}, {"session_state": "track"}, {"pool_mode": "session"},
                                      {"peer_id": 3}])
def test_a_process_id_of_ours_hits_nobody(start_pooler, cluster, settings):
    """No process has such a number: PostgreSQL says so, and everybody's query goes on."""
    pooler = start_pooler(settings)
    clients = [pooler.client() for _ in range(20)]
    pids = [pid_of(one) for one in clients]
    assert all(pid < 0 or pid > PID_MAX for pid in pids), pids
    victim = clients[0]
    victim.send(query("SELECT pg_sleep(0.5), 'victim'"))
    wait_running(cluster, "victim")
    for pid in pids:
        for function in ("pg_cancel_backend", "pg_terminate_backend"):
            answer = clients[1].query(f"SELECT {function}({pid})")
            assert answer.value == "f" and answer.notices[0]["S"] == "WARNING", answer
    assert victim.answer().rows == [("", "victim")]
    for one in clients:
        one.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_cancel_by_the_key_of_the_greeting(start_pooler, cluster, mode):
    pooler = start_pooler({"pool_mode": mode})
    with pooler.client() as client:
        client.send(parse("SELECT pg_sleep(60), 'victim'"), bind(), execute(), SYNC)
        wait_running(cluster, "victim")
        cancel(pooler.address, client.key)
        assert client.answer().code == "57014"


# A server's last words

ENDINGS = {
    "query": [query("SELECT pg_sleep(60), 'victim'")],
    "extended": [parse("SELECT pg_sleep(60), 'victim'"), bind(), execute(), SYNC],
    "named": [parse("SELECT pg_sleep(60), 'victim'", "s"), bind((), "s"), execute(), SYNC],
    "pipeline": [
        parse("SELECT 1"), bind(), execute(), parse("SELECT pg_sleep(60), 'victim'"), bind(),
        execute(), SYNC, parse("SELECT 2"), bind(), execute(), SYNC,
    ],
    "queries": [query("SELECT pg_sleep(60), 'victim'"), query("SELECT 2")],
    "copy in": [query("COPY last_words FROM STDIN"), copy_data(b"1\n")],
    "copy in, extended": [parse("COPY last_words FROM STDIN"), bind(), execute(), FLUSH],
    "copy out": [query("COPY (SELECT 'victim', pg_sleep(60)) TO STDOUT")],
    "transaction": [query("BEGIN"), query("SELECT pg_sleep(60), 'victim'")],
    "idle in a transaction": [query("BEGIN; INSERT INTO last_words VALUES (1)")],
    "failed transaction": [query("BEGIN; SELECT 1/0")],
}
# In transaction mode these cost their client one error, not the connection.
GOES_ON = ("query", "extended", "named", "pipeline", "queries", "copy in", "copy out")
ANSWERED = ("transaction", "idle in a transaction", "failed transaction")  # the first query is


def last_words(client, cluster, name, parts):
    """All that a client is told from the moment when its server is terminated."""
    pid = client.query("SELECT pg_backend_pid()").value
    client.send(*parts)
    if name in ANSWERED:
        client.answer()
    waits = "wait_event = 'PgSleep' OR state LIKE 'idle in transaction%' OR wait_event = 'ClientRead'"
    busy = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND state <> 'idle' AND ({waits})"
    cluster.primary.wait_for(busy, "1")
    cluster.primary.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
    return client.answer()


@pytest.mark.weir_only
@pytest.mark.parametrize("settings", [
    {"pool_mode": mode, "session_state": state}
    for mode in ("session", "transaction") for state in ("off", "track")
], ids=lambda settings: "-".join(settings.values()))
def test_a_servers_last_words(start_pooler, cluster, make_table, settings):
    """As they are, and then nothing but the end; where the client can go on, as an error."""
    make_table("last_words", "a int")
    pooler = start_pooler(settings)
    for name, parts in ENDINGS.items():
        with Client((cluster.primary.host, cluster.primary.port)) as direct:
            direct.login("app_trust", database="app")
            words = last_words(direct, cluster, name, parts).error
        assert (words["S"], words["C"]) == ("FATAL", "57P01"), words
        with pooler.client() as client:
            told = last_words(client, cluster, name, parts)
            if settings["pool_mode"] == "transaction" and name in GOES_ON:
                error = told.error
                assert (error["S"], error["C"], error["M"]) == ("ERROR", "57P01", words["M"]), name
                if name in ("pipeline", "queries"):
                    assert client.answer().code == "57P01", name
                assert client.query("SELECT 'on'").value == "on"
            else:
                assert told.errors == [words], name
                assert client.read_to_end().messages == [], name


SHUTDOWNS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@pytest.mark.weir_only
@pytest.mark.parametrize("state", ["off", "track"])
@pytest.mark.parametrize("how", ["smart", "fast", "immediate"])
def test_the_primary_is_shut_down(start_pooler, cluster, state, how):
    """Who is in a transaction reads the server's own last words, once; who is not may go on."""
    pooler = start_pooler({"session_state": state, "server_login_retry": 1})
    node = cluster.primary
    inside, running = pooler.client(), pooler.client()
    inside.query("BEGIN")
    running.send(query("SELECT pg_sleep(60), 'victim'"))
    wait_running(cluster, "victim")
    node.process.send_signal(SHUTDOWNS[how])
    try:
        if how == "smart":  # which waits for those who are at work
            assert inside.query("SELECT 1").value == "1"
            node.process.send_signal(SHUTDOWNS["fast"])
        told = [one.fields() for one in inside.read_to_end().of("E")]
        words = "terminating connection due to administrator command"
        if how == "immediate":  # PostgreSQL only gives a warning then
            assert len(told) == 1 and told[0]["S"] == "FATAL", told
        else:
            (error,) = told
            assert (error["S"], error["C"], error["M"]) == ("FATAL", "57P01", words)
            assert error["R"] == "ProcessInterrupts"
        answer = running.answer()
        assert answer.error["S"] == "ERROR" and answer.status == "I", answer
    finally:
        node.process.wait(30)
        node.start()
        cluster.wait_streaming()
    running.close()


# Databases that are wanted without sessions

UNSEEN = {
    "drop": ("DROP DATABASE wanted", None),
    "rename": ("ALTER DATABASE wanted RENAME TO renamed", "renamed"),
    "template": ("CREATE DATABASE copied TEMPLATE wanted", "copied"),
    "tablespace": ("ALTER DATABASE wanted SET TABLESPACE elsewhere", "wanted"),
}


@pytest.fixture(scope="module")
def elsewhere(cluster):
    make = "CREATE TABLESPACE elsewhere OWNER app_trust LOCATION ''"
    with psycopg.connect(cluster.primary.conninfo(), autocommit=True) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(make)
    cluster.primary.sql("ALTER ROLE app_trust CREATEDB")
    yield
    cluster.primary.sql("ALTER ROLE app_trust NOCREATEDB")
    cluster.primary.sql("DROP TABLESPACE elsewhere")


@pytest.fixture
def wanted(cluster, elsewhere):
    """A database of the user's, to be gone after the test under whatever name."""
    cluster.primary.sql("CREATE DATABASE wanted OWNER app_trust")
    yield
    for name in ("wanted", "renamed", "copied"):
        cluster.primary.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def start_wanted(start_pooler, cluster, settings, **more):
    place = f"host={cluster.primary.host} port={cluster.primary.port}"
    databases = {"app": f"{place} dbname=app", "alias": f"{place} dbname=wanted",
                 "wanted": f"{place} dbname=wanted", **more}
    return start_pooler(settings, databases=databases)


@pytest.mark.weir_only
@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("name", UNSEEN)
def test_idle_servers_do_not_keep_a_database(start_pooler, cluster, wanted, mode, name):
    """Nobody sees that there were any: neither who drops it nor who was there last."""
    sql, left = UNSEEN[name]
    pooler = start_wanted(start_pooler, cluster, {"session_state": "track", "pool_mode": mode})
    for database in ("wanted", "alias", "alias"):
        for _ in range(4):  # on every worker
            pooler.client(database=database).query("SELECT 1")
    clients = [pooler.client(database="wanted") for _ in range(4)] if mode == "transaction" else []
    for one in clients:
        one.query("SELECT 1")
    with pooler.client() as client:
        if name == "drop":
            answer = client.ask(parse(sql), bind(), execute(), SYNC)
        else:
            answer = client.query(sql)
        assert not answer.errors, answer
    found = "SELECT string_agg(datname, ' ') FROM pg_database WHERE datname = ANY "
    if left is not None:
        assert cluster.primary.sql(found + f"('{{{left}}}')") == left
    for one in clients:
        if name in ("template", "tablespace"):
            assert one.query("SELECT 1").value == "1"
        one.socket.close()


@pytest.mark.weir_only
def test_who_is_at_work_there_counts(start_pooler, cluster, wanted):
    """As PostgreSQL has it; and who may not drop it costs nobody anything."""
    pooler = start_wanted(start_pooler, cluster, {"session_state": "track"})
    with pooler.client(database="wanted") as busy, pooler.client() as client:
        pid = busy.query("SELECT pg_backend_pid()").value
        busy.query("BEGIN")
        answer = client.query("DROP DATABASE wanted")
        assert answer.code == "55006" and "accessed by other users" in answer.error["M"]
        assert busy.query("SELECT pg_backend_pid()").value == pid
        busy.query("COMMIT")
        cluster.primary.sql("ALTER DATABASE wanted OWNER TO postgres")
        assert client.query("DROP DATABASE wanted").code == "42501"
        assert "wanted without sessions" not in pooler.log_text()


@pytest.mark.weir_only
def test_off_leaves_it_as_it_is(start_pooler, cluster, wanted):
    pooler = start_wanted(start_pooler, cluster, {})
    with pooler.client(database="wanted") as there, pooler.client() as client:
        there.query("SELECT 1")
        assert client.query("DROP DATABASE wanted").code == "55006"


@pytest.mark.weir_only
def test_the_prober_lets_go_of_a_database_too(start_pooler, cluster, wanted):
    nodes = {"host": cluster.primary.host, "port": cluster.primary.port}
    entry = " ".join(f"{key}={value}" for key, value in nodes.items())
    settings = {"session_state": "track", **PROBING}
    pooler = start_wanted(start_pooler, cluster, settings, routed=f"{entry} dbname=wanted routing=primary")
    with pooler.client(database="routed") as there:
        there.query("SELECT 1")
    with pooler.client() as client:
        answer = client.query("DROP DATABASE wanted")
        assert not answer.errors, answer


# Parameters are told as the server spells them, after it took them


SPELLED = {
    "client_encoding": ("utf-8", "UTF8"),
    "DateStyle": ("german", "German, DMY"),
    "TimeZone": ("asia/tokyo", "Asia/Tokyo"),
    "IntervalStyle": ("ISO_8601", "iso_8601"),
    "application_name": ("caf\u00e9 " + "x" * 70, ("caf?? " + "x" * 70)[:63]),
}


@pytest.fixture
def tracked(start_pooler):
    return start_pooler({"session_state": "track", "default_pool_size": 1})


@pytest.mark.weir_only
@pytest.mark.parametrize("name", SPELLED)
def test_the_greeting_is_spelled_as_the_server_spells_it(tracked, cluster, name):
    asked, told = SPELLED[name]
    with Client((cluster.primary.host, cluster.primary.port)) as direct:
        direct.login("app_trust", database="app", **{name: asked})
        assert direct.parameters[name] == told
    for _ in range(3):
        with tracked.client(**{name: asked}) as client, tracked.client() as other:
            assert client.parameters == direct.parameters
            assert other.query(f"SHOW {name}").value != told or name == "client_encoding"
            assert client.query(f"SHOW {name}").value == told
            assert client.parameters[name] == told
    with tracked.client(**{name: asked}, options="-c work_mem=1MB") as client:
        assert client.parameters == direct.parameters
        assert client.query("SHOW work_mem").value == "1MB"


REFUSED = {
    "22023": {"DateStyle": "nonsense"},
    "42704": {"no_such_parameter": "1"},
    "42501": {"role": "postgres"},
    "55P02": {"shared_buffers": "1GB"},
}


@pytest.mark.weir_only
@pytest.mark.parametrize("code", REFUSED)
def test_a_login_is_refused_in_the_servers_words(tracked, cluster, code):
    """At once, and it costs nobody anything: the server stays, and is clean."""
    with tracked.client() as first:
        pid = first.query("SELECT pg_backend_pid()").value
    told = []
    for address in ((tracked.host, tracked.port), (cluster.primary.host, cluster.primary.port)):
        with Client(address) as client, pytest.raises(LoginFailed) as failure:
            client.login("app_trust", database="app", work_mem="1MB", **REFUSED[code])
        told.append([failure.value.fields[key] for key in "SVCM" if key in failure.value.fields])
    assert told[0][0] == told[1][0] == "FATAL"
    assert told[0][-2:] == told[1][-2:] and told[0][-2] == code
    with tracked.client() as client:
        assert client.query("SHOW work_mem").value == "4MB"
        if WORKERS == 1:
            assert client.query("SELECT pg_backend_pid()").value == pid


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_login_that_is_known_needs_no_server(tracked):
    """Only the first of its kind waits where there is none."""
    known = {"search_path": "a", "DateStyle": "german", "application_name": "one"}
    tracked.client(**known).close()
    busy = tracked.client()
    busy.query("BEGIN")
    for plain in ({}, {"application_name": "any"}, {"client_encoding": "UTF8"},
                  {**known, "application_name": "two"}):
        with tracked.client(**plain) as client:
            assert client.parameters["application_name"] == plain.get("application_name", "")
    with tracked.client(**known) as client:
        assert client.parameters["DateStyle"] == "German, DMY"
    new = tracked.connect()
    new.send(startup({"user": "app_trust", "database": "app", "search_path": "b"}),
             query("SELECT 'early'"))
    assert new.is_silent()
    busy.query("COMMIT")
    new.authenticate("app_trust", "")
    assert new.answer().value == "early"
    assert new.query("SHOW search_path").value == "b"
    gone = tracked.connect()
    gone.send(startup({"user": "app_trust", "database": "app", "search_path": "c"}))
    gone.reset()
    for one in (busy, new):
        assert one.query("SELECT 1").value == "1"
        one.close()


@pytest.mark.weir_only
def test_logins_of_a_routed_database_are_checked_on_the_primary(start_pooler, cluster):
    pooler = start_routed(start_pooler, cluster, {"session_state": "track"})
    for _ in range(2):
        with pooler.client(DateStyle="german", search_path="a") as client:
            assert client.parameters["DateStyle"] == "German, DMY"
            assert client.query("SHOW search_path").value == "a"
    with pytest.raises(LoginFailed):
        pooler.client(DateStyle="nonsense")


@pytest.mark.weir_only
def test_logins_that_end_while_they_are_checked(tracked, cluster):
    """Clients that leave, servers that are ended and a changed mind: nobody waits for ever, and
    nothing is left of those who have gone."""
    for turn in range(40):
        one = tracked.connect()
        one.send(startup({"user": "app_trust", "database": "app", "search_path": f"s{turn}"}))
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
                one.close()
            except LoginFailed:
                one.drop()
        else:
            tracked.admin(f"SET session_state = {'off' if turn % 8 == 3 else 'track'}")
            try:
                one.authenticate("app_trust", "")
            except LoginFailed as refused:  # its session is not tracked
                assert refused.fields["C"] in ("08P01", "57P01"), refused.fields
            one.drop()
    tracked.admin("SET session_state = track")
    with tracked.client() as client:
        assert client.query("SHOW search_path").value == '"$user", public'
        assert client.query("SELECT 1").value == "1"
        rows = [row for row in tracked.admin("SHOW POOLS") if row["database"] == "app"]
        assert sum(row["cl_active"] + row["cl_waiting"] for row in rows) == 1, rows
