// Prisma with its own engine in WebAssembly over node-postgres: nested writes, both kinds of transactions,
// and claims set for one transaction, as its guide to row-level security does.

const { execFileSync } = require("child_process");
const fs = require("fs");
const path = require("path");

const url = process.argv[2];
const modules = process.env.NODE_PATH;
const say = (step, ...results) => console.log(`${step}:`, ...results.map((one) => JSON.stringify(one)));
const state = (work) => work().then(() => "no error", (error) => error.code ?? error.message);

const SCHEMA = `
generator client {
  provider   = "prisma-client-js"
  engineType = "client"
  output     = "./client"
}
datasource db {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
model Person {
  id    Int     @id @default(autoincrement())
  name  String  @unique
  size  Int?
  notes Note[]
}
model Note {
  id       Int    @id @default(autoincrement())
  text     String
  person   Person @relation(fields: [personId], references: [id])
  personId Int
}
`;
const TABLES = [
    'CREATE TABLE habits."Person" (id serial PRIMARY KEY, name text NOT NULL UNIQUE, size int)',
    'CREATE TABLE habits."Note" (id serial PRIMARY KEY, text text NOT NULL,' +
        ' "personId" int NOT NULL REFERENCES habits."Person")',
];

// What `prisma generate` makes of the schema; its other engines, which are downloads, are not needed.
function generate() {
    const folder = fs.mkdtempSync(path.join(modules, "..", "prisma-"));
    fs.writeFileSync(path.join(folder, "schema.prisma"), SCHEMA);
    const prisma = path.join(modules, "prisma", "build", "index.js");
    const env = { ...process.env, PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true", CHECKPOINT_DISABLE: "1" };
    const options = { cwd: folder, stdio: "ignore", env: { ...env, DATABASE_URL: "postgresql://nobody" } };
    execFileSync(process.execPath, [prisma, "generate", "--schema", "schema.prisma", "--no-hints"], options);
    return folder;
}

const current = async (db) => (await db.$queryRaw`SELECT concat_ws('|', current_setting('search_path'),
    coalesce(nullif(current_setting('app.tenant', true), ''), '-'),
    coalesce(nullif(current_setting('request.jwt.claims', true), ''), '-'), current_user) AS all`)[0].all;

async function work(db) {
    for (const table of TABLES) await db.$executeRawUnsafe(table);
    say("connect", await current(db));
    const names = [..."abcdef"];
    say("made", await db.person.createMany({ data: names.map((name, size) => ({ name, size })) }));
    say("nested", await db.person.create({
        data: { name: "g", notes: { create: [{ text: "one" }, { text: "two" }] } },
        include: { notes: true },
    }));
    for (const name of "abcabc")
        await db.note.create({ data: { text: name, person: { connect: { name } } } });
    say("found", await db.person.findMany({
        where: { OR: [{ size: { gt: 3 } }, { notes: { some: {} } }] },
        orderBy: { id: "asc" },
        include: { notes: { select: { text: true }, orderBy: { id: "asc" } } },
    }));
    const many = await Promise.all([...names, ...names].map((name) => db.person.findUnique({ where: { name } })));
    say("at once", many.map((one) => one.id));
    say("violated", await state(() => db.person.create({ data: { name: "a" } })));
    say("upsert", await db.person.upsert({ where: { name: "a" }, update: { size: 9 }, create: { name: "a" } }));
    say("batch", await db.$transaction([
        db.person.update({ where: { name: "b" }, data: { size: { increment: 5 } } }),
        db.person.count(),
        db.note.groupBy({ by: ["personId"], _count: true, orderBy: { personId: "asc" } }),
    ]));
    say("batch undone", await state(() => db.$transaction([
        db.person.update({ where: { name: "c" }, data: { size: 99 } }),
        db.person.create({ data: { name: "a" } }),
    ])));
    say("thrown", await state(() => db.$transaction(async (tx) => {
        await tx.person.deleteMany({ where: { notes: { none: {} } } });
        throw new Error("given up");
    })));
    say("level", await db.$transaction((tx) => tx.$queryRaw`SHOW transaction_isolation`,
        { isolationLevel: "Serializable" }));
    const tenants = ["t1", "t2", "t3", "t4"];
    say("claims", await Promise.all(tenants.map(async (tenant) => (await db.$transaction([
        db.$executeRaw`SELECT set_config('request.jwt.claims', ${tenant}, true)`,
        db.$queryRaw`SELECT current_setting('request.jwt.claims') AS claim`,
        db.person.count(),
    ])).slice(1))), await current(db));
    say("rows", await db.person.findMany({ orderBy: { id: "asc" } }));
    say("raw", await db.$queryRaw`SELECT ${1n}::bigint + 1 AS n, ${"x"} AS t, ${[1, 2]}::int[] AS a,
        ${new Date(0)}::timestamptz AS d`.then(([row]) => ({ ...row, n: String(row.n) })));
    await db.$executeRaw`DROP TABLE habits."Note", habits."Person"`;
}

async function main() {
    const folder = generate();
    try {
        const { PrismaClient } = require(path.join(folder, "client"));
        const { PrismaPg } = require("@prisma/adapter-pg");
        const options = "-c app.tenant=prisma -c search_path=habits";
        const adapter = new PrismaPg({ connectionString: url, max: 2, options }, { schema: "habits" });
        const db = new PrismaClient({ adapter });
        await work(db);
        await db.$disconnect();
        say("closed");
    } finally {
        fs.rmSync(folder, { recursive: true });
    }
}

main();
