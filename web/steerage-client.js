// The connection to a session and its commands: every event exactly once and in order, over whichever transport gets
// through. What the events mean is not known here; see steerage-state.js.

import { Connection, SteerageError, clock, query, watch } from './steerage-connection.js';

export { SteerageError };

/** Milliseconds, but for `waitS`. Each can be given as `limits` of a client. */
const LIMITS = {
  openingMs: 4_000, // Until the first byte of a stream, and from there to its first message: the server sends both at once.
  silenceMs: 25_000, // The server is never silent for longer than 15 s.
  retryMinMs: 250,
  retryMaxMs: 30_000, // Longest wait that the server did not ask for by a notice or Retry-After.
  steadyMs: 5_000, // A connection that lived so long is a good one: the next failure is the first.
  requestMs: 10_000, // One request, but for the wait of a long poll.
  commandMs: 30_000, // A command with all its tries.
  waitS: 25, // A long poll. The server takes up to 30.
  queueMax: 1_000, // Records that wait for a slow `for await` before its connection is closed for a while.
};
/** Longest wait that the server may ask for, in milliseconds: past it, asking again costs nobody much. */
const ASKED_MAX_MS = 600_000;
/** What `auto` tries, in this order. */
const LADDER = ['sse', 'websocket', 'poll'];
/** Connections of one transport in a row that end in silence, or that cannot be opened, until `auto` leaves it. */
const STRIKES = 2;
/** Ends that have nothing to do with the server's health. */
const PROMPT = new Set(['silent', 'gap', 'broken', 'expired']);
const name = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), b => b.toString(16).padStart(2, '0')).join('');

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => { signal?.removeEventListener('abort', stop); resolve(); }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

async function refusal(response) {
  const text = await response.text().catch(() => '');
  let problem;
  try { problem = JSON.parse(text); } catch { /* Not ours: a proxy's. */ }
  const code = typeof problem?.code === 'string' ? problem.code : `http_${response.status}`;
  const after = response.headers.get('retry-after');
  const ms = /^\d+$/.test(after ?? '') ? after * 1000 : after ? Date.parse(after) - Date.now() : NaN;
  const retryAfterMs = Number.isFinite(ms) ? Math.max(0, ms) : undefined;
  const message = problem?.detail ?? `the server answered ${response.status}`;
  return new SteerageError(response.status, code, message, { problem, retryAfterMs });
}

/** A server. */
export class Steerage {
  #token;
  #credential;

  constructor({ url = new URL('.', import.meta.url), token, fetch, WebSocket, limits } = {}) {
    this.url = new URL(url, globalThis.location?.href);
    this.url.search = this.url.hash = '';
    if (!this.url.pathname.endsWith('/')) this.url.pathname += '/';
    this.fetch = fetch ?? ((...args) => globalThis.fetch(...args));
    this.WebSocket = WebSocket ?? globalThis.WebSocket;
    this.limits = { ...LIMITS, ...limits };
    this.#token = token;
  }

  /** The key or token in force. With a function it is asked for once, until it is over. */
  credential(reason = 'first') {
    if (typeof this.#token !== 'function') return Promise.resolve(this.#token || undefined);
    if (!this.#credential) {
      const asked = Promise.resolve().then(() => this.#token({ reason })).catch(cause => {
        if (this.#credential === asked) this.#credential = undefined;
        throw new SteerageError(0, 'no_token', 'the token could not be had', { cause });
      });
      this.#credential = asked;
    }
    return this.#credential;
  }

  /** Another one than `used`. `undefined` where there is none. Whoever asks at once gets the same. */
  async renew(used, reason) {
    if (typeof this.#token !== 'function') return undefined;
    const asked = this.#credential;
    const current = await asked?.catch(() => undefined);
    // Unless somebody has asked anew meanwhile.
    if (current === used && this.#credential === asked) this.#credential = undefined;
    return this.credential(reason);
  }

  /** One request, with the credential; a refusal is thrown. `used.token` becomes what it was sent with. */
  async request(path, { method = 'GET', body, accept = 'application/json', signal, timeoutMs, used = {}, renews = true } = {}) {
    used.token = await this.credential();
    const headers = { accept };
    if (used.token) headers.authorization = `Bearer ${used.token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const stop = new AbortController();
    const relay = () => stop.abort(signal.reason);
    if (signal?.aborted) relay();
    signal?.addEventListener('abort', relay, { once: true });
    const late = timeoutMs && setTimeout(() => stop.abort(new SteerageError(0, 'timeout', 'no answer in time')), timeoutMs);
    try {
      const response = await this.fetch(new URL(path, this.url), {
        method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: stop.signal, cache: 'no-store',
      });
      if (!response.ok) throw await refusal(response);
      // A stream is ended by its reader, with the same signal.
      if (accept !== 'application/json') return response;
      return { text: await response.text(), status: response.status };
    } catch (error) {
      if (error.status === 401 && renews && typeof this.#token === 'function') {
        await this.renew(used.token, error.code === 'token_expired' ? 'expired' : 'unauthorized');
        return this.request(path, { method, body, accept, signal, timeoutMs, used, renews: false });
      }
      if (error instanceof SteerageError) throw error;
      if (signal?.aborted) throw signal.reason;
      if (stop.signal.aborted) throw stop.signal.reason;
      throw new SteerageError(0, 'unreachable', 'the server cannot be reached', { cause: error });
    } finally {
      clearTimeout(late);
      if (accept === 'application/json') signal?.removeEventListener('abort', relay);
    }
  }

  async json(path, options) {
    const { text } = await this.request(path, { timeoutMs: this.limits.requestMs, ...options });
    try {
      return text ? JSON.parse(text) : undefined;
    } catch (cause) {
      // Somebody else's answer: a portal's, a proxy's.
      throw new SteerageError(0, 'not_json', 'the answer is not the server\'s', { cause });
    }
  }

  /** Tries until it is answered, for good or bad; `again` hears of the tries. */
  async insist(path, { signal, ...options }, again = () => {}) {
    const spent = watch();
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.json(path, { ...options, signal });
      } catch (error) {
        if (!(error instanceof SteerageError) || !error.passes) throw error;
        const wait = error.retryAfterMs ?? this.backOff(tries);
        if (spent() + wait > this.limits.commandMs) throw error;
        await sleep(wait, signal);
        again(tries);
      }
    }
  }

  /** Exponential, with jitter. */
  backOff(failures) {
    const { retryMinMs: min, retryMaxMs: max } = this.limits;
    return min + Math.random() * (Math.min(max, min * 2 ** Math.min(failures, 20)) - min);
  }

  async models() {
    return (await this.json('v1/models')).data;
  }

  sessions({ state, cursor, limit } = {}) {
    return this.json('v1/sessions' + query({ state, cursor, limit }));
  }

  /** Creates a session; its snapshot. */
  async create({ signal, ...body } = {}) {
    const asked = { ...body, id: body.id ?? name() };
    let tries = 1;
    try {
      return await this.insist('v1/sessions', { method: 'POST', body: asked, signal }, () => { tries += 1; });
    } catch (error) {
      // An earlier try got through although its answer did not.
      if (error.code !== 'session_exists' || tries === 1) throw error;
      return this.insist(`v1/sessions/${encodeURIComponent(asked.id)}`, { signal });
    }
  }

  session(id, options) {
    return new Session(this, id, options);
  }
}

/** One session: its events, and what can be said to it. */
export class Session {
  #steerage; #path; #listeners = new Map();
  #from; #requested; #connection;
  #run; #line; #hurry; #off = [];
  #fellBack = []; #opened = 0;
  #hintMs; #over;

  constructor(steerage, id, { transport = 'auto', from = 'start', after = '' } = {}) {
    this.#steerage = steerage;
    this.#path = `v1/sessions/${encodeURIComponent(id)}`;
    this.id = id;
    this.cursor = after;
    this.#from = from;
    this.#requested = checked(transport);
    this.#connection = { status: 'idle', transport: undefined, resumedFrom: '', retryAt: undefined, reason: undefined };
    this.#set({});
  }

  get connection() {
    return this.#connection;
  }

  on(type, listener) {
    const of = this.#listeners.get(type) ?? this.#listeners.set(type, new Set()).get(type);
    // Its own place: the same function may listen twice.
    const place = { listener };
    of.add(place);
    return () => of.delete(place);
  }

  #emit(type, value) {
    for (const { listener } of [...this.#listeners.get(type) ?? []]) {
      // A listener has changed it: the others were told of the newer one.
      if (type === 'connection' && value !== this.#connection) return;
      // What a listener throws is its own affair: the next event comes all the same.
      try { listener(value); } catch (error) { queueMicrotask(() => { throw error; }); }
    }
  }

  #set(change) {
    this.#connection = Object.freeze({
      ...this.#connection, ...change, requested: this.#requested, opened: this.#opened, fellBack: [...this.#fellBack],
    });
    this.#emit('connection', this.#connection);
  }

  open() {
    if (this.#run) return;
    this.#over = undefined;
    const run = this.#run = new AbortController();
    const listen = (target, type, heard) => {
      target?.addEventListener?.(type, heard);
      this.#off.push(() => target?.removeEventListener?.(type, heard));
    };
    listen(globalThis, 'online', () => { this.#fellBack = []; this.#wake(); });
    listen(globalThis.document, 'visibilitychange', () => document.visibilityState === 'visible' && this.#wake());
    this.#drive(run.signal).catch(error => { if (!run.signal.aborted) throw error; });
  }

  close() {
    if (this.#connection.status !== 'closed') this.#end('disconnected');
  }

  /** Switches at once, and goes on after the cursor. */
  use(transport) {
    this.#requested = checked(transport);
    this.#fellBack = [];
    if (!this.#run) return this.#set({});
    this.#stop();
    this.open();
  }

  #stop() {
    for (const off of this.#off.splice(0)) off();
    const run = this.#run;
    this.#run = this.#line = this.#hurry = undefined;
    run?.abort();
  }

  #end(reason, error) {
    this.#stop();
    this.#over = error;
    this.#set({ status: 'closed', retryAt: undefined, reason });
  }

  /** The network is back, or somebody looks again: a wait is over, and a connection that has died meanwhile is left. */
  #wake() {
    this.#hurry?.();
    this.#line?.look();
  }

  #choose() {
    if (this.#requested !== 'auto') return this.#requested;
    const left = new Set(this.#fellBack.map(({ transport }) => transport));
    return LADDER.find(rung => !left.has(rung) && (rung !== 'websocket' || this.#steerage.WebSocket)) ?? 'poll';
  }

  async #drive(signal) {
    const { limits } = this.#steerage;
    let [failures, strikes, refusals, last] = [0, 0, 0, ''];
    while (!signal.aborted) {
      const transport = this.#choose();
      if (transport !== last) [strikes, last] = [0, transport];
      this.#set({ status: 'connecting', transport, resumedFrom: this.cursor, retryAt: undefined, reason: undefined });
      const line = this.#line = new Connection(transport, this.#port(signal));
      let { why, error, afterMs } = await line.run();
      if (signal.aborted) return;
      if (line.progress || line.lived() >= limits.steadyMs) failures = 0;
      if (line.live) refusals = 0;
      if (line.flowed) strikes = 0;
      // Only a server that answers can be told from one that is not there; and why no socket was opened is not said.
      if (why === 'failed' || this.#requested === 'auto' && why === 'late') {
        error = await this.#refusal(signal);
        if (signal.aborted) return;
        if (error) why = 'refused';
      }
      if (why === 'failed' || why === 'late' || why === 'silent') {
        strikes += 1;
        if (this.#requested === 'auto' && transport !== 'poll' && (why === 'late' || strikes >= STRIKES)) {
          this.#fellBack = [...this.#fellBack, { transport, reason: why === 'failed' ? 'failed' : 'buffered' }];
          afterMs = 0;
        }
      }
      if (why === 'expired' || error?.status === 401) {
        if (error && (refusals += 1) >= STRIKES) return this.#end('unauthorized', error);
        const renewal = await this.#steerage.renew(line.used.token, 'expired').then(token => ({ token }), failed => ({ failed }));
        if (signal.aborted) return;
        // A token that stays the same is asked about once more: the server may have meant its own end.
        if (renewal.failed) [error, refusals] = [renewal.failed, 0];
        else if (renewal.token) [error, afterMs] = [undefined, 0];
        else if (error) return this.#end('unauthorized', error);
      } else if (error && !error.passes) {
        return this.#end(error.code, error);
      }
      failures += 1;
      // What ended by our own doing is tried again at once, unless that did not help.
      const prompt = failures === 1 && PROMPT.has(why);
      const asked = afterMs ?? error?.retryAfterMs;
      const wait = asked !== undefined ? Math.min(asked, ASKED_MAX_MS) : prompt ? 0
        : failures === 1 && this.#hintMs !== undefined ? Math.min(this.#hintMs, limits.retryMaxMs)
          : this.#steerage.backOff(failures);
      if (wait > 0) await this.#wait(wait, error?.code ?? why, asked !== undefined, signal);
    }
  }

  async #wait(ms, reason, asked, signal) {
    this.#line = undefined;
    this.#set({ status: 'waiting', retryAt: Date.now() + ms, reason });
    // Whoever was told may have closed it.
    if (signal.aborted) return;
    const hurry = new AbortController();
    // What the server asked for is kept, whoever looks.
    if (!asked) this.#hurry = () => hurry.abort();
    const stop = () => hurry.abort();
    signal.addEventListener('abort', stop, { once: true });
    await sleep(ms, hurry.signal).catch(() => {});
    signal.removeEventListener('abort', stop);
    if (!signal.aborted) this.#hurry = undefined;
  }

  /** Why the server does not answer a plain request; `undefined` if it does. */
  async #refusal(signal) {
    try {
      await this.#steerage.json(`${this.#path}/events${query({ from: 'now', limit: 1 })}`, {
        signal, timeoutMs: this.#steerage.limits.openingMs, renews: false,
      });
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** What a line needs of its session. */
  #port(signal) {
    const session = this;
    return {
      steerage: this.#steerage, path: this.#path, signal, cursor: () => this.cursor, from: this.#from,
      live: () => {
        this.#opened += 1;
        this.#set({ status: 'live' });
        return this.#opened;
      },
      event(record) {
        // One step: whoever is told of an event finds the cursor at it, and whoever closes then comes back after it.
        session.cursor = record.id;
        session.#emit('event', record);
        if (record.type === 'session.closed' && !signal.aborted) {
          session.#end(record.event.reason === 'deleted' ? 'deleted' : 'session_closed');
        }
      },
      /** Moves the cursor of one who began at the tail. */
      begin(id) { session.cursor = id; },
      notice: notice => this.#emit('notice', notice),
      hint: ms => { this.#hintMs = ms; },
      /** Asked for early, another token is there when this one ends. */
      expiring: token => { this.#steerage.renew(token, 'expiring').catch(() => {}); },
    };
  }

  /** The events as they come. Opens the session, and closes it when the loop is left. */
  async * events({ signal } = {}) {
    const { queueMax } = this.#steerage.limits;
    const queue = [];
    let [wake, paused, ended] = [() => {}, false, false];
    const off = [
      this.on('event', record => {
        queue.push(record);
        // The log waits with the server: the cursor brings the rest when there is room.
        if (queue.length >= queueMax && this.#run && record.type !== 'session.closed') {
          paused = true;
          this.#stop();
          this.#set({ status: 'waiting', retryAt: undefined, reason: 'paused' });
        }
        wake();
      }),
      this.on('connection', ({ status }) => { if (status === 'closed') { ended = true; wake(); } }),
    ];
    const stop = () => { ended = true; wake(); };
    signal?.addEventListener('abort', stop, { once: true });
    try {
      this.open();
      for (;;) {
        if (signal?.aborted) return;
        if (queue.length) { yield queue.shift(); continue; }
        if (ended) break;
        if (paused) { paused = false; this.open(); continue; }
        await new Promise(resolve => { wake = resolve; });
      }
      if (this.#over) throw this.#over;
    } finally {
      signal?.removeEventListener('abort', stop);
      for (const leave of off) leave();
      this.close();
    }
  }

  /** Gives a command; its receipt. */
  async command({ signal, ...body }) {
    const command = { command_id: name(), ...body };
    const [sentAt, took] = [clock(), watch()];
    this.#emit('command', { command, sentAt });
    try {
      const receipt = await this.#steerage.insist(`${this.#path}/control`, { method: 'POST', body: command, signal });
      this.#emit('command', { command, sentAt, ms: took(), receipt });
      return receipt;
    } catch (error) {
      this.#emit('command', { command, sentAt, ms: took(), error });
      throw error;
    }
  }

  send(content, options) { return this.command({ type: 'send', content, ...options }); }
  steer(content, options) { return this.command({ type: 'steer', content, ...options }); }
  cancel(options) { return this.command({ type: 'cancel', ...options }); }
  approve(approval_id, options) { return this.command({ type: 'approve', approval_id, ...options }); }
  deny(approval_id, options) { return this.command({ type: 'deny', approval_id, ...options }); }
  toolResult(call_id, options) { return this.command({ type: 'tool_result', call_id, ...options }); }
  withdraw(target, options) { return this.command({ type: 'withdraw', target, ...options }); }
  regenerate(options) { return this.command({ type: 'regenerate', ...options }); }

  snapshot({ signal } = {}) {
    return this.#steerage.json(this.#path, { signal });
  }

  page({ after, from, wait_s, limit, signal } = {}) {
    const timeoutMs = this.#steerage.limits.requestMs + (wait_s ?? 0) * 1000;
    return this.#steerage.json(`${this.#path}/events${query({ after, from, wait_s, limit })}`, { signal, timeoutMs });
  }

  delete({ signal } = {}) {
    return this.#steerage.json(this.#path, { method: 'DELETE', signal });
  }

  mint({ signal, ...body }) {
    return this.#steerage.json(`${this.#path}/tokens`, { method: 'POST', body, signal });
  }
}

function checked(transport) {
  if (transport !== 'auto' && !LADDER.includes(transport)) throw new TypeError(`unknown transport ${transport}`);
  return transport;
}
