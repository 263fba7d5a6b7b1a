"""asyncpg: prepares every statement under a name, binary values, a pool that resets at release."""

import asyncio
import sys
from datetime import date, datetime, timezone
from decimal import Decimal

import asyncpg

URL = sys.argv[1]
TYPES = """SELECT $1::int, $2::bigint, $3::text, $4::bool, $5::float8, $6::numeric, $7::date,
                  $8::timestamptz, $9::bytea, $10::int[], $11::jsonb, $12::int"""
VALUES = [42, 2**40, "it's", True, 0.1, Decimal("1.50"), date(2024, 2, 29)]
VALUES += [datetime(2024, 2, 29, 12, 30, tzinfo=timezone.utc), b"\0\xff"]
VALUES += [[1, 2, 3], '{"a": 1}', None]


def say(step, *results):
    print(f"{step}:", *results)


async def state(work):
    try:
        return await work
    except asyncpg.PostgresError as error:
        return error.sqlstate


async def transactions(connection):
    async with connection.transaction():
        for name in ("one", "two", "three"):
            await connection.execute("INSERT INTO things VALUES ($1, $2)", len(name), name)
    say("commit", await connection.fetchval("SELECT count(*) FROM things"))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO things VALUES (4, 'four')")
    await transaction.rollback()
    say("rollback", await connection.fetchval("SELECT count(*) FROM things"))
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("INSERT INTO things VALUES (5, 'five')")
    divided = await state(connection.fetch("SELECT 1 / 0"))
    say("error", divided, await state(connection.fetch("SELECT 1")))
    await transaction.rollback()
    async with connection.transaction():
        await connection.execute("INSERT INTO things VALUES (6, 'six')")
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 / 0")
        except asyncpg.PostgresError as error:
            count = await connection.fetchval("SELECT count(*) FROM things")
            say("savepoint", error.sqlstate, count)
        cursor = connection.cursor("SELECT generate_series(1, $1::int)", 1000, prefetch=100)
        say("cursor", sum([row[0] async for row in cursor]))


async def copy(connection):
    await connection.copy_records_to_table("things", records=[(7, "tab\there"), (8, None)])
    out = bytearray()

    async def keep(data):
        out.extend(data)

    await connection.copy_from_query("TABLE things ORDER BY id, name", output=keep)
    say("copy", bytes(out))


async def pool():
    async with asyncpg.create_pool(URL, min_size=2, max_size=4) as many:
        work = [many.fetchval("SELECT $1::int * 3", i) for i in range(12)]
        say("pool", *await asyncio.gather(*work))


async def main():
    connection, other = await asyncpg.connect(URL), await asyncpg.connect(URL)
    await connection.execute("DELETE FROM things")
    say("connect", await connection.fetchval("SELECT current_user"))
    say("version", connection.get_server_version().major)
    say("simple", await connection.execute("SELECT 1 + 1; SELECT 2 + 2"))
    say("types", *await connection.fetchrow(TYPES, *VALUES))
    say("repeated", sum([await connection.fetchval("SELECT $1::int * 2", i) for i in range(1, 21)]))
    await transactions(connection)
    rows = await connection.fetch("SELECT generate_series(1, 5000)")
    say("rows", len(rows), sum(row[0] for row in rows))
    await copy(connection)
    try:
        await connection.fetch("SELECT pg_sleep(30)", timeout=0.3)
    except asyncio.TimeoutError:
        say("cancel", "timeout", await connection.fetchval("SELECT 1"))
    both = [connection, other]
    say("turns", *[await both[i % 2].fetchval("SELECT $1::int + 100", i) for i in range(24)])
    await connection.executemany("INSERT INTO things VALUES ($1, 'x')", [(i,) for i in range(20)])
    say("batch", await connection.fetchval("SELECT count(*) FROM things"))
    many = [await connection.fetchval(f"SELECT $1::int + {i}", 1) for i in range(120)]
    say("statements", sum(many))
    say("unicode", await connection.fetchval("SELECT $1::text || ' 世界 🐘'", "Grüße"))
    await pool()
    await connection.close()
    await other.close()
    say("closed", connection.is_closed(), other.is_closed())


asyncio.run(main())
