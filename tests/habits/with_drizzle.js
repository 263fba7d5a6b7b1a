// Drizzle over node-postgres and over postgres.js: its migrator, statements by name, transactions in
// transactions, and claims set for one transaction as Supabase's guide to row-level security does.

const fs = require("fs");
const os = require("os");
const path = require("path");
const { sql, eq } = require("drizzle-orm");
const { pgSchema, serial, text, integer } = require("drizzle-orm/pg-core");

const url = process.argv[2];
const schema = pgSchema("habits");
const notes = schema.table("notes", {
    id: serial("id").primaryKey(),
    owner: text("owner").notNull(),
    size: integer("size"),
});
const say = (step, ...results) => console.log(`${step}:`, ...results.map((one) => JSON.stringify(one)));
const state = (work) => work().then(() => "no error", (error) => (error.cause ?? error).code);
const rowsOf = (result) => result.rows ?? [...result];

const MIGRATIONS = [
    "CREATE TABLE habits.notes (id serial PRIMARY KEY, owner text NOT NULL);",
    "ALTER TABLE habits.notes ADD COLUMN size integer;\n--> statement-breakpoint\n" +
        "CREATE INDEX notes_owner ON habits.notes (owner);",
];

function writeMigrations() {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "weir-drizzle-"));
    fs.mkdirSync(path.join(folder, "meta"));
    const entries = MIGRATIONS.map((_, idx) => ({ idx, version: "7", when: idx + 1, tag: `m${idx}`, breakpoints: true }));
    const journal = { version: "7", dialect: "postgresql", entries };
    fs.writeFileSync(path.join(folder, "meta", "_journal.json"), JSON.stringify(journal));
    MIGRATIONS.forEach((one, i) => fs.writeFileSync(path.join(folder, `m${i}.sql`), one));
    return folder;
}

async function current(db) {
    const names = ["search_path", "TimeZone", "app.tenant", "request.jwt.claims", "role"];
    const parts = names.map((name) => sql`coalesce(nullif(current_setting(${name}, true), ''), '-')`);
    return Object.values(rowsOf(await db.execute(sql`SELECT concat_ws('|', ${sql.join(parts, sql`, `)}) AS all`))[0])[0];
}

function asTenant(db, tenant, work) {
    return db.transaction(async (tx) => {
        await tx.execute(sql`select set_config('request.jwt.claims', ${JSON.stringify({ sub: tenant })}, true),
            set_config('role', 'rival', true)`);
        return work(tx);
    });
}

async function work(db, migrate) {
    const folder = writeMigrations();
    await migrate(db, { migrationsFolder: folder, migrationsSchema: "habits" });
    await migrate(db, { migrationsFolder: folder, migrationsSchema: "habits" });
    fs.rmSync(folder, { recursive: true });
    say("connect", await current(db));
    const made = await db.insert(notes).values([..."abcdef"].map((owner, size) => ({ owner, size }))).returning();
    say("inserted", made);
    const byOwner = db.select().from(notes).where(eq(notes.owner, sql.placeholder("owner"))).prepare("by_owner");
    const found = [];
    for (const owner of "abcabcabc") found.push((await byOwner.execute({ owner }))[0].size);
    say("prepared", found);
    const many = await Promise.all([..."abcdefabcdef"].map((owner) => byOwner.execute({ owner })));
    say("at once", many.map((rows) => rows[0].id));
    await db.transaction(async (tx) => {
        await tx.update(notes).set({ size: 100 }).where(eq(notes.owner, "a"));
        say("inner", await state(() => tx.transaction(async (inner) => {
            await inner.delete(notes);
            await inner.execute(sql`SELECT 1 / 0`);
        })));
    });
    say("rolled back", await state(() => db.transaction(async (tx) => {
        await tx.delete(notes);
        tx.rollback();
    })));
    say("level", await db.transaction(async (tx) => rowsOf(await tx.execute(sql`SHOW transaction_isolation`)),
        { isolationLevel: "serializable", accessMode: "read only" }));
    say("rows", await db.select().from(notes).orderBy(notes.id));
    say("violated", await state(() => db.insert(notes).values({ id: made[0].id, owner: "x" })));
    const claims = await Promise.all(["t1", "t2", "t3", "t4"].map((tenant) => asTenant(db, tenant, current)));
    say("claims", claims, await current(db));
    await db.execute(sql`DROP TABLE habits.notes, habits.__drizzle_migrations`);
}

async function main() {
    const { drizzle: overPg } = require("drizzle-orm/node-postgres");
    const { Pool } = require("pg");
    const pool = new Pool({ connectionString: url, max: 2, options: "-c app.tenant=drizzle -c search_path=habits" });
    await work(overPg(pool), require("drizzle-orm/node-postgres/migrator").migrate);
    await pool.end();

    const { drizzle: overPostgres } = require("drizzle-orm/postgres-js");
    const connection = { "app.tenant": "drizzle", search_path: "habits", TimeZone: "Asia/Tokyo" };
    const client = require("postgres")(url, { max: 2, connection, onnotice: () => 0 });
    await work(overPostgres(client), require("drizzle-orm/postgres-js/migrator").migrate);
    await client.end();
    say("closed");
}

main();
