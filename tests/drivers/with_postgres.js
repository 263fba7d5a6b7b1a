// Postgres.js (`postgres`): prepares every statement under a random name, pipelines, a pool.
"use strict";
const postgres = require("postgres");
const {pipeline} = require("node:stream/promises");
const {Readable} = require("node:stream");

const url = process.argv[2];
const say = (step, ...results) => console.log(step + ":", ...results);
const sum = (values) => values.reduce((a, b) => a + b, 0);

async function state(query) {
    try {
        return await query;
    } catch (error) {
        return error.code;
    }
}

async function types(sql) {
    const when = new Date(Date.UTC(2024, 1, 29, 12, 30));
    const [row] = await sql`SELECT ${42}::int a, ${"1099511627776"}::bigint b, ${"it's"}::text c, ${
        true}::bool d,
        ${0.1}::float8 e, ${"1.50"}::numeric f, ${when}::timestamptz h, ${Buffer.from([
        0, 255
    ])}::bytea i,
        ${[1, 2, 3]}::int[] j, ${sql.json({a: 1})}::jsonb k, ${null}::int l`;
    say("types", JSON.stringify(row));
}

async function repeated(sql, count) {
    const found = [];
    for (let i = 1; i <= count; i++) found.push((await sql`SELECT ${i}::int * 2 AS n`)[0].n);
    return found;
}

const count = async (sql) => (await sql`SELECT count(*) AS n FROM things`)[0].n;

async function transactions(sql) {
    await sql.begin(async (sql) => {
        for (const name of ["one", "two", "three"])
            await sql`INSERT INTO things VALUES (${name.length}, ${name})`;
    });
    say("commit", await count(sql));
    const undone = sql.begin(async (sql) => {
        await sql`INSERT INTO things VALUES (4, 'four')`;
        throw new Error("undone");
    });
    await undone.catch((error) => say("rollback", error.message));
    const failed = sql.begin(async (sql) => {
        await sql`INSERT INTO things VALUES (5, 'five')`;
        say("error", await state(sql`SELECT 1 / ${0}::int`), await state(sql`SELECT 1`));
        throw new Error("failed");
    });
    await failed.catch(() => 0);
    await sql.begin(async (sql) => {
        await sql`INSERT INTO things VALUES (6, 'six')`;
        const inner = state(sql.savepoint((sql) => sql`SELECT 1 / ${0}::int`));
        say("savepoint", await inner, await count(sql));
    });
    let total = 0;
    await sql`SELECT generate_series(1, ${1000}::int) AS n`.cursor(100, (rows) => {
        total += sum(rows.map((row) => row.n));
    });
    say("cursor", total);
}

async function copy(sql) {
    await pipeline(
        Readable.from(["7\ttab\\there\n", "8\t\\N\n"]),
        await sql`COPY things FROM STDIN`.writable());
    let out = "";
    const from = await sql`COPY (TABLE things ORDER BY id, name) TO STDOUT`.readable();
    for await (const chunk of from) out += chunk;
    say("copy", JSON.stringify(out));
}

async function main() {
    const sql = postgres(url, {max: 1}), other = postgres(url, {max: 1}), many = postgres(url);
    await sql`DELETE FROM things`;
    say("connect", (await sql`SELECT current_user AS name`)[0].name);
    say("simple", (await sql.unsafe("SELECT 1 + 1 AS n"))[0].n);
    await types(sql);
    say("repeated", sum(await repeated(sql, 20)));
    await transactions(sql);
    const rows = await sql`SELECT generate_series(1, ${5000}::int) AS n`;
    say("rows", rows.length, sum(rows.map((row) => row.n)));
    await copy(sql);
    const running = sql`SELECT pg_sleep(30)`;
    setTimeout(() => running.cancel(), 300);
    say("cancel", await state(running), ...(await repeated(sql, 1)));
    say("turns", ...(await repeated(sql, 3)), ...(await repeated(other, 3)),
        ...(await repeated(sql, 3)));
    const answers =
        await Promise.all([...Array(20).keys()].map((i) => sql`SELECT ${i}::int * 3 AS n`));
    say("pipeline", ...answers.map((rows) => rows[0].n));
    const mixed = [sql`SELECT 1 AS n`, state(sql`SELECT 1 / ${0}::int`), sql`SELECT 2 AS n`];
    say("pipeline with error", JSON.stringify(await Promise.all(mixed)));
    const pooled =
        await Promise.all([...Array(30).keys()].map((i) => many`SELECT ${i}::int * 3 AS n`));
    say("pool", ...pooled.map((rows) => rows[0].n));
    const [{text}] = await sql`SELECT ${"Grüße"}::text || ' 世界 🐘' AS text`;
    say("unicode", text);
    await Promise.all([sql.end(), other.end(), many.end()]);
    say("closed", await state(sql`SELECT 1`));
}

main();
