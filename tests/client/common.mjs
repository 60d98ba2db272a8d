// What the tests of the client share: servers, the log as the server tells it, chance, and how tests are run and counted.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { Steerage } from '../../web/steerage-client.js';
import { fold, initial } from '../../web/steerage-state.js';

export const BINARY = process.env.STEERAGE_BIN;
export const LONG = process.env.STEERAGE_LONG === '1';
const PATIENCE_MS = 120_000;

const servers = new Set(), folders = new Set();
process.on('exit', () => {
  for (const server of servers) server.kill('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/** A folder for a store, gone with the tests. */
export function folder() {
  const made = mkdtempSync(join(tmpdir(), 'steerage-client-'));
  folders.add(made);
  return made;
}

/** A server of a test's own: `{ url, port, kill() }`. */
export async function serve({ port = 0, store = 'memory', more = [] } = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('STEERAGE_')));
  const args = ['serve', '--listen', `127.0.0.1:${port}`, '--store', store, ...more];
  const server = spawn(BINARY, args, { stdio: ['ignore', 'pipe', process.env.STEERAGE_SHOW ? 'inherit' : 'ignore'], env });
  servers.add(server);
  const [greeting] = await once(server.stdout, 'data');
  server.stdout.resume();
  const url = String(greeting).match(/http:\/\/[\d.:]+/)[0];
  return {
    url, port: Number(new URL(url).port), process: server,
    async kill(signal = 'SIGKILL') {
      server.kill(signal);
      if (server.exitCode === null && server.signalCode === null) await once(server, 'exit');
      servers.delete(server);
    },
  };
}

/** Waits quickly where nothing else is looked at. */
export const QUICK = { retryMinMs: 5, retryMaxMs: 25 };

export const connect = (url, options = {}) => new Steerage({ url, WebSocket, ...options });

/** The log as the server streams it, read without the client: the text of each event. */
export function rawLog(url, session, headers = {}) {
  return new Promise((resolve, reject) => {
    const path = `${url}/v1/sessions/${session}/events?until=idle`;
    const late = setTimeout(() => reject(new Error(`the log of ${session} does not end`)), PATIENCE_MS);
    const whole = lines => { clearTimeout(late); resolve(lines); };
    http.get(path, { headers: { accept: 'text/event-stream', ...headers } }, answer => {
      const pieces = [];
      answer.on('data', piece => pieces.push(piece)).on('error', reject);
      answer.on('end', () => {
        const lines = Buffer.concat(pieces).toString().split('\n').filter(line => line.startsWith('data: {"id"'));
        whole(lines.map(line => line.slice(6)));
      });
    }).on('error', reject);
  });
}

/** What the model says in these events, each as it is on the wire. */
export const textOf = raws => raws.map(raw => JSON.parse(raw)).filter(e => e.type === 'text.delta').map(e => e.text).join('');

/** Everything that a session has delivered. */
export class Heard {
  constructor(session) {
    [this.session, this.records, this.notices, this.connections, this.state] = [session, [], [], [], initial()];
    session.on('event', record => {
      this.records.push(record);
      this.state = fold(this.state, record.event);
    });
    session.on('notice', notice => this.notices.push(notice));
    session.on('connection', connection => this.connections.push(connection));
  }

  until(test, what = String(test)) {
    const { promise, resolve, reject } = deferred();
    const look = () => { if (test(this)) resolve(this); };
    const offs = ['event', 'notice', 'connection'].map(type => this.session.on(type, look));
    const timer = setTimeout(() => {
      const c = this.session.connection;
      reject(new Error(`never: ${what}; ${this.records.length} events, ${JSON.stringify(c)}`));
    }, PATIENCE_MS);
    look();
    return promise.finally(() => { clearTimeout(timer); for (const off of offs) off(); });
  }

  has(type) { return this.records.some(record => record.type === type); }
  ended(runs = 1) { return this.records.filter(r => /^run\.(completed|cancelled|failed)$/.test(r.type)).length >= runs; }

  /** What was delivered is the log, to the byte and once. */
  isLog(log) {
    const got = this.records.filter(record => record.type !== 'snapshot');
    assert.deepEqual(got.map(r => r.id), log.map(raw => JSON.parse(raw).id), 'the ids of the log, in order');
    got.forEach((record, at) => assert.equal(record.raw, log[at], `event ${at}`));
    const text = textOf(log);
    const said = this.state.messages.filter(m => m.role === 'assistant').flatMap(m => m.content)
      .filter(part => part.type === 'text').map(part => part.text).join('');
    assert.equal(said, text, 'the folded text');
    for (const record of got) assert.equal(record.bytes, Buffer.byteLength(record.raw));
  }
}

export function deferred() {
  let resolve, reject;
  const promise = new Promise((...both) => { [resolve, reject] = both; });
  return { promise, resolve, reject };
}
export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Numbers from a seed (mulberry32), in [0, 1). */
export function chance(seed) {
  let state = seed >>> 0;
  return () => {
    state = state + 0x6d2b79f5 >>> 0;
    let t = state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) / 2 ** 32;
  };
}

export const SEED = Number(process.env.STEERAGE_SEED ?? 20261128);

export async function run(suites, only = '') {
  let [passed, failed, skipped] = [0, 0, 0];
  console.log(`seed ${SEED}`);
  for (const [suite, tests] of Object.entries(suites)) {
    for (const [name, test] of Object.entries(tests)) {
      const title = `${suite}: ${name}`;
      if (!title.includes(only) || test.long && !LONG) {
        skipped += 1;
        if (test.long && title.includes(only)) console.log(`skipped ${title} (--long)`);
        continue;
      }
      const began = performance.now();
      try {
        const figures = await test();
        passed += 1;
        const s = ((performance.now() - began) / 1000).toFixed(1);
        console.log(`ok      ${title} (${s} s)${figures ? `: ${figures}` : ''}`);
      } catch (error) {
        failed += 1;
        console.log(`FAILED  ${title}\n${error.stack ?? error}`);
      }
    }
  }
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exit(failed ? 1 : 0);
}
