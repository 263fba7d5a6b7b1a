"""psycopg 3: prepares what is run more than five times; DEALLOCATE ALL after each ROLLBACK."""

import sys
import threading
from datetime import date, datetime, timezone
from decimal import Decimal

import psycopg
from psycopg.types.json import Jsonb

URL = sys.argv[1]
TYPES = """SELECT %s::int, %s::bigint, %s::text, %s::bool, %s::float8, %s::numeric, %s::date,
                  %s, %s, %s, %s, %s::int"""
VALUES = [42, 2**40, "it's", True, 0.1, Decimal("1.50"), date(2024, 2, 29)]
VALUES += [datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc), b"\0\xff"]
VALUES += [[1, 2, 3], Jsonb({"a": 1}), None]


def say(step, *results):
    print(f"{step}:", *results)


def one(connection, sql, *values):
    return connection.execute(sql, values).fetchone()[0]


def state(connection, sql):
    try:
        return connection.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate


def transactions(connection):
    with connection.transaction():
        for name in ("one", "two", "three"):
            connection.execute("INSERT INTO things VALUES (%s, %s)", [len(name), name])
    say("commit", one(connection, "SELECT count(*) FROM things"))
    with connection.transaction(force_rollback=True):
        connection.execute("INSERT INTO things VALUES (4, 'four')")
    say("rollback", one(connection, "SELECT count(*) FROM things"))
    connection.autocommit = False
    connection.execute("INSERT INTO things VALUES (5, 'five')")
    say("error", state(connection, "SELECT 1 / 0"), state(connection, "SELECT 1"))
    connection.rollback()
    with connection.transaction():
        connection.execute("INSERT INTO things VALUES (6, 'six')")
        try:
            with connection.transaction():
                connection.execute("SELECT 1 / 0")
        except psycopg.Error as error:
            say("savepoint", error.sqlstate, one(connection, "SELECT count(*) FROM things"))
    with connection.cursor(name="stream") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, %s)", [1000])
        say("cursor", sum(row[0] for row in cursor))
    connection.commit()
    connection.autocommit = True


def main():
    connection, other = [psycopg.connect(URL, autocommit=True) for _ in range(2)]
    with connection, other:
        connection.execute("DELETE FROM things")
        say("connect", one(connection, "SELECT current_user"), connection.info.encoding)
        say("simple", one(connection, "SELECT 1 + 1"))
        say("types", *connection.execute(TYPES, VALUES).fetchone())
        say("binary", *connection.cursor(binary=True).execute(TYPES, VALUES).fetchone())
        say("repeated", sum(one(connection, "SELECT %s::int * 2", i) for i in range(1, 21)))
        transactions(connection)
        say("after", sum(one(connection, "SELECT %s::int * 2", i) for i in range(1, 21)))
        rows = connection.execute("SELECT generate_series(1, 5000)").fetchall()
        say("rows", len(rows), sum(row[0] for row in rows))
        with connection.cursor().copy("COPY things FROM STDIN") as copy:
            copy.write_row([7, "tab\there"])
            copy.write_row([8, None])
        with connection.cursor().copy("COPY (TABLE things ORDER BY id, name) TO STDOUT") as copy:
            say("copy", *copy.rows())
        timer = threading.Timer(0.3, connection.cancel)
        timer.start()
        say("cancel", state(connection, "SELECT pg_sleep(30)"), one(connection, "SELECT 1"))
        timer.join()
        both = [connection, other]
        say("turns", *(one(both[i % 2], "SELECT %s::int + 100", i) for i in range(24)))
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int * 3", [i]) for i in range(10)]
            say("pipeline", *(cursor.fetchone()[0] for cursor in cursors))
        rows = [(i,) for i in range(20)]
        connection.cursor().executemany("INSERT INTO things VALUES (%s, 'x')", rows)
        say("batch", one(connection, "SELECT count(*) FROM things"))
        say("unicode", one(connection, "SELECT %s::text || ' 世界 🐘'", "Grüße"))
    say("closed", connection.closed, other.closed)


main()
