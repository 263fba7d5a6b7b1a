"""session_state = track: prepared statements of SQL and of the protocol are one name space, which
follows its client from server to server."""

import struct

import pytest

from routed import Watch, start_routed
from wire import SYNC, bind, close, describe, execute, message, parse, query, text0

pytestmark = pytest.mark.weir_only


@pytest.fixture
def pooler(start_pooler):
    """One server, so that each transaction meets what another client has left."""
    return start_pooler({"session_state": "track", "default_pool_size": 1})


@pytest.fixture
def two(start_pooler):
    """Two servers, and a client that holds one of them, or the other."""
    return start_pooler({"session_state": "track", "default_pool_size": 2})


class Turns:
    """Makes each transaction of the others run on the server that the last one did not."""

    def __init__(self, pooler):
        self.holders = [pooler.client(), pooler.client()]
        self.pids = [one.query("BEGIN; SELECT pg_backend_pid()").value for one in self.holders]
        self.free = 0
        self.holders[0].query("COMMIT")

    def swap(self):
        held = 1 - self.free
        self.holders[self.free].query("BEGIN; SELECT 1")
        self.holders[held].query("COMMIT")
        self.free = held

    def close(self):
        for one in self.holders:
            one.close()


@pytest.fixture
def turns(two):
    turns = Turns(two)
    yield turns
    turns.close()


def run(client, name, *values):
    return client.ask(bind(values, name), execute(), SYNC)


def by_sql(client, sql, is_extended):
    if is_extended:
        return client.ask(parse(sql), bind(), execute(), SYNC)
    return client.query(sql)


@pytest.mark.parametrize("is_extended", [False, True])
def test_sql_prepares_on_every_server(two, turns, is_extended):
    with two.client() as one:
        assert not by_sql(one, "PREPARE get (int) AS SELECT $1 + 1, pg_backend_pid()", is_extended).errors
        seen = set()
        for n in range(6):
            value, pid = by_sql(one, f"EXECUTE get({n})", is_extended).rows[0]
            assert value == str(n + 1)
            seen.add(pid)
            turns.swap()
        assert len(seen) >= 2
        assert run(one, "get", 4).rows[0][0] == "5"
        turns.swap()
        answer = one.ask(describe("get"), SYNC)
        assert answer.kinds == "tTZ" and answer.of("T")[0].columns()[1] == "pg_backend_pid"
        assert not by_sql(one, "DEALLOCATE get", is_extended).errors
        for _ in range(2):
            turns.swap()
            assert by_sql(one, "EXECUTE get(1)", is_extended).code == "26000"
            assert run(one, "get", 1).code == "26000"
        assert not by_sql(one, "PREPARE get AS SELECT 'other'", is_extended).errors
        turns.swap()
        assert by_sql(one, "EXECUTE get", is_extended).value == "other"


def test_names_are_their_clients(pooler):
    with pooler.client() as one, pooler.client() as other, pooler.client() as third:
        one.query("PREPARE p AS SELECT 'one'")
        other.query("PREPARE p AS SELECT 'other'")
        for _ in range(2):
            assert one.query("EXECUTE p").value == "one"
            assert other.query("EXECUTE p").value == "other"
            assert third.query("EXECUTE p").code == "26000"
            assert third.query("DEALLOCATE p").code == "26000"
            assert third.query("EXPLAIN EXECUTE p").code == "26000"
            assert third.ask(bind((), "p"), execute(), SYNC).code == "26000"
            assert third.query("SELECT 1").value == "1"
        other.query("DEALLOCATE ALL")
        assert other.query("EXECUTE p").code == "26000"
        assert one.query("EXECUTE p").value == "one"
        one.query("DISCARD ALL")
        assert one.query("EXECUTE p").code == "26000"


def test_one_name_space(two, turns):
    with two.client() as one:
        assert one.ask(parse("SELECT $1::int * 2", "q"), SYNC).kinds == "1Z"
        turns.swap()
        assert one.query("EXECUTE q(4)").value == "8"
        assert one.query("PREPARE q AS SELECT 1").code == "42P05"
        turns.swap()
        assert one.query("EXECUTE q(5)").value == "10" and run(one, "q", 6).value == "12"
        one.query("PREPARE s AS SELECT 's'")
        turns.swap()
        answer = one.ask(parse("SELECT 1", "s"), SYNC)
        assert answer.code == "42P05" and answer.kinds == "EZ"
        assert run(one, "s").value == "s"
        assert one.ask(close("s"), SYNC).kinds == "3Z"
        turns.swap()
        assert one.query("EXECUTE s").code == "26000"
        assert one.ask(parse("SELECT 'new'", "s"), SYNC).kinds == "1Z"
        turns.swap()
        assert one.query("EXECUTE s").value == "new"
        assert one.query("DEALLOCATE PREPARE q").kinds == "CZ"
        assert run(one, "q", 1).code == "26000"
        turns.swap()
        assert one.ask(parse("SELECT 'again'", "q"), SYNC).kinds == "1Z"
        assert one.query("CREATE TEMP TABLE made ON COMMIT DROP AS EXECUTE q").tags == ["SELECT 1"]


def test_errors_are_the_servers(two, turns):
    """They leave the client connected, and fail its transaction."""
    with two.client() as one:
        one.query("BEGIN")
        assert one.ask(bind((), "none"), SYNC).code == "26000"
        assert one.query("SELECT 1").code == "25P02"
        assert one.query("EXECUTE none").code == "25P02"
        one.query("ROLLBACK")
        one.query("PREPARE p AS SELECT 1")
        one.query("BEGIN")
        answer = one.query("PREPARE p AS SELECT 2")
        assert answer.code == "42P05" and answer.status == "E"
        one.query("ROLLBACK")
        turns.swap()
        assert one.query("EXECUTE p").value == "1"
        assert one.query("PREPARE broken AS SELECT nothing").code == "42703"
        assert one.query("PREPARE broken AS SELECT 2").tags == ["PREPARE"]
        assert one.query("EXECUTE broken").value == "2"
        assert one.ask(parse("SELEC", "x"), SYNC).code == "42601"
        assert one.ask(parse("SELECT 4", "known"), SYNC).kinds == "1Z"
        one.query("BEGIN; SELECT 1/0")
        assert one.ask(parse("SELECT 4", "y"), SYNC).code == "25P02"
        assert one.ask(parse("ROLLBACK", "back"), bind((), "back"), execute(), SYNC).status == "I"
        assert run(one, "y").code == "26000" and run(one, "known").value == "4"
        assert one.ask(parse("SELECT 3", "x"), SYNC).kinds == "1Z"
        assert one.query("EXECUTE x").value == "3"


def test_within_one_transaction(two, turns):
    with two.client() as one:
        one.query("PREPARE a AS SELECT 'a1'")
        turns.swap()
        one.query("BEGIN")
        assert one.query("DEALLOCATE a").tags == ["DEALLOCATE"]
        assert one.ask(parse("SELECT 'a2'", "a"), SYNC).kinds == "1Z"
        assert run(one, "a").value == "a2" and one.query("EXECUTE a").value == "a2"
        one.query("PREPARE b AS SELECT 'b1'")
        assert one.ask(bind((), "b"), execute(), SYNC).value == "b1"
        assert one.ask(close("b"), parse("SELECT 'b2'", "b"), SYNC).kinds == "31Z"
        one.query("SAVEPOINT s; PREPARE c AS SELECT 'c'; ROLLBACK TO s")
        one.query("ROLLBACK")  # which undoes no PREPARE
        for _ in range(2):
            turns.swap()
            assert [run(one, name).value for name in "abc"] == ["a2", "b2", "c"]
            assert [one.query(f"EXECUTE {name}").value for name in "abc"] == ["a2", "b2", "c"]


def test_many_in_one_text(two, turns):
    with two.client() as one:
        answer = one.query(
            "PREPARE a AS SELECT ';', 'a'; PREPARE \"B b\" (text) AS SELECT $1 || 'b'; EXECUTE a"
        )
        assert answer.tags == ["PREPARE", "PREPARE", "SELECT 1"]
        turns.swap()
        assert one.query("EXECUTE a; EXECUTE \"B b\"('x')").rows == [(";", "a"), ("xb",)]
        turns.swap()
        assert one.query("DEALLOCATE a; EXECUTE a").code == "26000"
        assert one.query("EXECUTE a").code == "26000"
        assert one.query("EXECUTE \"B b\"('y')").value == "yb"


def test_what_cannot_be_repeated_keeps_its_server(start_pooler):
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    with pooler.client() as one, pooler.client() as other:
        text = r"PREPARE p AS SELECT E'\';'"
        assert one.query(text).tags == ["PREPARE"]
        pid = one.query("SELECT pg_backend_pid()").value
        assert other.query("BEGIN; SELECT pg_backend_pid()").value != pid
        assert one.query("EXECUTE p").value == "';"
        other.query("COMMIT")
        one.query("DISCARD ALL")
        assert one.query("EXECUTE p").code == "26000"


def test_a_client_that_leaves_leaves_no_names(pooler, cluster):
    one = pooler.client()
    one.query("PREPARE p AS SELECT 1")
    one.query("BEGIN; PREPARE q AS SELECT 2")
    one.drop()
    with pooler.client() as other:
        assert other.query("EXECUTE q").code == "26000"
        assert other.query("PREPARE q AS SELECT 3").tags == ["PREPARE"]
        assert other.query("PREPARE p AS SELECT 4").tags == ["PREPARE"]
        assert other.query("EXECUTE q; EXECUTE p").rows == [("3",), ("4",)]


def test_as_many_as_clients_like(start_pooler):
    pooler = start_pooler(
        {"session_state": "track", "default_pool_size": 1, "max_prepared_statements": 3}
    )
    with pooler.client() as one, pooler.client() as other:
        for n in range(8):
            one.query(f"PREPARE s{n} AS SELECT {n}")
            other.ask(parse(f"SELECT {n} + 100", f"s{n}"), SYNC)
        for n in list(range(8)) + [0, 7, 3]:
            assert one.query(f"EXECUTE s{n}").value == str(n)
            assert other.query(f"EXECUTE s{n}").value == str(n + 100)
        count = one.query("SELECT count(*) FROM pg_prepared_statements").value
        assert int(count) <= 6


def test_literals_are_nobody_elses(pooler):
    """Dates are folded when a statement is parsed, so that the way they are read is part of it."""
    text = "SELECT '01/02/2003'::date - '2003-01-01'::date"
    with pooler.client() as one, pooler.client() as other:
        one.query("SET DateStyle = 'ISO, MDY'")
        other.query("SET DateStyle = 'ISO, DMY'")
        for client in (one, other):
            client.ask(parse(text, "p"), SYNC)
            client.query("PREPARE s AS " + text)
        for client, days in ((one, "1"), (other, "31"), (one, "1")):
            assert run(client, "p").value == days and run(client, "s").value == days
            assert client.query("EXECUTE p").value == days
        # Nor one that was parsed while a transaction, or a pipeline, had set another way.
        with pooler.client() as third:
            set_dmy = "SET LOCAL DateStyle = 'ISO, DMY'"
            third.ask(
                parse("BEGIN"), bind(), execute(), parse(set_dmy), bind(), execute(),
                parse(text, "l"), bind((), "l"), execute(), parse("COMMIT"), bind(), execute(), SYNC,
            )  # fmt: skip
            assert run(third, "l").value == "31"
        with pooler.client() as third:
            third.ask(parse(text, "l"), SYNC)
            assert run(third, "l").value == "1"


def test_literals_stay_what_they_were(two, turns):
    """A statement that is prepared anew on another server reads its dates as it did at first, for
    its client and for all who share it; what the client has set since is as it was."""
    text = "SELECT '01/02/2003'::date - '2003-01-01'::date, current_setting('DateStyle')"
    with two.client() as one, two.client() as other:
        other.query("SET DateStyle = 'ISO, MDY'")
        for client in (one, other):
            assert client.ask(parse(text, "p"), SYNC).kinds == "1Z"
            client.query("PREPARE s AS " + text)
        one.query("SET DateStyle = 'SQL, DMY'")
        for _ in range(4):
            assert one.ask(describe("p"), bind((), "p"), execute(), SYNC).rows == [("1", "SQL, DMY")]
            assert one.query("EXECUTE s").rows == [("1", "SQL, DMY")]
            assert one.query("EXECUTE p").rows == [("1", "SQL, DMY")]
            assert one.query("SHOW DateStyle").value == "SQL, DMY"
            assert run(other, "p").rows == [("1", "ISO, MDY")]
            assert one.ask(parse(text), bind(), execute(), SYNC).rows == [("31", "SQL, DMY")]
            turns.swap()
        one.query("BEGIN; SET LOCAL DateStyle = 'German'")
        turns_before = run(one, "p").rows
        assert turns_before == [("1", "German, DMY")]
        assert one.query("SHOW DateStyle").value == "German, DMY"
        one.query("COMMIT")
        assert one.query("SHOW DateStyle").value == "SQL, DMY"


def test_the_unnamed_statement_outlives_its_transaction(pooler):
    with pooler.client() as one, pooler.client() as other:
        assert one.ask(parse("SELECT $1::int + 1"), bind([1]), execute(), SYNC).value == "2"
        other.ask(parse("SELECT 'other'"), bind(), execute(), SYNC)
        assert one.ask(bind([2]), execute(), SYNC).value == "3"
        other.query("SELECT 1")
        assert one.ask(bind([3]), execute(), SYNC).value == "4"
        one.ask(parse("SET app.x = '1'", "set"), bind((), "set"), execute(), SYNC)
        assert one.ask(bind([4]), execute(), SYNC).value == "5"
        one.query("SELECT 1")  # which takes it away, as PostgreSQL documents
        assert one.ask(bind([4]), execute(), SYNC).code == "26000"


def test_effects_of_what_is_executed(pooler):
    """EXECUTE does to the session what its statement does."""
    with pooler.client() as one, pooler.client() as other:
        one.query("PREPARE s (text) AS SELECT set_config('app.x', $1, false)")
        one.query("EXECUTE s('mine')")
        assert other.query("SELECT current_setting('app.x', true)").value in (None, "")
        assert one.query("SELECT current_setting('app.x', true)").value == "mine"
        one.query("PREPARE l AS SELECT pg_advisory_lock(77)")
        assert other.query("SELECT 1").value == "1"
        one.query("EXECUTE l")
        assert one.query("SELECT 1").value == "1"
        assert len(pooler.admin("SHOW PINS")) == 1
        one.query("SELECT pg_advisory_unlock(77)")
        assert other.query("SELECT 1").value == "1"


def test_pooler_names_are_nobodys(pooler):
    """A client cannot reach what others have prepared under the pooler's own names."""
    with pooler.client() as one, pooler.client() as other:
        assert one.ask(parse("SELECT 'secret'", "p"), SYNC).kinds == "1Z"
        names = other.query("SELECT name FROM pg_prepared_statements").rows
        for (name,) in names:
            assert other.query(f'EXECUTE "{name}"').code == "26000"
            assert other.query(f'DEALLOCATE "{name}"').code == "26000"
            assert other.ask(bind((), name), execute(), SYNC).code == "26000"
        assert run(one, "p").value == "secret"


def test_a_statement_that_cannot_be_prepared_again(two, turns, cluster):
    """Its error is the one that a server would give, where it stands."""
    made = "CREATE TABLE going (a int); GRANT SELECT ON going TO app_trust"
    cluster.primary.sql(made)
    with two.client() as one:
        one.query("PREPARE p AS SELECT a FROM going")
        cluster.primary.sql("DROP TABLE going")
        turns.swap()
        for _ in range(2):
            answer = one.query("EXECUTE p")
            assert answer.code == "42P01" and answer.kinds == "EZ" and answer.status == "I"
        one.query("BEGIN")
        assert one.query("EXECUTE p").status == "E"
        assert one.query("SELECT 1").code == "25P02"
        one.query("ROLLBACK")
        assert one.query("SELECT 2").value == "2"
        cluster.primary.sql(made)
        assert one.query("EXECUTE p").tags == ["SELECT 0"]
    cluster.primary.sql("DROP TABLE going")


def test_on_replicas(start_pooler, cluster):
    """A statement prepared on the primary is executed where its kind belongs."""
    watch = Watch(start_routed(start_pooler, cluster, {"session_state": "track"}))
    with watch.pooler.client() as one:
        one.query("PREPARE r AS SELECT 'r'")
        one.query("PREPARE w (int) AS SELECT pg_advisory_xact_lock($1), 'w'")
        watch.settle()
        assert {one.query("EXECUTE r").value for _ in range(4)} == {"r"}
        assert watch.where() == "replica" and watch.why(one) == ""
        assert run(one, "r").value == "r" and watch.where() == "replica"
        assert one.query("EXECUTE w(1)").rows == [("", "w")]
        assert watch.where() == "primary"
        assert one.query("EXPLAIN EXECUTE r").tags == ["EXPLAIN"]
        one.query("DEALLOCATE r")
        assert one.query("EXECUTE r").code == "26000"


# ---- statements that have gone stale


@pytest.fixture
def table(cluster):
    cluster.primary.sql(
        "CREATE TABLE changing (a int, b int); INSERT INTO changing VALUES (1, 2);"
        "ALTER TABLE changing OWNER TO app_trust"
    )
    yield cluster.primary.sql
    cluster.primary.sql("DROP TABLE changing")


CHANGES = [
    "ALTER TABLE changing ADD c int",
    "ALTER TABLE changing ALTER a TYPE text",
    "ALTER TABLE changing DROP b",
]


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("first", ["all", "describe", "parse"])
def test_a_parse_after_a_change(pooler, table, change, is_seen, first):
    """Whoever parses a statement after its table has changed meets no trace of those before."""
    text = "SELECT * FROM changing"
    with pooler.client() as one, pooler.client() as other, pooler.client() as changer:
        one.ask(parse(text, "s"), SYNC)
        assert len(run(one, "s").rows) == 1
        if is_seen:
            changer.query(change)
        else:
            table(change)
        if first == "all":
            answer = other.ask(
                parse(text, "s"), describe("s"), bind((), "s"), execute(), SYNC
            )
            assert answer.kinds == "1tT2DCZ", answer
        else:
            parts = [parse(text, "s"), describe("s")] if first == "describe" else [parse(text, "s")]
            answer = other.ask(*parts, SYNC)
            assert not answer.errors, answer
            answer = run(other, "s")
            assert answer.kinds == "2DCZ", answer
        assert run(other, "s").kinds == "2DCZ"
        assert run(one, "s").kinds in ("2DCZ", "EZ")  # as on a connection of its own


@pytest.mark.parametrize("is_seen", [True, False])
def test_types_after_a_change(pooler, table, is_seen):
    text = "INSERT INTO changing (a) VALUES ($1)"
    change = "ALTER TABLE changing ALTER a TYPE text"
    with pooler.client() as one, pooler.client() as other:
        one.ask(parse(text, "s"), SYNC)
        assert run(one, "s", 7).tags == ["INSERT 0 1"]
        if is_seen:
            one.query(change)
        else:
            table(change)
        answer = other.ask(parse(text, "s"), bind(["seven"], "s"), execute(), SYNC)
        assert answer.kinds == "12CZ", answer
        assert other.query("SELECT a FROM changing WHERE a > 'a'").value == "seven"


@pytest.mark.parametrize("is_seen", [True, False])
def test_a_change_within_a_transaction(pooler, table, is_seen):
    text = "SELECT * FROM changing"
    with pooler.client() as one, pooler.client() as other:
        one.ask(parse(text, "s"), SYNC)
        run(one, "s")
        change = "ALTER TABLE changing ADD c int"
        if is_seen:
            one.query(change)
        else:
            table(change)
        other.query("BEGIN")
        other.ask(parse(text, "s"), SYNC)
        answer = run(other, "s")
        # What the pooler did not see nobody can take back here ...
        assert answer.code in ([""] if is_seen else ["", "0A000"])
        other.query("ROLLBACK")
        other.query("BEGIN")
        assert len(run(other, "s").rows[0]) == 3  # ... but it is not met twice
        other.query("COMMIT")


def test_a_mistake_is_told_once(pooler, table):
    """An error that is the client's own comes as it is, and nothing is done twice."""
    text = "INSERT INTO changing (a) VALUES ($1)"
    with pooler.client() as one, pooler.client() as other:
        one.ask(parse(text, "s"), SYNC)
        other.ask(parse(text, "s"), SYNC)
        assert run(other, "s", "nonsense").code == "22P02"
        assert run(other, "s", 5).tags == ["INSERT 0 1"]
        assert run(one, "s", 6).tags == ["INSERT 0 1"]
        assert other.query("SELECT count(*) FROM changing").value == "3"


@pytest.mark.parametrize("failing", ["PREPARE p AS SELECT 2", "DEALLOCATE p", "DEALLOCATE ALL"])
def test_a_failed_transaction_changes_no_name(start_pooler, failing):
    """Its server may lack a statement that the client has all the same."""
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    with pooler.client() as one, pooler.client() as other:
        one.query("PREPARE p AS SELECT 1")
        for _ in range(2):
            other.query("BEGIN")  # now on one server, now on the other
            one.query("BEGIN; SELECT 1/0")
            for sent in ([query(failing)], [parse(failing), bind(), execute(), SYNC]):
                assert one.ask(*sent).code == "25P02"
            one.query("ROLLBACK")
            assert one.query("EXECUTE p").value == "1"
            other.query("COMMIT")
            other.query("SELECT 1")


def bind_formats(name, count):
    """A Bind without parameters that asks for the text format of so many columns."""
    return message("B", b"\0" + text0(name) + struct.pack("!HHH", 0, 0, count) + bytes(2 * count))


@pytest.mark.parametrize("is_pinned", [False, True])
def test_result_formats_of_a_table_that_has_changed(start_pooler, make_table, is_pinned):
    """On a server that prepares the statement only now: what PostgreSQL says of its old plan, so that
    drivers prepare it anew."""
    make_table("growing", "a int, z int")
    pooler = start_pooler({"session_state": "track", "default_pool_size": 2})
    with pooler.client() as one, pooler.client() as other, pooler.client("postgres") as owner:
        one.query("SELECT pg_advisory_lock(1)" if is_pinned else "SELECT 1")
        for _ in range(3):
            assert not one.ask(parse("TABLE growing", "g"), describe("g"), SYNC).errors
            assert not one.ask(bind_formats("g", 2), execute(), SYNC).errors
            other.query("BEGIN")
            owner.query("ALTER TABLE growing ADD COLUMN b int")
            error = one.ask(bind_formats("g", 2), execute(), SYNC).error
            assert (error["C"], error["R"]) == ("0A000", "RevalidateCachedQuery"), error
            assert error["M"] == "cached plan must not change result type"
            assert not one.ask(close("g"), SYNC).errors
            owner.query("ALTER TABLE growing DROP COLUMN b")
            other.query("COMMIT")
        wrong = one.ask(parse("SELECT 1"), bind_formats("", 2), execute(), SYNC)
        assert wrong.code == "08P01"
