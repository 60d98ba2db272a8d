// What a real browser is kept from and what it may, by origin, ticket and cookie:
// node edge.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { launch, log, of, run, serve, textOf } from './common.mjs';

const [executablePath, binary, folder, only] = process.argv.slice(2);
const KEY = 'sk_browser-0123456789';
// A name of somebody else's that leads to this machine, as after a DNS rebinding.
const browser = await launch(executablePath, ['--host-resolver-rules=MAP rebound.test 127.0.0.1']);

/** An empty page of an origin of its own. */
async function origin() {
  const server = createServer((_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end('<title>page</title>'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  return `http://127.0.0.1:${server.address().port}`;
}

const [app, evil] = [await origin(), await origin()];
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
const store = `disk:${folder}/store`;
const options = ['--api-key', KEY, '--allowed-origin', app];
let [url, server] = await serve(binary, '127.0.0.1:0', store, ...options);

async function ask(method, path, body) {
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json', accept: 'application/json' };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  return answer.status === 204 ? null : answer.json();
}
const mint = (session, wish) => ask('POST', `/v1/sessions/${session}/tokens`, wish);
const events = session => log(url, session, { authorization: `Bearer ${KEY}` });
async function story(id) {
  await ask('POST', '/v1/sessions', { id, model: 'demo/story', input: 'Tell me a story' });
  return id;
}
async function page(at) {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.goto(at);
  return tab;
}

/** Follows a session with the browser's own EventSource until the run has ended, or the source has given up. */
const follow = (tab, source, withCredentials) => tab.evaluate(async ([source, withCredentials]) => {
  const told = { text: '', ids: [], opened: 0, auth: [], closed: false };
  globalThis.told = told;
  const events = new EventSource(source, { withCredentials });
  events.onopen = () => { told.opened += 1; };
  events.addEventListener('text.delta', e => { told.text += JSON.parse(e.data).text; told.ids.push(e.lastEventId); });
  for (const name of ['auth_expiring', 'auth_expired']) events.addEventListener(name, () => told.auth.push(name));
  await new Promise(done => {
    events.addEventListener('run.completed', done);
    events.onerror = () => { if (events.readyState === EventSource.CLOSED) { told.closed = true; done(); } };
  });
  events.close();
  return told;
}, [source, withCredentials]);

const tests = {
  async 'an EventSource of an allowed page comes with a ticket, and back with its cookie, over a kill of the server'() {
    const session = await story('over-a-kill');
    const tab = await page(app);
    const { ticket } = await mint(session, { verbs: ['read'], ticket: true, origin: app });
    const following = follow(tab, `${url}/v1/sessions/${session}/events?ticket=${ticket}`, true);
    await tab.waitForFunction(() => globalThis.told?.text.length > 80);
    server.kill('SIGKILL');
    await once(server, 'exit');
    [url, server] = await serve(binary, new URL(url).host, store, ...options);
    const told = await following;
    const whole = await events(session);
    assert.equal(told.text, textOf(whole));
    assert.equal(new Set(told.ids).size, told.ids.length, 'no event twice');
    assert.ok(told.opened >= 2, 'it came back');
    assert.equal(of(whole, 'run.recovered').length, 1);
    await tab.context().close();
  },
  async 'the page of the server itself needs no more than a ticket'() {
    const session = await story('own-page');
    const tab = await page(url);
    const { ticket } = await mint(session, { verbs: ['read'], ticket: true, origin: url });
    const told = await follow(tab, `${url}/v1/sessions/${session}/events?ticket=${ticket}`, false);
    assert.equal(told.text, textOf(await events(session)));
    const [cookie] = await tab.context().cookies(`${url}/v1/sessions/${session}/events`);
    assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ['steerage_token', true, 'Strict']);
    assert.deepEqual(await tab.context().cookies(`${url}/v1/sessions/another`), [], 'for this session alone');
    await tab.context().close();
  },
  async 'on the page of the server no script runs but its own'() {
    const tab = await page(url);
    const tries = await tab.evaluate(async () => {
      const script = document.createElement('script');
      const markup = document.createElement('div');
      const refused = [];
      for (const change of [() => { script.textContent = 'globalThis.ran = 1'; }, () => { markup.innerHTML = '<b>'; }]) {
        try { change(); } catch (error) { refused.push(error.name); }
      }
      // Also where a script gets around that, as no text of a model can.
      const policy = trustedTypes.createPolicy('evil', { createHTML: text => text, createScript: text => text });
      script.textContent = policy.createScript('globalThis.ran = 1');
      markup.innerHTML = policy.createHTML('<img src="x" onerror="globalThis.ran = 1">');
      document.body.append(script, markup);
      await new Promise(done => setTimeout(done, 500));
      return [refused, globalThis.ran ?? 0];
    });
    assert.deepEqual(tries, [['TypeError', 'TypeError'], 0]);
    assert.equal(await tab.evaluate(() => getComputedStyle(document.body).display), 'grid', 'its own style is used');
    await tab.context().close();
  },
  async 'an allowed page reads, acts and opens a socket with its token, and no more than that'() {
    const session = await story('token');
    const tab = await page(app);
    const { token } = await mint(session, { verbs: ['read', 'cancel'] });
    const seen = await tab.evaluate(async ([url, session, token]) => {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const path = `${url}/v1/sessions/${session}`;
      const post = body => fetch(`${path}/control`, { method: 'POST', headers, body: JSON.stringify(body) });
      const socket = new WebSocket(`${path.replace('http', 'ws')}/ws?from=now`, ['steerage', `steerage.bearer.${token}`]);
      await new Promise((open, no) => { socket.onopen = open; socket.onerror = no; });
      const answer = new Promise(done => {
        socket.onmessage = e => { const m = JSON.parse(e.data); if (m.type === 'receipt' || m.type === 'error') done(m); };
      });
      socket.send(JSON.stringify({ type: 'send', content: 'and?' }));
      const { code } = await answer;
      const steer = await post({ type: 'steer', content: 'x' });
      const cancel = await post({ type: 'cancel' });
      return {
        protocol: socket.protocol, code, steer: [steer.status, (await steer.json()).code], cancel: cancel.status,
        requestId: cancel.headers.get('x-request-id') !== null,
      };
    }, [url, session, token]);
    const no = 'verb_not_allowed';
    assert.deepEqual(seen, { protocol: 'steerage', code: no, steer: [403, no], cancel: 200, requestId: true });
    await tab.context().close();
  },
  async 'a page of elsewhere reads nothing, opens nothing and stops nothing, whatever the browser has'() {
    const session = await story('victim');
    // The user has the cookie: a page that may has fetched it.
    const tab = await page(app);
    const { ticket, token } = await mint(session, { verbs: ['read', 'cancel'], ticket: true, origin: app });
    await tab.evaluate(async source => {
      const events = new EventSource(source, { withCredentials: true });
      await new Promise((open, no) => { events.onopen = open; events.onerror = no; });
      events.close();
    }, `${url}/v1/sessions/${session}/events?ticket=${ticket}`);
    assert.equal((await tab.context().cookies(`${url}/v1/sessions/${session}/events`)).length, 1);
    const { ticket: stolen } = await mint(session, { verbs: ['read'], ticket: true, origin: app });
    await tab.goto(evil);
    const tried = await tab.evaluate(async ([path, token, stolen]) => {
      const said = promise => promise.then(answer => `${answer.type} ${answer.status}`, error => error.name);
      const cancel = JSON.stringify({ type: 'cancel' });
      const opens = (socket, ...more) => new Promise(done => {
        const it = new socket(...more);
        it.onopen = () => done('open');
        it.onerror = () => done('error');
      });
      return {
        read: await said(fetch(path, { credentials: 'include' })),
        withToken: await said(fetch(path, { headers: { authorization: `Bearer ${token}` } })),
        simple: await said(fetch(`${path}/control`, { method: 'POST', mode: 'no-cors', credentials: 'include', body: cancel })),
        json: await said(fetch(`${path}/control`, {
          method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json' }, body: cancel })),
        socket: await opens(WebSocket, `${path.replace('http', 'ws')}/ws`),
        socketWithToken: await opens(WebSocket, `${path.replace('http', 'ws')}/ws`, ['steerage', `steerage.bearer.${token}`]),
        source: await opens(EventSource, `${path}/events`, { withCredentials: true }),
        ticket: await opens(EventSource, `${path}/events?ticket=${stolen}`, { withCredentials: true }),
      };
    }, [`${url}/v1/sessions/${session}`, token, stolen]);
    assert.deepEqual(tried, {
      read: 'TypeError', withToken: 'TypeError', simple: 'TypeError', json: 'TypeError', socket: 'error',
      socketWithToken: 'error', source: 'error', ticket: 'error',
    });
    // The simple request is sent, and its answer is kept from the page.
    const { state } = await ask('GET', `/v1/sessions/${session}`);
    assert.equal(state, 'running', 'nobody has stopped it');
    assert.equal(of(await events(session), 'command.applied').length, 0);
    await ask('POST', `/v1/sessions/${session}/control`, { type: 'cancel' });
    await tab.context().close();
  },
  async 'a stream ends with its token, and its EventSource gives up'() {
    const session = await story('short');
    const tab = await page(app);
    const { ticket } = await mint(session, { verbs: ['read'], ttl_s: 2, ticket: true, origin: app });
    const told = await follow(tab, `${url}/v1/sessions/${session}/events?ticket=${ticket}`, true);
    assert.deepEqual([told.auth, told.closed], [['auth_expiring', 'auth_expired'], true]);
    await tab.context().close();
  },
  async 'a name that was led here by somebody else is not answered'() {
    const [open] = await serve(binary, '127.0.0.1:0', 'memory');
    const tab = await page(open);
    assert.equal(await tab.evaluate(() => fetch('/v1/sessions').then(answer => answer.status)), 200);
    const answer = await tab.goto(`http://rebound.test:${new URL(open).port}/`);
    assert.equal(answer.status(), 421);
    assert.equal(await tab.evaluate(() => fetch('/v1/sessions').then(answer => answer.status)), 421);
    await tab.context().close();
  },
};

await run(browser, tests, only);
