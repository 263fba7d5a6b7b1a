"""What a client sends reaches the server, and the server's answer the client, byte for byte."""

import struct

import psycopg
import pytest

from wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    close_portal,
    copy_data,
    copy_fail,
    describe,
    describe_portal,
    execute,
    message,
    parse,
    query,
)

MEGABYTE = 1_000_000

# SQL, letters of the messages that answer it, state of the transaction afterwards
SIMPLE = [
    ("SELECT 1", "TDCZ", "I"),
    ("SELECT", "TDCZ", "I"),
    ("SELECT NULL WHERE false", "TCZ", "I"),
    ("", "IZ", "I"),
    (" ; ;", "IZ", "I"),
    ("-- nothing but a comment", "IZ", "I"),
    ("SELECT 1; SELECT 2", "TDCTDCZ", "I"),
    ("SELECT 1; SELECT 1/0; SELECT 2", "TDCEZ", "I"),
    ("BEGIN", "CZ", "T"),
    ("BEGIN; SELECT 1/0", "CEZ", "E"),
    ("BEGIN; SELECT 1; COMMIT", "CTDCCZ", "I"),
    ("SELEC 1", "EZ", "I"),
    ("SELECT * FROM generate_series(1, 3)", "TDDDCZ", "I"),
    ("DO $$ BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; END $$", "NNCZ", "I"),
    ("COMMIT", "NCZ", "I"),
]


@pytest.mark.parametrize("sql,kinds,status", SIMPLE, ids=[one[0] for one in SIMPLE])
def test_simple_query(pooler, sql, kinds, status):
    with pooler.client() as client:
        answer = client.query(sql)
        assert (answer.kinds, answer.status) == (kinds, status)


# Messages up to the Sync, letters of the answer
EXTENDED = [
    ([SYNC], "Z"),
    ([parse("SELECT 1"), SYNC], "1Z"),
    ([parse("SELECT $1::int"), bind([7]), execute(), SYNC], "12DCZ"),
    ([parse("SELECT $1::int"), describe(), SYNC], "1tTZ"),
    ([parse("SELECT 1"), bind(), describe_portal(), execute(), SYNC], "12TDCZ"),
    ([parse("SET work_mem = 65536"), bind(), describe_portal(), execute(), SYNC], "12nCZ"),
    ([parse(""), bind(), execute(), SYNC], "12IZ"),
    ([parse("SELECT 1", "a"), bind(name="a"), execute(), close("a"), SYNC], "12DC3Z"),
    ([parse("SELECT 1"), bind(portal="p"), execute("p"), close_portal("p"), SYNC], "12DC3Z"),
    ([close("unknown"), close_portal("unknown"), SYNC], "33Z"),
    ([parse("SELEC"), bind(), execute(), SYNC], "EZ"),
    ([parse("SELECT 1/generate_series($1::int, 1)"), bind([0]), execute(), SYNC], "12EZ"),
    ([parse("SELECT $1::int"), bind(["x"]), execute(), SYNC], "1EZ"),
    ([parse("SELECT 1"), bind(), execute(), execute(), SYNC], "12DCCZ"),
    ([parse("SELECT generate_series(1, 3)"), bind(), execute(rows=2), SYNC], "12DDsZ"),
]


@pytest.mark.parametrize("parts,kinds", EXTENDED, ids=[str(i) for i in range(len(EXTENDED))])
def test_extended_query(either_mode, parts, kinds):
    with either_mode.client() as client:
        assert client.ask(*parts).kinds == kinds
        assert client.query("SELECT 'next'").value == "next"


@pytest.mark.parametrize("parts,kinds", EXTENDED, ids=[str(i) for i in range(len(EXTENDED))])
def test_extended_query_byte_by_byte(pooler, parts, kinds):
    with pooler.client() as client:
        for byte in b"".join(parts):
            client.send(bytes([byte]))
        assert client.answer().kinds == kinds


def test_values_of_every_kind(pooler):
    with pooler.client() as client:
        answer = client.ask(
            parse("SELECT $1::text, $2::text, $3::text"), bind(["", None, "Ω\n"]), execute(), SYNC
        )
        assert answer.rows == [("", None, "Ω\n")]
        answer = client.query('SELECT 1 AS one, 2 AS "Two", NULL')
        assert answer.of("T")[0].columns() == ["one", "Two", "?column?"]
        assert answer.rows == [("1", "2", None)]


def test_error_carries_all_fields(pooler):
    with pooler.client() as client:
        raised = client.query(
            "DO $$ BEGIN RAISE EXCEPTION 'm' USING ERRCODE = '22012', DETAIL = 'd', HINT = 'h',"
            " COLUMN = 'c', CONSTRAINT = 'n', DATATYPE = 'y', TABLE = 't', SCHEMA = 's'; END $$"
        ).error
        expected = {"S": "ERROR", "V": "ERROR", "C": "22012", "M": "m", "D": "d", "H": "h"}
        expected |= {"c": "c", "n": "n", "d": "y", "t": "t", "s": "s"}
        assert expected.items() <= raised.items()
        assert client.query("SELECT * FROM nowhere").error["P"] == "15"


def test_portal_with_row_limit(either_mode):
    """Rows are fetched in portions, with other work between them."""
    with either_mode.client() as client:
        client.query("BEGIN")
        first = client.ask(
            parse("SELECT generate_series(1, 5)"), bind(portal="p"), execute("p", 2), SYNC
        )
        assert (first.kinds, first.rows) == ("12DDsZ", [("1",), ("2",)])
        assert client.query("SELECT 'between'").value == "between"
        assert client.ask(execute("p", 2), SYNC).rows == [("3",), ("4",)]
        last = client.ask(execute("p", 2), SYNC)
        assert (last.kinds, last.rows, last.tags) == ("DCZ", [("5",)], ["SELECT 1"])
        assert client.query("COMMIT").status == "I"
        assert client.ask(execute("p"), SYNC).code == "34000"


def test_flush_brings_answers_without_sync(either_mode):
    with either_mode.client() as client:
        client.send(parse("SELECT $1::int"), FLUSH)
        assert client.read().kind == "1"
        client.send(bind([5]), describe_portal(), FLUSH)
        assert client.read_until("T").kinds == "2T"
        assert client.is_silent()
        client.send(execute(), FLUSH)
        assert client.read_until("C").kinds == "DC"
        client.send(SYNC)
        assert client.read().kind == "Z"


def test_pipeline_of_syncs(either_mode):
    """Many groups in one write: all answers, in order."""
    with either_mode.client() as client:
        groups = [[parse("SELECT $1::int"), bind([i]), execute(), SYNC] for i in range(300)]
        client.send(*(part for group in groups for part in group))
        for i in range(300):
            assert client.answer().rows == [(str(i),)]


def test_pipeline_of_simple_queries(either_mode):
    with either_mode.client() as client:
        client.send(*(query(f"SELECT {i}") for i in range(1000)))
        for i in range(1000):
            assert client.answer().value == str(i)


def test_pipeline_mixes_both_protocols(pooler):
    with pooler.client() as client:
        client.send(
            query("SELECT 'a'"),
            parse("SELECT 'b'"),
            bind(),
            execute(),
            SYNC,
            query("SELEC"),
            parse("SELEC"),
            SYNC,
            query("SELECT 'c'"),
        )
        answers = [client.answer() for _ in range(5)]
        assert [one.kinds for one in answers] == ["TDCZ", "12DCZ", "EZ", "EZ", "TDCZ"]
        assert [answers[i].value for i in (0, 1, 4)] == ["a", "b", "c"]


def test_error_skips_to_sync(either_mode):
    with either_mode.client() as client:
        broken = [parse("SELECT 1/0"), bind(), execute(), parse("SELECT 'no'"), bind(), execute()]
        answer = client.ask(*broken, SYNC)
        assert (answer.kinds[-2:], answer.code, answer.rows) == ("EZ", "22012", [])
        assert client.query("SELECT 'next'").value == "next"


def test_pipeline_is_one_transaction(either_mode, make_table):
    """Everything up to a Sync is one transaction unless it says otherwise."""
    make_table("pipelined", "a int")
    with either_mode.client() as client:
        insert = [parse("INSERT INTO pipelined VALUES (1)"), bind(), execute()]
        client.ask(*insert, parse("SELECT 1/0"), bind(), execute(), SYNC)
        assert client.query("SELECT count(*) FROM pipelined").value == "0"
        client.ask(*insert, *insert, SYNC)
        assert client.query("SELECT count(*) FROM pipelined").value == "2"


def test_function_call(pooler):
    """The fast path, which libpq uses for large objects: int4abs, oid 1397."""
    body = struct.pack("!IHH", 1397, 0, 1) + struct.pack("!i", 2) + b"-7" + struct.pack("!H", 0)
    with pooler.client() as client:
        answer = client.ask(message("F", body))
        assert (answer.kinds, answer.messages[0].body[4:]) == ("VZ", b"7")


# COPY

ROWS = b"".join(b"%d\tvalue %d\n" % (i, i) for i in range(1000))


@pytest.fixture
def copied(make_table):
    make_table("copied", "a int, b text")


def test_copy_in(either_mode, copied):
    with either_mode.client() as client:
        client.send(query("COPY copied FROM STDIN"))
        assert client.read().kind == "G"
        client.send(copy_data(ROWS[:5000]), copy_data(ROWS[5000:]), COPY_DONE)
        assert client.answer().tags == ["COPY 1000"]
        assert client.query("SELECT sum(a) FROM copied").value == "499500"


@pytest.mark.weir_only
def test_copy_in_all_at_once(either_mode, copied):
    """COPY, data, end and the next query in one write, without waiting for CopyInResponse."""
    with either_mode.client() as client:
        client.send(query("COPY copied FROM STDIN"), copy_data(ROWS), COPY_DONE, query("SELECT 1"))
        assert client.answer().kinds == "GCZ"
        assert client.answer().value == "1"


def test_copy_in_extended(either_mode, copied):
    with either_mode.client() as client:
        client.send(parse("COPY copied FROM STDIN"), bind(), execute(), FLUSH)
        assert client.read_until("G").kinds == "12G"
        client.send(copy_data(ROWS), COPY_DONE, SYNC)
        assert client.answer().tags == ["COPY 1000"]


def test_copy_in_that_the_client_gives_up(either_mode, copied):
    with either_mode.client() as client:
        client.send(query("COPY copied FROM STDIN"), copy_data(ROWS), copy_fail("enough"))
        answer = client.answer()
        assert (answer.kinds, answer.code) == ("GEZ", "57014")
        assert "enough" in answer.error["M"]
        assert client.query("SELECT count(*) FROM copied").value == "0"


@pytest.mark.weir_only
def test_copy_in_that_the_server_gives_up(either_mode, copied):
    """What still comes after the error is dropped, not taken for the next request."""
    with either_mode.client() as client:
        client.send(query("COPY copied FROM STDIN"), copy_data(b"not a number\tx\n"))
        answer = client.answer()
        assert (answer.kinds, answer.code) == ("GEZ", "22P02")
        client.send(*[copy_data(ROWS)] * 20, COPY_DONE, query("SELECT 'next'"))
        assert client.answer().value == "next"
        with either_mode.client() as other:
            assert other.query("SELECT 'other'").value == "other"


LEFTOVERS = [copy_data(ROWS[:100]), COPY_DONE, copy_fail("late"), copy_data(b"")]


def assert_idle_server(pooler):
    (server,) = pooler.admin("SHOW SERVERS")
    assert server["state"] == "idle"


@pytest.mark.weir_only
@pytest.mark.one_worker
@pytest.mark.parametrize("extended", [False, True])
def test_copy_data_after_the_server_was_given_back(start_pooler, copied, extended):
    """What is still sent keeps no server, counts for nothing and reaches nobody."""
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client, pooler.client() as other:
        if extended:
            client.send(parse("COPY copied FROM STDIN"), bind(), execute(), FLUSH)
        else:
            client.send(query("COPY copied FROM STDIN"))
        client.read_until("G")
        client.send(copy_data(b"not a number\tx\n"))
        if extended:
            assert client.read_until("E").code == "22P02"
            client.send(*LEFTOVERS, SYNC)
            assert client.answer().kinds == "Z"
        else:
            assert client.answer().code == "22P02"
        assert_idle_server(pooler)
        for _ in range(3):
            client.send(*LEFTOVERS)
            assert other.query("SELECT 'other'").value == "other"
            assert_idle_server(pooler)
        # In the middle of another client's transaction, too.
        other.query("BEGIN")
        client.send(*LEFTOVERS, query("SELECT 'mine'"))
        assert client.is_silent(0.1)
        assert other.query("SELECT 'still'").value == "still"
        assert other.query("COMMIT").status == "I"
        assert client.answer().value == "mine"


@pytest.mark.parametrize("extended", [False, True])
def test_copy_that_fails_after_its_end(either_mode, make_table, extended):
    """The data were fine one by one; the whole is not."""
    make_table("late", "a int UNIQUE DEFERRABLE INITIALLY DEFERRED, b text")
    with either_mode.client() as client:
        for _ in range(2):
            if extended:
                client.send(parse("COPY late FROM STDIN"), bind(), execute(), FLUSH)
                client.read_until("G")
                client.send(copy_data(b"1\tx\n1\tx\n"), COPY_DONE, SYNC)
            else:
                client.send(query("COPY late FROM STDIN"))
                client.read_until("G")
                client.send(copy_data(b"1\tx\n1\tx\n"), COPY_DONE)
            answer = client.answer()
            assert (answer.code, answer.status) == ("23505", "I")
            assert client.query("SELECT count(*) FROM late").value == "0"
        client.send(query("COPY late FROM STDIN"))
        client.read_until("G")
        client.send(copy_data(b"1\tx\n2\tx\n"), COPY_DONE)
        assert client.answer().tags == ["COPY 2"]


@pytest.mark.weir_only
def test_two_copies_in_one_query(either_mode, copied):
    """The second begins when the first is done; an error in the second ends both."""
    both = "COPY copied FROM STDIN; COPY copied FROM STDIN"
    with either_mode.client() as client:
        client.send(query(both), copy_data(b"1\tx\n"), COPY_DONE, copy_data(b"2\tx\n"), COPY_DONE)
        assert client.answer().tags == ["COPY 1", "COPY 1"]
        client.send(query(both), copy_data(b"3\tx\n"), COPY_DONE, copy_data(b"x\tx\n"), COPY_DONE)
        assert client.answer().code == "22P02"
        assert client.query("SELECT count(*) FROM copied").value == "2"


def test_copy_out(either_mode):
    with either_mode.client() as client:
        answer = client.query("COPY (SELECT generate_series(1, 3)) TO STDOUT")
        assert answer.kinds == "HdddcCZ"
        assert [one.body for one in answer.of("d")] == [b"1\n", b"2\n", b"3\n"]


def test_copy_out_extended(pooler):
    with pooler.client() as client:
        copy = parse("COPY (SELECT generate_series(1, 2)) TO STDOUT")
        assert client.ask(copy, bind(), execute(), SYNC).kinds == "12HddcCZ"


def test_copy_out_of_much(either_mode):
    """20 MB in many small messages, to a client that reads."""
    with either_mode.psycopg() as connection, connection.cursor() as cursor:
        size = 0
        with cursor.copy(
            "COPY (SELECT i, repeat('x', 60) FROM generate_series(1, 300000) i) TO STDOUT"
        ) as copy:
            for block in copy:
                size += len(block)
        assert size == 62 * 300_000 + sum(len(str(i)) for i in range(1, 300_001))


def test_copy_in_of_much(either_mode, copied):
    with either_mode.psycopg() as connection, connection.cursor() as cursor:
        block = b"".join(b"%d\t%s\n" % (i, b"y" * 90) for i in range(10000))
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for _ in range(50):
                copy.write(block)
        count = cursor.execute("SELECT count(*), sum(length(b)) FROM copied").fetchone()
        assert count == (500_000, 45_000_000)


# Messages of 50 MB


def test_big_query_text(either_mode):
    with either_mode.client() as client:
        sql = "SELECT length('" + "x" * (50 * MEGABYTE) + "')"
        assert client.query(sql).value == str(50 * MEGABYTE)


def test_big_bind_value(either_mode):
    with either_mode.client() as client:
        value = b"x" * (50 * MEGABYTE)
        answer = client.ask(parse("SELECT length($1)"), bind([value]), execute(), SYNC)
        assert answer.value == str(50 * MEGABYTE)


def test_big_row(either_mode):
    with either_mode.client() as client:
        answer = client.query(f"SELECT repeat('x', {50 * MEGABYTE}), 'end'")
        ((value, end),) = answer.rows
        assert (len(value), value.count("x"), end) == (50 * MEGABYTE, 50 * MEGABYTE, "end")


def test_big_parse(pooler):
    with pooler.client() as client:
        sql = "SELECT length('" + "x" * (20 * MEGABYTE) + "')"
        answer = client.ask(parse(sql), bind(), execute(), SYNC)
        assert answer.value == str(20 * MEGABYTE)


def test_big_error_and_notice(pooler):
    """Texts far larger than any buffer, within an error and a notice."""
    with pooler.client() as client:
        raised = "RAISE {} '%', repeat('x', 3000000)"
        answer = client.query("DO $$ BEGIN " + raised.format("NOTICE") + "; END $$")
        assert len(answer.notices[0]["M"]) == 3_000_000
        answer = client.query("DO $$ BEGIN " + raised.format("EXCEPTION") + "; END $$")
        assert len(answer.error["M"]) == 3_000_000
        assert client.query("SELECT 1").value == "1"


# Notifications


def test_listen_in_session_mode(start_pooler):
    pooler = start_pooler({"pool_mode": "session"})
    with pooler.client() as listener, pooler.client() as sender:
        listener.query("LISTEN news")
        sender.query("NOTIFY news, 'first'")
        told = listener.read()
        assert told.kind == "A" and told.body[4:] == b"news\0first\0"
        sender.query("NOTIFY news, 'second'")
        assert listener.query("SELECT 1").kinds in ("ATDCZ", "TDCAZ", "TDCZ")


def test_notification_within_a_transaction(pooler):
    with pooler.client() as client:
        answer = client.query("LISTEN own; NOTIFY own, 'me'")
        assert answer.of("A")[0].body[4:] == b"own\0me\0"
        client.query("UNLISTEN *")


# Drivers


def test_psql(either_mode):
    done = either_mode.psql(
        "CREATE TEMP TABLE t AS SELECT generate_series(1, 3) AS a;\n"
        "\\d pg_class\n\\copy (SELECT 'x' FROM t) TO STDOUT\n"
        "SELECT count(*) FROM t;\nDROP TABLE t;",
        options=["-q", "-1"],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-5:] == ["x", "x", "x", "3", ""]


def test_psql_over_unix_socket(pooler):
    done = pooler.psql("SELECT 'unix'", host=pooler.folder)
    assert (done.returncode, done.stdout) == (0, "unix\n"), done.stderr


def test_server_over_unix_socket(start_pooler, cluster):
    primary = cluster.primary
    databases = {"app": f"host={primary.folder} port={primary.port} dbname=app"}
    pooler = start_pooler(databases=databases)
    with pooler.client() as client:
        assert client.query("SELECT inet_server_port()").value is None


def test_psycopg(either_mode, make_table):
    make_table("driven", "a int PRIMARY KEY, b text")
    with either_mode.psycopg(autocommit=False) as connection:
        with connection.cursor() as cursor:
            rows = [(i, f"b{i}") for i in range(100)]
            cursor.executemany("INSERT INTO driven VALUES (%s, %s)", rows)
        connection.commit()
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO driven VALUES (1, '')")
        connection.rollback()
        with connection.cursor(name="on_the_server") as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT * FROM driven ORDER BY a")
            assert cursor.fetchall() == rows


def test_psycopg_pipeline(either_mode):
    with either_mode.psycopg() as connection, connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", [i]) for i in range(200)]
        assert [cursor.fetchone()[0] for cursor in cursors] == list(range(200))


# What a client set when it logged in


def test_startup_parameters_follow_the_client(start_pooler):
    """Two clients with different settings take turns on one server connection."""
    pooler = start_pooler({"default_pool_size": 1})
    asked = "SELECT current_setting('application_name'), to_char(now(), 'TZ')"
    with pooler.client(application_name="one", TimeZone="UTC") as one:
        with pooler.client(application_name="it's two", TimeZone="America/New_York") as two:
            for _ in range(3):
                assert one.query(asked).rows == [("one", "UTC")]
                assert two.query(asked).rows[0][0] == "it's two"
                assert two.query(asked).rows[0][1] in ("EST", "EDT")


def test_parameter_status_is_passed_on(pooler):
    with pooler.client() as client:
        assert client.parameters["server_encoding"] == "UTF8"
        assert client.parameters["server_version"].startswith("15.")
        answer = client.query("SET application_name = 'changed'")
        assert answer.of("S")[0].parameter() == ("application_name", "changed")


# Transactions and servers


def test_transaction_keeps_its_server(pooler):
    with pooler.client() as one, pooler.client() as two:
        pid = one.query("BEGIN; SELECT pg_backend_pid()").value
        for _ in range(20):
            assert two.query("SELECT pg_backend_pid()").value != pid
            assert one.query("SELECT pg_backend_pid()").value == pid
        assert one.query("COMMIT").status == "I"


def test_failed_transaction_keeps_its_server(pooler):
    with pooler.client() as one, pooler.client() as two:
        one.query("BEGIN; SELECT 1/0")
        assert two.query("SELECT 1").value == "1"
        assert one.query("SELECT 1").code == "25P02"
        assert one.query("ROLLBACK").status == "I"
        assert one.query("SELECT 1").value == "1"


def test_what_a_server_has_sent_is_passed_on_at_once(pooler):
    """It waits for a lock in the middle of its answer."""
    lock = "pg_advisory_xact_lock(7417)"
    with pooler.client() as holder, pooler.client() as client:
        holder.query(f"BEGIN; SELECT {lock}")
        client.send(
            query(f"DO $$ BEGIN RAISE NOTICE 'now'; PERFORM {lock}; END $$; SELECT 'later'")
        )
        assert client.read().kind == "N"
        holder.query("COMMIT")
        assert client.answer().value == "later"
