// Registers the tests of a file on a server of their own, with the SDK version that $STEERAGE_SDK names.
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
// The server and the network are those of the AI SDK's tests.
import { Proxy } from '../../../ai/harness/proxy.mjs';
import { Server } from '../../../ai/harness/server.mjs';
import { Upstream } from './upstream.mjs';

export const version = process.env.STEERAGE_SDK ?? '7';
const only = new RegExp(process.env.STEERAGE_ONLY ?? '', 'i');
export const sdk = await import(`openai${version}`);
export const { zodResponseFormat, zodTextFormat, zodFunction } = await import(`openai${version}/helpers/zod`);
export const { ResponsesWS } = await import(`openai${version}/resources/responses/ws`);
const { default: OpenAI } = sdk;

// The SDK is not configured from outside.
for (const name of Object.keys(process.env)) if (name.startsWith('OPENAI_')) delete process.env[name];

/** Polls. */
export async function until(condition, what = String(condition), patience = 15_000) {
  for (const end = Date.now() + patience; ;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain: ${what}`);
    await sleep(5);
  }
}

/** What is left when everything that the SDK adds to an object has gone: what was on the wire. */
export const wire = object => JSON.parse(JSON.stringify(object, (key, value) =>
  (['output_text', '_request_id', 'parsed', 'output_parsed', 'parsed_arguments'].includes(key) ? undefined : value)));

class Stage {
  /** A word of the test's own, by which what it said is found again. */
  name = Math.random().toString(36).slice(2, 12);
  #closing = [];

  constructor({ server, upstream }) {
    Object.assign(this, { server, upstream });
    this.client = this.clientOf(server.url);
  }

  /** With the SDK's own settings: two retries. */
  clientOf(url, options) { return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', timeout: 30_000, ...options }); }

  async proxy() {
    const proxy = await Proxy.start(this.server.port);
    this.later(() => proxy.stop());
    return proxy;
  }

  later(close) { this.#closing.push(close); }
  async close() { for (const close of this.#closing) await close(); }
}

/** `own`: each test has a server of its own on a disk, which it may kill. `scenes` registers them: `scene(name, body)`. */
export function play(title, { own = false, concurrency = 4 }, scenes) {
  describe(`openai ${version}: ${title}`, { concurrency }, () => {
    const shared = {};
    const open = async () => {
      const upstream = await Upstream.start();
      return { upstream, server: await Server.start({ store: own ? 'disk' : 'memory', upstream }) };
    };
    const shut = async ({ upstream, server }) => {
      try { await server?.stop(); } finally { upstream?.stop(); }
    };
    if (!own) {
      before(async () => Object.assign(shared, await open()));
      after(() => shut(shared));
    }
    scenes((name, options, body = options) => only.test(`${title}: ${name}`) && test(name, { timeout: 90_000, ...(body === options ? {} : options) }, async () => {
      const scenery = own ? await open() : shared;
      const stage = new Stage(scenery);
      try {
        await body(stage);
      } finally {
        await stage.close();
        if (own) await shut(scenery);
      }
    }));
  });
}
