// The client in a real browser: as a module of a plain page, and as a hook of React.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { connect, rawLog, serve, sleep, textOf } from './common.mjs';
import { tcp } from './proxy.mjs';

const here = name => fileURLToPath(new URL(name, import.meta.url));
let browser;
const launch = async () => browser ??= await chromium.launch({
  executablePath: process.env.STEERAGE_CHROMIUM, headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
});

async function tab(at) {
  const page = await (await launch()).newContext().then(context => context.newPage());
  page.errors = [];
  page.on('pageerror', error => page.errors.push(String(error)));
  page.on('console', line => { if (/warning|unique "key"/i.test(line.text())) page.errors.push(line.text()); });
  await page.goto(at);
  return page;
}

/** A page with the component of react-page.jsx, on an origin of its own, and a server that allows it. */
async function reactPage() {
  const bundle = await build({
    entryPoints: [here('react-page.jsx')], bundle: true, write: false, format: 'esm', nodePaths: [here('node_modules')],
    define: { 'process.env.NODE_ENV': '"development"' },
  });
  const app = http.createServer((request, answer) => {
    if (request.url === '/app.js') return answer.writeHead(200, { 'content-type': 'text/javascript' }).end(bundle.outputFiles[0].text);
    answer.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><div id="root"></div><script type="module" src="/app.js"></script>');
  });
  app.listen(0, '127.0.0.1');
  await once(app, 'listening');
  app.unref();
  const origin = `http://127.0.0.1:${app.address().port}`;
  const server = await serve({ more: ['--allowed-origin', origin] });
  const page = await tab(origin);
  await page.waitForFunction(() => globalThis.mount);
  return { page, server, steerage: connect(server.url) };
}
const story = async (steerage, tokens_per_second = 40) =>
  (await steerage.create({ model: 'demo/story', input: 'A story', params: { tokens_per_second } })).session_id;
const shown = page => page.evaluate(() => [...document.querySelectorAll('p.assistant')].map(p => p.textContent).join(''));

export default {
  async 'a plain page imports the module from the server: every transport, and a network that goes'() {
    const server = await serve();
    const page = await tab(server.url + '/');
    for (const transport of ['sse', 'websocket', 'poll', 'auto']) {
      const id = await story(connect(server.url), 100);
      const heard = page.evaluate(async ([id, transport]) => {
        const { Steerage } = await import('/steerage-client.js');
        const { fold, initial } = await import('/steerage-state.js');
        const session = new Steerage().session(id, { transport });
        const told = { ids: [], state: initial(), reconnects: 0 };
        globalThis.told = told;
        session.on('connection', ({ status }) => { told.reconnects += status === 'waiting'; });
        for await (const record of session.events()) {
          told.ids.push(record.id);
          told.state = fold(told.state, record.event);
          if (record.type === 'run.completed') break;
        }
        return { ...told, connection: session.connection };
      }, [id, transport]);
      await page.waitForFunction(() => globalThis.told?.ids.length > 20);
      await page.context().setOffline(true);
      await sleep(300);
      await page.context().setOffline(false);
      const { ids, state, connection } = await heard;
      const log = await rawLog(server.url, id);
      assert.deepEqual(ids, log.map(raw => JSON.parse(raw).id), transport);
      assert.deepEqual(state, await connect(server.url).session(id).snapshot());
      assert.equal(connection.transport, transport === 'auto' ? 'sse' : transport);
      await page.evaluate(() => { delete globalThis.told; });
    }
    assert.deepEqual(page.errors, []);
    await page.context().close();
    await server.kill();
  },

  async 'a socket in a browser with a token, where no status is seen'() {
    const KEY = 'sk_client-0123456789abcdef';
    const server = await serve({ more: ['--api-key', KEY] });
    const steerage = connect(server.url, { token: KEY });
    const id = await story(steerage, 100);
    const { token } = await steerage.session(id).mint({ verbs: ['read'], ttl_s: 1 });
    const page = await tab(server.url + '/');
    for (const transport of ['websocket', 'sse']) {
      const connection = await page.evaluate(async ([id, token, transport]) => {
        const { Steerage } = await import('/steerage-client.js');
        const session = new Steerage({ token, limits: { retryMinMs: 10, retryMaxMs: 50 } }).session(id, { transport });
        session.open();
        await new Promise(done => session.on('connection', ({ status }) => status === 'closed' && done()));
        return session.connection;
      }, [id, token, transport]);
      assert.equal(connection.reason, 'unauthorized');
    }
    await page.context().close();
    await server.kill();
  },

  async 'useSession in StrictMode streams once, steers, stops, and goes on after a cut'() {
    const { page, server, steerage } = await reactPage();
    const id = await story(steerage);
    const proxy = await tcp(server.port);
    await page.evaluate(([id, url]) => mount(id, { url, limits: { retryMinMs: 10, retryMaxMs: 50 } }), [id, proxy.url]);
    await page.waitForFunction(() => globalThis.used?.messages.at(-1)?.content[0]?.text.length > 60);
    await page.waitForFunction(() => document.querySelector('main').dataset.status === 'live');
    for (const client of proxy.open) client.resetAndDestroy();
    await page.waitForFunction(() => used.connection.opened >= 2 && used.connection.status === 'live');
    const steered = await page.evaluate(() => used.steer('With a dog'));
    assert.match(steered.status, /applied|accepted/);
    await page.waitForFunction(() => used.state.run?.step === 2);
    await page.waitForFunction(() => used.messages.at(-1).content[0]?.text.length > 40);
    assert.equal(await page.evaluate(() => used.running), true);
    assert.equal((await page.evaluate(() => used.stop())).status, 'applied');
    await page.waitForFunction(() => document.querySelector('main').dataset.running === 'false');
    const log = await rawLog(server.url, id);
    await page.waitForFunction(last => used.state.last_event_id === last, JSON.parse(log.at(-1)).id);
    assert.equal(await shown(page), textOf(log), 'the text is there once');
    assert.deepEqual(await page.evaluate(() => used.state), await steerage.session(id).snapshot());
    const renders = await page.evaluate(() => globalThis.renders);
    assert.deepEqual(page.errors, []);
    await page.context().close();
    await server.kill();
    return `${log.length} events, ${renders} renderings`;
  },

  async 'what comes faster than frames is drawn by the frame'() {
    const { page, server, steerage } = await reactPage();
    const { session_id: id } = await steerage.create({
      model: 'demo/echo', input: 'word '.repeat(900), params: { tokens_per_second: 300 },
    });
    await page.evaluate(([id, url]) => {
      [globalThis.frames, globalThis.began] = [0, performance.now()];
      const frame = () => { globalThis.frames += 1; requestAnimationFrame(frame); };
      frame();
      mount(id, { url, strict: false, from: 'start' });
    }, [id, server.url]);
    await page.waitForFunction(() => Number(used?.state.last_event_id.split('.')[1]) > 300);
    const [renders, events, frames, ms] = await page.evaluate(() => [
      globalThis.renders, Number(used.state.last_event_id.split('.')[1]), globalThis.frames, performance.now() - globalThis.began,
    ]);
    // One a frame, or one each 100 ms where frames do not come; and a few of the beginning.
    assert.ok(renders <= frames + ms / 100 + 5, `${renders} renderings in ${frames} frames, ${ms} ms`);
    assert.ok(events > renders);
    await steerage.session(id).cancel();
    await page.context().close();
    await server.kill();
    return `${renders} renderings of ${events} events in ${frames} frames`;
  },

  async 'unmounting closes the connection, another session is another one, and no session is none'() {
    const { page, server, steerage } = await reactPage();
    const [one, two] = [await story(steerage), await story(steerage)];
    await page.evaluate(url => mount(null, { url }), server.url);
    await page.waitForFunction(() => globalThis.used?.session === null && used.connection.status === 'idle');
    await assert.rejects(page.evaluate(() => used.send('x')), /no session/);
    await page.evaluate(([id, url]) => mount(id, { url }), [one, server.url]);
    await page.waitForFunction(() => used.messages.length === 2);
    const first = await page.evaluateHandle(() => used.session);
    await page.evaluate(([id, url]) => mount(id, { url }), [two, server.url]);
    await page.waitForFunction(id => used.state.session_id === id && used.messages.length === 2, two);
    assert.equal(await first.evaluate(session => session.connection.status), 'closed');
    const second = await page.evaluateHandle(() => used.session);
    const cursor = await second.evaluate(session => session.cursor);
    await page.evaluate(() => unmount());
    await page.waitForFunction(session => session.connection.status === 'closed', second);
    const closed = await second.evaluate(session => session.cursor);
    await sleep(500);
    assert.equal(await second.evaluate(session => session.cursor), closed, 'nothing comes any more');
    assert.ok(closed >= cursor);
    // Mounted again: from a snapshot, whole.
    await page.evaluate(([id, url]) => mount(id, { url }), [two, server.url]);
    await page.waitForFunction(() => used.state.run === null && used.state.last_run, undefined, { timeout: 60_000 });
    assert.equal(await shown(page), textOf(await rawLog(server.url, two)));
    assert.deepEqual(page.errors, []);
    await page.context().close();
    await server.kill();
  },
};

export const closeBrowser = () => browser?.close();
