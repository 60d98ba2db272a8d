// One chat instance of the SDK, as a browser tab has one, and what a person does and sees there.
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { libraries } from './oracle.mjs';
import { runs } from './server.mjs';

/** Polls, because the SDK tells nobody outside a UI framework that something has changed. */
export async function until(condition, what, patience = 60_000) {
  for (const end = Date.now() + patience; ;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain: ${typeof what === 'function' ? what() : what}`);
    await sleep(5);
  }
}

export const textOf = message => partsOf(message, 'text').map(part => part.text).join('');
export const partsOf = (message, type) => message.parts.filter(part => part.type === type);
export const user = (text, id = crypto.randomUUID()) => ({ id, role: 'user', parts: [{ type: 'text', text }] });
const isTool = part => part.type.startsWith('tool-') || part.type === 'dynamic-tool';

class State {
  /** Every status so far, the newest last: a poll may miss one. */
  statuses = ['ready'];
  error = undefined;
  constructor(messages) { this.messages = messages; }
  get status() { return this.statuses.at(-1); }
  set status(status) { this.statuses.push(status); }
  pushMessage = message => { this.messages = [...this.messages, message]; };
  popMessage = () => { this.messages = this.messages.slice(0, -1); };
  // What a UI framework does: what is shown is a copy, which later chunks do not change.
  replaceMessage = (at, message) => { this.messages = this.messages.with(at, this.snapshot(message)); };
  snapshot = thing => structuredClone(thing);
}

const chats = Object.fromEntries(Object.entries(libraries).map(([version, { AbstractChat }]) => [version,
  class extends AbstractChat {
    constructor({ messages, ...init }) {
      super({ ...init, state: new State(messages) });
      this.statuses = this.state.statuses;
    }
  }]));

export class Tab {
  /** Requests so far: method, path with query, status, response headers, and the body that was sent. */
  requests = [];
  data = [];
  finishes = [];

  /**
   * `body` goes with every request; `url` is another base than the server's, such as a proxy's; `transport` is made from
   * `{api, fetch, body}` and is the default one where it is not given; `when` is `sendAutomaticallyWhen`.
   */
  constructor(stage, { id = crypto.randomUUID(), messages = [], body, url = stage.server.url, query = stage.dialect.query,
    of = stage.dialect.of, browser, transport, when, onToolCall } = {}) {
    this.server = stage.server;
    this.id = id;
    const library = libraries[stage.dialect.version];
    const through = stage.oracle.fetch(of, { browser });
    this.fetch = async (to, options) => {
      const request = { method: options.method ?? 'GET', path: to.slice(url.length), body: options.body };
      this.requests.push(request);
      const response = await through(to, options);
      Object.assign(request, { status: response.status, headers: response.headers });
      return response;
    };
    const settings = { api: `${url}/v1/ai-sdk/chat${query}`, fetch: this.fetch, body };
    this.transport = transport ? transport(settings) : new library.DefaultChatTransport(settings);
    this.chat = new chats[stage.dialect.version]({
      id, messages, transport: this.transport, sendAutomaticallyWhen: when,
      onToolCall: onToolCall && (event => onToolCall(event, this)),
      onData: part => this.data.push(part),
      onFinish: finish => this.finishes.push(finish),
    });
  }

  get status() { return this.chat.status; }
  get error() { return this.chat.error; }
  get messages() { return this.chat.messages; }
  get answers() { return this.messages.filter(message => message.role === 'assistant'); }
  get answer() { return this.answers.at(-1); }
  get text() { return this.answer ? textOf(this.answer) : ''; }
  get posts() { return this.requests.filter(request => request.method === 'POST'); }

  say(text, options) { return this.chat.sendMessage({ text }, options); }
  resume() { return this.chat.resumeStream(); }
  /** Resumes, and waits no longer than until something comes. */
  async goesOn() {
    const from = this.chat.statuses.length;
    void this.resume();
    await until(() => this.chat.statuses.slice(from).includes('streaming'), () => `it goes on: ${this.chat.statuses} ${this.error}`);
  }

  /** Tool parts of the newest answer in `state`. */
  tools(state) { return (this.answer?.parts ?? []).filter(part => isTool(part) && (!state || part.state === state)); }
  /** The id of the one approval that is asked for. */
  get asked() {
    const [card, ...others] = this.tools('approval-requested');
    assert.ok(card && others.length === 0, `one card is shown: ${JSON.stringify(this.answer?.parts)}`);
    return card.approval.id;
  }
  decide(approved, reason) { return this.chat.addToolApprovalResponse({ id: this.asked, approved, reason }); }

  /** Until so much text of the newest answer is shown. */
  shows(least = 1) { return until(() => this.text.length >= least, () => `${least} characters, there are ${this.text.length}`); }
  /** Until nothing runs. An error is one at once, unless it is waited for. */
  async rests(status = 'ready') {
    await until(() => this.status === status || (this.status === 'error' && status !== 'error'), `the status ${status}`);
    assert.equal(this.status, status, String(this.error));
  }
  /** Until a request to send has been answered and its follow-ups, too. */
  async settles(least) {
    await until(() => this.posts.length >= least && this.posts.every(post => post.status) && this.status === 'ready',
      () => `${least} posts, there are ${this.posts.length}, status ${this.status} ${this.error ?? ''}`);
  }

  session() {
    const named = this.requests.findLast(request => request.headers?.get('steerage-session'));
    return named ? named.headers.get('steerage-session') : this.id;
  }
  log() { return this.server.log(this.session()); }

  /** What every scene ends with: each answer that is shown is there once, and is what the log says, to the byte. */
  async agrees({ partial = [] } = {}) {
    const said = runs(await this.log());
    const ids = this.answers.map(message => message.id);
    assert.deepEqual(ids, [...new Set(ids)], 'an answer is shown twice');
    for (const message of this.answers) {
      const run = said.find(run => run.id === message.id);
      assert.ok(run, `the answer ${message.id} is no run of ${said.map(run => run.id)}`);
      const reasoning = partsOf(message, 'reasoning').map(part => part.text).join('');
      if (partial.includes(message.id)) {
        assert.ok(run.text.startsWith(textOf(message)), 'what was seen of an answer is how it begins');
        continue;
      }
      assert.equal(textOf(message), run.text);
      assert.equal(reasoning, run.reasoning);
      for (const part of message.parts) assert.notEqual(part.state, 'streaming', `a part stays open: ${JSON.stringify(part)}`);
    }
    return said;
  }
}
