'use strict';
// What a stream says: snapshots, updates, and how both come after a stall.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { emptyFolder, until } = require('./agent.js');
const { clientOf, own, shared } = require('./fixture.js');
const { REGISTER_FIRST, Stream, call, fromValue, metadata, said, settings } = require('./wire.js');

const it = shared();

/** A stream of the shared agent that ends with the test. */
async function open(test) {
  const stream = await it.client.stream();
  test.after(() => stream.call.cancel());
  return stream;
}

test('the first event is a snapshot of everything', async (t) => {
  const snapshot = await (await open(t)).snapshot();
  const listed = await call(it.client.admin, 'List', {});
  assert.equal(snapshot.origin, 'interop.yaml');
  assert.deepEqual([snapshot.epoch, snapshot.sequence_id], [listed.epoch, listed.sequence]);
  assert.ok(snapshot.settings.length > 350);
  assert.deepEqual(settings(snapshot), settings(listed));
  const keys = snapshot.settings.map((setting) => setting.key);
  assert.deepEqual(keys, [...new Set(keys)].sort());
  // What precedence made of it: the file over the default.
  assert.deepEqual(settings(snapshot).log_level, ['file', 'warn']);
  for (const setting of snapshot.settings) {
    assert.ok(setting.source && setting.value.kind && setting.value.kind !== 'nullValue');
    assert.ok(!('unset_source' in setting));
  }
});

for (const [name, value, kind] of [
  ['is_true', true, 'boolValue'],
  ['is_false', false, 'boolValue'],
  ['zero', 0, 'numberValue'],
  ['negative', -42, 'numberValue'],
  ['largest', 2 ** 53, 'numberValue'],
  ['smallest', -(2 ** 53), 'numberValue'],
  ['fraction', 0.1, 'numberValue'],
  ['tiny', 5e-324, 'numberValue'],
  ['text', 'héllo ✓', 'stringValue'],
  ['empty_text', '', 'stringValue'],
  ['number_as_text', '12', 'stringValue'],
  ['list', [1, 'two', false, 4.5, [5], { six: 6 }], 'listValue'],
  ['empty_list', [], 'listValue'],
  ['map', { 'a key': { 'b.c': [{ d: [true] }] }, '/': 'x' }, 'structValue'],
  ['empty_map', {}, 'structValue'],
]) {
  test(`the value ${name} keeps its kind in a snapshot and in an update`, async (t) => {
    const stream = await open(t);
    const { source, value: found } = (await stream.snapshot()).settings.find((s) => s.key === `interop.${name}`);
    assert.deepEqual([source, found.kind, fromValue(found)], ['file', kind, value]);
    const key = `interop.updated.${name}`;
    await it.client.set(key, value);
    const update = await stream.update();
    assert.deepEqual(said(update), [key, 'agent-runtime', value]);
    assert.deepEqual(update.setting.value, found);
  });
}

test('an integer that a double cannot carry travels as text', async (t) => {
  const stream = await open(t);
  await stream.snapshot();
  await it.client.set('interop.beyond', '9223372036854775807');
  assert.deepEqual(said(await stream.update()), ['interop.beyond', 'agent-runtime', '9223372036854775807']);
});

test('updates follow one by one and say what the change was answered', async (t) => {
  const stream = await open(t);
  const { sequence_id: first } = await stream.snapshot();
  for (let step = 1; step <= 200; step += 1) {
    const committed = await it.client.set('interop.counter', step);
    const update = await stream.update();
    assert.deepEqual([update.sequence_id, committed.sequence], [first + step, first + step]);
    assert.equal(update.origin, 'interop.yaml');
    assert.deepEqual(said(update), ['interop.counter', 'agent-runtime', step]);
    assert.ok(!('unset_source' in update.setting));
  }
});

test('what changes nothing streams nothing', async (t) => {
  await it.client.set('interop.quiet', 1, 'cli');
  const stream = await open(t);
  await stream.snapshot();
  await it.client.set('interop.quiet', 1, 'cli');
  await it.client.set('interop.quiet', 2); // Below the command line.
  await it.client.set('interop.marker', 1);
  // The next event, at the next sequence, is the marker.
  assert.equal((await stream.update()).setting.key, 'interop.marker');
});

test('unset shows what now wins and which layer was cleared', async (t) => {
  await it.client.set('interop.zero', 1);
  await it.client.set('interop.zero', 2, 'remote-config');
  const stream = await open(t);
  assert.deepEqual(settings(await stream.snapshot())['interop.zero'], ['remote-config', 2]);
  for (const [cleared, ...winner] of [['remote-config', 'agent-runtime', 1], ['agent-runtime', 'file', 0]]) {
    await it.client.unset('interop.zero', cleared);
    const update = await stream.update();
    assert.deepEqual(said(update), ['interop.zero', ...winner]);
    assert.equal(update.setting.unset_source, cleared);
  }
});

test('a key that vanishes is shown by a snapshot without it', async (t) => {
  await it.client.set('interop.passing', 1);
  const stream = await open(t);
  const before = await stream.snapshot();
  await it.client.unset('interop.passing');
  const after = await stream.snapshot();
  const { 'interop.passing': gone, ...expected } = settings(before);
  assert.deepEqual(gone, ['agent-runtime', 1]);
  assert.deepEqual(settings(after), expected);
  assert.equal(after.sequence_id, before.sequence_id + 1);
  await it.client.set('interop.marker', 2);
  assert.equal((await stream.update()).setting.key, 'interop.marker');
});

test('a file that changes arrives as one batch', async (t) => {
  const file = path.join(emptyFolder(), 'batch.yaml');
  fs.writeFileSync(file, 'batch: {a: 1, b: 1, c: 1}\n');
  const client = clientOf(t, await own(t, { options: ['--config', file] }));
  const stream = await client.stream();
  assert.equal((await stream.snapshot()).origin, 'batch.yaml');
  fs.writeFileSync(`${file}.new`, 'batch: {a: 2, b: 1, c: 2, d: 2}\n');
  fs.renameSync(`${file}.new`, file);
  const updates = [await stream.update(), await stream.update(), await stream.update()];
  assert.deepEqual(updates.map(said), ['a', 'c', 'd'].map((key) => [`batch.${key}`, 'file', 2]));
  assert.deepEqual(updates.map((update) => update.batch_remaining), [2, 1, 0]);
  stream.call.cancel();
});

test('streams of one channel are independent', async (t) => {
  const { session_id } = await it.client.register();
  const streams = [];
  for (let count = 0; count < 50; count += 1) streams.push(await it.client.stream(session_id));
  t.after(() => streams.forEach((stream) => stream.call.cancel()));
  for (const stream of streams) await stream.snapshot();
  const cancelled = streams.shift();
  cancelled.call.cancel();
  assert.equal((await cancelled.end())[0], 'CANCELLED');
  await it.client.set('interop.all', 'everybody');
  for (const stream of streams) {
    assert.deepEqual(said(await stream.update()), ['interop.all', 'agent-runtime', 'everybody']);
  }
});

test('a stream that is cancelled is forgotten', async () => {
  const { session_id } = await it.client.register();
  const stream = await it.client.stream(session_id);
  await stream.snapshot();
  assert.deepEqual((await it.client.streams(session_id)).map((each) => each.name), ['interop']);
  stream.call.cancel();
  await until(async () => (await it.client.streams(session_id)).length === 0, 'the stream is gone');
  await it.client.refresh(session_id);
  await stream.end();
});

test('a deadline of the client ends its stream', async () => {
  const { session_id } = await it.client.register();
  const entries = metadata(['session_id', session_id]);
  const call = it.client.secure.StreamConfigEvents({ name: 'interop' }, entries, { deadline: Date.now() + 500 });
  assert.equal((await new Stream(call).end())[0], 'DEADLINE_EXCEEDED');
  await until(async () => (await it.client.streams(session_id)).length === 0, 'the stream is gone');
});

/** Publishes, while nobody reads, until a stream has fallen behind for more than its ring holds. */
async function stall(client, session_id) {
  for (let sent = 1; sent < 5_000; sent += 1) {
    const { sequence } = await client.set('interop.large', `${sent} ${'x'.repeat(100_000)}`);
    if ((await client.streams(session_id))[0].lagging) return { sent, last: sequence };
  }
  return assert.fail('it never falls behind');
}

test('a client that stalls is repaired by a snapshot', async (t) => {
  const client = clientOf(t, await own(t));
  const { session_id } = await client.register();
  const stream = await client.stream(session_id);
  await stream.snapshot();
  const { sent, last } = await stall(client, session_id);
  const snapshots = [];
  // The order is checked on the way. Nobody publishes any more, and yet it gets to the end.
  while (stream.sequence < last) {
    const event = await stream.next();
    if (event.event === 'snapshot') snapshots.push(settings(event.snapshot));
  }
  assert.equal(snapshots.length, 1);
  assert.match(snapshots[0]['interop.large'][1], new RegExp(`^${sent} `));
  const [figures] = await client.streams(session_id);
  assert.deepEqual([figures.resyncs, figures.lag], [1, 0]);
  assert.equal(figures.updates_sent + figures.dropped, sent);
  await client.set('interop.marker', 1);
  assert.equal((await stream.update()).setting.key, 'interop.marker');
  stream.call.cancel();
});

test('a client that stalls beyond its session is told when it reads again', async (t) => {
  const client = clientOf(t, await own(t, { options: ['--set', 'remote_agent.registry.idle_timeout=2s'] }));
  const { session_id } = await client.register();
  const stream = await client.stream(session_id);
  await stream.snapshot();
  await stall(client, session_id);
  await client.untilGone(session_id);
  const text = `session_id '${session_id}' not found: ${REGISTER_FIRST}`;
  assert.deepEqual(await stream.end(), ['PERMISSION_DENIED', text]);
});

test('a snapshot beyond the limit of the client needs a higher one', async (t) => {
  const agent = await own(t);
  const client = clientOf(t, agent);
  for (const part of [0, 1, 2, 3, 4, 5]) await client.set(`interop.part${part}`, 'x'.repeat(900_000));
  // What grpc-js takes by itself is 4 MiB.
  assert.equal((await (await client.stream()).end())[0], 'RESOURCE_EXHAUSTED');
  const options = { 'grpc.max_receive_message_length': 128 * 1024 * 1024 };
  const stream = await clientOf(t, agent, { options }).stream();
  const snapshot = settings(await stream.snapshot());
  assert.equal(snapshot['interop.part5'][1].length, 900_000);
  stream.call.cancel();
});
