"""Users whom PostgreSQL is asked for: auth_query, auth_user, auth_dbname."""

import contextlib
import socket
import struct
import threading
import time

import pytest

import wire
from cluster import PASSWORDS
from pooler import ADMIN, KIND, PATIENCE, WORKERS
from tools import in_threads, wait_running
from wire import Closed, LoginFailed

SECRET = PASSWORDS["app"]
# PgBouncer 1.18, which the tests run against as well, has another default.
NEW_DEFAULT = (
    "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END"
    " FROM pg_authid WHERE rolname=$1 AND rolcanlogin"
)


@pytest.fixture(scope="module", autouse=True)
def roles(cluster):
    """Users of whom no auth_file knows."""
    cluster.primary.sql(
        "CREATE ROLE no_secret LOGIN; CREATE ROLE no_login PASSWORD 'no_login';"
        " CREATE ROLE expired LOGIN PASSWORD 'expired' VALID UNTIL '2001-01-01';"
        " CREATE ROLE mover LOGIN PASSWORD 'one';"
        " CREATE DATABASE other"
    )
    yield
    cluster.primary.sql(
        "DROP ROLE no_secret; DROP ROLE no_login; DROP ROLE expired; DROP ROLE mover;"
    )
    cluster.primary.sql("DROP DATABASE other WITH (FORCE)")


@pytest.fixture
def asking(start_pooler):
    """Starts a pooler whose auth_file knows nobody but the auth_user."""

    def start(settings=None, secrets=None, **more):
        rows = {"auth_type": "scram-sha-256", "auth_user": "postgres", "auth_query": NEW_DEFAULT}
        secrets = {"postgres": ""} if secrets is None else secrets
        return start_pooler({**rows, **(settings or {})}, secrets=secrets, **more)

    return start


def refusal(pooler, user, secret=None, database="app", **parameters):
    """The text of the error that ends a login."""
    client = pooler.connect()
    with pytest.raises(LoginFailed) as raised:
        client.login(user, secret, database, **parameters)
    with pytest.raises(Closed):
        client.read()
    fields = raised.value.fields
    assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
    return fields["M"]


def whoami(pooler, user, secret, database="app"):
    with pooler.client(user, secret, database) as client:
        return client.query("SELECT current_user").value


def place(cluster, dbname="app", **more):
    """A database entry on the primary."""
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": dbname, **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


# Who gets in


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_a_role_logs_in_with_its_own_secret(asking, mode):
    pooler = asking({"pool_mode": mode})
    for _ in range(3):
        assert whoami(pooler, "app", SECRET) == "app"
        assert whoami(pooler, "app2", PASSWORDS["app2"]) == "app2"


def test_a_wrong_password(asking):
    pooler = asking()
    assert refusal(pooler, "app", "wrong") == "SASL authentication failed"
    assert whoami(pooler, "app", SECRET) == "app"


def test_nobody_of_that_name(asking):
    pooler = asking()
    assert refusal(pooler, "stranger", "x") == "no such user"
    pooler.wait_log(r"LOG C-\S+ \S+ login failed: db=app")
    assert refusal(pooler, "no_login", "no_login") == "no such user"


def test_a_secret_that_is_null(asking):
    pooler = asking()
    assert refusal(pooler, "no_secret", "") == "SASL authentication failed"
    assert refusal(pooler, "no_secret", "md5") == "SASL authentication failed"


def test_valid_until_is_over(asking):
    assert refusal(asking(), "expired", "expired") == "SASL authentication failed"


@pytest.mark.weir_only
def test_the_default_query(asking):
    pooler = asking({"auth_query": None})
    assert whoami(pooler, "app", SECRET) == "app"
    assert refusal(pooler, "expired", "expired") == "SASL authentication failed"
    assert refusal(pooler, "no_login", "no_login") == "no such user"


def test_a_changed_password_counts_at_once(cluster, asking):
    pooler = asking()
    assert whoami(pooler, "mover", "one") == "mover"
    cluster.primary.sql("ALTER ROLE mover PASSWORD 'two'")
    assert refusal(pooler, "mover", "one") == "SASL authentication failed"
    assert whoami(pooler, "mover", "two") == "mover"
    cluster.primary.sql("ALTER ROLE mover PASSWORD 'one'")


def test_a_plain_secret_serves_every_method(cluster, asking):
    query = "SELECT $1::text, 'secret of ' || $1"
    for method in ("plain", "md5", "scram-sha-256"):
        pooler = asking({"auth_query": query, "auth_type": method})
        assert whoami(pooler, "app", SECRET) == "app"
        assert refusal(pooler, "app", "wrong").endswith("authentication failed")


def test_trust_of_users_that_postgresql_knows(asking):
    pooler = asking({"auth_type": "trust"})
    assert whoami(pooler, "app_trust", None) == "app_trust"
    assert refusal(pooler, "stranger") == "no such user"


def test_the_auth_file_comes_first(asking):
    pooler = asking(
        {"auth_query": "SELECT $1::text, 'asked'"}, secrets={"postgres": "", "app": SECRET}
    )
    assert refusal(pooler, "app", "asked") == "SASL authentication failed"
    assert whoami(pooler, "app", SECRET) == "app"


def test_users_with_settings_only_are_asked_for(asking):
    pooler = asking(users={"app": "pool_size=3"})
    assert whoami(pooler, "app", SECRET) == "app"


def test_an_unknown_database_is_not_asked(asking):
    pooler = asking()
    assert refusal(pooler, "app", SECRET, "nowhere") == "SASL authentication failed"


def test_without_an_auth_user_nobody_is_asked(asking):
    pooler = asking({"auth_user": None})
    assert refusal(pooler, "app", SECRET) == "SASL authentication failed"


def test_a_forced_user_of_the_database(cluster, asking):
    pooler = asking(databases={"app": place(cluster, user="app_trust")})
    assert whoami(pooler, "app", SECRET) == "app_trust"
    assert whoami(pooler, "app2", PASSWORDS["app2"]) == "app_trust"


# Answers that are none


BROKEN = {
    "an error": "SELECT nothing FROM pg_authid WHERE rolname=$1",
    "an error while it runs": "SELECT $1::text, (1 / (length($1::text) - 3))::text",
    "one column": "SELECT rolname FROM pg_authid WHERE rolname=$1",
    "three columns": "SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname=$1",
    "no name": "SELECT NULL, 'x' WHERE $1::text IS NOT NULL",
    "no parameter": "SELECT 'app', 'x'",
    "no query": "",
}


@pytest.mark.parametrize("query", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_query(asking, query):
    pooler = asking({"auth_query": query})
    for _ in range(2):
        assert refusal(pooler, "app", SECRET) == "bouncer config error"


def test_the_error_stands_in_the_log(asking):
    pooler = asking({"auth_query": BROKEN["an error"]})
    assert refusal(pooler, "app", SECRET) == "bouncer config error"
    pooler.wait_log(r"closing because: error response from auth_query")
    if KIND == "weir":
        pooler.wait_log(r'\] ERROR S: error in auth_query: ERROR: column "nothing" does not')


def test_the_number_of_columns_stands_in_the_log(asking):
    pooler = asking({"auth_query": BROKEN["three columns"]})
    assert refusal(pooler, "app", SECRET) == "bouncer config error"
    pooler.wait_log(r"closing because: expected 2 columns from auth_query, not 3")


ANSWERS = {
    "two rows": ("SELECT * FROM (VALUES ($1::text, 'one'), ($1, 'two')) rows", "two"),
    "two of the same": ("SELECT $1::text, 'one' FROM generate_series(1, 2)", "one"),
    "a name and a char": ("SELECT $1::name, 'x'::char", "x"),
    "numbers": ("SELECT $1::text, 12", "12"),
    "a quoted name": ("SELECT $1::text, 'a''b\"c\\'", "a'b\"c\\"),
    "a function": ("SELECT usename, passwd FROM pg_catalog.look_up($1)", "looked up"),
}


@pytest.mark.parametrize("method", ["plain", "scram-sha-256"])
def test_answers_that_are_taken(start_both, cluster, method):
    """What has two columns is taken, and of several rows the last; as PgBouncer does."""
    cluster.primary.sql(
        "CREATE FUNCTION pg_catalog.look_up(INOUT usename text, OUT passwd text)"
        " LANGUAGE sql AS $$SELECT $1, 'looked up'$$",
        "app",
    )
    try:
        for what, (query, secret) in ANSWERS.items():
            for pooler in start_both(
                {"auth_type": method, "auth_user": "postgres", "auth_query": query},
                secrets={"postgres": ""},
                databases={"app": place(cluster, user="app_trust")},
            ):
                assert whoami(pooler, "app", secret) == "app_trust", (what, pooler.kind)
                wrong = refusal(pooler, "app", secret + "x")
                assert wrong.endswith("authentication failed"), (what, pooler.kind)
    finally:
        cluster.primary.sql("DROP FUNCTION pg_catalog.look_up", "app")


NAMES = ["a'b", 'a"b', "a\\b", "a;b", "a b", "$1", "%s%n", "ä", "x" * 63, "--", "a,b", "'); --"]


@pytest.mark.weir_only
def test_a_second_startup_while_somebody_is_asked_for(cluster, asking):
    """It is read when the answer is there, and refused: nobody becomes somebody else."""
    pooler = asking({"auth_query": "SELECT $1::text, 'x' || pg_sleep(0.5)::text"})
    client = pooler.connect()
    client.send(wire.startup({"user": "app", "database": "app"}))
    wait_running(cluster, "pg_sleep(0.5)")
    client.send(wire.startup({"user": "app2", "database": "app"}))
    answer = client.read_to_end()
    assert answer.kinds == "RE" and answer.error["M"] == "client re-sent startup pkt"
    assert "app2" not in pooler.log_text()


@pytest.mark.weir_only
def test_names_are_a_parameter(cluster, asking):
    """Whatever a name is made of, it is the role of that very name that is asked for."""
    pooler = asking()
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    for name in quoted:
        cluster.primary.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'mine'")
    try:
        for name in NAMES:
            assert whoami(pooler, name, "mine") == name
            assert refusal(pooler, name, "other") == "SASL authentication failed"
    finally:
        for name in quoted:
            cluster.primary.sql(f"DROP ROLE {name}")


@pytest.mark.weir_only
@pytest.mark.parametrize("name", ["'app2'", "upper($1)", "rpad($1, 63, 'x')", "$1 || 'x'"])
def test_another_users_secret_lets_nobody_in(asking, name):
    pooler = asking({"auth_query": f"SELECT {name}::text, 'secret of app2' WHERE $1::text <> ''"})
    assert refusal(pooler, "app", "secret of app2") == "bouncer config error"
    pooler.wait_log("auth_query returned another user than app")


@pytest.mark.weir_only
def test_a_name_is_not_cut_to_that_of_a_role(cluster, asking):
    """PostgreSQL cuts names after 63 bytes; a longer one is not that role."""
    name = "n" * 63
    cluster.primary.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'long'")
    pooler = asking()
    assert whoami(pooler, name, "long") == name
    assert refusal(pooler, name + "n", "long") in ("bouncer config error", "no such user")
    cluster.primary.sql(f"DROP ROLE {name}")


@pytest.mark.weir_only
def test_a_large_secret(asking):
    secret = "x" * 60000
    pooler = asking({"auth_query": "SELECT $1::text, repeat('x', 60000)", "auth_type": "plain"})
    with pytest.raises(LoginFailed) as raised:
        pooler.client("app", secret)
    assert "authentication failed for user" in raised.value.fields["M"]  # PostgreSQL's own words
    assert refusal(pooler, "app", secret + "x") == "password authentication failed"
    pooler = asking({"auth_query": "SELECT $1::text, repeat('x', 200000)", "auth_type": "plain"})
    assert refusal(pooler, "app", secret) == "bouncer config error"


@pytest.mark.weir_only
def test_a_scram_secret_that_is_none(asking):
    pooler = asking({"auth_query": "SELECT $1::text, 'SCRAM-SHA-256$4096:x$y:z'"})
    assert refusal(pooler, "app", "SCRAM-SHA-256$4096:x$y:z") == "SASL authentication failed"


def test_an_open_transaction_does_not_stay(cluster, asking):
    """A query that writes does so by itself; nothing is left open on the server."""
    cluster.primary.sql(
        "CREATE TABLE seen (name text); CREATE FUNCTION ask(n text, OUT name text, OUT s text)"
        " LANGUAGE sql AS $$INSERT INTO seen VALUES (n); SELECT n, 'secret of ' || n$$"
    )
    pooler = asking({"auth_query": "SELECT * FROM ask($1)"})
    assert whoami(pooler, "app", SECRET) == "app"
    assert cluster.primary.sql("SELECT name FROM seen") == "app"
    cluster.primary.sql("DROP FUNCTION ask; DROP TABLE seen")


# Where it runs


def test_auth_dbname(cluster, asking):
    query = "SELECT $1::text, 'secret of app' WHERE current_database() = 'other'"
    pooler = asking(
        {"auth_query": query, **({"auth_dbname": "place"} if KIND == "weir" else {})},
        databases={
            "app": place(cluster),
            "mine": place(cluster, auth_dbname="place"),
            "place": place(cluster, "other"),
        },
    )
    if KIND == "weir":
        assert whoami(pooler, "app", SECRET, "mine") == "app"
    assert whoami(pooler, "app", SECRET) == "app"


@pytest.mark.weir_only
def test_the_settings_of_the_entry_come_first(cluster, asking):
    query = "'SELECT $1::text, ''secret of app'' WHERE current_user = ''app_trust'''"
    pooler = asking(
        {"auth_query": "SELECT 1", "auth_user": "app2"},
        secrets={"app_trust": ""},
        databases={
            "app": place(cluster, auth_user="app_trust", auth_query=query),
            "plain": place(cluster),
        },
    )
    assert whoami(pooler, "app", SECRET) == "app"


@pytest.mark.weir_only
def test_an_auth_dbname_that_is_not_there(cluster, asking):
    pooler = asking({"auth_dbname": "nowhere"})
    assert refusal(pooler, "app", SECRET) == "bouncer config error"
    pooler.wait_log(r'ERROR C-.* authentication database "nowhere" is not configured\.')


@pytest.mark.weir_only
def test_an_auth_dbname_that_is_disabled(cluster, asking):
    pooler = asking(
        {"auth_dbname": "place"},
        secrets={"postgres": "", ADMIN[0]: ADMIN[1]},
        databases={"app": place(cluster), "place": place(cluster)},
    )
    pooler.admin("DISABLE place")
    assert refusal(pooler, "app", SECRET) == 'authentication database "place" is disabled'
    pooler.admin("ENABLE place")
    assert whoami(pooler, "app", SECRET) == "app"


@pytest.mark.weir_only
def test_the_console_needs_an_auth_dbname(asking):
    settings = {"admin_users": "app", "stats_users": "app2"}
    pooler = asking(settings)
    assert refusal(pooler, "app", SECRET, "pgbouncer") == "bouncer config error"
    pooler.wait_log(r'cannot use the reserved "pgbouncer" database as an auth_dbname')
    pooler = asking({**settings, "auth_dbname": "app"})
    assert pooler.admin("SHOW VERSION", ("app", SECRET))
    assert pooler.admin("SHOW VERSION", ("app2", PASSWORDS["app2"]))
    assert refusal(pooler, "mover", "one", "pgbouncer") == "not allowed"
    assert refusal(pooler, "stranger", "x", "pgbouncer") == "no such user"


@pytest.mark.weir_only
def test_a_reserved_auth_dbname_is_refused(asking):
    """As a setting it is an error; in an entry it is one for each client that it counts for."""
    pooler = asking()
    pooler.write_ini({"auth_dbname": "pgbouncer"})
    pooler.reload()
    pooler.wait_log('ERROR cannot use the reserved "pgbouncer" database as an auth_dbname')
    assert whoami(pooler, "app", SECRET) == "app"
    pooler = asking(
        secrets={"postgres": "", "app_trust": ""},
        databases={"app": pooler.node_string(auth_dbname="pgbouncer")},
    )
    assert refusal(pooler, "app", SECRET) == "bouncer config error"
    pooler.wait_log('ERROR C-.* cannot use the reserved "pgbouncer" database as an auth_dbname')
    assert refusal(pooler, "app_trust", "wrong") == "SASL authentication failed"  # is in the file


@pytest.mark.weir_only
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_it_is_asked_with_the_auth_users_own_rights(asking, mode):
    """Though a client of that pool has left its server as another user."""
    settings = {"default_pool_size": 1, "pool_mode": mode, "server_reset_query": ""}
    pooler = asking(settings, secrets={"postgres": "x"})
    with pooler.client("postgres", "x") as client:
        pid = client.query("SELECT pg_backend_pid()").value
        assert not client.query("SET SESSION AUTHORIZATION app_trust").errors
    assert whoami(pooler, "app", SECRET) == "app"
    with pooler.client("postgres", "x") as client:
        assert client.query("SELECT session_user").value == "postgres"
        assert client.query("SELECT pg_backend_pid()").value == pid or WORKERS > 1


@pytest.mark.weir_only
def test_what_clients_have_set_has_no_part_in_it(asking):
    """Where sessions are tracked it is undone first, and the client has it again after that."""
    query = (
        "SELECT $1::text, 'secret of app' WHERE current_setting('search_path') !~ 'evil'"
        " AND coalesce(current_setting('app.x', true), '') = '' AND current_user = 'postgres'"
    )
    settings = {"session_state": "track", "default_pool_size": 1, "pool_mode": "transaction"}
    settings["on_session_state"] = "log"  # so that no program keeps the server
    pooler = asking({**settings, "auth_query": query}, secrets={"postgres": "x"})
    with pooler.client("postgres", "x") as client:
        known = "SET search_path = evil, pg_catalog; SET app.x = '1'; SET ROLE app_trust"
        program = "DO $$ BEGIN SET search_path = evil; SET ROLE app; END $$"
        for sql, expected in ((known, ("app_trust", "evil, pg_catalog")), (program, ("app", "evil"))):
            assert not client.query(sql).errors
            assert whoami(pooler, "app", SECRET) == "app"
            seen = client.query("SELECT current_user, current_setting('search_path')").rows
            assert seen == [expected]
            assert client.query("SELECT current_setting('app.x')").value == "1"


def test_nothing_of_the_client_reaches_the_auth_users_server(cluster, asking):
    """Parameters of a client that has not logged in yet are not set on that connection."""
    query = (
        "SELECT $1::text, 'secret of app' WHERE current_setting('application_name') <> 'evil'"
        " AND current_setting('search_path') <> 'evil' AND current_setting('TimeZone') <> 'GMT'"
    )
    more = {"track_extra_parameters": "search_path"} if KIND == "weir" else {}
    pooler = asking({"auth_query": query, "ignore_startup_parameters": "search_path", **more})
    parameters = {"application_name": "evil", "TimeZone": "GMT", "search_path": "evil"}
    for _ in range(3):
        with pooler.connect() as client:
            client.login("app", SECRET, "app", **parameters)
            assert client.query("SELECT current_user").value == "app"


# The pool and its limits


@pytest.mark.one_worker
def test_it_runs_on_the_pool_of_the_auth_user(cluster, asking):
    pooler = asking(secrets={"postgres": "", ADMIN[0]: ADMIN[1]})
    for _ in range(4):
        assert whoami(pooler, "app", SECRET) == "app"
    rows = {row["user"]: row for row in pooler.admin("SHOW POOLS") if row["database"] == "app"}
    servers = sum(rows["postgres"][name] for name in rows["postgres"] if name.startswith("sv_"))
    assert servers == 1
    assert rows["app"]


def test_it_waits_for_the_auth_users_pool(cluster, asking):
    """A login stands in line where the pool of the auth_user is full, and others go on."""
    pooler = asking(
        {"auth_type": "trust", "default_pool_size": 1, "query_wait_timeout": 2},
        secrets={"postgres": "", "app_trust": ""},
    )
    holder = pooler.client("postgres")
    holder.query("BEGIN")
    started = time.monotonic()
    assert refusal(pooler, "app") == "query_wait_timeout"
    assert 1.5 < time.monotonic() - started < 10 * PATIENCE
    outcome = []
    waiting = threading.Thread(target=lambda: outcome.append(refusal(pooler, "stranger")))
    waiting.start()
    assert whoami(pooler, "app_trust", None) == "app_trust"  # known, so nobody is asked
    holder.query("COMMIT")
    waiting.join()
    assert outcome == ["no such user"]


def test_a_slow_question_keeps_nobody_else_waiting(cluster, asking):
    query = (
        "SELECT $1::text, 'secret of ' || $1 FROM pg_sleep(CASE WHEN $1 = 'app2' THEN 30 ELSE 0 END)"
    )
    pooler = asking({"auth_query": query, "client_login_timeout": 60})
    slow = pooler.connect()
    slow.send(wire.startup({"user": "app2", "database": "app"}))
    wait_running(cluster, "pg_sleep(CASE")
    started = time.monotonic()
    assert whoami(pooler, "app", SECRET) == "app"
    assert time.monotonic() - started < 5 * PATIENCE
    assert slow.is_silent(0.05)
    slow.drop()
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(CASE%'"
        " AND state = 'active'"
        " AND pid <> pg_backend_pid()"
    )
    assert whoami(pooler, "app", SECRET) == "app"


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_storm_of_logins_asks_once(cluster, asking):
    cluster.primary.sql(
        "CREATE SEQUENCE asked; CREATE FUNCTION ask(n text, OUT name text, OUT s text)"
        " LANGUAGE plpgsql AS $$BEGIN PERFORM nextval('asked'); PERFORM pg_sleep(1);"
        " IF n = 'app' THEN name := n; s := 'secret of app'; END IF; END$$"
    )
    pooler = asking({"auth_query": "SELECT * FROM ask($1) WHERE name IS NOT NULL"})
    for user, outcome in (("app", "app"), ("stranger", "no such user")):
        before = int(cluster.primary.sql("SELECT last_value FROM asked WHERE is_called") or 0)
        results = []

        def log_in(_, user=user, results=results):
            try:
                results.append(whoami(pooler, user, SECRET))
            except LoginFailed as failure:
                results.append(failure.fields["M"])

        in_threads(20, log_in)
        assert results == [outcome] * 20
        assert int(cluster.primary.sql("SELECT last_value FROM asked")) == before + 1
    cluster.primary.sql("DROP FUNCTION ask; DROP SEQUENCE asked")


@pytest.mark.weir_only
def test_clients_that_leave_while_they_wait(cluster, asking):
    """Neither the line nor a server is kept by those that have gone."""
    query = (
        "SELECT $1::text, 'secret of app'"
        " FROM pg_sleep(CASE WHEN $1 = 'app' THEN 0 ELSE 0.3 END)"
    )
    pooler = asking({"auth_query": query, "default_pool_size": 1})
    gone = []
    for number in range(30):
        client = pooler.connect()
        client.send(wire.startup({"user": f"stranger{number}", "database": "app"}))
        gone.append(client)
    time.sleep(0.1)
    for client in gone:
        client.drop()
    started = time.monotonic()
    assert whoami(pooler, "app", SECRET) == "app"
    assert time.monotonic() - started < 5 * PATIENCE


@pytest.mark.weir_only
def test_the_answer_does_not_come_in_time(cluster, asking):
    pooler = asking(
        {"auth_query": "SELECT $1::text, 'x' FROM pg_sleep(60)", "client_login_timeout": 1}
    )
    assert refusal(pooler, "app", SECRET) == "client_login_timeout (server down)"
    pooler.wait_log("client disconnect while server was not ready")


@pytest.mark.weir_only
def test_a_password_sent_too_early_is_read_later(asking):
    """A client may send its password ahead of the challenge: it waits until the user is known."""
    pooler = asking({"auth_type": "plain", "auth_query": "SELECT $1::text, 'secret of ' || $1"})
    client = pooler.connect()
    client.send(wire.startup({"user": "app", "database": "app"}), wire.password(SECRET))
    answer = client.answer()
    assert answer.kinds.endswith("KZ")
    assert client.query("SELECT current_user").value == "app"


# Server logins


@pytest.mark.weir_only
def test_the_auth_user_cannot_log_in(asking):
    """The client reads PostgreSQL's own words."""
    pooler = asking({"auth_user": "app_plain"}, secrets={"app_plain": "wrong"})
    client = pooler.connect()
    with pytest.raises(LoginFailed) as raised:
        client.login("app", SECRET)
    assert raised.value.fields["M"] == 'password authentication failed for user "app_plain"'


@pytest.mark.weir_only
def test_the_servers_of_a_user_that_was_asked_for(cluster, asking):
    """SCRAM keys that a client proved log in to further servers, also after a RELOAD."""
    pooler = asking(secrets={"postgres": "", ADMIN[0]: ADMIN[1]})
    client = pooler.client("app", SECRET)
    assert client.query("SELECT current_user").value == "app"
    pooler.admin("RELOAD")
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
    )
    pooler.wait_log("server conn crashed|terminating connection")
    assert client.query("SELECT current_user").value == "app"


@pytest.mark.weir_only
def test_the_database_is_removed_while_a_login_waits(cluster, asking):
    pooler = asking(
        {"auth_query": "SELECT $1::text, 'x' FROM pg_sleep(30)"},
        databases={"app": place(cluster), "gone": place(cluster)},
    )
    client = pooler.connect()
    client.send(wire.startup({"user": "app", "database": "gone"}))
    wait_running(cluster, "pg_sleep(30)")
    pooler.write_ini({"auth_type": "trust"})
    pooler.reload()
    assert client.read_to_end().error["M"] == "database removed"
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%'"
        " AND pid <> pg_backend_pid()"
    )


# Servers that do not answer as they should


class FakeServer:
    """Lets everybody in and answers each Sync with the same bytes, one by one."""

    def __init__(self, answer, closes=False):
        self.answer = answer
        self.closes = closes
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[one], daemon=True).start()

    def serve(self, one):
        # The pooler closes what answers nonsense, while it is answering or before.
        with contextlib.suppress(OSError), one, one.makefile("rb") as stream:
            (length,) = struct.unpack("!I", stream.read(4))
            stream.read(length - 4)
            one.sendall(wire.message("R", struct.pack("!I", 0)))
            one.sendall(wire.message("K", struct.pack("!II", 1, 2)) + wire.message("Z", b"I"))
            while head := stream.read(5):
                stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
                if head[:1] != b"S":
                    continue
                for byte in self.answer:
                    one.sendall(bytes([byte]))
                if self.closes:
                    return


def data_row(*values, count=None):
    body = struct.pack("!H", len(values) if count is None else count)
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return wire.message("D", body)


BEGIN = wire.message("1") + wire.message("2")
END = wire.message("C", b"SELECT 1\0") + wire.message("3") + wire.message("Z", b"I")
ROW = data_row(b"app", b"secret of app")
HOSTILE = {
    "a row that is too short": BEGIN + data_row(b"app", count=2) + END,
    "a row of many columns": BEGIN + wire.message("D", struct.pack("!H", 65535)) + END,
    "a row without a count": BEGIN + wire.message("D", b"\0") + END,
    "a value longer than its row": BEGIN
    + wire.message("D", struct.pack("!Hi", 2, 0x7FFFFFFF) + b"app")
    + END,
    "a negative length": BEGIN + wire.message("D", struct.pack("!Hi", 2, -2) + b"app") + END,
    "a message longer than can be": BEGIN + b"D" + struct.pack("!I", 0x7FFFFFFF) + b"x" * 50,
    "a message shorter than its head": BEGIN + b"D" + struct.pack("!I", 3) + b"x" * 50,
    "an unknown message": BEGIN + wire.message("?", b"x") + END,
    "COPY": BEGIN + wire.message("G", struct.pack("!BH", 0, 0)) + END,
    "an open transaction": BEGIN + ROW + END[:-1] + b"T",
    "an error without fields": BEGIN + wire.message("E", b"\0") + wire.message("Z", b"I"),
    "an error that does not end": wire.message("E", b"SERROR\0Mx") + wire.message("Z", b"I"),
    "a name with a NUL": BEGIN + data_row(b"app\0", b"secret of app") + END,
    "a long name": BEGIN + data_row(b"app" * 20000, b"secret of app") + END,
}


@pytest.mark.weir_only
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer(asking, answer):
    with FakeServer(answer) as server:
        pooler = asking(databases={"app": f"host=127.0.0.1 port={server.port}"})
        assert refusal(pooler, "app", SECRET) == "bouncer config error"


@pytest.mark.weir_only
def test_an_answer_in_pieces(asking):
    """Notices, parameters and notifications may stand anywhere in it."""
    notice = wire.message("N", b"SNOTICE\0C00000\0Mx\0\0") + wire.message("S", b"TimeZone\0UTC\0")
    answer = notice + wire.message("1") + notice + wire.message("2") + ROW + notice + END + notice
    with FakeServer(answer) as server:
        place = f"host=127.0.0.1 port={server.port}"
        pooler = asking({"auth_type": "plain"}, databases={"app": place})
        for _ in range(3):
            client = pooler.connect()
            assert client.login("app", SECRET).kinds.endswith("KZ")


@pytest.mark.weir_only
def test_the_server_is_lost_while_it_is_asked(asking):
    for answer in (b"", BEGIN, BEGIN + ROW):
        with FakeServer(answer, closes=True) as server:
            pooler = asking(databases={"app": f"host=127.0.0.1 port={server.port}"})
            assert refusal(pooler, "app", SECRET) == "bouncer config error"
            pooler.wait_log("server conn crashed")
