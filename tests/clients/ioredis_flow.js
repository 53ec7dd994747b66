// What a Node program does with ioredis: `NODE_PATH=<modules> node ioredis_flow.js PORT`.
// Ends with 0 when every claim holds; throws at the first that does not.
'use strict';
const assert = require('assert');
const Redis = require('ioredis');

const port = Number(process.argv[2]);
const options = { host: '127.0.0.1', port, maxRetriesPerRequest: 1, connectTimeout: 60000 };

async function strings(r) {
  assert.strictEqual(await r.set('io:k', 'v', 'EX', 100), 'OK');
  assert.strictEqual(await r.get('io:k'), 'v');
  assert.ok((await r.ttl('io:k')) > 40);
  assert.strictEqual(await r.set('io:k', 'w', 'NX'), null);
  assert.strictEqual(await r.incrby('io:n', 5), 5);
  assert.deepStrictEqual(await r.mget('io:k', 'io:none', 'io:n'), ['v', null, '5']);
  const bytes = Buffer.from(Array.from({ length: 300000 }, (_, i) => i & 255));
  await r.set('io:bytes', bytes);
  assert.ok(bytes.equals(await r.getBuffer('io:bytes')));
  assert.strictEqual(await r.del('io:k', 'io:none'), 1);
  assert.strictEqual(await r.exists('io:k'), 0);
}

async function pipelines(r) {
  const pipeline = r.pipeline();
  for (let i = 0; i < 1000; i += 1) pipeline.set(`io:p${i}`, i).get(`io:p${i}`);
  pipeline.call('nosuchcommand');
  const results = await pipeline.exec();
  assert.strictEqual(results.length, 2001);
  for (let i = 0; i < 1000; i += 1) assert.deepStrictEqual(results[2 * i + 1], [null, String(i)]);
  assert.match(results[2000][0].message, /unknown command/);
  // Commands of one tick share a write with autopipelining.
  const auto = new Redis({ ...options, enableAutoPipelining: true });
  const all = await Promise.all(Array.from({ length: 500 }, (_, i) => auto.get(`io:p${i}`)));
  assert.deepStrictEqual(all, Array.from({ length: 500 }, (_, i) => String(i)));
  auto.disconnect();
}

async function transactions(r) {
  assert.deepStrictEqual(await r.multi().set('io:t', 1).incr('io:t').exec(), [[null, 'OK'], [null, 2]]);
  await r.watch('io:t');
  const other = new Redis(options);
  await other.set('io:t', 9);
  assert.strictEqual(await r.multi().set('io:t', 0).exec(), null);
  assert.strictEqual(await r.get('io:t'), '9');
  other.disconnect();
}

async function messages(r) {
  const listener = new Redis(options);
  const heard = [];
  const done = new Promise((resolve) => {
    listener.on('message', (channel, text) => heard.push([channel, text]));
    listener.on('pmessage', (pattern, channel, text) => {
      heard.push([pattern, channel, text]);
      if (heard.length === 2) resolve();
    });
  });
  assert.strictEqual(await listener.subscribe('io:news'), 1);
  assert.strictEqual(await listener.psubscribe('io:*'), 2);
  assert.strictEqual(await r.publish('io:news', 'hello'), 2);
  await done;
  assert.deepStrictEqual(heard, [['io:news', 'hello'], ['io:*', 'io:news', 'hello']]);
  listener.disconnect();
}

async function walks(r) {
  const found = new Set();
  for await (const keys of r.scanStream({ match: 'io:p*', count: 100 })) keys.forEach((key) => found.add(key));
  assert.strictEqual(found.size, 1000);
  assert.match(await r.info(), /redis_version:7/);
}

async function reconnects() {
  const r = new Redis({ ...options, maxRetriesPerRequest: 5, retryStrategy: () => 20 });
  await r.set('io:again', 1);
  const admin = new Redis(options);
  await admin.client('KILL', 'ID', await r.client('ID'));
  assert.strictEqual(await r.get('io:again'), '1');
  r.disconnect();
  admin.disconnect();
}

(async () => {
  const r = new Redis(options);
  for (const part of [strings, pipelines, transactions, messages, walks, reconnects]) await part(r);
  assert.strictEqual(await r.quit(), 'OK');
  console.log('ioredis: all claims hold');
})().catch((failure) => {
  console.error(failure);
  process.exit(1);
});
