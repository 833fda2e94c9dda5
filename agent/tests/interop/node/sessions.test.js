'use strict';
// Registering, refreshing, and everything that is refused.

const assert = require('node:assert/strict');
const grpc = require('@grpc/grpc-js');
const { test } = require('node:test');
const { clientOf, own, shared } = require('./fixture.js');
const { REGISTER_FIRST, Stream, call, metadata, refusal, tls } = require('./wire.js');

const UNKNOWN = '00000000-0000-4000-8000-000000000000';
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const it = shared();

/** How a stream with this metadata ends. */
const endOf = (client, ...entries) => new Stream(client.events(...entries)).end();

for (const service of ['secure', 'remote']) {
  test(`registering with ${service} gives a UUID and when to refresh`, async () => {
    const answer = await call(it.client[service], 'RegisterRemoteAgent', { display_name: 'interop' });
    assert.match(answer.session_id, UUID);
    assert.equal(answer.recommended_refresh_interval_secs, 10);
  });
}

test('both register paths share one table of sessions', async () => {
  const { secure, remote } = it.client;
  for (const [here, there] of [[secure, remote], [remote, secure]]) {
    const { session_id } = await call(here, 'RegisterRemoteAgent', { display_name: 'interop' });
    await call(there, 'RefreshRemoteAgent', { session_id });
    const stream = await it.client.stream(session_id);
    await stream.snapshot();
    stream.call.cancel();
  }
});

test('registering again is a second session', async () => {
  const first = await it.client.register();
  const second = await it.client.register();
  assert.notEqual(first.session_id, second.session_id);
  await it.client.refresh(first.session_id);
  await it.client.refresh(second.session_id);
});

test('an agent is listed as it described itself', async () => {
  const described = {
    display_name: '  a name ',
    pid: '7',
    flavor: 'node',
    api_endpoint_uri: 'https://localhost:1',
    services: ['a', 'b'],
  };
  const { session_id } = await it.client.register(described);
  const listed = (await it.client.agents()).find((agent) => agent.session_id === session_id);
  for (const [name, value] of Object.entries(described)) assert.deepEqual(listed[name], value);
});

test('known kinds of endpoint are accepted', async () => {
  for (const uri of ['', 'localhost:5011', 'https://localhost', 'unix:///a/b', 'vsock://3:5011']) {
    await it.client.register({ api_endpoint_uri: uri });
  }
});

for (const [what, fields, text] of [
  ['no name', { display_name: '' }, 'remote agent display name must not be empty or whitespace-only'],
  ['a blank name', { display_name: ' \t' }, 'remote agent display name must not be empty or whitespace-only'],
  [
    'an unknown scheme',
    { api_endpoint_uri: 'http://localhost:1' },
    'unsupported api_endpoint_uri scheme "http" (expected one of: unix, https, vsock)',
  ],
  [
    'a malformed vsock',
    { api_endpoint_uri: 'vsock://3' },
    'malformed vsock api_endpoint_uri "vsock://3" (expected vsock://<cid>:<port>)',
  ],
]) {
  test(`a registration with ${what} is refused`, async () => {
    assert.deepEqual(await refusal(it.client.register(fields)), ['INVALID_ARGUMENT', text]);
  });
}

test('refreshing an unknown session is refused', async () => {
  for (const id of [UNKNOWN, '', 'no uuid']) {
    const expected = ['NOT_FOUND', 'no remote agent found with session ID'];
    assert.deepEqual(await refusal(it.client.refresh(id)), expected);
  }
});

for (const [what, entries, code, text] of [
  ['no session', [], 'UNAUTHENTICATED', 'session_id required in metadata: '],
  ['an empty session', [['session_id', '']], 'UNAUTHENTICATED', 'session_id cannot be empty: '],
  ['an unknown session', [['session_id', UNKNOWN]], 'PERMISSION_DENIED', `session_id '${UNKNOWN}' not found: `],
]) {
  test(`a stream with ${what} is refused`, async () => {
    assert.deepEqual(await endOf(it.client, ...entries), [code, text + REGISTER_FIRST]);
  });
}

test('only the first session_id counts', async () => {
  const good = ['session_id', (await it.client.register()).session_id];
  const bad = ['session_id', UNKNOWN];
  const stream = new Stream(it.client.events(good, bad));
  await stream.snapshot();
  stream.call.cancel();
  const [code] = await endOf(it.client, bad, good);
  assert.equal(code, 'PERMISSION_DENIED');
});

test('a session that is not refreshed expires', async (t) => {
  const agent = await own(t, { options: ['--set', 'remote_agent.registry.idle_timeout=1s'] });
  const client = clientOf(t, agent);
  const { session_id } = await client.register();
  await client.untilGone(session_id);
  assert.equal((await refusal(client.refresh(session_id)))[0], 'NOT_FOUND');
  const text = `session_id '${session_id}' not found: ${REGISTER_FIRST}`;
  assert.deepEqual(await endOf(client, ['session_id', session_id]), ['PERMISSION_DENIED', text]);
});

test('an open stream keeps its session alive', async (t) => {
  const agent = await own(t, { options: ['--set', 'remote_agent.registry.idle_timeout=1s'] });
  const client = clientOf(t, agent);
  const { session_id } = await client.register();
  const stream = await client.stream(session_id);
  await stream.snapshot();
  // One that is refreshed by nobody, and registered later, is gone first.
  await client.untilGone((await client.register()).session_id);
  await client.set('interop.alive', true);
  assert.equal((await stream.update()).setting.key, 'interop.alive');
  await client.refresh(session_id);
  stream.call.cancel();
});

test('a registry that is disabled says so', async (t) => {
  const agent = await own(t, { options: ['--set', 'remote_agent.registry.enabled=false'] });
  const client = clientOf(t, agent);
  const expected = ['UNIMPLEMENTED', 'remote agent registry not enabled'];
  assert.deepEqual(await refusal(client.register()), expected);
  assert.deepEqual(await refusal(client.refresh(UNKNOWN)), expected);
  assert.deepEqual(await endOf(client), expected);
  assert.deepEqual(await endOf(client, ['session_id', UNKNOWN]), expected);
});

test('the host name is told without a token', async (t) => {
  const client = clientOf(t, it.agent, { trust: tls(it.agent, it.agent) });
  assert.ok((await client.hostName()).hostname);
});

for (const [what, authorization, text] of [
  ['no token', () => [], 'authorization required in metadata: Bearer <token>'],
  ['a wrong token', () => [['authorization', `Bearer ${'0'.repeat(64)}`]], 'invalid authorization token'],
  ['another scheme', (token) => [['authorization', `Basic ${token}`]], 'invalid authorization token'],
  ['no scheme', (token) => [['authorization', token]], 'invalid authorization token'],
]) {
  test(`every other call is refused with ${what}`, async (t) => {
    const client = clientOf(t, it.agent, { trust: tls(it.agent, it.agent) });
    const entries = authorization(it.agent.token);
    const expected = ['UNAUTHENTICATED', text];
    assert.deepEqual(await refusal(call(client.secure, 'TaggerFetchEntity', {}, ...entries)), expected);
    assert.deepEqual(await refusal(call(client.remote, 'RegisterRemoteAgent', {}, ...entries)), expected);
    assert.deepEqual(await refusal(call(client.admin, 'Agents', {}, ...entries)), expected);
    assert.deepEqual(await endOf(client, ...entries), expected);
  });
}

test('the scheme of the token is in any letter case', async (t) => {
  const client = clientOf(t, it.agent, { trust: tls(it.agent, it.agent) });
  for (const scheme of ['Bearer', 'bearer', 'BEARER']) {
    await call(client.secure, 'TaggerFetchEntity', {}, ['authorization', `${scheme} ${it.agent.token}`]);
  }
});

test('the tagger answers the same entity without tags', async () => {
  const entity = { prefix: 'container_id', uid: 'abc' };
  const answer = await call(it.client.secure, 'TaggerFetchEntity', { id: entity, cardinality: 'HIGH' });
  assert.deepEqual({ ...answer, id: { ...answer.id } }, { id: entity, cardinality: 'HIGH', tags: [] });
});

test('an event is taken from a known agent only', async () => {
  const events = [{ message: 'the key is refused', invalid_api_key: {} }];
  const report = (session_id) => call(it.client.remote, 'ReportRemoteAgentEvent', { session_id, events });
  await report((await it.client.register()).session_id);
  assert.equal((await refusal(report(UNKNOWN)))[0], 'NOT_FOUND');
});

test('a method that is not there is unimplemented', async () => {
  for (const path of ['/datadog.api.v1.AgentSecure/Nothing', '/nobody.v1.Nothing/Nothing']) {
    const bytes = (buffer) => buffer;
    const answer = new Promise((resolve, reject) => {
      const done = (error, reply) => (error ? reject(error) : resolve(reply));
      it.client.secure.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), metadata(), done);
    });
    assert.equal((await refusal(answer))[0], 'UNIMPLEMENTED');
  }
});

test('a compressed request is refused', async (t) => {
  const options = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };
  const client = clientOf(t, it.agent, { options });
  const [code] = await refusal(client.register({ display_name: 'x'.repeat(1000) }));
  assert.equal(code, 'UNIMPLEMENTED');
});
