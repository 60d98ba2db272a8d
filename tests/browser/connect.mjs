// Runs every snippet of "Connect your app" as it stands: node connect.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { PATIENCE, blank, launch, log as read, run, serve, textOf } from './common.mjs';

const [executablePath, binary, shots, only] = process.argv.slice(2);
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const work = path.resolve(shots, 'connect');
mkdirSync(work, { recursive: true });
const browser = await launch(executablePath);
const [url] = await serve(binary, '127.0.0.1:0', 'memory');
const KEY = 'sk_a-key-that-no-page-may-show-0123456789';
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// What is needed to run them, installed as the suites of the SDKs do.

/** Runs `make` unless `there` exists; why it cannot be had, or nothing. */
function kit(there, make) {
  try {
    if (!existsSync(there)) make();
    return existsSync(there) ? '' : `${there} is not there`;
  } catch (error) {
    return String(error.stderr || error.message).trim().split('\n').at(-1);
  }
}
const quietly = { stdio: ['ignore', 'ignore', 'pipe'] };
const npm = folder => execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder, ...quietly });
const python = path.join(work, 'python', 'bin', 'python');
const nodeKit = path.join(root, 'tests/sdk/openai/node'), reactKit = path.join(root, 'examples/ai-sdk-chat');
const ways = {
  python: () => kit(path.join(work, 'python', 'ready'), () => {
    execFileSync('python3', ['-m', 'venv', path.join(work, 'python')], quietly);
    execFileSync(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps', '-r', path.join(root, 'tests/sdk/openai/python/requirements-3.txt')], quietly);
    writeFileSync(path.join(work, 'python', 'ready'), '');
  }),
  node: () => kit(path.join(nodeKit, 'node_modules/openai7'), () => npm(nodeKit)),
  react: () => kit(path.join(reactKit, 'node_modules/vite'), () => npm(reactKit)),
};

/** Why something cannot be run here, found before the first test: an installation stops all else. */
const lacks = Object.fromEntries(Object.entries(ways).map(([name, find]) => [name, find()]));

/** Runs a program until its output is what is looked for; the output. */
async function until(looked, command, args, { env = {}, input, cwd = work, while: meanwhile } = {}) {
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'pipe'] });
  let [out, bad] = ['', ''];
  child.stdin.on('error', () => {}); // One that reads nothing may be gone.
  child.stdin.end(input);
  const found = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`not in time: ${out.slice(-1500)}\n${bad}`)), PATIENCE);
    const look = data => { out += data; if (looked(out)) { clearTimeout(late); resolve(); } };
    child.stdout.on('data', look);
    child.stderr.on('data', data => { bad += data; });
    child.on('close', code => { clearTimeout(late); if (looked(out)) resolve(); else reject(new Error(`ended with ${code}: ${out.slice(-1500)}\n${bad}`)); });
    child.on('error', reject);
  });
  await Promise.all([found, meanwhile?.()]).finally(() => child.kill('SIGKILL'));
  return out;
}

class World {
  constructor(base, key) {
    Object.assign(this, { base, key, auth: key ? { authorization: `Bearer ${key}` } : {} });
  }
  async post(where, body) {
    const answer = await fetch(this.base + where, { method: 'POST', headers: { 'content-type': 'application/json', ...this.auth }, body: JSON.stringify(body) });
    assert.ok(answer.ok, await answer.clone().text());
    return answer.json();
  }
  log(session) { return read(this.base, session, this.auth); }
  async session(model = 'demo/story') {
    const { session_id } = await this.post('/v1/sessions', { model, input: 'Tell me a story', params: { tokens_per_second: 300 } });
    while (!(await this.log(session_id)).some(({ type }) => type === 'run.completed')) await new Promise(done => setTimeout(done, 100));
    return session_id;
  }
  say(session, content) { return this.post(`/v1/sessions/${session}/control`, { type: 'send', content }); }
  mint(session, body) { return this.post(`/v1/sessions/${session}/tokens`, body); }

  /** The page with the panel. Somebody types the key where it is asked for. */
  async panel(session, options = {}) {
    const { page, errors } = await blank(browser, { permissions: ['clipboard-read', 'clipboard-write'], ...options });
    page.errors = errors;
    await page.goto(`${this.base}/#/${session}`);
    if (this.key) {
      await page.locator('#key').fill(this.key);
      await page.locator('#key').press('Enter');
    }
    await page.locator('[data-go=connect]:visible').click();
    await page.locator('.connect-tabs [role=tab]').first().waitFor();
    // The code is that of a session at rest, with its last id.
    const { id } = (await this.log(session)).at(-1);
    await page.waitForFunction(id => document.querySelector('#cursor').textContent === id, id);
    if (this.key) await page.locator('.connect-key').waitFor();
    return page;
  }
  async code(session, id) {
    const page = await this.panel(session);
    await page.locator(`#connect-${id}`).click();
    const code = await page.locator('.connect-code code').textContent();
    assert.equal(code.includes(KEY), false, 'no key in a snippet');
    assert.ok(code.includes(this.base) || code.includes(this.base.replace('http', 'ws')), code);
    await page.context().close();
    return code;
  }
  shell(code, looked, more = {}) {
    const bin = path.dirname(path.resolve(binary));
    return until(looked, 'bash', ['-c', code], { ...more, env: { PATH: `${bin}:${process.env.PATH}`, ...this.key && { STEERAGE_API_KEY: this.key } } });
  }

  /** A page of the server's origin with the application's own back end, which mints. What it writes to the console. */
  async browser(session, html, files = {}) {
    const context = await browser.newContext();
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const lines = page.lines = [];
    page.on('console', message => lines.push(message.text()));
    page.on('pageerror', error => lines.push(`ERROR ${error}`));
    const serves = (where, answer) => page.route(`${this.base}${where}`, async route => route.fulfill(await answer()));
    await serves('/my-token', async () => ({ contentType: 'text/plain', body: (await this.mint(session, { verbs: ['read', 'send', 'steer', 'cancel'] })).token }));
    await serves('/my-ticket', async () => ({ contentType: 'text/plain', body: (await this.mint(session, { verbs: ['read'], ticket: true, origin: new URL(this.base).origin })).ticket }));
    await serves('/my-app', async () => ({ contentType: 'text/html', body: `<!doctype html><title>mine</title>${html}` }));
    for (const [name, body] of Object.entries(files)) await serves(`/${name}`, async () => ({ contentType: 'text/javascript', body }));
    await page.goto(`${this.base}/my-app`);
    return page;
  }
  async module(session, code, looked) {
    const page = await this.browser(session, '');
    // A page that the server itself has sent: what a test makes up is of no network, and may open no socket to this one.
    await page.goto(`${this.base}/healthz`);
    await page.addScriptTag({ type: 'module', content: code });
    for (let waited = 0; !looked(page.lines); waited += 50) {
      if (waited > PATIENCE) assert.fail(page.lines.slice(-20).join('\n'));
      await page.waitForTimeout(50);
    }
    await page.context().close();
    return page.lines;
  }

  /** A component, bundled as an application does, in a page. */
  async component(session, id, code) {
    const folder = path.join(work, `react-${id}`);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    symlinkSync(path.join(reactKit, 'node_modules'), path.join(folder, 'node_modules'));
    for (const [, command] of code.matchAll(/^\/\/ (curl .*)$/gm)) execFileSync('bash', ['-c', command], { cwd: folder });
    writeFileSync(path.join(folder, 'Chat.jsx'), code);
    writeFileSync(path.join(folder, 'main.jsx'), `import { createRoot } from 'react-dom/client';\nimport Chat from './Chat.jsx';\ncreateRoot(document.body.appendChild(document.createElement('main'))).render(<Chat />);\n`);
    const { build } = await import(pathToFileURL(path.join(reactKit, 'node_modules/vite/dist/node/index.js')));
    const { default: react } = await import(pathToFileURL(createRequire(path.join(reactKit, 'x.js')).resolve('@vitejs/plugin-react')));
    await build({
      root: folder, configFile: false, logLevel: 'error', plugins: [react()],
      build: { outDir: path.join(folder, 'out'), minify: false, rollupOptions: { input: path.join(folder, 'main.jsx'), output: { entryFileNames: 'app.js' } } },
    });
    return this.browser(session, '<body><script type="module" src="/my-code.js"></script>', { 'my-code.js': readFileSync(path.join(folder, 'out/app.js'), 'utf8') });
  }
}

const receipt = out => /"status":"(applied|accepted|rejected)"/.test(out);
const streamed = out => textOf([...out.matchAll(/^data: (.*)$/gm)].map(([, data]) => JSON.parse(data)));
const seqs = out => [...out.matchAll(/^id: \w+\.(\d+)$/gm)].map(([, seq]) => Number(seq));
const long = out => out.length > 60;

/** What each must show, by its id: the session's text or a receipt. */
const runs = {
  async 'curl-create'(world, session, code) {
    const out = await world.shell(code, out => /^event: text.ended$/m.test(out) || streamed(out.slice(0, out.lastIndexOf('\n\n'))).length > 100);
    assert.match(out, /^event: run.started$/m);
  },
  async 'curl-stream'(world, session, code) {
    const out = await world.shell(code, out => /^event: caught_up\n.*\n/m.test(out));
    assert.equal(streamed(out), textOf(await world.log(session)));
  },
  async 'curl-resume'(world, session, code) {
    const last = (await world.log(session)).length;
    const out = await world.shell(code, out => /^event: text.ended\n.*\n/m.test(out), { while: () => world.say(session, 'And then?') });
    assert.equal(seqs(out)[0], last + 1);
    assert.equal(streamed(out), textOf((await world.log(session)).slice(last)));
  },
  async 'curl-steer'(world, session, code) { await world.shell(code, receipt); },
  async 'curl-cancel'(world, session, code) { await world.shell(code, receipt); },
  async 'curl-poll'(world, session, code) {
    const last = (await world.log(session)).length;
    const out = await world.shell(code, out => out.endsWith('}'), { while: async () => { await new Promise(done => setTimeout(done, 500)); await world.say(session, 'And then?'); } });
    assert.equal(JSON.parse(out).events[0].seq, last + 1);
  },
  async eventsource(world, session, code) {
    const log = await world.log(session);
    const last = log.findLast(({ type }) => type === 'text.delta');
    await world.module(session, code, lines => lines.at(-1) === `${last.id} ${textOf(log)}`);
  },
  async websocket(world, session, code) {
    await world.module(session, code, lines => lines.includes('receipt applied') && lines.filter(line => line.startsWith('text.delta ')).length > 5);
  },
  async client(world, session, code) {
    const log = await world.log(session);
    const deltas = log.filter(({ type }) => type === 'text.delta');
    const lines = await world.module(session, code, lines => lines.some(line => /^applied \d+$/.test(line)) && lines.length > deltas.length + 5);
    const before = lines.filter(line => !/^applied/.test(line)).slice(0, deltas.length);
    assert.deepEqual(before, deltas.map(({ id, text }) => `${id} ${text}`));
  },
  async react(world, session, code) { await chats(world, session, await world.component(session, 'client', code)); },
  async 'ai-sdk'(world, session, code) { await chats(world, session, await world.component(session, 'ai-sdk', code), false); },
  async 'responses-python'(world, session, code) { await turns(world, session, out => world.shell(`${python} - <<'END'\n${code}\nEND`, out)); },
  async 'responses-node'(world, session, code) { await turns(world, session, looked => world.shell(`node ${nodeFile(code)}`, looked)); },
  async 'chat-python'(world, session, code) { await world.shell(`${python} - <<'END'\n${code}\nEND`, long); },
  async 'chat-node'(world, session, code) { await world.shell(`node ${nodeFile(code)}`, long); },
  async terminal(world, session, code) {
    const before = (await world.log(session)).length;
    // A line that somebody types is said, and the answer is printed.
    const out = await world.shell(code, long, { input: 'And then?\n' });
    const said = textOf((await world.log(session)).slice(before)).trim();
    assert.ok(said.replace(/\s+/g, ' ').startsWith(out.trim().replace(/\s+/g, ' ').slice(0, 40)), `${out}\n--\n${said}`);
  },
};

/** A page where somebody says something: the answer comes into the same session, and to the page. */
async function chats(world, session, page, history = true) {
  const before = await world.log(session);
  if (history) await page.locator('p', { hasText: textOf(before).slice(0, 60) }).waitFor();
  await page.getByLabel('Message').fill('And then what?');
  await page.getByLabel('Message').press('Enter');
  await page.locator('p', { hasText: 'user: And then what?' }).waitFor();
  // The answer to this, and not one that the page has picked up: what comes after it in the log.
  let after = [];
  for (let waited = 0; textOf(after).length < 80; waited += 50) {
    assert.ok(waited < PATIENCE, `no answer: ${after.map(({ type }) => type)}`);
    await page.waitForTimeout(50);
    after = (await world.log(session)).slice(before.length);
  }
  assert.deepEqual(after.filter(({ type }) => type === 'input.added').map(({ content }) => content), ['And then what?']);
  await page.locator('p', { hasText: `assistant: ${textOf(after).slice(0, 60)}` }).last().waitFor();
  assert.deepEqual(page.lines.filter(line => /ERROR/.test(line)), []);
  await page.context().close();
}

/** The next turn of the session. */
async function turns(world, session, program) {
  const before = (await world.log(session)).length;
  const out = await program(long);
  const log = await world.log(session);
  assert.ok(textOf(log.slice(before)).startsWith(out.slice(0, 50)), 'the text is that of the session');
}

function nodeFile(code) {
  mkdirSync(path.join(work, 'node/node_modules'), { recursive: true });
  const link = path.join(work, 'node/node_modules/openai');
  if (!existsSync(link)) symlinkSync(path.join(nodeKit, 'node_modules/openai7'), link);
  const file = path.join(work, 'node', `snippet-${Date.now()}.mjs`);
  writeFileSync(file, code);
  return file;
}

const [keyedBase, keyed] = await serve(binary, '127.0.0.1:0', 'memory', '--api-key', KEY);
const worlds = { 'without keys': new World(url, ''), 'with keys': new World(keyedBase, KEY) };
const tests = {
  async 'every snippet has a run here, and every run a snippet'() {
    const world = worlds['without keys'];
    const page = await world.panel(await world.session());
    const ids = await page.locator('.connect-tabs [role=tab]').evaluateAll(tabs => tabs.map(({ id }) => id.slice('connect-'.length)));
    assert.deepEqual(ids.sort(), Object.keys(runs).sort());
    await page.context().close();
  },
  async 'tabs by the keyboard; copy copies, and says so'() {
    const world = worlds['without keys'];
    const page = await world.panel(await world.session());
    const selected = () => page.locator('[role=tab][aria-selected=true]', { has: page.locator(':scope') }).evaluateAll(tabs => tabs.map(({ id }) => id).filter(id => id.startsWith('connect-')));
    await page.locator('#connect-curl-create').focus();
    await page.keyboard.press('ArrowDown');
    assert.deepEqual(await selected(), ['connect-curl-stream']);
    assert.equal(await page.evaluate(() => document.activeElement.id), 'connect-curl-stream');
    await page.keyboard.press('End');
    assert.deepEqual(await selected(), ['connect-terminal']);
    await page.keyboard.press('ArrowDown');
    assert.deepEqual(await selected(), ['connect-curl-create'], 'around');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.press('Home');
    assert.equal(await page.locator('.connect-tabs [tabindex="0"]').count(), 1, 'one stop for Tab');
    await page.locator('.connect-bar button').click();
    await page.locator('.connect-bar button', { hasText: 'Copied' }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), await page.locator('.connect-code code').textContent());
    await page.locator('.connect-bar button', { hasText: /^Copy$/ }).waitFor();
    assert.deepEqual(page.errors, []);
    await page.context().close();
  },
  async 'on a desk and on a phone, by day and by night: nothing sticks out, axe finds nothing'() {
    const world = worlds['without keys'];
    const session = await world.session();
    for (const colorScheme of ['light', 'dark']) {
      for (const [name, options] of Object.entries({ desk: {}, phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true } })) {
        const page = await world.panel(session, { colorScheme, ...options });
        await page.locator('#connect-client').click();
        await page.screenshot({ path: `${shots}/connect-${name}-${colorScheme}.png` });
        await page.evaluate(source => { new Function(source)(); }, axe);
        const { violations } = await page.evaluate(() => axe.run(document.querySelector('#connect')));
        assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.target).join(' ')}`), []);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${name} scrolls sideways by ${wide}`);
        await page.context().close();
      }
    }
  },
};
let skipped = 0;
for (const [where, world] of Object.entries(worlds)) {
  for (const [id, runs_] of Object.entries(runs)) {
    tests[`${id}, ${where}`] = async () => {
      const needs = /python/.test(id) ? 'python' : /node$/.test(id) ? 'node' : id === 'react' || id === 'ai-sdk' ? 'react' : undefined;
      const why = needs && lacks[needs];
      if (why) {
        skipped += 1;
        console.log(`NOT TESTED HERE: ${id}: ${why}`);
        assert.ok(!process.env.CI, 'CI must test with all of them');
        return;
      }
      const session = await world.session();
      await runs_(world, session, await world.code(session, id));
    };
  }
}

process.on('exit', () => { if (skipped) console.log(`${skipped} snippets were NOT RUN, see above`); });
await run(browser, tests, only);
