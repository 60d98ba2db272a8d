// What the tests of the pages share: a browser, servers, the log of a session, and how tests are run and counted.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chromium } from 'playwright-core';

export const PATIENCE = Number(process.env.PATIENCE_MS ?? 30_000);

// Every launch has a fresh user data directory.
export const launch = (executablePath, more = []) => chromium.launch({
  executablePath,
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', ...more],
});

/** A page, in a context of its own unless one is given; what its console complains of is gathered in `errors`. */
export async function blank(browser, { context, ...options } = {}) {
  context ??= await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', error => errors.push(String(error)));
  page.on('console', message => message.type() === 'error' && errors.push(message.text()));
  return { context, page, errors };
}

// No server outlives the tests, however they end.
const servers = new Set();
process.on('exit', () => { for (const server of servers) server.kill('SIGKILL'); });
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/** A server of a test's own, which can be killed: its address, and the process. */
export async function serve(binary, listen, store, ...more) {
  const server = spawn(binary, ['serve', '--listen', listen, '--store', store, ...more], { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.add(server);
  const [greeting] = await once(server.stdout, 'data');
  return [String(greeting).match(/http:\/\/[\d.:]+/)[0], server];
}

export async function log(base, session, more = {}) {
  const events = [];
  for (let after = ''; ;) {
    const answer = await fetch(`${base}/v1/sessions/${session}/events?after=${after}`, { headers: { accept: 'application/json', ...more } });
    const page = await answer.json();
    events.push(...page.events);
    if (page.caught_up) return events;
    after = page.last_event_id;
  }
}
/** What is made by a request; a refusal is an error. */
export async function post(base, path, body) {
  const answer = await fetch(base + path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
export const textOf = events => events.filter(e => e.type === 'text.delta').map(e => e.text).join('');
export const of = (events, type) => events.filter(e => e.type === type);

/** Runs the tests whose name contains `only`; exits with 1 if one failed. */
export async function run(browser, tests, only = '') {
  let [passed, failed, skipped] = [0, 0, 0];
  for (const [name, test] of Object.entries(tests)) {
    if (!name.includes(only)) {
      skipped += 1;
      console.log(`skipped ${name}`);
      continue;
    }
    const since = performance.now();
    try {
      await test();
      passed += 1;
      console.log(`ok      ${name} (${((performance.now() - since) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed += 1;
      console.log(`FAILED  ${name}\n${error.stack ?? error}`);
      for (const context of browser.contexts()) await context.close();
    }
  }
  await browser.close();
  console.log(`${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ''}`);
  // A name that fits no test proves nothing. What a failed test has left would keep this process alive.
  process.exit(failed || !passed ? 1 : 0);
}
