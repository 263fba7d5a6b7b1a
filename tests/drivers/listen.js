// LISTEN as node-postgres and postgres.js do it: `node listen.js DRIVER URL` prints what two
// connections hear, one line for each notification.
const [driver, url] = process.argv.slice(2);
const later = setTimeout(() => {
  console.error('nothing came');
  process.exit(1);
}, 20000);

async function withPg() {
  const { Client } = require('pg');
  const ear = new Client(url);
  const mouth = new Client(url);
  await ear.connect();
  await mouth.connect();
  let heard = 0;
  const done = new Promise((resolve) => {
    ear.on('notification', (one) => {
      const who = one.processId === mouth.processID ? 'mouth' : one.processId === ear.processID ? 'ear' : one.processId;
      console.log(`${who} ${one.channel} ${one.payload}`);
      if (++heard === 6) resolve();
    });
  });
  await ear.query('LISTEN "jobs:insert"');
  for (let i = 0; i < 5; i++) {
    await mouth.query('SELECT pg_notify($1, $2)', ['jobs:insert', String(i)]);
    await ear.query('SELECT $1::int', [i]);
  }
  await ear.query('NOTIFY "jobs:insert"');
  await done;
  await ear.query('UNLISTEN "jobs:insert"');
  const left = await ear.query('SELECT pg_listening_channels()');
  console.log(`left ${left.rows.length}`);
  await ear.end();
  await mouth.end();
}

async function withPostgres() {
  const sql = require('postgres')(url, { max: 2 });
  let heard = 0;
  let resolve;
  const done = new Promise((r) => (resolve = r));
  const { unlisten } = await sql.listen('jobs:insert', (payload) => {
    console.log(`heard ${payload}`);
    if (++heard === 5) resolve();
  });
  for (let i = 0; i < 5; i++) await sql.notify('jobs:insert', String(i));
  await done;
  await unlisten();
  console.log('left');
  await sql.end();
}

(driver === 'pg' ? withPg() : withPostgres()).then(() => clearTimeout(later));
