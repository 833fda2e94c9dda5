'use strict';
// Runs the real agent.

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const readline = require('node:readline');
const { once } = require('node:events');
const { spawn } = require('node:child_process');
const { setTimeout: pause } = require('node:timers/promises');

// How long anything may take on a machine that is busy, in milliseconds.
const PATIENCE = 60_000;

/** A running `configstream run`, on ports of its own. */
class Agent {
  /** Starts one, and waits until it serves. */
  static async start({ runDir = emptyFolder(), listen = '127.0.0.1:0', options = [] } = {}) {
    const agent = new Agent();
    agent.runDir = runDir;
    agent.socket = path.join(runDir, 'agent.sock');
    const all = ['run', '--run-dir', runDir, '--http', '127.0.0.1:0', '--listen', listen];
    all.push('--listen', `unix:${agent.socket}`, ...options);
    const ours = ([name]) => !/^(DD|CONFIGSTREAM|RUST)_/.test(name);
    const env = Object.fromEntries(Object.entries(process.env).filter(ours));
    const stdio = ['ignore', 'ignore', 'pipe'];
    agent.process = spawn(process.env.CONFIGSTREAM, all, { env, stdio });
    agent.ended = once(agent.process, 'exit');
    await agent.#untilSaid('in a third');
    const read = (name) => fs.readFileSync(path.join(runDir, name), 'utf8');
    agent.address = read('address').trim();
    agent.token = read('auth_token');
    const pem = read('ipc_cert.pem');
    const keyBegins = pem.indexOf('-----BEGIN EC PRIVATE KEY-----');
    agent.certificate = Buffer.from(pem.slice(0, keyBegins));
    agent.key = Buffer.from(pem.slice(keyBegins));
    return agent;
  }

  /** Tells it to stop, and gives its exit code. */
  async stop() {
    this.process.kill('SIGTERM');
    const [code] = await this.ended;
    return code;
  }

  async kill() {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  #untilSaid(what) {
    const lines = readline.createInterface({ input: this.process.stderr });
    return new Promise((resolve, reject) => {
      const said = [];
      lines.on('line', (line) => {
        said.push(line);
        if (line.includes(what)) resolve();
      });
      lines.on('close', () => reject(new Error(`the agent has ended:\n${said.join('\n')}`)));
    });
  }
}

/** A folder that goes when the tests are over. */
function emptyFolder() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'interop-'));
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Waits until something is so. */
async function until(condition, what) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (Date.now() > deadline) throw new Error(`not in time: ${what}`);
    await pause(10);
  }
}

module.exports = { Agent, PATIENCE, emptyFolder, until };
