// Networks that hold back, go silent, refuse or are away: what the client changes to, and how often it tries.
import assert from 'node:assert/strict';
import { Heard, QUICK, connect, folder, rawLog, serve, sleep, textOf } from './common.mjs';
import { tcp, web } from './proxy.mjs';

const server = await serve();
const direct = connect(server.url);
const story = async (tokens_per_second = 100, input = 'Tell me a story') =>
  (await direct.create({ model: 'demo/story', input, params: { tokens_per_second } })).session_id;
const isEvents = request => request.url.includes('/events') && !request.headers.accept.includes('json');
/** Bodies that end come whole; a stream does not. */
const buffers = request => isEvents(request) ? 0 : Infinity;

async function follows(proxy, id, { limits = {}, ...options } = {}) {
  const heard = new Heard(connect(proxy.url, { limits: { ...QUICK, ...limits } }).session(id, options));
  heard.session.open();
  return heard;
}
/** What is at once may take this long on a busy machine, in milliseconds; what it is told from takes 20 s and more. */
const SOON = 10_000;
const reasons = heard => heard.session.connection.fellBack.map(({ transport, reason }) => `${transport} ${reason}`);

export default {
  async 'a proxy that holds a stream back until its end: a socket instead'() {
    const id = await story();
    const proxy = await web(server.port, { hold: buffers });
    const began = performance.now();
    const heard = await follows(proxy, id);
    await heard.until(() => heard.records.length > 0);
    const first = performance.now() - began;
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered']);
    assert.equal(heard.session.connection.transport, 'websocket');
    assert.ok(first > 3_900 && first < SOON + 4_000, `the opening is waited for 4 s: ${first} ms`);
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
    return `first event after ${Math.round(first)} ms`;
  },

  async 'one that also refuses upgrades: a long poll'() {
    const id = await story();
    const proxy = await web(server.port, { hold: buffers, upgrades: false });
    const heard = await follows(proxy, id, { limits: { openingMs: 500 } });
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered', 'websocket failed']);
    assert.equal(heard.session.connection.transport, 'poll');
    assert.ok(heard.records.some(record => record.live), 'it waits for what comes');
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'one that holds back, and a key that no subprotocol can carry: a long poll'() {
    const id = await story();
    const proxy = await web(server.port, { hold: buffers });
    // A server without keys takes any; `/` and `=` are in no token (RFC 9110 §5.6.2), so no socket can be made.
    const client = connect(proxy.url, { token: 'abcdEFGH/ijkl+mnop==', limits: { ...QUICK, openingMs: 500 } });
    const heard = new Heard(client.session(id));
    heard.session.open();
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered', 'websocket failed']);
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },
  async 'one that lets the handshake through and nothing after it: a long poll'() {
    const id = await story();
    const proxy = await web(server.port, { hold: buffers, upgrades: 'silent' });
    const heard = await follows(proxy, id, { limits: { openingMs: 500 } });
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered', 'websocket buffered']);
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'one that passes the opening and then holds back'() {
    const id = await story();
    // The comment and `retry:`, and not a byte of what follows.
    const proxy = await web(server.port, { hold: request => isEvents(request) ? 20 : Infinity });
    const heard = await follows(proxy, id, { limits: { openingMs: 500 } });
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered']);
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'one that passes the first kilobytes and then holds back: left after the second silence'() {
    const id = await story(20);
    const proxy = await web(server.port, { hold: request => isEvents(request) ? 2_000 : Infinity });
    const heard = await follows(proxy, id, { limits: { openingMs: 500, silenceMs: 1_000 } });
    await heard.until(() => heard.connections.some(c => c.transport === 'websocket' && c.status === 'live'));
    assert.deepEqual(reasons(heard), ['sse buffered']);
    await heard.until(() => heard.ended());
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'a server that is down is waited for, with the transport it had'() {
    const store = `disk:${folder()}/store`;
    let own = await serve({ store });
    const { session_id } = await connect(own.url).create({ model: 'demo/story', input: 'A story', params: { tokens_per_second: 60 } });
    const heard = await follows(own, session_id, { limits: { retryMinMs: 50, retryMaxMs: 500 } });
    await heard.until(() => heard.records.length > 10);
    await own.kill();
    await heard.until(() => heard.session.connection.status === 'waiting');
    await sleep(2_500);
    own = await serve({ store, port: own.port });
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), []);
    assert.ok(heard.connections.every(({ transport }) => transport === undefined || transport === 'sse'));
    const attempts = heard.connections.filter(({ status }) => status === 'connecting').length;
    assert.ok(attempts < 30, `${attempts} attempts`);
    heard.isLog(await rawLog(own.url, session_id));
    heard.session.close();
    await own.kill();
    return `${attempts} attempts in 2.5 s`;
  },

  async 'nor is a socket left while nobody answers'() {
    const store = `disk:${folder()}/store`;
    let own = await serve({ store });
    const { session_id } = await connect(own.url).create({ model: 'demo/story', input: 'A story', params: { tokens_per_second: 40 } });
    const proxy = await web(own.port, { hold: buffers });
    const heard = await follows(proxy, session_id, { limits: { openingMs: 300 } });
    await heard.until(() => heard.session.connection.transport === 'websocket' && heard.records.length > 10);
    await own.kill();
    const before = proxy.requests.length;
    await sleep(1_500);
    assert.ok(proxy.requests.length > before + 4, 'it tries');
    own = await serve({ store, port: own.port });
    await heard.until(() => heard.ended());
    assert.deepEqual(reasons(heard), ['sse buffered']);
    heard.isLog(await rawLog(own.url, session_id));
    heard.session.close();
    await own.kill();
  },

  async 'use() in the middle of an answer, to and fro'() {
    const id = await story(60);
    const proxy = await web(server.port, { hold: () => Infinity });
    const heard = await follows(proxy, id);
    // By characters, of 1,402: on a busy machine several tokens are one event.
    for (const [transport, at] of [['websocket', 100], ['poll', 320], ['sse', 540], ['websocket', 760], ['auto', 980]]) {
      await heard.until(() => textOf(heard.records.map(({ raw }) => raw)).length > at, `${at} characters`);
      heard.session.use(transport);
      assert.equal(heard.session.connection.requested, transport);
    }
    await heard.until(() => heard.ended());
    const seen = new Set(heard.records.map(record => record.transport));
    assert.deepEqual([...seen].sort(), ['poll', 'sse', 'websocket']);
    assert.throws(() => heard.session.use('pigeon'), TypeError);
    const begun = heard.connections.filter(({ status }) => status === 'connecting').map(({ resumedFrom }) => resumedFrom);
    const [first, ...others] = begun;
    assert.equal(first, '');
    for (const cursor of others) assert.ok(cursor && proxy.requests.some(({ url }) => url.includes(`after=${cursor}`)), cursor);
    assert.equal(proxy.requests.filter(({ url }) => url.includes('from=start')).length, 1, 'nothing is read from the start again');
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'use() and close() within a listener'() {
    const id = await story(200);
    const heard = await follows(server, id);
    let turns = 0;
    // There are some 270 events, fewer on a busy machine, where several tokens are one.
    heard.session.on('event', ({ seq, type }) => {
      if (seq % 8 === 0) heard.session.use(['sse', 'websocket', 'poll'][turns++ % 3]);
      if (seq % 10 === 0) { heard.session.close(); heard.session.open(); }
      if (type === 'text.started') throw Object.assign(new Error('a listener'), { expected: true });
    });
    let thrown;
    process.once('uncaughtException', error => { thrown = error; });
    await heard.until(() => heard.ended() && thrown);
    assert.ok(turns > 0);
    assert.equal(thrown.expected, true, 'the listener is heard, and the events go on');
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
  },

  async 'close() drops the connection, and a slow loop loses nothing'() {
    const id = await story(5000);
    const proxy = await tcp(server.port);
    const steerage = connect(proxy.url, { limits: { ...QUICK, queueMax: 5 } });
    const log = await rawLog(server.url, id);
    const ids = [];
    let most = 0;
    const session = steerage.session(id);
    session.on('connection', ({ opened }) => { most = Math.max(most, opened); });
    for await (const record of session.events()) {
      ids.push(record.id);
      if (ids.length % 4 === 0) await sleep(2);
      if (record.type === 'run.completed') break;
    }
    assert.deepEqual(ids, log.map(raw => JSON.parse(raw).id));
    assert.equal(session.connection.status, 'closed');
    assert.ok(most >= 3, `the log waited with the server: ${most} connections`);
    for (const transport of ['sse', 'websocket', 'poll']) {
      const heard = await follows(proxy, id, { transport });
      await heard.until(() => heard.notices.some(({ type }) => type === 'caught_up'));
      if (transport !== 'websocket') await sleep(50);
      const before = [...proxy.open];
      heard.session.close();
      await sleep(300);
      // Node may open another one that is idle.
      assert.equal(before.filter(client => client.destroyed).length, 1, `${transport}: the connection of the stream`);
      assert.equal(heard.session.connection.reason, 'disconnected');
    }
    proxy.close();
  },

  async 'a loop ends with its signal, and with what the server refuses'() {
    const id = await story(5000);
    const stop = new AbortController();
    let count = 0;
    for await (const _ of direct.session(id).events({ signal: stop.signal })) if (++count === 5) stop.abort();
    assert.ok(count >= 5);
    await assert.rejects(async () => { for await (const _ of direct.session('nothing').events()); },
      { code: 'session_not_found', status: 404 });
  },

  async 'a black hole is noticed and left'() { return holes({ silenceMs: 1_500, openingMs: 700 }, 1_500 + SOON, 1_500); },
  'a black hole is noticed within 26 s': Object.assign(() => holes({}, 26_000, 25_000), { long: true }),

  async 'after sleep: a connection whose last byte is old is left at once'() {
    const id = await story(5000);
    await rawLog(server.url, id);
    const had = Date.now;
    globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
    try {
      const heard = await follows(server, id);
      await heard.until(() => heard.notices.some(({ type }) => type === 'caught_up'));
      document.dispatchEvent(new Event('visibilitychange'));
      assert.equal(heard.session.connection.status, 'live', 'a young one stays');
      Date.now = () => had() + 60_000;
      const began = performance.now();
      document.dispatchEvent(new Event('visibilitychange'));
      await heard.until(() => heard.session.connection.opened === 2);
      assert.ok(performance.now() - began < SOON);
      heard.session.close();
    } finally {
      Date.now = had;
      delete globalThis.document;
    }
  },

  async 'what the server asks for is waited, whoever looks'() {
    const id = await story(5000);
    const wait = 700;
    const frame = notice => `retry: 5\n: x\n\nevent: ${notice.type}\ndata: ${JSON.stringify(notice)}\n\n`;
    const stream = notice => ({ status: 200, headers: { 'content-type': 'text/event-stream' }, body: frame(notice) });
    for (const first of [
      stream({ type: 'reconnect', after_ms: wait }), stream({ type: 'overloaded', limit: 'x', max: 1, after_ms: wait }),
      { status: 503, headers: { 'retry-after': '1' }, body: '' },
    ]) {
      let asked = 0;
      const proxy = await web(server.port, { hold: () => Infinity, answer: request => isEvents(request) && asked++ === 0 ? first : undefined });
      const heard = await follows(proxy, id);
      await heard.until(() => heard.session.connection.status === 'waiting');
      assert.ok(heard.session.connection.retryAt - Date.now() > wait - 100);
      globalThis.dispatchEvent?.(new Event('online'));
      await heard.until(() => heard.ended());
      const [one, two] = proxy.requests.filter(isEvents).map(({ at }) => at);
      const least = first.status === 503 ? 1_000 : wait;
      assert.ok(two - one >= least - 5 && two - one < least + SOON, `${two - one} ms for ${least}`);
      heard.session.close();
    }
  },

  async 'the network is back: at once'() {
    const events = new EventTarget();
    const had = ['addEventListener', 'removeEventListener'].map(name => [name, globalThis[name]]);
    for (const [name] of had) globalThis[name] = events[name].bind(events);
    try {
      const id = await story(5000);
      let down = true;
      const proxy = await web(server.port, { hold: () => Infinity, answer: () => down ? { status: 502, body: '' } : undefined });
      const heard = await follows(proxy, id, { limits: { retryMinMs: 20_000, retryMaxMs: 30_000 } });
      await heard.until(() => heard.session.connection.status === 'waiting');
      down = false;
      const began = performance.now();
      events.dispatchEvent(new Event('online'));
      await heard.until(() => heard.ended());
      assert.ok(performance.now() - began < SOON);
      heard.session.close();
    } finally {
      for (const [name, value] of had) globalThis[name] = value;
    }
  },

  async 'no storm: failures are spaced, with jitter, and forgotten after a good connection'() {
    const id = await story(5000);
    let down = true;
    const proxy = await web(server.port, { hold: () => Infinity, answer: () => down ? { status: 502, body: '' } : undefined });
    // A poll knows of no `retry:`.
    const limits = { retryMinMs: 20, retryMaxMs: 1_000, steadyMs: 200, waitS: 1 };
    const lines = await Promise.all(Array.from({ length: 8 }, () => follows(proxy, id, { limits, transport: 'poll' })));
    await sleep(3_000);
    const each = proxy.requests.length / lines.length;
    // 20 ms, doubled each time: seven waits until 1 s, and then two or so.
    assert.ok(each >= 4 && each <= 20, `${each} attempts each in 3 s`);
    const waits = lines.map(heard => heard.connections.filter(c => c.status === 'waiting').at(-1).retryAt);
    assert.ok(new Set(waits).size > 4, 'not all at the same time');
    down = false;
    await Promise.all(lines.map(heard => heard.until(() => heard.session.connection.status === 'live')));
    await sleep(300);
    // The next failure is the first again.
    const heard = lines[0];
    down = true;
    await heard.until(() => heard.session.connection.status === 'waiting');
    const { retryAt } = heard.session.connection;
    assert.ok(retryAt - Date.now() <= 50, `waits ${retryAt - Date.now()} ms`);
    for (const each of lines) each.session.close();
    return `${each} attempts each in 3 s`;
  },
};

/** The proxy forwards nothing any more, and its sockets stay open. */
async function holes(limits, most, least) {
  const figures = [];
  await Promise.all(['sse', 'websocket'].map(async transport => {
    const id = await story(5000);
    let black = false;
    const proxy = await tcp(server.port, number => ({ hole: () => black && number <= 1 }));
    const heard = await follows(proxy, id, { transport, limits });
    await heard.until(() => heard.notices.some(({ type }) => type === 'caught_up') && heard.ended());
    black = true;
    const began = performance.now();
    await direct.session(id).send('And then?');
    await heard.until(() => heard.session.connection.opened === 2);
    const took = performance.now() - began;
    assert.ok(took <= most && took >= least - 1_000, `${transport}: ${took} ms`);
    await heard.until(() => heard.ended(2));
    heard.isLog(await rawLog(server.url, id));
    heard.session.close();
    proxy.close();
    figures.push(`${transport} ${(took / 1000).toFixed(1)} s`);
  }));
  return figures.join(', ');
}
