"""Prepared statements of the protocol behind shared servers: to its client each name means what
that client made of it, wherever it runs."""

import random

import psycopg
import pytest

from console import row_of
from tools import in_threads
from wire import (
    FLUSH,
    SYNC,
    bind,
    close,
    describe,
    describe_portal,
    execute,
    parse,
    query,
)

pytestmark = pytest.mark.weir_only  # PgBouncer learned this with 1.21


@pytest.fixture
def small(start_pooler):
    """A pooler with one server, so that its clients take turns on it."""
    return start_pooler({"default_pool_size": 1})


def run(client, name, *values):
    return client.ask(bind(values, name), execute(), SYNC)


def prepare(client, name, sql, types=()):
    answer = client.ask(parse(sql, name, types), SYNC)
    assert answer.kinds == "1Z", answer


INT4, TEXT = 23, 25


def test_statement_is_there_on_every_server(start_pooler):
    """Prepared on one server, run on another, where it is described alike."""
    pooler = start_pooler({"default_pool_size": 2})
    one = pooler.client()
    prepare(one, "s", "SELECT $1::int + 1 AS n, pg_backend_pid()")
    holders = [pooler.client(), pooler.client()]
    hold = "BEGIN; SELECT pg_backend_pid()"
    held = [holder.query(hold).value for holder in holders]
    for turn in range(6):
        free = turn % 2
        holders[free].query("COMMIT")
        value, pid = run(one, "s", turn).rows[0]
        assert value == str(turn + 1) and pid != held[1 - free]
        held[free] = holders[free].query(hold).value
    holders[0].query("COMMIT")
    answer = one.ask(describe("s"), SYNC)
    assert answer.kinds == "tTZ" and answer.of("T")[0].columns() == ["n", "pg_backend_pid"]


def test_same_name_different_texts(small):
    clients = [small.client() for _ in range(10)]
    for number, client in enumerate(clients):
        prepare(client, "s", f"SELECT 'text {number}', $1::text")
    for turn in range(5):
        for number, client in enumerate(clients):
            assert run(client, "s", turn).rows == [(f"text {number}", str(turn))]


def test_same_text_different_types(small):
    as_number, as_text = small.client(), small.client()
    prepare(as_number, "s", "SELECT pg_typeof($1), $1", [INT4])
    prepare(as_text, "s", "SELECT pg_typeof($1), $1", [TEXT])
    for _ in range(3):
        assert run(as_number, "s", "07").rows == [("integer", "7")]
        assert run(as_text, "s", "07").rows == [("text", "07")]


def test_same_text_different_settings(small):
    """Literals are read when a statement is parsed, under the settings of that moment."""
    american = small.client(DateStyle="ISO, MDY")
    european = small.client(DateStyle="ISO, DMY")
    for _ in range(3):
        for client, expected in ((american, "2003-01-02"), (european, "2003-02-01")):
            client.ask(close("s"), SYNC)
            prepare(client, "s", "SELECT '01/02/2003'::date")
            assert run(client, "s").value == expected


def test_more_names_than_a_server_may_have(start_pooler):
    """The longest unused ones are dropped on the server and come back when they are asked for."""
    pooler = start_pooler({"default_pool_size": 1, "max_prepared_statements": 20})
    source = random.Random(3)
    with pooler.client() as client:
        for number in range(300):
            prepare(client, f"s{number}", f"SELECT {number}")
        for _ in range(300):
            number = source.randrange(300)
            assert run(client, f"s{number}").value == str(number)
        assert int(client.query("SELECT count(*) FROM pg_prepared_statements").value) <= 20


def test_same_texts_are_shared(small):
    """A hundred clients with the same statement cost the server one."""
    clients = [small.client() for _ in range(100)]
    for number, client in enumerate(clients):
        prepare(client, f"mine{number}", "SELECT 'shared'")
        assert run(client, f"mine{number}").value == "shared"
    counted = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT ''shared'''"
    # The last one to run: another may sit on a worker that has to open a server of its own.
    assert clients[-1].query(counted).value == "1"


def test_many_names_in_one_pipeline(start_pooler):
    """More statements than a server may have, all in one group."""
    pooler = start_pooler({"default_pool_size": 1, "max_prepared_statements": 5})
    with pooler.client() as client:
        for number in range(50):
            client.send(parse(f"SELECT {number}", f"s{number}"), bind(name=f"s{number}"), execute())
        answer = client.ask(SYNC)
        assert [row[0] for row in answer.rows] == [str(number) for number in range(50)]
        client.send(*(bind(name=f"s{number}") + execute() for number in range(50)))
        answer = client.ask(SYNC)
        assert answer.kinds == "2DC" * 50 + "Z"
        assert [row[0] for row in answer.rows] == [str(number) for number in range(50)]


# Names: unknown, taken, closed


def assert_missing(client, name):
    """Fatal, as with PgBouncer, and said as it says it."""
    client.send(bind(name=name), execute(), SYNC)
    answer = client.read_until("E")
    assert (answer.code, answer.error["S"]) == ("08P01", "FATAL")
    assert answer.error["M"] == "prepared statement did not exist"
    assert f'"{name}"' in answer.error["D"]


@pytest.mark.parametrize("request_of", [bind, describe])
def test_unknown_name(small, request_of):
    """The client is told and closed; the server goes on."""
    with small.client() as client:
        client.send(request_of(name="nope"), SYNC)
        answer = client.read_until("E")
        assert (answer.kinds, answer.code) == ("E", "08P01")
        assert answer.error["M"] == "prepared statement did not exist"
    with small.client() as client:
        assert client.query("SELECT 'next'").value == "next"


def test_unknown_name_within_a_transaction(small, make_table):
    """What the transaction did is rolled back."""
    make_table("undone", "a int")
    with small.client() as client:
        client.query("BEGIN; INSERT INTO undone VALUES (1)")
        assert_missing(client, "nope")
    with small.client() as client:
        assert client.query("SELECT count(*) FROM undone").value == "0"


def test_name_in_use(small):
    with small.client() as client:
        prepare(client, "s", "SELECT 1")
        client.send(parse("SELECT 2", "s"), SYNC)
        answer = client.read_until("E")
        assert (answer.kinds, answer.code) == ("E", "08P01")
        assert answer.error["M"] == "prepared statement name is already in use"


def test_close(small):
    with small.client() as client:
        prepare(client, "s", "SELECT 1")
        assert client.ask(close("s"), SYNC).kinds == "3Z"
        prepare(client, "s", "SELECT 2")
        assert run(client, "s").value == "2"
        assert client.ask(close("never was"), SYNC).kinds == "3Z"
        answer = client.ask(
            close("s"), parse("SELECT 3", "s"), bind(name="s"), execute(), close("s"), SYNC
        )
        assert (answer.kinds, answer.value) == ("312DC3Z", "3")
        assert_missing(client, "s")


@pytest.mark.parametrize("forget", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_forgetting_all(small, forget):
    """Only the names of the client that said so."""
    one, two = small.client(), small.client()
    prepare(one, "s", "SELECT 'one'")
    prepare(two, "s", "SELECT 'two'")
    assert one.query(forget).errors == []
    assert run(two, "s").value == "two"
    prepare(one, "s", "SELECT 'one again'")
    assert run(one, "s").value == "one again"
    assert run(two, "s").value == "two"
    assert one.query(forget).errors == []
    assert_missing(one, "s")
    assert run(two, "s").value == "two"


def test_deallocate_by_sql(small):
    """What drivers without a Close message do to get rid of a statement."""
    with small.client() as client:
        prepare(client, "s", "SELECT 1")
        prepare(client, "T t", "SELECT 1")
        assert client.query("DEALLOCATE s").tags == ["DEALLOCATE"]
        client.query("BEGIN")
        answer = client.query('DEALLOCATE "T t";')
        assert (answer.tags, answer.status) == (["DEALLOCATE"], "T")
        client.query("ROLLBACK")
        assert client.query("DEALLOCATE t").code == "26000"
        prepare(client, "s", "SELECT 2")
        assert run(client, "s").value == "2"
        assert client.query("DEALLOCATE s").tags == ["DEALLOCATE"]
        assert_missing(client, "s")


# Errors


def test_failed_parse_leaves_no_name(small):
    with small.client() as client:
        assert client.ask(parse("SELEC", "s"), SYNC).code == "42601"
        prepare(client, "s", "SELECT 1")
        assert run(client, "s").value == "1"
        assert client.ask(parse("SELEC", "t"), SYNC).code == "42601"
        assert_missing(client, "t")


def test_skipped_parse_leaves_no_name(small):
    """After an error everything up to the Sync is skipped, a Parse and a Close as well."""
    with small.client() as client:
        prepare(client, "old", "SELECT 'old'")
        answer = client.ask(parse("SELEC", "a"), parse("SELECT 1", "b"), close("old"), SYNC)
        assert answer.kinds == "EZ"
        assert run(client, "old").value == "old"
        assert_missing(client, "b")


def test_parse_before_an_error_stays(small):
    """Prepared statements belong to no transaction."""
    one, two = small.client(), small.client()
    answer = one.ask(parse("SELECT 'kept'", "a"), parse("SELEC", "b"), SYNC)
    assert answer.kinds == "1EZ"
    assert two.query("SELECT 1").value == "1"
    assert run(one, "a").value == "kept"
    one.query("BEGIN")
    prepare(one, "c", "SELECT 'kept too'")
    one.query("ROLLBACK")
    assert run(one, "c").value == "kept too"


def test_error_when_it_runs(small):
    with small.client() as client:
        prepare(client, "s", "SELECT 1 / generate_series($1::int, 1)")
        for _ in range(3):
            assert run(client, "s", 0).code == "22012"
            assert run(client, "s", 1).value == "1"


def test_statement_that_only_fails_elsewhere(start_pooler, make_table):
    """Where it must be prepared again and cannot be, the client gets that error for its Bind."""
    make_table("short_lived", "a int")
    pooler = start_pooler({"default_pool_size": 2})
    one, two = pooler.client(), pooler.client()
    prepare(one, "s", "SELECT count(*) FROM short_lived")
    assert run(one, "s").value == "0"
    two.query("BEGIN; ALTER TABLE short_lived RENAME TO renamed; COMMIT")
    try:
        for _ in range(3):
            assert run(one, "s").code in ("42P01", "")
            assert one.query("SELECT 'next'").value == "next"
    finally:
        two.query("ALTER TABLE renamed RENAME TO short_lived")


# The unnamed statement


def test_unnamed_statement_is_never_another_clients(small):
    """It may be used again after its transaction; then it is one's own or an error."""
    one, two = small.client(), small.client()
    assert one.ask(parse("SELECT 'one'"), SYNC).kinds == "1Z"
    assert two.ask(parse("SELECT 'two'"), SYNC).kinds == "1Z"
    for _ in range(3):
        for client, expected in ((one, "one"), (two, "two")):
            answer = client.ask(bind(), execute(), SYNC)
            if answer.code:
                assert answer.code == "26000"
                client.ask(parse(f"SELECT '{expected}'"), SYNC)
            else:
                assert answer.value == expected


def test_unnamed_statement_and_simple_query(small):
    """A simple Query drops the unnamed statement, as PostgreSQL does."""
    with small.client() as client:
        client.ask(parse("SELECT 'unnamed'"), SYNC)
        client.query("SELECT 1")
        assert client.ask(bind(), execute(), SYNC).code == "26000"


def test_unnamed_statement_within_a_transaction(small):
    with small.client() as client:
        client.query("BEGIN")
        client.ask(parse("SELECT $1::int"), SYNC)
        for number in range(5):
            assert client.ask(bind([number]), execute(), SYNC).value == str(number)
        client.query("COMMIT")


# Shapes of traffic


def test_flush(small):
    with small.client() as client:
        client.send(parse("SELECT $1::int", "s"), FLUSH)
        assert client.read().kind == "1"
        client.send(describe("s"), FLUSH)
        assert client.read_until("T").kinds == "tT"
        client.send(bind([3], "s", "p"), describe_portal("p"), execute("p"), FLUSH)
        assert client.read_until("C").kinds == "2TDC"
        client.send(close("s"), FLUSH)
        assert client.read().kind == "3"
        assert client.ask(SYNC).kinds == "Z"


def test_byte_by_byte(small):
    with small.client() as client:
        parts = [parse("SELECT $1::text", "a name"), describe("a name")]
        parts += [bind(["x" * 50], "a name"), execute(), close("a name"), SYNC]
        for byte in b"".join(parts):
            client.send(bytes([byte]))
        answer = client.answer()
        assert (answer.kinds, answer.value) == ("1tT2DC3Z", "x" * 50)


def test_long_names_and_texts(small):
    name, text = "n" * 20_000, "SELECT '" + "t" * 1_000_000 + "', $1::text"
    one, two = small.client(), small.client()
    prepare(one, name, text)
    two.query("SELECT 1")
    assert run(one, name, "v" * 1_000_000).rows == [("t" * 1_000_000, "v" * 1_000_000)]


def test_session_mode(start_pooler):
    pooler = start_pooler({"pool_mode": "session", "default_pool_size": 1})
    for text in ("first", "second"):
        with pooler.client() as client:
            prepare(client, "s", f"SELECT '{text}'")
            assert run(client, "s").value == text


def test_switched_off(start_pooler):
    """With max_prepared_statements = 0 names go to the server as they are."""
    pooler = start_pooler({"max_prepared_statements": 0, "default_pool_size": 1})
    with pooler.client() as client:
        prepare(client, "own name", "SELECT 1")
        names = client.query("SELECT name FROM pg_prepared_statements").rows
        assert names == [("own name",)]


def test_sql_prepare_within_a_transaction(small):
    with small.client() as client:
        client.query("BEGIN; PREPARE p AS SELECT 'sql'")
        assert client.query("EXECUTE p").value == "sql"
        client.query("DEALLOCATE p; COMMIT")


def test_psycopg_prepares(start_pooler):
    """psycopg prepares what it runs often, and drops the oldest beyond a number."""
    pooler = start_pooler({"default_pool_size": 2, "max_prepared_statements": 10})

    def work(number):
        source = random.Random(number)
        with pooler.psycopg() as connection:
            connection.prepare_threshold = 0
            connection.prepared_max = 8
            for _ in range(100):
                kind = source.randrange(15)
                row = connection.execute(f"SELECT {kind}, %s::int", [number]).fetchone()
                assert row == (kind, number)
                if source.random() < 0.1:
                    with pytest.raises(psycopg.errors.DivisionByZero):
                        connection.execute("SELECT 1 / (%s::int - %s::int)", [number, number])

    in_threads(8, work)


@pytest.mark.timeout(90)
def test_many_clients_many_names(start_pooler):
    """Thirty clients on three servers that hold ten statements each; every name used by every
    client means something else to each."""
    pooler = start_pooler({"default_pool_size": 3, "max_prepared_statements": 10})

    def work(number):
        source = random.Random(number)
        known = {}
        with pooler.client() as client:
            for turn in range(80):
                name = f"s{source.randrange(12)}"
                if name in known and source.random() < 0.2:
                    assert client.ask(close(name), SYNC).kinds == "3Z"
                    del known[name]
                elif name in known:
                    assert run(client, name, turn).rows == [(known[name], str(turn))]
                else:
                    known[name] = f"{number}.{turn}"
                    prepare(client, name, f"SELECT '{known[name]}', $1::text")

    in_threads(30, work)


# The rest of what PgBouncer does


def counts(pooler):
    (row,) = [row for row in pooler.admin("SHOW STATS") if row["database"] == "app"]
    names = ("client_parse", "server_parse", "bind")
    return tuple(int(row[f"total_{name}_count"]) for name in names)


def prepared_on_server(client):
    rows = client.query("SELECT name, statement FROM pg_prepared_statements").rows
    return dict(rows)


@pytest.mark.one_worker
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_what_servers_know(start_pooler, mode):
    """One statement under the pooler's own name, whatever its clients call it; an unnamed one, and
    SQL's PREPARE, as they are."""
    pooler = start_pooler({"default_pool_size": 1, "pool_mode": mode})
    with pooler.client() as one, pooler.client() as two:
        before = counts(pooler)
        prepare(one, "mine", "SELECT 'shared'")
        prepare(two, "yours", "SELECT 'shared'")
        for _ in range(3):
            assert run(one, "mine").value == run(two, "yours").value == "shared"
        ((name, text),) = prepared_on_server(one).items()
        assert name.startswith("PGBOUNCER_") and name[10:].isdigit()
        assert text == "SELECT 'shared'"
        after = counts(pooler)
        assert tuple(b - a for a, b in zip(before, after)) == (2, 1, 6)
        assert one.query("PREPARE pgbouncer_1 AS SELECT 1").errors == []
        assert one.query("EXECUTE pgbouncer_1").value == "1"
        assert run(one, "mine").value == "shared"
        assert {"mine", "yours"}.isdisjoint(prepared_on_server(one))
        (row,) = pooler.admin("SHOW SERVERS")
        assert int(row["prepared_statements"]) == 1
        clients = [row for row in pooler.admin("SHOW CLIENTS") if row["user"] == "app_trust"]
        assert [int(row["prepared_statements"]) for row in clients] == [1, 1]


def test_the_one_unused_longest_goes(start_pooler):
    pooler = start_pooler({"default_pool_size": 1, "max_prepared_statements": 2})
    with pooler.client() as client:
        for name in "abc":
            prepare(client, name, f"SELECT '{name}'")
        assert set(prepared_on_server(client).values()) == {"SELECT 'b'", "SELECT 'c'"}
        run(client, "b")
        assert run(client, "a").value == "a"
        assert set(prepared_on_server(client).values()) == {"SELECT 'a'", "SELECT 'b'"}


def test_an_eviction_that_is_skipped(start_pooler):
    """The Close that was to make room was skipped with the rest: the server still has it all."""
    pooler = start_pooler({"default_pool_size": 1, "max_prepared_statements": 1})
    with pooler.client() as client:
        prepare(client, "old", "SELECT 'old'")
        answer = client.ask(parse("SELEC"), parse("SELECT 'new'", "new"), SYNC)
        assert (answer.kinds, answer.code) == ("EZ", "42601")
        assert run(client, "old").value == "old"
        assert_missing(client, "new")
    with pooler.client() as client:
        prepare(client, "old", "SELECT 'old'")
        # Here the Close is done, and the Parse behind it fails.
        assert client.ask(parse("SELEC", "bad"), SYNC).code == "42601"
        assert run(client, "old").value == "old"
        assert len(prepared_on_server(client)) == 1


@pytest.mark.one_worker
@pytest.mark.parametrize("forget", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("extended", [False, True])
def test_forgetting_all_at_the_server(start_pooler, forget, extended):
    """What the server lost is prepared there again for whoever needs it."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as one, pooler.client() as two:
        prepare(one, "s", "SELECT 'one'")
        prepare(two, "t", "SELECT 'two'")
        if extended:
            assert one.ask(parse(forget), bind(), execute(), SYNC).tags == [forget]
        else:
            assert one.query(forget).tags == [forget]
        assert prepared_on_server(two) == {}
        assert run(two, "t").value == "two"
        assert list(prepared_on_server(two).values()) == ["SELECT 'two'"]
        prepare(one, "s", "SELECT 'one again'")
        assert run(one, "s").value == "one again"


def test_forgetting_all_that_fails(start_pooler):
    """Within a transaction DISCARD ALL is an error: nothing is forgotten."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client:
        prepare(client, "s", "SELECT 'kept'")
        client.query("BEGIN")
        assert client.query("DISCARD ALL").code == "25001"
        client.query("ROLLBACK")
        assert run(client, "s").value == "kept"


def test_switched_off_while_running(start_pooler):
    """What follows passes as it is: a name is then a name at whichever server has it."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client:
        prepare(client, "before", "SELECT 'before'")
        pooler.admin("SET max_prepared_statements = 0")
        prepare(client, "raw", "SELECT 'raw'")
        assert "raw" in prepared_on_server(client)
        assert run(client, "raw").value == "raw"
        assert run(client, "before").code == "26000"
        assert client.ask(parse("SELECT 1", "raw"), SYNC).code == "42P05"
        assert client.ask(close("raw"), SYNC).kinds == "3Z"
        assert "raw" not in prepared_on_server(client)
        pooler.admin("SET max_prepared_statements = 200")
        assert run(client, "before").value == "before"
        prepare(client, "raw", "SELECT 'again'")
        assert run(client, "raw").value == "again"


def test_the_server_that_is_lost(start_pooler, cluster):
    """A new one is told what the client prepared."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client:
        prepare(client, "s", "SELECT 'there', pg_backend_pid()")
        (_, pid) = run(client, "s").rows[0]
        pooler.admin("RECONNECT")
        (value, again) = run(client, "s").rows[0]
        assert value == "there" and again != pid


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
def test_large_names_texts_and_values(start_pooler, size):
    """Far larger than any buffer of PgBouncer's, in one write and in pieces."""
    pooler = start_pooler({"default_pool_size": 1})
    name, text = "n" * min(size, 60_000), f"SELECT length($1), '{'x' * size}'"
    with pooler.client() as client:
        parts = parse(text, name, [25]) + SYNC
        for at in range(0, len(parts), 30_000):
            client.send(parts[at : at + 30_000])
        assert client.answer().kinds == "1Z"
        for _ in range(2):
            answer = client.ask(bind(["v" * size], name=name), execute(), SYNC)
            assert answer.rows[0] == (str(size), "x" * size)


def test_as_many_and_as_large_as_a_client_likes(start_pooler):
    """There is no bound but max_packet_size; SHOW MEM shows what they take, until they go."""

    def memory():
        return row_of(pooler.admin("SHOW MEM"), name="prepared_statement_cache")

    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client, pooler.client() as other:
        for first in range(0, 21_000, 1000):
            numbers = range(first, first + 1000)
            client.send(b"".join(parse("SELECT $1::text", f"s{n}") for n in numbers) + SYNC)
            assert client.answer().kinds == "1" * 1000 + "Z"
        assert memory()["used"] == 1
        text = "SELECT $1::text /*" + "x" * (17 << 20) + "*/"
        prepare(client, "large", text)
        assert memory()["used"] == 2 and memory()["memtotal"] > 17 << 20
        other.query("DISCARD ALL")  # the server has forgotten both
        assert run(client, "s20999", "many").rows == [("many",)]
        assert run(client, "large", "long").rows == [("long",)]
        client.query("DEALLOCATE ALL")
        assert memory()["used"] == 0 and memory()["memtotal"] == 0
    pooler.stop()
