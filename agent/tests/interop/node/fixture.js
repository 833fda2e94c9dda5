'use strict';
// An agent, and a client of it, that end with the tests that use them.

const fs = require('node:fs');
const path = require('node:path');
const { after, before } = require('node:test');
const { Agent, emptyFolder } = require('./agent.js');
const { Client } = require('./wire.js');

const CONFIGURATION = `
log_level: warn
interop:
  is_true: true
  is_false: false
  zero: 0
  negative: -42
  largest: 9007199254740992
  smallest: -9007199254740992
  fraction: 0.1
  tiny: 5.0e-324
  text: "héllo ✓"
  empty_text: ""
  number_as_text: "12"
  list: [1, "two", false, 4.5, [5], {six: 6}]
  empty_list: []
  map: {"a key": {"b.c": [{d: [true]}]}, "/": "x"}
  empty_map: {}
`;

/** An agent for all tests of a file, which leave no more behind than keys of their own; and a client. */
function shared() {
  const both = {};
  before(async () => {
    const file = path.join(emptyFolder(), 'interop.yaml');
    fs.writeFileSync(file, CONFIGURATION);
    both.agent = await Agent.start({ options: ['--config', file] });
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
