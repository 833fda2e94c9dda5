'use strict';
// What a stock client does: plain grpc-js, and our .proto files loaded by proto-loader.

const assert = require('node:assert/strict');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');
const { PATIENCE, until } = require('./agent.js');

const files = [
  'datadog/api/v1/api.proto',
  'datadog/remoteagent/v1/remoteagent.proto',
  'configstream/admin/v1/admin.proto',
];

const ours = load(files, process.env.PROTO);

// The certificate is its own authority, and made out to this name.
const NAME = { 'grpc.ssl_target_name_override': 'localhost' };

const REGISTER_FIRST = 'remote agent must register with RAR before subscribing to config stream';

function load(files, ...includeDirs) {
  const options = { includeDirs, keepCase: true, defaults: true, oneofs: true, longs: Number, enums: String };
  return grpc.loadPackageDefinition(protoLoader.loadSync(files, options));
}

/** Trusts the certificate of one agent, and shows that of one, or none. */
function tls(trusted, shown) {
  return grpc.credentials.createSsl(trusted.certificate, shown?.key, shown?.certificate);
}

function credentials(agent) {
  const token = grpc.credentials.createFromMetadataGenerator((_, done) =>
    done(null, metadata(['authorization', `Bearer ${agent.token}`])),
  );
  return grpc.credentials.combineChannelCredentials(tls(agent, agent), token);
}

/** Metadata with these entries, in this order. */
function metadata(...entries) {
  const metadata = new grpc.Metadata();
  entries.forEach(([name, value]) => metadata.add(name, value));
  return metadata;
}

/** Every service of an agent. */
class Client {
  constructor(agent, { address = agent.address, trust = credentials(agent), options = {} } = {}) {
    this.stubs = [];
    this.stub = (Service) => {
      this.stubs.push(new Service(address, trust, { ...NAME, ...options }));
      return this.stubs.at(-1);
    };
    this.secure = this.stub(ours.datadog.api.v1.AgentSecure);
    this.open = this.stub(ours.datadog.api.v1.Agent);
    this.remote = this.stub(ours.datadog.remoteagent.v1.RemoteAgent);
    this.admin = this.stub(ours.configstream.admin.v1.ConfigAdmin);
  }

  close() {
    this.stubs.forEach((stub) => stub.close());
  }

  register(fields) {
    return call(this.secure, 'RegisterRemoteAgent', { display_name: 'interop', ...fields });
  }

  refresh(session_id) {
    return call(this.secure, 'RefreshRemoteAgent', { session_id });
  }

  hostName() {
    return call(this.open, 'GetHostname', {});
  }

  /** A stream of a session, or of a new one. */
  async stream(session_id) {
    session_id ??= (await this.register()).session_id;
    return new Stream(this.events(['session_id', session_id]));
  }

  events(...entries) {
    return this.secure.StreamConfigEvents({ name: 'interop' }, metadata(...entries), deadline());
  }

  set(key, value, source = '') {
    return call(this.admin, 'Set', { key, value: toValue(value), source });
  }

  unset(key, source = '') {
    return call(this.admin, 'Unset', { key, source });
  }

  async agents() {
    return (await call(this.admin, 'Agents', {})).agents;
  }

  status() {
    return call(this.admin, 'Status', {});
  }

  /** What the agent knows of the streams of a session. */
  async streams(session_id) {
    const agents = await this.agents();
    return agents.filter((agent) => agent.session_id === session_id).flatMap((agent) => agent.streams);
  }

  /** Waits until a session has expired, without keeping it alive by asking after it. */
  async untilGone(session_id) {
    const isGone = async () => (await this.agents()).every((agent) => agent.session_id !== session_id);
    await until(isGone, `session ${session_id} is gone`);
  }
}

/**
 * The events of a stream, whose order is checked as they are read: a snapshot first, then each update at the sequence
 * after the one before, and each later snapshot beyond.
 */
class Stream {
  constructor(call) {
    this.call = call;
    this.events = call[Symbol.asyncIterator]();
    this.sequence = null;
  }

  async next() {
    const { value: event, done } = await this.events.next();
    assert.ok(!done, 'a stream never ends with OK');
    const found = event[event.event];
    if (event.event === 'snapshot') assert.ok(this.sequence === null || found.sequence_id > this.sequence);
    else assert.equal(found.sequence_id, this.sequence + 1);
    this.sequence = found.sequence_id;
    return event;
  }

  /** The next event, which is a snapshot. */
  async snapshot() {
    const event = await this.next();
    assert.equal(event.event, 'snapshot');
    return event.snapshot;
  }

  /** The next event, which is an update. */
  async update() {
    const event = await this.next();
    assert.equal(event.event, 'update');
    return event.update;
  }

  /** How the stream ends, whatever comes before. */
  async end() {
    for (;;) {
      const refused = await this.next().then(() => null, refusalOf);
      if (refused) return refused;
    }
  }
}

/** One unary call. */
function call(stub, method, request, ...entries) {
  return new Promise((resolve, reject) => {
    const answer = (error, reply) => (error ? reject(error) : resolve(reply));
    stub[method](request, metadata(...entries), deadline(), answer);
  });
}

function deadline() {
  return { deadline: Date.now() + PATIENCE };
}

/** Code and text of a refused call. */
async function refusal(promise) {
  return promise.then((answer) => assert.fail(`answered: ${JSON.stringify(answer)}`), refusalOf);
}

function refusalOf(error) {
  if (error.code === undefined || error instanceof assert.AssertionError) throw error;
  return [grpc.status[error.code], error.details];
}

function toValue(plain) {
  if (plain === null) return { nullValue: 0 };
  if (Array.isArray(plain)) return { listValue: { values: plain.map(toValue) } };
  if (typeof plain === 'object') {
    const fields = Object.entries(plain).map(([key, value]) => [key, toValue(value)]);
    return { structValue: { fields: Object.fromEntries(fields) } };
  }
  return { [{ boolean: 'boolValue', number: 'numberValue', string: 'stringValue' }[typeof plain]]: plain };
}

function fromValue(value) {
  const found = value[value.kind];
  if (value.kind === 'listValue') return found.values.map(fromValue);
  if (value.kind === 'structValue') {
    return Object.fromEntries(Object.entries(found.fields).map(([key, value]) => [key, fromValue(value)]));
  }
  return found;
}

/** The settings of a snapshot by key, each with source and value. */
function settings(snapshot) {
  return Object.fromEntries(snapshot.settings.map((s) => [s.key, [s.source, fromValue(s.value)]]));
}

/** What an update says, without its sequence. */
function said({ setting }) {
  return [setting.key, setting.source, fromValue(setting.value)];
}

module.exports = {
  Client,
  REGISTER_FIRST,
  Stream,
  call,
  fromValue,
  load,
  metadata,
  refusal,
  said,
  settings,
  tls,
};
