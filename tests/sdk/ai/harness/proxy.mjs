// The network between a client and the server: a TCP proxy that can cut what goes through it.
import net from 'node:net';
import { once } from 'node:events';

export class Proxy {
  #pairs = new Set();
  #limits = [];
  #server;

  static async start(port) {
    const proxy = new Proxy();
    proxy.refusing = false;
    proxy.#server = net.createServer(client => proxy.#join(client, port));
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  #join(client, port) {
    client.on('error', () => {});
    if (this.refusing) return client.resetAndDestroy();
    const server = net.connect(port, '127.0.0.1');
    server.on('error', () => {});
    const pair = { client, server };
    this.#pairs.add(pair);
    let left = Infinity;
    client.on('data', bytes => {
      // A limit is for one answer: it is taken when a request begins, whether the connection is new or not.
      if (/^(GET|POST) /.test(bytes.toString('latin1', 0, 5))) left = this.#limits.shift() ?? Infinity;
      server.write(bytes);
    });
    server.on('data', bytes => {
      client.write(bytes.subarray(0, Math.min(left, bytes.length)));
      left -= bytes.length;
      // A reset would discard what the client has not read yet, and these are exact positions: so the bytes go
      // first, and the end without its last chunk is what breaks the answer off.
      if (left <= 0) { client.end(); server.destroy(); this.#pairs.delete(pair); }
    });
    client.on('close', () => { server.destroy(); this.#pairs.delete(pair); });
    server.on('close', () => { this.#pairs.delete(pair); left > 0 ? client.resetAndDestroy() : client.end(); });
    client.on('end', () => server.end());
  }

  /** Breaks every connection that is open. */
  cut() {
    for (const { client, server } of this.#pairs) { client.resetAndDestroy(); server.resetAndDestroy(); }
    this.#pairs.clear();
  }

  /** The answers to the next requests are broken off after so many bytes each, head included. */
  limit(...bytes) { this.#limits.push(...bytes); }

  async stop() { this.cut(); this.#server.close(); await once(this.#server, 'close'); }
}
