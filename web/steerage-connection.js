// One connection to the events of a session, over one transport, from its opening to its end. It delivers what is whole,
// new and next, and notices when the other side has gone.

const encoder = new TextEncoder();
const bytesOf = text => /^[\x00-\x7f]*$/.test(text) ? text.length : encoder.encode(text).length;
/** Milliseconds since 1970, with fractions. */
export const clock = () => performance.timeOrigin + performance.now();
const seqOf = id => id ? Number(id.slice(id.indexOf('.') + 1)) : undefined;

/** Longest between two looks at a silence, in milliseconds: a timer may stand still while a machine sleeps. */
const LOOK_MS = 5_000;

/** A clock that neither sleep (a monotonic one may stand still) nor a changed wall clock stops: milliseconds since now. */
export function watch() {
  const [wall, steady] = [Date.now(), performance.now()];
  return () => Math.max(Date.now() - wall, performance.now() - steady);
}

export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? '?' + new URLSearchParams(given.map(([key, value]) => [key, String(value)])) : '';
}

/** Refusals with 429 that no patience helps. */
const FINAL = new Set(['session_limit', 'too_many_pending']);

/** What went wrong. `status` is that of HTTP, or 0 where there was no answer; `code` is what a program looks at. */
export class SteerageError extends Error {
  constructor(status, code, message, { problem, retryAfterMs, cause } = {}) {
    super(message, { cause });
    Object.assign(this, { name: 'SteerageError', status, code, problem, retryAfterMs });
  }

  /** Whether the same may succeed later. */
  get passes() {
    const { status, code } = this;
    return status === 0 || status === 408 || status >= 500 || status === 429 && !FINAL.has(code);
  }
}

export class Connection {
  #port; #ended; #resolve; #timer;
  #asked; // How long the server wants us to stay away, in milliseconds.
  #heard = watch(); #lived; #number; #seq; #told = false; #caughtUp = false;

  /** `port` is what it needs of its session. */
  constructor(transport, port) {
    this.transport = transport;
    this.#port = port;
    this.abort = new AbortController();
    this.used = {}; // The credential that it was opened with.
    this.progress = false; // Whether it brought an event.
    this.flowed = false; // Whether bytes came after those that come at once.
    this.live = false;
    this.quietMs = 0; // Nothing comes for so long by agreement.
    const { cursor, from } = port;
    // The position before the next event. Unknown until the server says where it begins.
    this.#seq = cursor() ? seqOf(cursor()) : from === 'start' ? 0 : undefined;
  }

  get steerage() { return this.#port.steerage; }
  get signal() { return this.abort.signal; }
  get ended() { return this.#ended !== undefined; }

  /** What a request for the events says of where to begin. */
  where() {
    const after = this.#port.cursor();
    return after ? { after } : { from: this.#port.from };
  }

  path(door) { return `${this.#port.path}/${door}`; }

  /** Milliseconds since it was live; 0 before. */
  lived() { return this.#lived?.() ?? 0; }

  /** Reads until it ends: why. */
  async run() {
    const { signal } = this.#port;
    const done = new Promise(resolve => { this.#resolve = resolve; });
    const stop = () => this.end({ why: 'closed' });
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    // How long an application takes to give a token says nothing about the network.
    this.steerage.credential().then(() => {
      this.#heard = watch();
      this.look();
      return TRANSPORTS[this.transport](this);
    }).then(
      () => this.end({ why: 'ended' }),
      error => this.end(error instanceof SteerageError ? { why: 'refused', error } : { why: 'lost' }),
    );
    const end = await done;
    signal.removeEventListener('abort', stop);
    clearTimeout(this.#timer);
    return end;
  }

  /** The first end counts. */
  end(end) {
    if (this.#ended) return;
    this.#ended = this.#asked === undefined ? end : { ...end, afterMs: this.#asked };
    this.abort.abort();
    this.#resolve(this.#ended);
  }

  /** Bytes came. */
  heard() {
    if (this.live && this.lived() > this.steerage.limits.openingMs) this.flowed = true;
    this.#heard = watch();
    this.quietMs = 0;
    if (this.live || this.ended) return;
    this.live = true;
    this.#lived = watch();
    this.#number = this.#port.live();
  }

  /** Ends it if nothing came for too long; else looks again. */
  look() {
    clearTimeout(this.#timer);
    if (this.ended) return;
    const { openingMs, silenceMs } = this.steerage.limits;
    const max = this.quietMs + (this.#told ? silenceMs : openingMs);
    const rest = max - this.#heard();
    if (rest <= 0) return this.end({ why: this.#told ? 'silent' : 'late' });
    this.#timer = setTimeout(() => this.look(), Math.min(rest, LOOK_MS));
  }

  hint(ms) { this.#port.hint(ms); }

  /** Takes one message, as the text of its JSON. */
  take(raw) {
    if (this.ended) return;
    let message;
    try { message = JSON.parse(raw); } catch { return this.end({ why: 'broken' }); }
    this.#told = true;
    if (typeof message.id === 'string' && Number.isSafeInteger(message.seq)) return this.#event(raw, message);
    if (message.type === 'snapshot') {
      const id = message.snapshot.last_event_id;
      this.#seq = seqOf(id);
      return this.#deliver(raw, message, id, this.#seq);
    }
    this.#notice(message);
  }

  #event(raw, event) {
    // Twice is once.
    if (event.seq <= this.#seq) return;
    // What is missing is asked for again, from where we are.
    if (event.seq !== this.#seq + 1) return this.end({ why: 'gap' });
    this.#seq = event.seq;
    this.#deliver(raw, event, event.id, event.seq);
  }

  #deliver(raw, event, id, seq) {
    this.progress = true;
    this.#port.event({
      event, type: event.type, id, seq, raw, bytes: bytesOf(raw), receivedAt: clock(), transport: this.transport,
      connection: this.#number, live: this.#caughtUp,
    });
  }

  #notice(notice) {
    switch (notice.type) {
      case 'caught_up':
        // Of one who began at the tail this is the first that says where that is.
        if (this.#seq === undefined) {
          this.#seq = notice.seq;
          if (notice.last_event_id) this.#port.begin(notice.last_event_id);
        }
        if (this.#seq < notice.seq) return this.end({ why: 'gap' });
        this.#caughtUp = true;
        break;
      case 'reset':
        // What comes next is a snapshot, or the log from its start.
        this.#seq = undefined;
        break;
      case 'reconnect':
      case 'overloaded':
        this.#asked = notice.after_ms;
        break;
    }
    this.#port.notice(notice);
    if (notice.type === 'auth_expiring') this.#port.expiring(this.used.token);
    // The server ends it now, and some proxy may not tell.
    if (notice.type === 'reconnect' || notice.type === 'overloaded') this.end({ why: notice.type });
    if (notice.type === 'auth_expired') this.end({ why: 'expired' });
    if (notice.type === 'store_failed') this.end({ why: 'store_failed' });
  }

  /** A page says what a stream says by notices. */
  caughtUp(page) {
    if (this.#caughtUp || !page.caught_up) return;
    this.take(JSON.stringify({ type: 'caught_up', seq: seqOf(page.last_event_id) ?? 0, last_event_id: page.last_event_id }));
  }
}

/** Server-sent events (WHATWG HTML §9.2), by `fetch`: that has headers, statuses, and an end that is one. */
async function sse(connection) {
  const { signal, used } = connection;
  const response = await connection.steerage.request(connection.path('events') + query(connection.where()), {
    accept: 'text/event-stream', signal, used, renews: false,
  });
  if (!/^text\/event-stream\b/.test(response.headers.get('content-type') ?? '')) {
    return connection.end({ why: 'failed' });
  }
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let [text, from, data] = ['', 0, ''];
  for (;;) {
    const { done, value } = await reader.read();
    // What is not whole is not taken: it comes again.
    if (done || connection.ended) return;
    connection.heard();
    text += decoder.decode(value, { stream: true });
    let begin = 0;
    for (let end; (end = text.indexOf('\n', Math.max(begin, from))) >= 0; begin = end + 1) {
      const line = text.slice(begin, text[end - 1] === '\r' && end > begin ? end - 1 : end);
      if (line === '') {
        if (data !== '') connection.take(data);
        data = '';
      } else if (line.startsWith('data:')) {
        data += (data && '\n') + line.slice(line[5] === ' ' ? 6 : 5);
      } else if (/^retry: ?\d+$/.test(line)) {
        connection.hint(Number(line.slice(6)));
      }
    }
    text = text.slice(begin);
    // A long line is not searched again from its start.
    from = text.length;
  }
}

/** A page may see why no socket was opened only by asking otherwise: an `error` event says nothing. */
function websocket(connection) {
  return new Promise((resolve, reject) => {
    const { steerage, signal, used } = connection;
    steerage.credential().then(token => {
      if (signal.aborted) return resolve();
      used.token = token;
      const url = new URL(connection.path('ws') + query(connection.where()), steerage.url);
      url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
      let socket;
      try {
        socket = new steerage.WebSocket(url.href, ['steerage', ...token ? [`steerage.bearer.${token}`] : []]);
      } catch {
        // A key may have characters that no subprotocol has (RFC 9110 §5.6.2).
        connection.end({ why: 'failed' });
        return resolve();
      }
      let opened = false;
      socket.onopen = () => {
        opened = true;
        connection.heard();
      };
      socket.onmessage = ({ data }) => {
        connection.heard();
        if (typeof data === 'string') connection.take(data);
      };
      socket.onerror = () => {};
      socket.onclose = ({ code }) => {
        connection.end({ why: code === 4401 ? 'expired' : opened ? 'lost' : 'failed' });
        resolve();
      };
      signal.addEventListener('abort', () => { socket.close(); resolve(); }, { once: true });
    }).catch(reject);
  });
}

/** Long poll: for networks that let nothing through but whole answers. */
async function poll(connection) {
  const { steerage, signal, used } = connection;
  const { waitS, requestMs } = steerage.limits;
  for (let wait_s = 0; !connection.ended;) {
    connection.quietMs = requestMs + wait_s * 1000;
    connection.look();
    const asked = watch();
    const { text } = await steerage.request(connection.path('events') + query({ ...connection.where(), wait_s }), {
      signal, used, timeoutMs: wait_s * 1000 + requestMs, renews: false,
    });
    connection.heard();
    let page;
    try { page = JSON.parse(text); } catch { return connection.end({ why: 'broken' }); }
    if (page.reset) connection.take(JSON.stringify(page.reset));
    if (page.snapshot) connection.take(JSON.stringify({ type: 'snapshot', snapshot: page.snapshot }));
    for (const raw of elements(text)) connection.take(raw);
    connection.caughtUp(page);
    if (page.store_failed !== undefined) {
      connection.take(JSON.stringify({ type: 'store_failed', message: page.store_failed }));
    }
    // An empty page before its time: the server stops, or the token is over. The next request tells.
    if (wait_s > 0 && page.events.length === 0 && asked() < wait_s * 500) return connection.end({ why: 'ended' });
    wait_s = page.caught_up ? waitS : 0;
  }
}

/** The elements of `events` of a page, each as the text that it came as. */
function * elements(text) {
  const start = text.indexOf('[');
  let [depth, begin, quoted] = [0, 0, false];
  for (let at = start + 1; at < text.length; at += 1) {
    const c = text[at];
    if (quoted) {
      if (c === '\\') at += 1;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === '{' || c === '[') {
      if (depth === 0) begin = at;
      depth += 1;
    } else if (c === '}' || c === ']') {
      if (depth === 0) return;
      depth -= 1;
      if (depth === 0) yield text.slice(begin, at + 1);
    }
  }
}

const TRANSPORTS = { sse, websocket, poll };
