'use strict';
// An agent, and a client of it, that end with the tests that use them.

const path = require('node:path');
const { after, before } = require('node:test');
const { Agent } = require('./agent.js');
const { Client } = require('./wire.js');

const CONFIGURATION = path.join(__dirname, '..', 'interop.yaml');

/** An agent for all tests of a file, which leave no more behind than keys of their own; and a client. */
function shared() {
  const both = {};
  before(async () => {
    both.agent = await Agent.start({ options: ['--config', CONFIGURATION] });
    both.client = new Client(both.agent);
  });
  after(async () => {
    both.client.close();
    await both.agent.kill();
  });
  return both;
}

/** An agent for one test. */
async function own(test, how) {
  const agent = await Agent.start(how);
  test.after(() => agent.kill());
  return agent;
}

/** A client for one test. */
function clientOf(test, agent, how) {
  const client = new Client(agent, how);
  test.after(() => client.close());
  return client;
}

module.exports = { clientOf, own, shared };
