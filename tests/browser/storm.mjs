// Real EventSources through a restart of their server, for scripts/edge_storm.py:
//
//   node storm.mjs PORT CHROMIUM SESSION...
//
// One EventSource per session, five to a page, each page of a name of its own: a browser opens six connections to one. It
// prints `ready` when all have caught up, and for each line on its standard input what they have seen.
import { createInterface } from 'node:readline';
import { launch, PATIENCE } from './common.mjs';

const PER_PAGE = 5;

const [port, chromium, ...sessions] = process.argv.slice(2);
const browser = await launch(chromium);
const pages = [];
for (let first = 0; first < sessions.length; first += PER_PAGE) {
  const page = await browser.newPage();
  await page.goto(`http://page${pages.length}.localhost:${port}/healthz`);
  await page.evaluate(sessions => {
    window.seen = sessions.map(session => {
      const source = new EventSource(`/v1/sessions/${session}/events`);
      const one = { session, positions: [], caughtUp: [], opened: 0, source };
      source.addEventListener('open', () => { one.opened += 1; });
      source.addEventListener('caught_up', () => one.caughtUp.push(Date.now()));
      for (const type of ['session.created', 'input.added', 'run.started', 'run.recovered', 'run.completed', 'step.started',
        'step.ended', 'text.started', 'text.delta', 'text.ended', 'command.applied', 'command.accepted']) {
        source.addEventListener(type, event => one.positions.push(Number(event.lastEventId.split('.')[1])));
      }
      return one;
    });
  }, sessions.slice(first, first + PER_PAGE));
  pages.push(page);
}
for (const page of pages) {
  await page.waitForFunction(() => window.seen.every(one => one.caughtUp.length > 0), null, { timeout: PATIENCE });
}
console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) {
  const seen = [];
  for (const page of pages) {
    seen.push(...await page.evaluate(() => window.seen.map(({ session, positions, caughtUp, opened, source }) =>
      ({ session, positions, caughtUp, opened, state: source.readyState }))));
  }
  console.log(JSON.stringify(seen));
}
await browser.close();
