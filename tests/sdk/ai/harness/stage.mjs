// Registers the scenes of a test file: each for every version of the SDK that it applies to, each judged by the oracle.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Oracle } from './oracle.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './server.mjs';
import { Tab } from './tab.mjs';
import { Upstream } from './upstream.mjs';

/** A client version, how it says so, and the schemas that what it is sent must satisfy. */
export const dialects = [
  // One that says nothing is spoken to in what every version understands; approvals are the exception for 5.
  { name: 'ai 7', version: 7, query: '', of: [7, 6, 'strict'] },
  { name: 'ai 7 as such', version: 7, query: '?ai=7', of: [7] },
  { name: 'ai 6', version: 6, query: '', of: [7, 6, 'strict'] },
  { name: 'ai 5', version: 5, query: '?ai=5', of: [7, 6, 5, 'strict'] },
];
export const [ai7, ai7AsSuch, ai6, ai5] = dialects;

class Stage {
  oracle = new Oracle();
  #closing = [];

  constructor(server, upstream, dialect) { Object.assign(this, { server, upstream, dialect }); }

  tab(options) {
    const tab = new Tab(this, options);
    this.#closing.push(() => tab.chat.stop());
    return tab;
  }

  /** The network to the server, for `url` of a tab. */
  async proxy() {
    const proxy = await Proxy.start(this.server.port);
    this.#closing.push(() => proxy.stop());
    return proxy;
  }

  /** Something else to be put away at the end. */
  later(close) { this.#closing.push(close); }

  async close() {
    for (const close of this.#closing) await close();
  }
}

/**
 * `own`: each scene has a server of its own, which it may kill. `scenes` registers them: `scene(name, [dialects], body)`.
 */
export function play(title, { store = 'memory', upstream = false, own = false, concurrency = 4 }, scenes) {
  describe(title, { concurrency }, () => {
    const shared = {};
    const open = async () => {
      const model = upstream ? await Upstream.start() : undefined;
      return { model, server: await Server.start({ store, upstream: model }) };
    };
    const shut = async ({ model, server }) => {
      try { await server?.stop(); } finally { model?.stop(); }
    };
    if (!own) {
      before(async () => Object.assign(shared, await open()));
      after(() => shut(shared));
    }
    const scene = (name, of, body) => {
      for (const dialect of of) {
        test(`${dialect.name}: ${name}`, { timeout: 120_000 }, async () => {
          const { model, server } = own ? await open() : shared;
          const stage = new Stage(server, model, dialect);
          try {
            await body(stage);
            assert.deepEqual(await stage.oracle.faults(), []);
            assert.ok(stage.quiet || stage.oracle.chunks.length > 0, 'the oracle has seen nothing');
          } finally {
            await stage.close();
            if (own) await shut({ model, server });
          }
        });
      }
    };
    scenes((name, of, body) => (body ? scene(name, of, body) : scene(name, dialects, of)));
  });
}
