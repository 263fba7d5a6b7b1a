// node-postgres (`pg`): the extended protocol for parameters, named statements, a pool.
"use strict";
const {Client, Pool} = require("pg");

const url = process.argv[2];
const say = (step, ...results) => console.log(step + ":", ...results);
const sum = (values) => values.reduce((a, b) => a + b, 0);

const typesQuery =
    `SELECT $1::int a, $2::bigint b, $3::text c, $4::bool d, $5::float8 e, $6::numeric f,
    $7::date::text g, $8::timestamptz h, $9::bytea i, $10::int[] j, $11::jsonb k, $12::int l`;
const values = [
    42, 2n ** 40n, "it's", true, 0.1, "1.50", "2024-02-29", new Date(Date.UTC(2024, 1, 29, 12, 30)),
    Buffer.from([0, 255]), [1, 2, 3], {a: 1}, null
];

async function one(client, text, ...parameters) {
    const result = await client.query({text, values: parameters, rowMode: "array"});
    return result.rows[0][0];
}

async function state(client, text) {
    try {
        return await client.query(text);
    } catch (error) {
        return error.code;
    }
}

async function named(client, count) {
    const found = [];
    for (let i = 1; i <= count; i++) {
        const query = {name: "double", text: "SELECT $1::int * 2 AS n", values: [i]};
        found.push((await client.query(query)).rows[0].n);
    }
    return found;
}

async function transactions(client) {
    await client.query("BEGIN");
    for (const name of ["one", "two", "three"])
        await client.query("INSERT INTO things VALUES ($1, $2)", [name.length, name]);
    await client.query("COMMIT");
    say("commit", await one(client, "SELECT count(*) FROM things"));
    await client.query("BEGIN");
    await client.query("INSERT INTO things VALUES (4, 'four')");
    await client.query("ROLLBACK");
    say("rollback", await one(client, "SELECT count(*) FROM things"));
    await client.query("BEGIN");
    say("error", await state(client, "SELECT 1 / 0"), await state(client, "SELECT 1"));
    await client.query("ROLLBACK");
    await client.query("BEGIN; INSERT INTO things VALUES (6, 'six'); SAVEPOINT s");
    const failed = await state(client, {name: "divide", text: "SELECT 1 / $1::int", values: [0]});
    await client.query("ROLLBACK TO s");
    say("savepoint", failed, await one(client, "SELECT count(*) FROM things"));
    say("unknown", await state(client, {name: "wrong", text: "SELECT nothing FROM things"}));
    await client.query("COMMIT");
}

async function cancel(client) {
    const pid = client.processID, secret = client.secretKey;
    const running = state(client, "SELECT pg_sleep(30)");
    await new Promise((done) => setTimeout(done, 300));
    const canceller = new Client(url);
    canceller.connection.on("connect", () => canceller.connection.cancel(pid, secret));
    canceller.connection.on("error", () => 0);
    canceller.connection.connect(canceller.port, canceller.host);
    say("cancel", await running, await one(client, "SELECT 1"));
}

async function main() {
    const client = new Client(url), other = new Client(url);
    await Promise.all([client.connect(), other.connect()]);
    await client.query("DELETE FROM things");
    say("connect", await one(client, "SELECT current_user"));
    say("simple", await one(client, "SELECT 1 + 1"));
    say("types", JSON.stringify((await client.query(typesQuery, values)).rows));
    say("repeated", sum(await named(client, 20)));
    await transactions(client);
    const rows = (await client.query("SELECT generate_series(1, $1::int) AS n", [5000])).rows;
    say("rows", rows.length, sum(rows.map((row) => row.n)));
    await cancel(client);
    say("turns", ...(await named(client, 3)), ...(await named(other, 3)),
        ...(await named(client, 3)));
    const answers =
        await Promise.all([...Array(10).keys()].map((i) => one(client, "SELECT $1::int * 3", i)));
    say("queued", ...answers);
    const both = await client.query("SELECT 1 AS n; SELECT 2 AS n");
    say("several", ...both.map((result) => result.rows[0].n));
    say("unicode", await one(client, "SELECT $1::text || ' 世界 🐘'", "Grüße"));
    const pool = new Pool({connectionString: url, max: 4});
    const pooled =
        await Promise.all([...Array(12).keys()].map((i) => one(pool, "SELECT $1::int * 3", i)));
    say("pool", ...pooled);
    await pool.end();
    await Promise.all([client.end(), other.end()]);
    say("closed", client._ended, other._ended);
}

main();
