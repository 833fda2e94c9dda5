'use strict';
// Trust, keepalive, restarts, and what the standard services say.

const assert = require('node:assert/strict');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const { once } = require('node:events');
const { test } = require('node:test');
const { PATIENCE, until } = require('./agent.js');
const { clientOf, own, shared } = require('./fixture.js');
const { Proxy } = require('./proxy.js');
const { call, load, refusal, said, tls } = require('./wire.js');

const beside = (module, ...file) => path.join(path.dirname(require.resolve(`${module}/package.json`)), ...file);
const { Health } = load([beside('grpc-health-check', 'proto/health/v1/health.proto')]).grpc.health.v1;
const reflection = (version) =>
  load([beside('@grpc/reflection', `build/proto/grpc/reflection/${version}/reflection.proto`)]).grpc.reflection[version]
    .ServerReflection;

const SERVICES = [
  'configstream.admin.v1.ConfigAdmin',
  'datadog.api.v1.Agent',
  'datadog.api.v1.AgentSecure',
  'datadog.remoteagent.v1.RemoteAgent',
];

const AGGRESSIVE = {
  'grpc.keepalive_time_ms': 20,
  'grpc.keepalive_timeout_ms': 2_000,
  'grpc.keepalive_permit_without_calls': 1,
};

const it = shared();

for (const shown of ['no certificate', 'another certificate', 'no TLS']) {
  test(`who shows ${shown} reaches nothing and is counted`, async (t) => {
    const before = (await it.client.status()).refused_handshakes;
    const trust = {
      'no certificate': async () => tls(it.agent),
      // One that is made in the same way for the same names.
      'another certificate': async () => tls(it.agent, await own(t)),
      'no TLS': async () => grpc.credentials.createInsecure(),
    };
    const stranger = clientOf(t, it.agent, { trust: await trust[shown]() });
    assert.equal((await refusal(stranger.hostName()))[0], 'UNAVAILABLE');
    const isCounted = async () => (await it.client.status()).refused_handshakes > before;
    await until(isCounted, 'the refusal is counted');
  });
}

test('the client refuses an agent with another certificate', async (t) => {
  const stranger = await own(t);
  const refused = clientOf(t, stranger, { trust: tls(it.agent, stranger) });
  assert.equal((await refusal(refused.hostName()))[0], 'UNAVAILABLE');
  await clientOf(t, stranger, { trust: tls(stranger, stranger) }).hostName();
});

test('the certificate is made out to the names of this machine', async (t) => {
  const port = it.agent.address.split(':')[1];
  for (const name of ['localhost', '127.0.0.1']) {
    const options = { 'grpc.ssl_target_name_override': undefined };
    await clientOf(t, it.agent, { address: `${name}:${port}`, options }).hostName();
  }
});

test('the client refuses the certificate under another name', async (t) => {
  const options = { 'grpc.ssl_target_name_override': 'example.org' };
  assert.equal((await refusal(clientOf(t, it.agent, { options }).hostName()))[0], 'UNAVAILABLE');
});

test('a Unix socket serves the same', async (t) => {
  const local = clientOf(t, it.agent, { address: `unix:${it.agent.socket}` });
  const stream = await local.stream();
  await stream.snapshot();
  await it.client.set('interop.local', 1);
  assert.deepEqual(said(await stream.update()), ['interop.local', 'agent-runtime', 1]);
  stream.call.cancel();
});

/** A stream through a proxy, whose client has gone quiet but for pings. */
async function quiet(t, options) {
  const proxy = await Proxy.start(it.agent);
  t.after(() => proxy.close());
  const stream = await clientOf(t, it.agent, { address: proxy.address, options }).stream();
  t.after(() => stream.call.cancel());
  await stream.snapshot();
  return { proxy, stream };
}

async function pings(proxy, count) {
  const idleAt = proxy.sentByClient;
  await until(() => proxy.sentByClient >= idleAt + count, `${count} pings`);
}

for (const [how, options] of [['by default', {}], ['aggressively', AGGRESSIVE]]) {
  test(`a stream stays when its client is kept alive ${how}`, async (t) => {
    const { proxy, stream } = await quiet(t, options);
    // Far more than a server that counts pings bears.
    if (options === AGGRESSIVE) await pings(proxy, 40);
    for (let step = 0; step < 20; step += 1) {
      await it.client.set('interop.kept', `${how} ${step}`);
      assert.deepEqual(said(await stream.update()), ['interop.kept', 'agent-runtime', `${how} ${step}`]);
    }
  });
}

test('keepalive finds a connection that is half-open', async (t) => {
  const { proxy, stream } = await quiet(t, AGGRESSIVE);
  await pings(proxy, 2);
  proxy.isSilent = true;
  assert.equal((await stream.end())[0], 'UNAVAILABLE');
});

test('a stop ends streams with Unavailable and a restart goes on beyond', async (t) => {
  const agent = await own(t);
  const client = clientOf(t, agent, { options: { 'grpc.initial_reconnect_backoff_ms': 100 } });
  const stream = await client.stream();
  await stream.snapshot();
  await client.set('interop.before', 1);
  const { sequence_id: reached } = await stream.update();
  const [end, code] = await Promise.all([stream.end(), agent.stop()]);
  assert.deepEqual([end, code], [['UNAVAILABLE', 'the server is shutting down'], 0]);

  await own(t, { runDir: agent.runDir, listen: agent.address });
  // The same channel finds it again; the session is new, the sequence is not.
  const ready = (done) => client.secure.waitForReady(Date.now() + PATIENCE, done);
  await new Promise((resolve, reject) => ready((error) => (error ? reject(error) : resolve())));
  const after = await client.stream();
  const snapshot = await after.snapshot();
  assert.equal(snapshot.sequence_id, reached + 1);
  assert.ok(snapshot.settings.every((setting) => setting.key !== 'interop.before'));
  after.call.cancel();
});

test('an agent that is killed is unavailable', async (t) => {
  const agent = await own(t);
  const stream = await clientOf(t, agent).stream();
  await stream.snapshot();
  const [[code]] = await Promise.all([stream.end(), agent.kill()]);
  assert.equal(code, 'UNAVAILABLE');
});

for (const service of ['', ...SERVICES]) {
  test(`${service || 'the agent as a whole'} is healthy`, async () => {
    const answer = await call(it.client.stub(Health), 'Check', { service });
    assert.equal(answer.status, 'SERVING');
  });
}

test('an unknown service has no health', async () => {
  const health = it.client.stub(Health);
  assert.equal((await refusal(call(health, 'Check', { service: 'nobody.v1.Nothing' })))[0], 'NOT_FOUND');
});

test('who watches the health is told of a stop', async (t) => {
  const agent = await own(t);
  const watch = clientOf(t, agent).stub(Health).Watch({ service: '' });
  const statuses = [];
  watch.on('data', ({ status }) => statuses.push(status));
  await once(watch, 'data');
  // And then it is over: a watch does not hold up the stop.
  await Promise.all([once(watch, 'end'), agent.stop()]);
  assert.deepEqual(statuses, ['SERVING', 'NOT_SERVING']);
});

for (const version of ['v1', 'v1alpha']) {
  test(`reflection ${version} lists the services and describes the messages`, async () => {
    const asked = it.client.stub(reflection(version)).ServerReflectionInfo();
    const ask = async (request) => {
      asked.write(request);
      const [answer] = await once(asked, 'data');
      return answer[answer.message_response];
    };
    const { service } = await ask({ list_services: '' });
    const names = service.map((each) => each.name);
    for (const name of [...SERVICES, 'grpc.health.v1.Health']) assert.ok(names.includes(name), name);
    const { file_descriptor_proto } = await ask({ file_containing_symbol: 'datadog.model.v1.ConfigSetting' });
    const described = Buffer.concat(file_descriptor_proto).toString('latin1');
    for (const name of ['ConfigSnapshot', 'sequence_id', 'unset_source']) assert.ok(described.includes(name), name);
    asked.end();
    await once(asked, 'end');
  });
}
