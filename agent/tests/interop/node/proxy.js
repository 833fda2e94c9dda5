'use strict';
// A TCP proxy before the agent, which counts what the client sends, and can fall silent.

const net = require('node:net');
const { once } = require('node:events');

class Proxy {
  sentByClient = 0;
  isSilent = false;
  #sockets = [];

  static async start(agent) {
    const proxy = new Proxy();
    const [host, port] = agent.address.split(':');
    proxy.server = net.createServer((client) => {
      const server = net.connect({ host, port });
      proxy.#pass(client, server, () => (proxy.sentByClient += 1));
      proxy.#pass(server, client, () => {});
    });
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.address = `127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  close() {
    this.server.close();
    this.#sockets.forEach((socket) => socket.destroy());
  }

  #pass(source, sink, count) {
    this.#sockets.push(source);
    source.on('data', (data) => {
      count();
      if (!this.isSilent) sink.write(data);
    });
    source.on('error', () => {}); // It closes next.
    source.on('close', () => sink.destroy());
  }
}

module.exports = { Proxy };
