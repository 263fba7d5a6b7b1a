"""psycopg2: simple queries only, parameters put into the text; BEGIN before the first statement."""

import datetime
import decimal
import io
import sys
import threading

import psycopg2
import psycopg2.extras

URL = sys.argv[1]
TYPES = "SELECT %s, %s, %s, %s, %s::float8, %s, %s, %s, %s::bytea, %s, %s::jsonb, %s::int"
VALUES = [42, 2**40, "it's", True, 0.1, decimal.Decimal("1.50"), datetime.date(2024, 2, 29)]
VALUES += [datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc), b"\0\xff"]
VALUES += [[1, 2, 3], psycopg2.extras.Json({"a": 1}), None]


def say(step, *results):
    print(f"{step}:", *results)


def run(connection, sql, *values):
    cursor = connection.cursor()
    cursor.execute(sql, values)
    return cursor


def one(connection, sql, *values):
    return run(connection, sql, *values).fetchone()[0]


def state(connection, sql):
    try:
        return run(connection, sql)
    except psycopg2.Error as error:
        return error.pgcode


def transactions(connection):
    for name in ("one", "two", "three"):
        run(connection, "INSERT INTO things VALUES (%s, %s)", len(name), name)
    connection.commit()
    say("commit", one(connection, "SELECT count(*) FROM things"))
    run(connection, "INSERT INTO things VALUES (4, 'four')")
    connection.rollback()
    say("rollback", one(connection, "SELECT count(*) FROM things"))
    run(connection, "INSERT INTO things VALUES (5, 'five')")
    say("error", state(connection, "SELECT 1 / 0"), state(connection, "SELECT 1"))
    connection.rollback()
    run(connection, "INSERT INTO things VALUES (6, 'six')")
    run(connection, "SAVEPOINT s")
    failed = state(connection, "SELECT 1 / 0")
    run(connection, "ROLLBACK TO s")
    say("savepoint", failed, one(connection, "SELECT count(*) FROM things"))
    with connection.cursor(name="stream") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, %s)", [1000])
        say("cursor", sum(row[0] for row in cursor))
    connection.commit()


def copy(connection):
    cursor = connection.cursor()
    cursor.copy_expert("COPY things FROM STDIN", io.StringIO("7\ttab\\there\n8\t\\N\n"))
    out = io.StringIO()
    cursor.copy_expert("COPY (TABLE things ORDER BY id, name) TO STDOUT", out)
    connection.commit()
    say("copy", out.getvalue().split("\n"))


def main():
    connection, other = psycopg2.connect(URL), psycopg2.connect(URL)
    run(connection, "DELETE FROM things")
    say("connect", one(connection, "SELECT current_user"), connection.encoding)
    connection.commit()
    say("simple", one(connection, "SELECT 1 + 1"))
    row = run(connection, TYPES, *VALUES).fetchone()
    say("types", *(bytes(one) if isinstance(one, memoryview) else one for one in row))
    say("repeated", sum(one(connection, "SELECT %s::int * 2", i) for i in range(1, 21)))
    connection.commit()
    transactions(connection)
    connection.autocommit = other.autocommit = True
    rows = run(connection, "SELECT generate_series(1, 5000)").fetchall()
    say("rows", len(rows), sum(row[0] for row in rows))
    copy(connection)
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    say("cancel", state(connection, "SELECT pg_sleep(30)"), one(connection, "SELECT 1"))
    timer.join()
    both = [connection, other]
    say("turns", *(one(both[i % 2], "SELECT %s::int + 100", i) for i in range(24)))
    several = "INSERT INTO things VALUES (9, 'x'); SELECT count(*) FROM things"
    say("several", one(connection, several))
    rows = [(i, "y") for i in range(20)]
    psycopg2.extras.execute_values(connection.cursor(), "INSERT INTO things VALUES %s", rows)
    say("batch", one(connection, "SELECT count(*) FROM things"))
    say("unicode", one(connection, "SELECT %s || ' 世界 🐘'", "Grüße"))
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=False)
    level = one(connection, "SHOW transaction_isolation")
    say("session", level, state(connection, "DELETE FROM things"))
    connection.rollback()
    connection.close()
    other.close()
    say("closed", connection.closed, other.closed)


main()
