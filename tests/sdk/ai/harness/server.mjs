// A Steerage server of a test file's own: started on a free port, killed and started again on the same one, and its
// native log, which is what every other door is held against.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const binary = process.env.STEERAGE_BIN;
if (!binary) throw new Error('STEERAGE_BIN names no server: run scripts/sdk-ai-test, which builds one');

const patient = fileURLToPath(new URL('../../patient.toml', import.meta.url));

/** The caller's environment without what would configure the server behind the test's back. */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('STEERAGE_')));

export class Server {
  #child;
  #folder;
  #log = '';

  /** `store`: "memory", or "disk" for one in a folder of its own, which outlives a kill. `upstream`: an `Upstream`. */
  static async start({ store = 'memory', upstream } = {}) {
    const server = new Server();
    server.#folder = store === 'disk' ? mkdtempSync(join(tmpdir(), 'steerage-sdk-')) : undefined;
    server.store = server.#folder ? `disk:${server.#folder}` : store;
    server.upstream = upstream;
    await server.#serve('127.0.0.1:0');
    return server;
  }

  async #serve(listen) {
    const upstream = this.upstream ? ['--upstream', `mock=${this.upstream.url}`] : [];
    const options = ['serve', '--config', patient, '--listen', listen, '--store', this.store, ...upstream];
    this.#child = spawn(binary, options, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stderr.on('data', bytes => (this.#log += bytes));
    const greeted = once(this.#child.stdout, 'data').then(([bytes]) => String(bytes));
    const ended = once(this.#child, 'exit').then(() => { throw new Error(`the server did not start:\n${this.#log}`); });
    ended.catch(() => {});
    this.url = (await Promise.race([greeted, ended])).match(/http:\/\/[\d.:]+/)[0];
    this.port = Number(new URL(this.url).port);
  }

  /** As a crash is: nothing is written any more, every connection is gone. */
  async kill() {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** As an operator stops it; resolves when the process is gone. */
  async terminate() {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await gone;
  }

  /** Another process on the same port and store. */
  again() { return this.#serve(`127.0.0.1:${this.port}`); }

  async stop() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.kill();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
    if (/panicked/.test(this.#log)) throw new Error(`the server panicked:\n${this.#log}`);
  }

  chat(query = '') { return `${this.url}/v1/ai-sdk/chat${query}`; }

  /** Every event of a session. */
  async log(session) {
    const events = [];
    for (let after = ''; ;) {
      const answer = await fetch(`${this.url}/v1/sessions/${encodeURIComponent(session)}/events?after=${after}`,
        { headers: { accept: 'application/json' } });
      if (!answer.ok) throw new Error(`no log of ${session}: ${answer.status} ${await answer.text()}`);
      const page = await answer.json();
      events.push(...page.events);
      if (page.caught_up) return events;
      after = page.last_event_id;
    }
  }

  /** One native command. */
  control(session, command) { return post(`${this.url}/v1/sessions/${session}/control`, command); }

  /** The stop door of the dialect. */
  stopChat(id, body = {}) { return post(`${this.chat()}/${encodeURIComponent(id)}/stop`, body); }
}

export async function post(url, body) {
  const answer = await fetch(url, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  const text = await answer.text();
  let json;
  try { json = JSON.parse(text); } catch { /* an error of the dialect is plain text */ }
  return { status: answer.status, text, json };
}

export const of = (events, type) => events.filter(event => event.type === type);
export const counts = (events, ...types) => types.map(type => of(events, type).length);

/** The runs of a log in order: id, text, reasoning, and the event that ended it, if it has ended. */
export function runs(events) {
  const runs = [];
  for (const event of events) {
    const run = runs.at(-1);
    if (event.type === 'run.started') runs.push({ id: event.run_id, trigger: event.trigger, text: '', reasoning: '' });
    else if (event.type === 'text.delta') run.text += event.text;
    else if (event.type === 'reasoning.delta') run.reasoning += event.text;
    else if (/^run\.(completed|cancelled|failed)$/.test(event.type)) run.end = event;
  }
  return runs;
}
