"""session_state = track: what a client sets in its session follows it from server to server, and
never reaches another client."""

import re
import struct
import urllib.request

import pytest

from pooler import WORKERS
from recorder import Recorder
from routed import Watch, replay_paused, start_routed
from wire import SYNC, bind, execute, message, parse

pytestmark = pytest.mark.weir_only


@pytest.fixture(scope="module", autouse=True)
def roles(cluster):
    cluster.primary.sql(
        "CREATE ROLE tenant_a; CREATE ROLE tenant_b; GRANT tenant_a, tenant_b TO app_trust;"
        "CREATE FUNCTION set_in_secret(n text, v text) RETURNS text LANGUAGE sql"
        " AS $$ SELECT set_config(n, v, false) $$"
    )
    yield
    cluster.primary.sql(
        "DROP FUNCTION set_in_secret; DROP ROLE tenant_a; DROP ROLE tenant_b"
    )


@pytest.fixture
def pooler(start_pooler):
    """One server, so that each transaction meets what another client has left."""
    return start_pooler({"session_state": "track", "default_pool_size": 1})


def show(client, name):
    return client.query(f"SELECT current_setting('{name}', true)").value


def test_values_follow_their_clients(pooler):
    """Every way to set one, and each client its own."""
    ways = [
        ("work_mem", "SET work_mem = '1MB'", "1MB"),
        ("statement_timeout", "SET SESSION statement_timeout TO 12345", "12345ms"),
        ("search_path", 'SET search_path = "$user", a, "B c"', '"$user", a, "B c"'),
        ("app.tenant_id", "SET app.tenant_id = 'x''y\\z'", "x'y\\z"),
        ("App.Other", "SELECT set_config('App.Other', '7', false)", "7"),
        ("lock_timeout", "BEGIN; SET lock_timeout = 7; COMMIT", "7ms"),
        ("row_security", "DO $$ BEGIN END $$; SET row_security = off", "off"),
        ("default_transaction_isolation",
         "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "serializable"),
        ("extra_float_digits", "SET extra_float_digits = 3", "3"),
        ("role", "SET ROLE tenant_a", "tenant_a"),
        ("TimeZone", "SET TIME ZONE 'Asia/Tokyo'", "Asia/Tokyo"),
    ]
    with pooler.client() as plain:
        before = {name: show(plain, name) or "" for name, _, _ in ways}
        clients = []
        for name, sql, value in ways:
            one = pooler.client()
            assert not one.query(sql).errors, sql
            clients.append((one, name, value))
        for _ in range(2):
            for one, name, value in clients:
                assert show(one, name) == value
                for other in before:
                    if other.lower() != name.lower():
                        assert (show(one, other) or "") == before[other], (name, other)
            for name, value in before.items():
                assert (show(plain, name) or "") == value, name
        for one, _, _ in clients:
            one.close()


def test_what_is_undone_is_not_kept(pooler):
    with pooler.client() as one, pooler.client() as other:
        one.query("SET work_mem = '1MB'")
        other.query("SELECT 1")
        one.query("BEGIN")
        one.query("SET work_mem = '2MB'")
        one.query("SAVEPOINT a")
        one.query("SET work_mem = '3MB'; SET app.x = 'inner'")
        one.query("ROLLBACK TO a")
        assert show(one, "work_mem") == "2MB"
        one.query("COMMIT")
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "2MB"
        one.query("BEGIN; SET work_mem = '9MB'; ROLLBACK")
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "2MB"
        assert one.query("BEGIN; SET work_mem = '9MB'; SELECT 1/0; COMMIT").code == "22012"
        one.query("ROLLBACK")
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "2MB"
        one.query("BEGIN; SET LOCAL work_mem = '8MB'; COMMIT")
        one.query("SELECT set_config('work_mem', '8MB', true)")
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "2MB"


def test_resets(pooler):
    with pooler.client(search_path="mine") as one, pooler.client() as other:
        assert show(one, "search_path") == "mine"
        for undo in ("RESET work_mem", "SET work_mem TO DEFAULT", "RESET ALL", "DISCARD ALL"):
            one.query("SET work_mem = '1MB'")
            one.query("SET search_path = a, b")
            assert show(other, "work_mem") == "4MB"
            assert show(one, "work_mem") == "1MB" and show(one, "search_path") == "a, b"
            assert not one.query(undo).errors
            assert show(other, "work_mem") == "4MB"
            assert show(one, "work_mem") == "4MB"
            expected = "mine" if undo.endswith("ALL") else "a, b"
            assert show(one, "search_path") == expected, undo


def test_start_up_parameters_of_every_kind(pooler):
    options = r"-c work_mem=1MB --lock-timeout=5s -cjit=off"
    with pooler.client(extra_float_digits="0", statement_timeout="9s", options=options) as one:
        with pooler.client() as other:
            for _ in range(2):
                assert show(one, "statement_timeout") == "9s"
                assert show(one, "work_mem") == "1MB"
                assert show(one, "lock_timeout") == "5s"
                assert show(one, "jit") == "off"
                assert show(other, "work_mem") == "4MB"
                assert show(other, "lock_timeout") == "0"


def test_extended_protocol(pooler):
    """Unnamed and named statements, in pipelines too; also with a name in a parameter."""
    with pooler.client() as one, pooler.client() as other:
        one.ask(parse("SET work_mem = '1MB'"), bind(), execute(), SYNC)
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "1MB"
        one.ask(parse("SET work_mem = '2MB'", "s"), SYNC)
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "1MB"
        one.ask(bind((), "s"), execute(), SYNC)
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "2MB"
        one.ask(parse("SELECT set_config('app.a', $1, false)", "t"), SYNC)
        for value in ("one", "two"):
            one.ask(bind((value,), "t"), execute(), SYNC)
            show(other, "app.a")
            assert show(one, "app.a") == value
        group = [parse("SET app.b = '1'"), bind(), execute(), parse("SELECT 1/0"), bind(), execute()]
        assert one.ask(*group, SYNC).code == "22012"
        assert show(other, "app.b") in (None, "")
        assert show(one, "app.b") in (None, "")
        group = [parse("SET app.b = '1'"), bind(), execute(), parse("SET app.c = '2'"), bind()]
        one.send(*group, execute(), SYNC, parse("SELECT 1"), bind(), execute(), SYNC)
        one.answer(), one.answer()
        show(other, "app.b")
        assert show(one, "app.b") == "1" and show(one, "app.c") == "2"


SET_BOTH = "SELECT set_config($1, $2, false)"
# Statement, the values of its Bind, what is set then, and whether the server is known afterwards.
BOUND = {
    "name and value": (SET_BOTH, (), ("app.bound", "one"), "one", True),
    "capitals": (SET_BOTH, (), ("APP.Bound", "one"), "one", True),
    "casts": ("SELECT set_config($1::text, $2::text, $3::bool)", (), ("app.bound", "one", "f"), "one",
              True),
    "other way round": ("SELECT set_config($2, $1, false)", (), ("one", "app.bound"), "one", True),
    "several": (f"{SET_BOTH}, set_config($3, $4, false)", (), ("work_mem", "1MB", "app.bound", "two"),
                "two", True),
    "local by parameter": ("SELECT set_config($1, $2, $3)", (), ("app.bound", "one", "t"), "", True),
    "no name": (SET_BOTH, (), (None, "one"), "", False),
    "name of type text": (SET_BOTH, (25, 25), ("app.bound", "one"), "one", True),
    "name of type char(n)": (SET_BOTH, (1042, 25), ("app.bound  ", "one"), "one", False),
    "name of type name": (SET_BOTH, (19, 25), ("app." + "x" * 70, "one"), "", False),
    "made up of two": ("SELECT set_config($1 || $2, 'one', false)", (), ("app.", "bound"), "one", False),
}


@pytest.mark.parametrize("case", BOUND.values(), ids=BOUND.keys())
@pytest.mark.parametrize("how", ["unnamed", "named", "binary", "two groups"])
def test_names_that_a_bind_gives(pooler, case, how):
    """set_config with a name as a parameter: it follows its client, and reaches nobody."""
    text, types, values, expected, is_known = case
    name = "" if how in ("unnamed", "two groups") else "s"
    with pooler.client() as one, pooler.client() as other:
        before = show(other, "work_mem")
        made = parse(text, name, types)
        bound = bind(values, name)
        if how == "binary" and "$3" not in text.replace("$3, $4", ""):
            bound = binary_bind(values, name)
        for _ in range(2):
            if how == "two groups":
                one.ask(made, SYNC)
                show(other, "app.bound")
                one.ask(bound, execute(), SYNC)
            elif name and _ == 1:
                one.ask(bound, execute(), SYNC)
            else:
                one.ask(made, bound, execute(), SYNC)
            assert (show(other, "app.bound") or "", show(other, "work_mem")) == ("", before)
            assert other.query(f"SELECT current_setting('app.{'x' * 59}', true)").value in ("", None)
            if is_known:
                assert (show(one, "app.bound") or "") == expected
        if is_known and "work_mem" in values:
            assert show(one, "work_mem") == "1MB"


def binary_bind(values, name):
    """Values in binary format, in which a text is the same."""
    rows = b"".join(
        struct.pack("!i", -1) if one is None else struct.pack("!i", len(one)) + one.encode()
        for one in values
    )
    body = b"\0" + name.encode() + b"\0" + struct.pack("!HHH", 1, 1, len(values)) + rows
    return message("B", body + struct.pack("!H", 0))


SECRETLY = {"session_state": "track", "default_pool_size": 1, "on_session_state": "log"}


def test_what_nobody_knows_reaches_nobody(start_pooler):
    """A function that sets a parameter: the next client gets a server that was scrubbed."""
    pooler = start_pooler(SECRETLY)
    secret = [
        "SELECT set_in_secret('app.tenant_id', 'mine')",
        "DO $$ BEGIN PERFORM set_config('app.tenant_id', 'mine', false); END $$",
        "SELECT set_config(lower('APP.TENANT_ID'), 'mine', false)",
        "DO $$ BEGIN EXECUTE 'SET ROLE tenant_a'; END $$",
        "DO $$ BEGIN EXECUTE 'SET search_path = evil'; END $$",
        "DO $$ BEGIN EXECUTE 'SET TIME ZONE ''Asia/Tokyo'''; END $$",
    ]
    with pooler.client() as other:
        names = ("app.tenant_id", "role", "search_path", "work_mem")
        before = [show(other, name) or "" for name in names]
        for sql in secret:
            with pooler.client() as one:
                assert not one.query(sql).errors, sql
                assert [show(other, name) or "" for name in names] == before, sql
                one.query("BEGIN")
                one.query(sql)
            assert [show(other, name) or "" for name in names] == before, sql


def test_a_role_that_is_gone_runs_nothing(pooler, cluster):
    """It was accepted on this very server before; the statement must not run with other rights."""
    cluster.primary.sql("CREATE ROLE brief; GRANT brief TO app_trust; CREATE TABLE witness (a int);"
                        "GRANT ALL ON witness TO PUBLIC")
    one = pooler.client()
    with pooler.client() as other:
        one.query("SET ROLE brief")
        assert one.query("SELECT current_user").value == "brief"
        assert other.query("SELECT current_user").value == "app_trust"
        assert one.query("SELECT current_user").value == "brief"
        assert other.query("SELECT current_user").value == "app_trust"
        cluster.primary.sql("DROP ROLE brief")
        one.send(b"Q" + (4 + 33).to_bytes(4, "big") + b"INSERT INTO witness VALUES (666)\0")
        error = one.read_to_end().error
        assert error["C"] == "08P01" and error["M"] == "invalid server parameter", error
        assert other.query("SELECT count(*) FROM witness").value == "0"
    one.close()
    cluster.primary.sql("DROP TABLE witness")


def test_what_a_swap_costs(start_pooler, cluster):
    """A client that has set three parameters pays one Query ahead of its own, in the same write
    once the server has accepted their values; who has set nothing, and meets what he left, none."""
    with Recorder(cluster.primary) as recorder:
        entry = f"host=127.0.0.1 port={recorder.port} dbname=app"
        settings = {"session_state": "track", "default_pool_size": 1, "workers": 1}
        pooler = start_pooler(settings, databases={"app": entry})
        with pooler.client() as one, pooler.client() as other:
            one.query("SET work_mem = '1MB'")
            one.query("SET search_path = a")
            one.query("SET app.x = 'y'")
            show(one, "app.x")  # which comes behind the question after it
            for turn in range(3):
                for client, wanted in ((other, "4MB"), (one, "1MB")):
                    recorder.take()
                    recorder.hold = 2 if turn > 0 else 0
                    assert show(client, "work_mem") == wanted
                    recorder.hold = 0
                    asked = recorder.take()
                    assert [kind for kind, _ in asked] == ["Q", "Q"], asked
                    assert asked[0][1].startswith(b"RESET ROLE;") == (client is other)
                    recorder.take()
                    assert show(client, "work_mem") == wanted
                    assert len(recorder.take()) == 1
            assert not recorder.was_late  # both came before the first was answered
            one.query("SET ROLE tenant_a")
            show(one, "role")
            show(other, "role")
            recorder.take()
            recorder.hold = 2
            assert show(one, "role") == "tenant_a"
            assert recorder.was_late  # what was granted once may be refused today


@pytest.mark.one_worker
def test_off_is_as_ever(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as one, pooler.client() as other:
        one.query("SET work_mem = '1MB'")
        assert show(other, "work_mem") == "1MB"


def test_switched_while_running(start_pooler):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as one, pooler.client() as other:
        one.query("SET work_mem = '1MB'")
        pooler.admin("SET session_state = track")
        assert show(other, "work_mem") == "4MB"
        one.query("SET work_mem = '1MB'")
        assert show(other, "work_mem") == "4MB"
        assert show(one, "work_mem") == "1MB"
        pooler.admin("SET session_state = off")
        assert show(other, "work_mem") == "4MB"


def start_tracked(start_pooler, cluster, **more):
    return start_routed(start_pooler, cluster, {"session_state": "track", **more})


def test_state_goes_to_replicas(start_pooler, cluster):
    """Reads go on to replicas, which have what the client has set."""
    watch = Watch(start_tracked(start_pooler, cluster))
    with watch.pooler.client() as one, watch.pooler.client() as other:
        one.query("SET ROLE tenant_a; SET app.v = '1'; SET search_path = a")
        watch.settle()
        for _ in range(6):
            seen = one.query("SELECT current_user, current_setting('app.v')").rows
            assert seen == [("tenant_a", "1")]
            assert one.query("SELECT current_setting('search_path')").value == "a"
            assert other.query("SELECT current_user").value == "app_trust"
            assert other.query("SELECT current_setting('app.v', true)").value in ("", None)
        assert watch.where() == "replica"
        assert watch.why(one) == ""


def test_what_pinned_a_client_once_does_not_keep_it_from_replicas(start_pooler, cluster):
    watch = Watch(start_tracked(start_pooler, cluster, shared_listen="off"))
    watch.settle()
    with watch.pooler.client() as one:
        for make, undo in (
            ("CREATE TEMP TABLE mine (a int)", "DROP TABLE mine"),
            ("SELECT pg_advisory_lock(3)", "SELECT pg_advisory_unlock(3)"),
            ("LISTEN news", "UNLISTEN *"),
        ):
            assert not one.query(make).errors
            watch.queries()
            one.query("SELECT 1")
            assert watch.where() == "primary" and len(pins(watch.pooler)) == 1
            assert not one.query(undo).errors
            one.query("SELECT 1")
            watch.settle()
            one.query("SELECT 1")
            assert watch.where() == "replica" and watch.why(one) == "", make


def test_nobody_keeps_a_replica(start_pooler, cluster):
    """A transaction that reads from a replica is refused what would keep it there."""
    watch = Watch(start_tracked(start_pooler, cluster))
    with watch.pooler.client() as one:
        for sql in ("SELECT pg_advisory_lock(1)", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"):
            watch.settle()
            one.query("BEGIN READ ONLY")
            one.query("SELECT 1")
            answer = one.query(sql)
            assert answer.code == "0A000" and answer.status == "E", answer
            one.query("ROLLBACK")
            assert not one.query("CREATE TEMP TABLE t (a int); DROP TABLE t").errors
        assert pins(watch.pooler, one) == []
        one.query("BEGIN; SELECT pg_advisory_lock(1); COMMIT")
        assert len(pins(watch.pooler, one)) == 1
        assert not one.query("CREATE TEMP TABLE t (a int)").errors


def test_a_role_that_a_replica_does_not_have_yet(start_pooler, cluster):
    """The statement runs on the primary, once, and the client notices nothing."""
    watch = Watch(start_tracked(start_pooler, cluster, read_consistency="eventual"))
    watch.settle()
    with replay_paused(*cluster.standbys):
        cluster.primary.sql("CREATE ROLE young; GRANT young TO app_trust")
        with watch.pooler.client() as one:
            assert not one.query("SET ROLE young").errors
            watch.queries()
            assert one.query("SELECT current_user").value == "young"
            one.send(parse("SELECT current_user"), bind(), execute(), SYNC)
            answer = one.answer()
            assert answer.kinds == "12DCZ" and answer.value == "young"
            assert watch.where() == "primary"
    cluster.wait_replayed()
    cluster.primary.sql("DROP ROLE young")


# What keeps a client on its server


MAKES = [
    ("a temporary object", "CREATE TEMP TABLE mine (a int)", "SELECT count(*) FROM mine",
     "DROP TABLE mine"),
    ("a temporary object", "SELECT 1 AS a INTO TEMP mine", "SELECT a FROM mine", "DISCARD TEMP"),
    ("a temporary object", "DO $$ BEGIN CREATE TEMP TABLE mine (a int); END $$", "TABLE mine",
     "DROP TABLE mine"),
    ("an advisory lock", "SELECT pg_advisory_lock(7)",
     "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
     "SELECT pg_advisory_unlock(7)"),
    ("an advisory lock", "SELECT pg_try_advisory_lock_shared(7)", "SELECT 1",
     "SELECT pg_advisory_unlock_all()"),
    ("a cursor WITH HOLD", "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
     "FETCH c", "CLOSE c"),
    ("LISTEN", "LISTEN news", "SELECT pg_listening_channels()", "UNLISTEN *"),
    ("PREPARE", r"PREPARE p AS SELECT E'\';'", "EXECUTE p", "DISCARD ALL"),
    ("memory of the session", "SELECT setseed(0.5)", "SELECT 1", "DISCARD ALL"),
]  # fmt: skip


def metrics(pooler):
    with urllib.request.urlopen(f"http://{pooler.host}:{pooler.http_port}/metrics") as page:
        return page.read().decode()


def pins(pooler, *clients):
    """SHOW PINS, when it is known what these clients have: their next answers come after that."""
    for client in clients:
        client.query("SELECT 1")
    return pooler.admin("SHOW PINS")


@pytest.mark.parametrize("reason,make,use,undo", MAKES)
@pytest.mark.parametrize("is_extended", [False, True])
def test_what_only_one_server_can_keep(start_pooler, reason, make, use, undo, is_extended):
    """The client keeps its server until the thing is gone; others go on beside it."""
    pooler = start_pooler(
        {"session_state": "track", "default_pool_size": 2, "shared_listen": "off"}
    )

    def run(client, sql):
        if is_extended:
            return client.ask(parse(sql), bind(), execute(), SYNC)
        return client.query(sql)

    with pooler.client() as one, pooler.client() as other:
        assert not run(one, make).errors
        assert [row["reasons"] for row in pins(pooler, one)] == [reason]
        pid = one.query("SELECT pg_backend_pid()").value
        assert pins(pooler)[0]["backend_pid"] == int(pid)
        for _ in range(3):
            assert other.query("SELECT pg_backend_pid()").value != pid
            assert not run(one, use).errors
            assert one.query("SELECT pg_backend_pid()").value == pid
        assert len(pins(pooler)) == 1
        metric = re.compile(rf'weir_pool_pinned_clients{{.*reason="{reason}"}} (.)')
        assert metric.findall(metrics(pooler)) == ["1"]
        assert not run(one, undo).errors
        assert pins(pooler, one) == []
        assert metric.findall(metrics(pooler)) == ["0"]
        other.query("BEGIN")
        with pooler.client() as third:  # whoever has it: the server is free
            assert third.query("BEGIN; SELECT pg_backend_pid(); COMMIT").rows
            found = third.query("SELECT pg_backend_pid()").value
            assert found == pid or WORKERS > 1 or other.query("SELECT pg_backend_pid()").value == pid
        other.query("COMMIT")


@pytest.fixture
def functions(cluster):
    make = "CREATE FUNCTION {} RETURNS void LANGUAGE plpgsql AS $$ BEGIN {} END $$;"
    made = {
        "takes_a_lock()": "PERFORM pg_advisory_lock(99);",
        "makes_a_table()": "CREATE TEMP TABLE IF NOT EXISTS made (a int);",
        "calls_that()": "PERFORM makes_a_table();",
        "is_harmless()": "PERFORM 1;",
        "attempts()": "PERFORM 'attempt, template';",
    }
    cluster.primary.sql("".join(make.format(name, body) for name, body in made.items()))
    yield cluster.primary.sql
    cluster.primary.sql("".join(f"DROP FUNCTION {name};" for name in made))


def test_what_functions_leave(start_pooler, functions):
    """Functions of one's own whose texts tell that they may leave something are asked about."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    pin = {"takes_a_lock": "an advisory lock", "makes_a_table": "a temporary object"}
    pin["calls_that"] = pin["makes_a_table"]
    with pooler.client() as one, pooler.client() as other:
        for turn in range(2):
            for name, reason in pin.items():
                assert not one.query(f"SELECT {name}()").errors
                assert [row["reasons"] for row in pins(pooler, one)] == [reason], name
                assert other.query("SELECT 1").value == "1"
                one.query("DISCARD ALL")
                assert pins(pooler, one) == []
            name = "public.takes_a_lock" if turn == 0 else "takes_a_lock"
            assert not one.ask(parse(f"SELECT {name}()"), bind(), execute(), SYNC).errors
            assert len(pins(pooler, one)) == 1
            one.query("SELECT pg_advisory_unlock_all()")
            assert pins(pooler, one) == []
        one.query("SELECT is_harmless(), attempts()")
        assert pins(pooler, one) == []


SETTERS = [
    "SELECT set_in_secret('app.v', 'mine')",
    "DO $$ BEGIN PERFORM set_config('app.v', 'mine', false); END $$",
    "DO $$ BEGIN PERFORM set_in_secret('app.v', 'mine'); END $$",
    "DO $x$ BEGIN EXECUTE 'SET app.v = mine'; END $x$",
    "DO LANGUAGE plpgsql 'BEGIN SET app.v = mine; END'",
]


@pytest.mark.parametrize("sql", SETTERS)
def test_a_program_that_sets_keeps_its_server(start_pooler, sql):
    """What it has set, by a name that nobody knows, is there until DISCARD ALL."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    with pooler.client() as one, pooler.client() as other:
        one.query("SET app.w = '1'")
        for is_extended in (False, True):
            if is_extended:
                assert not one.ask(parse(sql), bind(), execute(), SYNC).errors
            else:
                assert not one.query(sql).errors
            assert [row["reasons"] for row in pins(pooler, one)] == ["settings of a program"]
            assert not show(other, "app.v") and not show(other, "app.w")
            assert show(one, "app.v") == "mine"
            one.query("DISCARD ALL")
            assert pins(pooler, one) == [] and not show(one, "app.v")


def test_programs_that_set_nothing_keep_nothing(start_pooler):
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    with pooler.client() as one:
        for sql in (
            "DO $$ BEGIN PERFORM 1; END $$; SET app.v = '1'",
            "DO $$ BEGIN IF false THEN UPDATE pg_class SET relname = 'x'; END IF; END $$",
        ):
            assert not one.query(sql).errors
            assert pins(pooler, one) == []
        assert show(one, "app.v") == "1"


def test_a_function_that_sets_by_name(start_pooler, cluster):
    """Where its text tells the name, the value follows its client, and reaches nobody else."""
    make = "CREATE FUNCTION {} LANGUAGE {} AS $$ {} $$;"
    cluster.primary.sql(
        make.format("set_tenant(v text) RETURNS text", "sql",
                    "SELECT set_config('App.Tenant', v, false)")
        + make.format("enter(v text) RETURNS void", "plpgsql",
                      "BEGIN PERFORM set_tenant(v); SET work_mem TO '3MB'; SET ROLE tenant_a; END")
        + make.format("passes(v text) RETURNS void", "plpgsql",
                      "BEGIN PERFORM set_config('app.passing', v, true); END")
    )  # fmt: skip
    pooler = start_pooler({"session_state": "track", "default_pool_size": 1})
    with pooler.client() as one, pooler.client() as other, pooler.client() as third:
        for turn in range(2):
            assert one.query(f"SELECT set_tenant('one{turn}')").value == f"one{turn}"
            assert other.ask(parse("SELECT enter($1)"), bind([f"o{turn}"]), execute(), SYNC).rows
            third.query("SELECT passes('x')")
            for client, tenant in ((one, f"one{turn}"), (other, f"o{turn}"), (third, "")) * 2:
                assert (show(client, "app.tenant") or "") == tenant
                assert (show(client, "app.passing") or "") == ""
                assert show(client, "work_mem") == ("3MB" if client is other else "4MB")
                assert show(client, "role") == ("tenant_a" if client is other else "none")
            assert pins(pooler, one) == []
        one.query("BEGIN; SELECT set_tenant('undone'); ROLLBACK")
        show(other, "role")
        assert show(one, "app.tenant") == "one1"
    cluster.primary.sql(
        "DROP FUNCTION set_tenant(text), enter(text), passes(text)"
    )


HIDDEN = {
    "trigger": "CREATE FUNCTION hides() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM set_config('app.v', 'mine', false); RETURN NEW; END $$;"
    "CREATE TRIGGER hider BEFORE INSERT ON hiding FOR EACH ROW EXECUTE FUNCTION hides()",
    "view": "CREATE FUNCTION hides() RETURNS text LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN set_config('app.v', 'mine', false); END $$;"
    "CREATE VIEW hider AS SELECT hides() AS a",
    "policy": "CREATE FUNCTION hides() RETURNS bool LANGUAGE plpgsql AS"
    " $$ BEGIN PERFORM set_config(lower('APP.V'), 'mine', false); RETURN true; END $$;"
    "CREATE POLICY hider ON hiding USING (hides()); ALTER TABLE hiding ENABLE ROW LEVEL SECURITY",
}


@pytest.mark.parametrize("kind", HIDDEN)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_set_behind_a_name(start_pooler, cluster, kind, is_there):
    """A trigger, a view or a policy may run a function that sets: that reaches nobody else."""
    run = {"trigger": "INSERT INTO hiding VALUES ('x')", "view": "SELECT a FROM hider",
           "policy": "SELECT count(*) FROM hiding"}[kind]  # fmt: skip
    make = HIDDEN[kind] + "; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_trust"
    cluster.primary.sql("CREATE TABLE hiding (a text); GRANT ALL ON hiding TO app_trust")
    cluster.primary.sql("INSERT INTO hiding VALUES ('row'); GRANT CREATE ON SCHEMA public TO app_trust")
    pooler = start_pooler({"session_state": "track", "default_pool_size": 1})
    try:
        if is_there:
            cluster.primary.sql(make)
        with pooler.client() as one, pooler.client() as other:
            assert not show(other, "app.v")
            if not is_there:  # the pooler looks again, since it sees DDL
                cluster.primary.sql(make)
                other.query("CREATE TABLE another (a int)")
                other.query("DROP TABLE another")
            for is_extended in (False, True):
                if is_extended:
                    one.ask(parse(run, "s"), SYNC)
                    assert not one.ask(bind((), "s"), execute(), SYNC).errors
                else:
                    assert not one.query(run).errors
                assert not show(other, "app.v")
                if kind != "policy":  # whose function does not tell the name
                    assert show(one, "app.v") == "mine"
                assert not show(other, "app.v")
                one.query("DISCARD ALL")
    finally:
        cluster.primary.sql("DROP TABLE hiding CASCADE; DROP FUNCTION hides() CASCADE")
        cluster.primary.sql("REVOKE CREATE ON SCHEMA public FROM app_trust")


def test_a_function_that_has_changed(start_pooler, functions):
    """A function is looked at again when the schema has changed."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    functions("GRANT CREATE ON SCHEMA public TO app_trust")
    with pooler.client() as one:
        make = (
            "CREATE OR REPLACE FUNCTION changes() RETURNS void LANGUAGE plpgsql"
            " AS $$ BEGIN PERFORM {}; END $$"
        )
        one.query(make.format("1"))
        for _ in range(2):
            one.query("SELECT changes()")
            assert pins(pooler, one) == []
        one.query("BEGIN; " + make.format("pg_advisory_lock(5)"))
        one.query("SELECT changes()")
        one.query("COMMIT")
        assert len(pins(pooler, one)) == 1
        one.query("SELECT pg_advisory_unlock(5)")
        assert pins(pooler, one) == []
        one.query("SELECT changes()")
        assert len(pins(pooler, one)) == 1
        one.query("DISCARD ALL")
        one.query("DROP FUNCTION changes()")
    functions("REVOKE CREATE ON SCHEMA public FROM app_trust")


def test_a_sequence_value_is_never_another_clients(start_pooler, cluster):
    """What lastval and currval tell is the client's own, or an error, after which it is."""
    cluster.primary.sql("CREATE TABLE numbered (n serial, who text); GRANT ALL ON numbered TO app_trust;"
                        "GRANT ALL ON SEQUENCE numbered_n_seq TO app_trust")  # fmt: skip
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2, "server_lifetime": 600})
    insert = "INSERT INTO numbered (who) VALUES ('x') RETURNING n"
    asks = ["SELECT lastval()", "SELECT currval('numbered_n_seq')"]
    try:
        with pooler.client() as other:
            for ask in asks:
                with pooler.client() as one:
                    mine = one.query(f"BEGIN; {insert}").value
                    assert one.query(ask).value == mine  # within one transaction
                    one.query("COMMIT")
                    mine = one.query(insert).value
                    for _ in range(3):
                        other.query(insert)
                    answer = one.query(ask)
                    assert answer.code == "55000" or answer.value == mine
                    if answer.code == "55000":
                        assert "keeps its server" in answer.error["H"]
                    mine = one.query(insert).value
                    for _ in range(3):
                        other.query(insert)
                    assert one.query(ask).value == mine
                    assert one.ask(parse(ask), bind(), execute(), SYNC).value == mine
                    assert len(pins(pooler, one)) == 1
    finally:
        cluster.primary.sql("DROP TABLE numbered")


@pytest.mark.one_worker
def test_a_sequence_value_on_the_same_server(start_pooler, cluster):
    cluster.primary.sql("CREATE SEQUENCE counting; GRANT ALL ON SEQUENCE counting TO app_trust")
    pooler = start_pooler({"session_state": "track", "default_pool_size": 1})
    with pooler.client() as one, pooler.client() as other:
        assert one.query("SELECT nextval('counting')").value == "1"
        assert other.query("SELECT nextval('counting')").value == "2"
        answer = one.query("SELECT lastval()")
        assert answer.code == "55000" and answer.status == "I", answer
        one.query("DISCARD ALL")
    with pooler.client() as one:
        assert one.query("SELECT nextval('counting')").value == "3"
        assert one.query("SELECT lastval()").value == "3"  # nobody else was there
        one.close()
    cluster.primary.sql("DROP SEQUENCE counting")


def test_what_is_undone_pins_nobody(pooler):
    with pooler.client() as one, pooler.client() as other:
        for sql in (
            "CREATE TEMP TABLE a (a int) ON COMMIT DROP",
            "SELECT pg_advisory_xact_lock(1)",
            "DECLARE c CURSOR FOR SELECT 1",
        ):
            one.query("BEGIN")
            one.query(sql)
            assert not one.query("COMMIT").errors
            assert other.query("SELECT 1").value == "1" and pins(pooler, one) == []
        one.query("BEGIN; CREATE TEMP TABLE a (a int); LISTEN x; ROLLBACK")
        assert other.query("SELECT 1").value == "1" and pins(pooler, one) == []


def test_a_pinned_client_that_leaves(pooler, cluster):
    """Its server is clean for the next one, and not lost."""
    with pooler.client() as other:
        for _ in range(2):
            one = pooler.client()
            one.query("SELECT pg_advisory_lock(99); CREATE TEMP TABLE t (a int); LISTEN x")
            pid = one.query("SELECT pg_backend_pid()").value
            one.close()
            assert other.query("SELECT pg_backend_pid()").value == pid or WORKERS > 1
            assert other.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").value == "0"
            assert other.query("SELECT to_regclass('t')").value is None
            assert other.query("SELECT count(*) FROM pg_listening_channels()").value == "0"


def test_notifications_reach_a_pinned_client(start_pooler):
    pooler = start_pooler(
        {"session_state": "track", "default_pool_size": 2, "shared_listen": "off"}
    )
    with pooler.client() as one, pooler.client() as other:
        one.query("LISTEN news")
        other.query("NOTIFY news, 'fresh'")
        found = one.read(5)
        assert found.kind == "A" and b"news\0fresh\0" in found.body


def test_pin_limit(start_pooler):
    """One server of a pool is always left to the others."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 3})
    clients = [pooler.client() for _ in range(4)]
    for one in clients[:2]:
        assert not one.query("SELECT pg_advisory_lock(pg_backend_pid())").errors
    assert len(pins(pooler, *clients[:2])) == 2
    clients[2].send(b"Q" + (4 + 28).to_bytes(4, "big") + b"SELECT pg_advisory_lock(12)\0")
    errors = clients[2].read_to_end().errors
    assert errors[-1]["C"] == "53300" and "pin_limit" in errors[-1]["M"], errors
    assert clients[3].query("SELECT 1").value == "1"
    clients[0].close()
    assert not clients[3].query("SELECT pg_advisory_lock(13)").errors
    for one in clients[1:]:
        one.close()


def test_a_pinned_server_that_is_lost_ends_its_client(pooler, cluster):
    one = pooler.client()
    one.query("CREATE TEMP TABLE t (a int)")
    pid = one.query("SELECT pg_backend_pid()").value
    cluster.primary.sql(f"SELECT pg_terminate_backend({pid})")
    assert one.read_to_end().error["C"] == "57P01"
    one.close()
    with pooler.client() as other:
        assert other.query("SELECT 1").value == "1"
        assert not other.query("CREATE TEMP TABLE t (a int)").errors
        assert len(pins(pooler, other)) == 1


def test_state_that_is_refused(start_pooler):
    settings = {"session_state": "track", "on_session_state": "reject", "default_pool_size": 1}
    pooler = start_pooler({**settings, "shared_listen": "off"})
    with pooler.client() as one, pooler.client() as other:
        for sql in ("CREATE TEMP TABLE t (a int)", "LISTEN x", "SELECT pg_advisory_lock(1)"):
            error = one.query(sql).error
            assert error["C"] == "0A000" and "the session would have" in error["M"], error
            answer = one.ask(parse(sql), bind(), execute(), SYNC)
            assert answer.code == "0A000" and answer.kinds == "EZ", answer
            answer = one.ask(parse(sql, "s"), SYNC)
            answer = one.ask(bind((), "s"), execute(), SYNC)
            assert answer.code == "0A000", answer
            one.ask(b"C" + (4 + 3).to_bytes(4, "big") + b"Ss\0", SYNC)
            one.query("BEGIN")
            assert one.query(sql).code == "0A000" and one.query("SELECT 1").code == "25P02"
            one.query("ROLLBACK")
        assert not one.query("CREATE TEMP TABLE t (a int) ON COMMIT DROP").errors
        assert other.query("SELECT 1").value == "1"


@pytest.mark.parametrize("mode", ["log", "ignore"])
def test_state_that_is_let_be(start_pooler, mode):
    settings = {"session_state": "track", "default_pool_size": 1, "shared_listen": "off"}
    pooler = start_pooler(settings, users={"app_trust": f"on_session_state={mode}"})
    with pooler.client() as one, pooler.client() as other:
        one.query("LISTEN x")
        assert other.query("SELECT 1").value == "1"
    assert ("may not find: LISTEN" in pooler.log_text()) == (mode == "log")


def test_a_value_that_a_scrub_and_the_next_client_leave_as_it_was(pooler):
    """The server reports nothing then, and has it all the same."""
    with pooler.client() as one, pooler.client() as other, pooler.client() as third:
        one.query("SET DateStyle = 'German, DMY'; SET work_mem = '1MB'")
        other.query("SET DateStyle = 'German, DMY'; SET lock_timeout = 7")
        third.query("SET lock_timeout = 7")
        for _ in range(2):
            for client, style in ((one, "German, DMY"), (other, "German, DMY"), (third, "ISO, MDY")):
                assert show(client, "DateStyle") == style
