// What a Node program does with node-redis: `NODE_PATH=<modules> node node_redis_flow.js PORT`.
// Ends with 0 when every claim holds; throws at the first that does not.
'use strict';
const assert = require('assert');
const { createClient, RESP_TYPES } = require('redis');

const port = Number(process.argv[2]);

async function client(options = {}) {
  const socket = { host: '127.0.0.1', port, connectTimeout: 60000 };
  const made = createClient({ socket, ...options });
  // What happens to the connection is seen by the commands on it.
  made.on('error', () => {});
  await made.connect();
  return made;
}

async function strings(r) {
  assert.strictEqual(await r.set('nr:k', 'v', { EX: 100 }), 'OK');
  assert.strictEqual(await r.get('nr:k'), 'v');
  assert.ok((await r.ttl('nr:k')) > 40);
  assert.strictEqual(await r.set('nr:k', 'w', { NX: true }), null);
  assert.strictEqual(await r.set('nr:k', 'w', { GET: true }), 'v');
  assert.strictEqual(await r.incrBy('nr:n', 5), 5);
  assert.deepStrictEqual(await r.mGet(['nr:k', 'nr:none', 'nr:n']), ['w', null, '5']);
  const bytes = Buffer.from(Array.from({ length: 300000 }, (_, i) => i & 255));
  await r.set('nr:bytes', bytes);
  const raw = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  assert.ok(bytes.equals(await raw.get('nr:bytes')));
  assert.strictEqual(await r.del(['nr:k', 'nr:none']), 1);
  assert.strictEqual(await r.exists('nr:k'), 0);
  await assert.rejects(r.sendCommand(['NOSUCHCOMMAND']), /unknown command/);
}

// Commands of one tick are one write.
async function pipelines(r) {
  const asked = [];
  for (let i = 0; i < 1000; i += 1) asked.push(r.set(`nr:p${i}`, String(i)), r.get(`nr:p${i}`));
  const results = await Promise.all(asked);
  for (let i = 0; i < 1000; i += 1) assert.strictEqual(results[2 * i + 1], String(i));
}

async function transactions(r) {
  assert.deepStrictEqual(await r.multi().set('nr:t', '1').incr('nr:t').exec(), ['OK', 2]);
  const other = await client();
  await r.watch('nr:t');
  await other.set('nr:t', '9');
  await assert.rejects(r.multi().set('nr:t', '0').exec(), /watch/i);
  assert.strictEqual(await r.get('nr:t'), '9');
  other.destroy();
}

async function messages(r) {
  const listener = await r.duplicate().connect();
  const heard = [];
  await new Promise((resolve, reject) => {
    const hear = (text, channel) => {
      heard.push([channel, text]);
      if (heard.length === 2) resolve();
    };
    listener.subscribe('nr:news', hear)
      .then(() => listener.pSubscribe('nr:*', hear))
      .then(() => r.publish('nr:news', 'hello'))
      .then((count) => assert.strictEqual(count, 2))
      .catch(reject);
  });
  assert.deepStrictEqual(heard, [['nr:news', 'hello'], ['nr:news', 'hello']]);
  listener.destroy();
}

async function walks(r) {
  const found = new Set();
  for await (const keys of r.scanIterator({ MATCH: 'nr:p*', COUNT: 100 })) [].concat(keys).forEach((k) => found.add(k));
  assert.strictEqual(found.size, 1000);
  assert.match(await r.info(), /redis_version:7/);
}

async function reconnects() {
  const r = await client();
  await r.set('nr:again', '1');
  const admin = await client();
  await admin.sendCommand(['CLIENT', 'KILL', 'ID', String(await r.clientId())]);
  // A command that was under way when the connection went may fail; the client itself comes back.
  const end = Date.now() + 120000;
  for (;;) {
    const got = await r.get('nr:again').catch(() => null);
    if (got === '1') break;
    assert.ok(Date.now() < end, 'the client did not come back');
    await new Promise((resolve) => setImmediate(resolve));
  }
  r.destroy();
  admin.destroy();
}

(async () => {
  for (const RESP of [2, 3]) {
    const r = await client({ RESP });
    for (const part of [strings, pipelines, transactions, messages, walks]) await part(r);
    await r.flushAll();
    await r.close();
  }
  await reconnects();
  console.log('node-redis: all claims hold');
})().catch((failure) => {
  console.error(failure);
  process.exit(1);
});
