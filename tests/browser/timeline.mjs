// Drives the timeline as a person would: node timeline.mjs CHROMIUM BINARY FOLDER [ONLY]
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { bySeq, curl, dataOf, equalsLog, events, size } from './frames.mjs';
import { blank, launch, log as read, of, post, run, serve } from './common.mjs';
import { hasty } from './hasty.mjs';

const [executablePath, binary, shots, only] = process.argv.slice(2);
mkdirSync(shots, { recursive: true });
const browser = await launch(executablePath);
const [url] = await serve(binary, '127.0.0.1:0', 'memory');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const create = (body, base = url) => post(base, '/v1/sessions', body).then(({ session_id }) => session_id);
const ended = async (session, base = url) => {
  await curl(`${base}/v1/sessions/${session}/events?until=idle`);
  return read(base, session);
};
const frames = async (session, base = url) => bySeq(await curl(`${base}/v1/sessions/${session}/events?until=idle`));
const pending = async (session, base = url, seconds = 2) => bySeq(await curl(`${base}/v1/sessions/${session}/events`, seconds));

/** A page with its timeline, and what a person does with it. */
class Tab {
  static async open(session, { base = url, init, ...options } = {}) {
    const tab = Object.assign(new Tab(), await blank(browser, options));
    if (init) await tab.page.addInitScript(init);
    await tab.page.goto(`${base}/#/${session}`);
    await tab.page.locator('[data-go=timeline]:visible').click();
    await tab.$('#timeline-rows').waitFor();
    return tab;
  }
  $(selector, options) { return this.page.locator(selector, options); }
  row(text) { return this.$('.rows-window .entry', { hasText: text }); }
  status() { return this.$('.timeline-status').textContent(); }
  says(pattern) {
    return this.page.waitForFunction(source => new RegExp(source).test(document.querySelector('.timeline-status').textContent), pattern.source);
  }
  async unfold() {
    await this.$('.chip.fold').click();
    assert.equal(await this.$('.chip.fold').getAttribute('aria-pressed'), 'false');
  }
  async loadAll() {
    while (await this.$('.earlier').isVisible()) {
      const before = await this.status();
      if (await this.$('.earlier').isEnabled()) await this.$('.earlier').click();
      await this.page.waitForFunction(before => document.querySelector('.timeline-status').textContent !== before, before);
    }
  }
  /** All rows, by scrolling through them; the most that the document held at once. */
  all() {
    return this.page.evaluate(async () => {
      const grid = document.querySelector('#timeline-rows');
      const frame = () => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
      const seen = new Map();
      let most = 0;
      for (grid.scrollTop = 0; ; grid.scrollTop += grid.clientHeight) {
        await frame();
        const rows = [...grid.querySelectorAll('.rows-window .entry')];
        most = Math.max(most, rows.length);
        for (const row of rows) {
          const cell = name => row.querySelector('.e-' + name).textContent;
          seen.set(Number(row.getAttribute('aria-rowindex')), { seq: cell('seq'), type: cell('type'), text: cell('preview'), size: cell('size'), took: cell('took'), cause: row.querySelector('.e-cause').textContent });
        }
        if (grid.scrollTop + grid.clientHeight >= grid.scrollHeight - 2) break;
      }
      const count = Number(grid.getAttribute('aria-rowcount')) - 1;
      return { rows: Array.from({ length: count }, (_, at) => seen.get(at + 2)), most };
    });
  }
  async shot(name) { await this.page.screenshot({ path: `${shots}/timeline-${name}.png` }); }
  async accessible() {
    const before = this.errors.length;
    await this.page.evaluate(source => { new Function(source)(); }, axe).catch(() => this.context.pages()[0].addScriptTag({ content: axe }));
    const { violations } = await this.page.evaluate(() => axe.run(document.querySelector('dialog[open]') ?? document.querySelector('#side')));
    assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(node => node.target).join(' ')}`), []);
    // axe itself tries a style of its own, which the page does not let it.
    this.errors.splice(before, Infinity, ...this.errors.slice(before).filter(error => !error.includes('inline style')));
  }
  async close() { await this.context.close(); assert.deepEqual(this.errors, []); }
}

const tests = {
  async 'the rows are the log: seq, type and bytes, live, steered and stopped'() {
    const session = await create({ model: 'demo/story', params: { tokens_per_second: 60 } });
    const tab = await Tab.open(session);
    await tab.$('#input').fill('Tell me a story');
    await tab.$('#input').press('Enter');
    await tab.row('text.delta').first().waitFor();
    await tab.page.waitForTimeout(600);
    await tab.$('#input').fill('Put a lighthouse into it');
    await tab.$('#input').press('Enter');
    await tab.row('steered').waitFor();
    await tab.page.waitForTimeout(600);
    await tab.$('#stop').click();
    await tab.row('run.cancelled').waitFor();
    await tab.unfold();
    const { rows } = await tab.all();
    equalsLog(rows, await frames(session));
    // Live events with a time have a latency, of a local server; deltas have no time.
    const took = events(rows).filter(({ took }) => took);
    assert.ok(took.length > 5 && took.every(({ took }) => /^\d+(\.\d)? ms$/.test(took) && parseFloat(took) < 2_000), JSON.stringify(took));
    assert.ok(events(rows).filter(({ type }) => type.endsWith('.delta')).every(({ took }) => took === ''));
    assert.equal(await tab.$('.rows-window .edge-ends').count(), 1);
    await tab.close();
  },
  async 'what was before the page is loaded by pages, also by scrolling up, and stays where it is read'() {
    const { base, model, close } = await hasty(binary);
    const session = await create({ ...model, input: '2500' }, base);
    const framesOf = await pending(session, base);
    assert.ok(framesOf.size > 2_100, `${framesOf.size} events`);
    const tab = await Tab.open(session, { base });
    await tab.unfold();
    // What a snapshot stands for is not loaded at once, but its last page is.
    await tab.says(/^1,000 events/);
    const first = framesOf.size - 999;
    assert.ok((await tab.status()).includes(`from #${first.toLocaleString('en')}`), await tab.status());
    await tab.$('#timeline-rows').hover();
    await tab.page.evaluate(() => { document.querySelector('#timeline-rows').scrollTop = 100; });
    await tab.row(String(first + 3)).first().waitFor();
    await tab.page.mouse.wheel(0, -80);
    await tab.says(/^2,000 events/);
    // The reader still sees the row that was there, and what came before it is above.
    await tab.page.waitForTimeout(200);
    const seen = await tab.page.evaluate(() => {
      const grid = document.querySelector('#timeline-rows').getBoundingClientRect();
      return document.elementFromPoint(grid.x + 20, grid.y + 60).closest('.entry').querySelector('.e-seq').textContent;
    });
    assert.ok(Math.abs(Number(seen) - first) <= 3, `${seen} is seen, ${first} was`);
    await tab.loadAll();
    equalsLog((await tab.all()).rows, framesOf);
    await tab.close();
    await close();
  },
  async 'deltas of a block are one row with their count, text and bytes; a filter finds a phrase across them'() {
    const session = await create({ model: 'demo/reasoning', input: 'Why is the sea salty?', params: { tokens_per_second: 2_000 } });
    const log = await ended(session);
    const framesOf = await frames(session);
    const tab = await Tab.open(session);
    await tab.row('run.completed').waitFor();
    const deltas = of(log, 'text.delta');
    const bytes = deltas.reduce((sum, { seq }) => sum + Buffer.byteLength(dataOf(framesOf.get(seq))), 0);
    const fold = events((await tab.all()).rows).find(({ type }) => type.startsWith('text.delta'));
    assert.deepEqual([fold.type, fold.seq, fold.size], [`text.delta ×${deltas.length}`, `${deltas[0].seq}–${deltas.at(-1).seq}`, size(bytes)]);
    const text = deltas.map(delta => delta.text).join('');
    assert.ok(text.replace(/\s*\n\s*/g, ' ↵ ').startsWith(fold.text.slice(0, 250)) && fold.text.length > 50);

    const phrase = text.slice(text.indexOf(' ') + 1, text.indexOf(' ') + 31).split('\n')[0];
    await tab.$('#timeline input[type=search]').fill(phrase.toUpperCase());
    await tab.says(/1 row match/);
    assert.equal((await tab.all()).rows[0].type, fold.type);
    await tab.$('#timeline input[type=search]').fill('no such words anywhere');
    await tab.says(/0 rows match/);
    await tab.$('#timeline input[type=search]').fill('');

    const kinds = { text: /^(text\.|input\.)/, reasoning: /^reasoning\./, runs: /^(run|step|session)\./ };
    await tab.unfold();
    for (const [kind, pattern] of Object.entries(kinds)) {
      await tab.$(`[data-kind=${kind}]`).click();
      const expected = log.filter(({ type }) => pattern.test(type)).map(({ seq }) => String(seq));
      await tab.says(new RegExp(`^.* ${expected.length} rows match`));
      assert.deepEqual((await tab.all()).rows.map(({ seq }) => seq), expected);
      await tab.$(`[data-kind=${kind}]`).click();
    }
    await tab.$('[data-kind=reasoning]').click();
    await tab.$('[data-kind=runs]').click();
    const both = log.filter(({ type }) => kinds.reasoning.test(type) || kinds.runs.test(type));
    await tab.says(new RegExp(`${both.length} rows match`));
    assert.deepEqual((await tab.all()).rows.map(({ seq }) => seq), both.map(({ seq }) => String(seq)));
    await tab.close();
  },
  async 'a filter goes on with what comes'() {
    const session = await create({ model: 'demo/story', params: { tokens_per_second: 60 } });
    const tab = await Tab.open(session);
    await tab.$('[data-kind=runs]').click();
    await tab.$('#input').fill('Tell me a story');
    await tab.$('#input').press('Enter');
    await tab.row('step.started').waitFor();
    await tab.page.waitForTimeout(500);
    await tab.$('#stop').click();
    await tab.row('run.cancelled').waitFor();
    const expected = (await read(url, session)).filter(({ type }) => /^(run|step|session)\./.test(type)).map(({ type }) => type);
    assert.deepEqual((await tab.all()).rows.map(({ type }) => type), expected);
    await tab.close();
  },
  async 'by the keyboard: to a row, its frame as curl gets it, the next one, and back'() {
    const session = await create({ model: 'demo/tools', input: 'Weather in Oslo, "please" – ☂' });
    const framesOf = await pending(session);
    const tab = await Tab.open(session, { permissions: ['clipboard-read', 'clipboard-write'] });
    await tab.unfold();
    await tab.row('approval.requested').waitFor();
    await tab.$('#timeline-rows').focus();
    await tab.page.keyboard.press('Home');
    await tab.page.keyboard.press('ArrowDown');
    await tab.page.keyboard.press('Enter');
    const dialog = tab.$('dialog.frame');
    const [wire, json] = [dialog.locator('.frame-wire'), dialog.locator('.frame-json')];
    assert.equal(await dialog.locator('h3').textContent(), '#2 input.added');
    assert.ok(await dialog.locator('input[value=sse]').isChecked(), 'the transport in use');
    for (const seq of [2, 3, 4]) {
      assert.equal(await wire.textContent(), framesOf.get(seq));
      assert.equal(await json.textContent(), JSON.stringify(JSON.parse(dataOf(framesOf.get(seq))), null, 2));
      await tab.page.keyboard.press('ArrowRight');
    }
    await dialog.getByLabel('Previous row').click();
    await dialog.getByLabel('Previous row').click();
    assert.equal(await wire.textContent(), framesOf.get(3));
    const bytes = Buffer.byteLength(dataOf(framesOf.get(3)));
    assert.match(await dialog.locator('dl').textContent(), new RegExp(`bytes of JSON${bytes}`));
    await dialog.getByRole('button', { name: 'Copy frame' }).click();
    await dialog.getByRole('button', { name: 'Copied' }).waitFor();
    assert.equal(await tab.page.evaluate(() => navigator.clipboard.readText()), framesOf.get(3));
    // The same by the other transports, as they are received.
    const [bySocket, byPage] = await tab.page.evaluate(async session => {
      const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/v1/sessions/${session}/ws`, 'steerage');
      const text = await new Promise(done => { socket.onmessage = ({ data }) => JSON.parse(data).seq === 3 && done(data); });
      socket.close();
      const page = await fetch(`v1/sessions/${session}/events`, { headers: { accept: 'application/json' } });
      return [text, await page.text()];
    }, session);
    await dialog.locator('input[value=websocket]').check();
    assert.equal(await wire.textContent(), bySocket);
    await dialog.locator('input[value=poll]').check();
    assert.ok(byPage.includes(await wire.textContent()));
    await tab.page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.equal(await tab.page.evaluate(() => document.activeElement.id), 'timeline-rows', 'focus is back');
    await tab.page.keyboard.press('End');
    // With the next picture.
    await tab.page.waitForFunction(({ activeElement: rows } = document) =>
      document.getElementById(rows.getAttribute('aria-activedescendant'))?.ariaRowIndex === rows.ariaRowCount);
    await tab.close();
  },
  async 'a receipt stands with its command: round trip, what it caused, and what others caused'() {
    const session = await create({ model: 'demo/story', input: 'Tell me a story', params: { tokens_per_second: 30 } });
    const tab = await Tab.open(session);
    await tab.row('text.delta').first().waitFor();
    await tab.$('#input').fill('Put a whale into it');
    await tab.$('#input').press('Enter');
    const own = tab.$('.rows-window .is-own', { hasText: 'steer' });
    await own.filter({ hasText: /applied · #\d+/ }).waitFor();
    await post(url, `/v1/sessions/${session}/control`, { type: 'cancel', command_id: 'from-elsewhere' });
    await tab.row('run.cancelled').waitFor();
    await tab.page.waitForTimeout(200);
    const log = await read(url, session);
    const steered = of(log, 'command.applied').find(({ kind }) => kind === 'steer');
    const { rows } = await tab.all();
    const said = rows.find(({ seq, type }) => seq === '→' && type === 'steer');
    assert.ok(said.text.startsWith(`applied · #${steered.seq} · Put a whale`), said.text);
    assert.match(said.took, /^\d+(\.\d)? ms$/);
    const caused = log.filter(event => event.command_id === steered.command_id).map(({ seq }) => String(seq));
    assert.ok(caused.length >= 2);
    for (const row of events(rows)) {
      const event = log[Number(row.seq.split('–')[0]) - 1];
      const expected = event.command_id === steered.command_id ? `↩ steer ${said.took}` : event.command_id ? '↩ elsewhere' : '';
      assert.equal(row.cause, expected, `${row.seq} ${row.type}`);
    }
    assert.deepEqual(rows.filter(({ cause }) => cause === '↩ elsewhere').map(({ type }) => type).sort(), ['command.applied', 'run.cancelled']);
    // Pointing at one shows all that belong to it, and no others.
    const lit = () => tab.page.evaluate(() => [...document.querySelectorAll('.rows-window .lit')].map(row => row.querySelector('.e-seq').textContent));
    await own.scrollIntoViewIfNeeded();
    await own.hover();
    await tab.page.waitForFunction(count => document.querySelectorAll('.rows-window .lit').length === count, caused.length + 1);
    assert.deepEqual((await lit()).sort(), [...caused, '→'].sort());
    await tab.close();
  },
  async 'a lost connection is a mark, with the id that it goes on after'() {
    const session = await create({ model: 'demo/story', input: 'Tell me a story', params: { tokens_per_second: 30 } });
    const tab = await Tab.open(session);
    await tab.row('text.delta').first().waitFor();
    await tab.page.waitForTimeout(500);
    await tab.$('#plug').click();
    await tab.row('disconnected').waitFor();
    const cursor = await tab.$('#cursor').textContent();
    await tab.page.waitForTimeout(500);
    await tab.$('#plug').click();
    await tab.row(`resumed after ${cursor}`).waitFor();
    await tab.$('#transport').selectOption('websocket');
    await tab.row('by WebSocket, resumed after').waitFor();
    await ended(session);
    await tab.row('run.completed').waitFor();
    const { rows } = await tab.all();
    const at = rows.findIndex(({ text }) => text.includes(`resumed after ${cursor}`));
    assert.equal(rows[at].seq, '');
    const seq = Number(cursor.split('.')[1]);
    const before = events(rows.slice(0, at)).at(-1).seq, after = events(rows.slice(at))[0].seq;
    assert.equal(Number(before.split('–').at(-1)), seq, 'the mark stands where it happened');
    assert.equal(Number(after.split('–')[0]), seq + 1);
    assert.ok(rows.some(({ type, text }) => type === 'caught_up' && /live from here/.test(text)));
    await tab.unfold();
    equalsLog((await tab.all()).rows, await frames(session));
    await tab.close();
  },
  async '20,000 events: few rows in the document, the end followed unless one reads'() {
    const { base, model, close } = await hasty(binary);
    const session = await create(model, base);
    const tab = await Tab.open(session, { base });
    await tab.unfold();
    await post(base, `/v1/sessions/${session}/control`, { type: 'send', content: '20000' });
    await tab.row('step.ended').waitFor({ timeout: 60_000 });
    await tab.page.waitForTimeout(300);
    assert.ok(await tab.page.evaluate(() => {
      const grid = document.querySelector('#timeline-rows');
      return grid.scrollHeight - grid.scrollTop - grid.clientHeight < 40;
    }), 'the end is in view');
    const framesOf = await pending(session, base);
    assert.ok(framesOf.size > 20_000, `${framesOf.size} events`);
    assert.ok((await tab.status()).startsWith(`${framesOf.size.toLocaleString('en')} events`), await tab.status());
    const { slow, median, most } = await tab.page.evaluate(async () => {
      const grid = document.querySelector('#timeline-rows');
      const took = [];
      let [last, most] = [performance.now(), 0];
      for (let step = 0; step <= 120; step += 1) {
        grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * (1 - step / 120);
        await new Promise(requestAnimationFrame);
        most = Math.max(most, grid.querySelectorAll('.entry').length);
        took.push(performance.now() - last);
        last = performance.now();
      }
      took.sort((a, b) => a - b);
      return { slow: took.at(-2), median: took[60], most };
    });
    console.log(`        ${framesOf.size} events: frame ${median.toFixed(1)} ms, slowest ${slow.toFixed(1)} ms, ${most} rows in the document`);
    assert.ok(most < 200 && most > 10, `${most} rows`);
    // Somewhere in the middle it is what the log has there.
    await tab.page.evaluate(() => {
      const grid = document.querySelector('#timeline-rows');
      grid.scrollTop = grid.scrollHeight / 2;
    });
    await tab.page.waitForTimeout(200);
    const sample = await tab.page.evaluate(() => [...document.querySelectorAll('.rows-window .entry')].map(row => [row.querySelector('.e-seq').textContent, row.querySelector('.e-size').textContent]));
    for (const [seq, said] of sample) assert.equal(said, size(Buffer.byteLength(dataOf(framesOf.get(Number(seq))))));
    assert.ok(Number(sample[5][0]) > 9_000 && Number(sample[5][0]) < 11_000);
    // One who reads stays where they are; a button brings them back.
    await post(base, `/v1/sessions/${session}/control`, { type: 'send', content: '100', if_running: 'cancel' });
    await tab.page.waitForTimeout(800);
    assert.deepEqual(await tab.$('.rows-window .entry .e-seq').allTextContents(), sample.map(([seq]) => seq));
    await tab.$('.to-end').click();
    await tab.row('step.ended').waitFor();
    assert.ok(await tab.$('.to-end').isHidden());
    await tab.close();
    await close();
  },
  async 'there is a bound to what is kept, and it is said'() {
    const { base, model, close } = await hasty(binary);
    const session = await create({ ...model, input: '30000' }, base);
    await pending(session, base, 4);
    const tab = await Tab.open(session, { base });
    await post(base, `/v1/sessions/${session}/control`, { type: 'send', content: '20000', if_running: 'cancel' });
    await tab.row('step.ended').waitFor({ timeout: 60_000 });
    await tab.loadAll();
    // Full by what was loaded: there is no more to load, and what comes takes the place of the oldest.
    const early = Number(/^([\d,]+) events/.exec(await tab.status())[1].replaceAll(',', ''));
    assert.ok(early >= 49_000 && early <= 50_100, `${early} kept`);
    await post(base, `/v1/sessions/${session}/control`, { type: 'send', content: '3000', if_running: 'cancel' });
    await tab.says(/older ones were let go: 50,000 are kept here, all are in the log/);
    await tab.page.waitForTimeout(1_500);
    const { length } = await read(base, session);
    const first = Number(/from #([\d,]+)/.exec(await tab.status())[1].replaceAll(',', ''));
    const kept = Number(/^([\d,]+) events/.exec(await tab.status())[1].replaceAll(',', ''));
    assert.equal(first + kept - 1, length, 'without a gap up to the end');
    assert.ok(kept <= 50_000 && kept > 48_000, `${kept} kept of ${length}`);
    assert.ok(await tab.$('.earlier').isHidden());
    await tab.close();
    await close();
  },
  async 'the charts: tokens per second as they come, latency, at most four pictures a second, none unseen'() {
    const session = await create({ model: 'demo/echo', params: { tokens_per_second: 50 } });
    const tab = await Tab.open(session);
    await tab.$('#input').fill('word '.repeat(400));
    await tab.$('#input').press('Enter');
    await tab.row('text.delta').first().waitFor();
    await tab.page.waitForTimeout(3_500);
    const rates = [];
    for (let at = 0; at < 5; at += 1) {
      rates.push(Number(await tab.$('.chart-rate output').textContent()));
      await tab.page.waitForTimeout(300);
    }
    rates.sort((a, b) => a - b);
    console.log(`        ${rates} tokens/s of 50`);
    assert.ok(rates[2] > 30 && rates[2] < 70, `${rates}`);
    assert.match(await tab.$('.chart-rate svg').getAttribute('aria-label'), /^Tokens per second: \d+\.\d now, at most \d+ in the last 30 seconds$/);
    assert.match(await tab.$('.chart-latency output').textContent(), /^\d+(\.\d)? ms$/);
    assert.match(await tab.$('.chart-latency svg').getAttribute('aria-label'), /^Delivery: of the last \d+ events/);
    assert.ok(await tab.$('.chart-bars rect').count() > 3);
    const drawn = async ms => {
      const count = () => tab.$('.charts').getAttribute('data-drawn').then(Number);
      const before = await count();
      await tab.page.waitForTimeout(ms);
      return await count() - before;
    };
    const seen = await drawn(2_000);
    assert.ok(seen >= 3 && seen <= 8, `${seen} pictures in 2 s`);
    await tab.$('#tab-connect').click();
    await tab.page.waitForTimeout(400);
    assert.equal(await drawn(1_000), 0, 'nobody sees it');
    await tab.close();
  },
  async 'clocks that differ make no latency below zero, and it is said'() {
    const session = await create({ model: 'demo/echo' });
    for (const shift of [-60_000, 60_000]) {
      const tab = await Tab.open(session, {
        init: `{ const origin = performance.timeOrigin; Object.defineProperty(performance, 'timeOrigin', { get: () => origin + ${shift} }); }`,
      });
      await tab.$('#input').fill('what time is it');
      await tab.$('#input').press('Enter');
      await tab.row('run.completed').last().waitFor();
      await tab.page.waitForTimeout(600);
      const took = events((await tab.all()).rows).map(({ took }) => took).filter(Boolean);
      assert.ok(took.length >= 4 && took.every(text => parseFloat(text) >= 0 && parseFloat(text) < 2_000), `${took}`);
      assert.match(await tab.$('.chart-latency').getAttribute('title'), shift < 0 ? /The clocks differ: (5|6)\d{4} ms were added/ : /The clocks differ: (5|6)\d{4} ms were taken off/);
      await tab.close();
    }
  },
  async 'a server that starts again has other ids, and the pages before are found all the same'() {
    const folder = `${shots}/timeline-store`;
    rmSync(folder, { recursive: true, force: true });
    const { base, model, restart, close } = await hasty(binary, `disk:${folder}`);
    const session = await create({ ...model, input: '1500' }, base);
    for (const more of ['2500', '100']) {
      await pending(session, base);
      await restart();
      await post(base, `/v1/sessions/${session}/control`, { type: 'send', content: more, if_running: 'cancel' });
    }
    const framesOf = await pending(session, base);
    const log = await read(base, session);
    assert.equal(new Set(log.map(({ id }) => id.split('.')[0])).size, 3, 'three epochs');
    const tab = await Tab.open(session, { base });
    await tab.says(/^1,000 events/);
    await tab.unfold();
    await tab.loadAll();
    equalsLog((await tab.all()).rows, framesOf);
    await tab.close();
    await close();
  },
  async 'another history is told and replaces what was shown'() {
    let [base, server] = await serve(binary, '127.0.0.1:0', 'memory');
    const tell = () => create({ id: 'again', model: 'demo/echo', input: 'one two three' }, base);
    await tell();
    await ended('again', base);
    const tab = await Tab.open('again', { base });
    await tab.row('run.completed').waitFor();
    server.kill('SIGKILL');
    await once(server, 'exit');
    await tab.row('disconnected').waitFor();
    [, server] = await serve(binary, base.slice('http://'.length), 'memory');
    await tell();
    await tab.row('the cursor was not honoured').waitFor();
    await tab.row('run.completed').waitFor();
    await tab.unfold();
    equalsLog((await tab.all()).rows, await frames('again', base));
    // A browser writes lost connections and an unknown session to the console; nothing else may be there.
    tab.errors = tab.errors.filter(error => !/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|404/.test(error));
    await tab.close();
    server.kill();
    await once(server, 'exit');
  },
  async 'foreign text is text'() {
    const evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script><b>&amp;</b>';
    const session = await create({ model: 'demo/echo', input: evil });
    await ended(session);
    const tab = await Tab.open(session);
    await tab.row('<img src=x').first().waitFor();
    await tab.row('text.delta').first().click();
    assert.equal(await tab.$('dialog.frame .frame-json').textContent(), evil);
    assert.equal(await tab.$('#timeline img, #timeline script, #timeline b').count(), 0);
    assert.equal(await tab.page.evaluate(() => window.hacked), undefined);
    await tab.close();
  },
  async 'on a desk and on a phone, by day and by night: nothing sticks out, axe finds nothing'() {
    const session = await create({ model: 'demo/assistant', input: 'What is the weather in Lisbon?' });
    await post(url, `/v1/sessions/${session}/control`, { type: 'steer', content: 'in one sentence' });
    const sizes = { desk: { viewport: { width: 1440, height: 900 } }, phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true } };
    for (const colorScheme of ['light', 'dark']) {
      for (const [name, options] of Object.entries(sizes)) {
        const tab = await Tab.open(session, { colorScheme, ...options });
        await tab.row('approval.requested').waitFor();
        await tab.accessible();
        await tab.shot(`${name}-${colorScheme}`);
        const wide = await tab.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${name} scrolls sideways by ${wide}`);
        await tab.row('approval.requested').click();
        await tab.$('dialog.frame[open]').waitFor();
        await tab.accessible();
        await tab.shot(`${name}-${colorScheme}-frame`);
        const box = await tab.$('dialog.frame').boundingBox();
        assert.ok(box.x >= 0 && box.x + box.width <= options.viewport.width, JSON.stringify(box));
        await tab.close();
      }
    }
  },
};

await run(browser, tests, only);
